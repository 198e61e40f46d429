"""Runs in a parent VM and, after a fork, in its children: the runtime that is warmed once, and in which every task runs. Speaks the messages of
src/transfer/child-messages.ts over the port that PORTOLAN_CHILD_PORT names."""

import base64
import gc
import os
import platform
import sys
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from identity import Identity
from port import Port
from program import describe, load
from tasks import Tasks


REHEARSALS = 10


class Printed:
    """In place of the standard output: nothing that a program prints may reach the channel, or a file of the guest; it belongs to the task's log."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, tasks):
        self._tasks = tasks

    def write(self, text):
        self._tasks.print(text)
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False

    def fileno(self):
        return 1


def libraries():
    from importlib import metadata

    found = {}
    for distribution in metadata.distributions():
        if distribution.metadata["Name"]:
            found[distribution.metadata["Name"]] = distribution.version
    return found


def warm_up(port, tasks, identity, message):
    began = time.monotonic()
    try:
        if message["program"] is not None:
            load("warm_up", message["program"])
    except BaseException as error:
        return port.send({"type": "WARM_UP_FAILED", "message": describe(error, "warm_up")})
    rehearse(tasks, identity)
    gc.collect()
    # What is there now isn't looked at again by the collector: its marks would be copied into every child.
    gc.freeze()
    port.send({"type": "READY", "libraries": libraries(), "warmUpMs": round((time.monotonic() - began) * 1000)})


def rehearse(tasks, identity):
    """What every child does first is done here, so that it is known to the interpreter, and linked."""
    for _ in range(REHEARSALS):
        entropy = base64.b64encode(os.urandom(64)).decode()
        now = time.time_ns() // 1_000_000
        identity.take({"id": str(uuid.uuid4()), "name": "parent", "mac": None, "unixMs": now, "entropy": entropy})
    tasks.rehearse(load("rehearsal", "def run(input, context):\n    context.log(input)\n").run, REHEARSALS)


def take_program(port, tasks, message):
    try:
        run = getattr(load("program", message["source"]), "run", None)
        if not callable(run):
            raise TypeError("The program defines no function run(input, context).")
    except BaseException as error:
        return port.send({"type": "PROGRAM_FAILED", "message": describe(error, "program")})
    tasks.set_program(run, message["shared"], message["taskTimeoutMs"])
    port.send({"type": "PROGRAM_READY"})


def main():
    port = Port(os.environ["PORTOLAN_CHILD_PORT"])
    identity = Identity(os.environ.get("PORTOLAN_IDENTITY"))
    tasks = Tasks(port)
    sys.stdout = sys.stderr = Printed(tasks)
    port.send({"type": "HELLO", "runtime": "python", "version": platform.python_version(), "libraries": libraries(), "protocol": 1})
    for message in port.messages(tasks.end_late):
        kind = message["type"]
        if kind == "COMPONENT":
            tasks.add(message["tasks"])
        elif kind == "MESSAGE":
            tasks.deliver(message)
        elif kind == "BARRIER_OPEN":
            tasks.open_barrier(message)
        elif kind == "WARM_UP":
            warm_up(port, tasks, identity, message)
        elif kind == "IDENTITY":
            identity.take(message)
            port.send({"type": "IDENTIFIED"})
        elif kind == "PROGRAM":
            take_program(port, tasks, message)


main()
