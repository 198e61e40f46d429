"""The guest's end of the channel: one JSON message a line, both ways, many lines in one write."""

import json
import os
import select
import threading
import time

READ_BYTES = 65_536


def absent_seconds(times):
    """How long to wait where nobody is connected: then a read ends at once, as at the end of a file. Longer when it lasts: an abandoned child is not to keep a core busy."""
    return 0.002 if times < 200 else 0.05


class Port:
    """`path` is a device, or `fd:3` for what was inherited, whose end is the end of the process."""

    def __init__(self, path):
        self._inherited = path.startswith("fd:")
        self._fd = int(path[3:]) if self._inherited else os.open(path, os.O_RDWR)
        self._gathered = []
        self._muted = False
        self._gathering = threading.Lock()
        self._writing = threading.Lock()

    def post(self, message):
        """Queues a message; it leaves with the next `flush`. JSON text may be given ready."""
        text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
        with self._gathering:
            self._gathered.append(text + "\n")

    def flush(self):
        """Writes what is queued, and returns when the machine's host has it."""
        with self._writing:
            with self._gathering:
                lines, self._gathered = self._gathered, []
            rest = memoryview("".join(lines).encode("utf-8", "replace"))
            while rest and not self._muted:
                rest = rest[os.write(self._fd, rest) :]

    def mute(self, muted):
        """What is posted while it is muted is lost."""
        self.flush()
        self._muted = muted

    def send(self, message):
        self.post(message)
        self.flush()

    def messages(self, tick):
        """Every message as it comes, without end. `tick` is called between them, and says after how many milliseconds again, or None."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        pieces = []
        absences = 0
        while True:
            if not poll.poll(tick()):
                continue
            chunk = os.read(self._fd, READ_BYTES)
            if not chunk:
                if self._inherited:
                    os._exit(0)
                time.sleep(absent_seconds(absences))
                absences += 1
                continue
            absences = 0
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                pieces.append(line)
                whole, pieces = b"".join(pieces), []
                yield json.loads(whole)
            if rest:
                pieces.append(rest)
