"""Source texts as modules of this runtime."""

import linecache
import sys
import traceback
import types

_loaded = 0


def load(name, source):
    """Runs the text as the module `name` and gives that. Throws what it throws."""
    global _loaded
    _loaded += 1
    path = "<%s-%d>" % (name, _loaded)
    module = types.ModuleType(name)
    module.__file__ = path
    code = compile(source, path, "exec", dont_inherit=True)
    # So that a traceback shows the line.
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    sys.modules[name] = module
    exec(code, module.__dict__)
    return module


def describe(error, name):
    """The message of what was raised, and the line of the given text that it came from."""
    try:
        kind = type(error).__name__
        text = str(error)
    except Exception:
        text = "what can not be told"
    line = None
    if isinstance(error, SyntaxError) and str(error.filename).startswith("<%s-" % name):
        line, text = error.lineno, error.msg
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename.startswith("<%s-" % name):
                line = frame.lineno
    if isinstance(error, SystemExit):
        text = "The program called exit(%s), which would end the runtime of all tasks." % text
    told = "%s: %s" % (kind, text) if text else kind
    if len(told) > 4000:
        told = told[:4000] + "…"
    return told if line is None else "%s (line %d)" % (told, line)
