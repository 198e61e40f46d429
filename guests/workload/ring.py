"""Background records: a bounded ring of 64 KiB slots in a few files, appended, rewritten in place and punched out without end.

The index holds what each slot is expected to contain. A slot's promise is withdrawn durably before its bytes change and given again
after they are on the disk, so that at any crash the index never promises what the slots don't hold.
"""

import ctypes
import hashlib
import os
import random
import struct
import threading
import time
import zlib

SLOT_BYTES = 64 * 1024
SLOTS_PER_FILE = 128
ENTRY = struct.Struct("<QIB3x32sI")  # number, generation, state, sha256 of the slot, crc32 of the entry so far
ENTRY_BYTES = 64
EMPTY, LIVE, CHANGING, PUNCHED = range(4)
STATES = ("empty", "live", "changing", "punched")
NOTHING = (0, 0, EMPTY, bytes(32))
ZEROS_SHA256 = hashlib.sha256(bytes(SLOT_BYTES)).digest()
PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01

_libc = ctypes.CDLL(None, use_errno=True)


def _punch(file, offset, length):
    if _libc.fallocate(file, PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate could not punch a hole")


class Ring:
    def __init__(self, directory, slots, bytes_per_second):
        self._slots = slots
        self._bytes_per_second = bytes_per_second
        self._files = [self._open(directory, "ring-%d" % i, SLOTS_PER_FILE * SLOT_BYTES) for i in range(-(-slots // SLOTS_PER_FILE))]
        self._index = self._open(directory, "ring-index", slots * ENTRY_BYTES)
        self._entries = [self._read_entry(slot) for slot in range(slots)]
        self._newest = max(entry[0] for entry in self._entries)
        self.appended_bytes = self.rewritten = self.punched = 0
        self.failure = None

    def start(self):
        threading.Thread(target=self._run, daemon=True).start()

    def newest(self):
        return self._newest

    def oldest(self):
        return max(1, self._newest - self._slots + 1)

    def read(self, number):
        """Reads the record's slot from the disk again. `intact` is None while there is no promise about it."""
        slot = number % self._slots
        entry = self._entries[slot]
        if entry[0] != number:
            return {"number": number, "state": "dropped", "intact": None}
        file, offset = self._place(slot)
        os.posix_fadvise(file, offset, SLOT_BYTES, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256(os.pread(file, SLOT_BYTES, offset)).digest()
        if entry[2] == CHANGING or self._entries[slot] is not entry:
            return {"number": number, "state": "changing", "intact": None}
        return {"number": number, "generation": entry[1], "state": STATES[entry[2]], "sha256": digest.hex(), "intact": digest == entry[3]}

    def _run(self):
        due = time.monotonic()
        try:
            while True:
                appends = 4
                self._turn(appends)
                # After a stall (a freeze, a suspension) go on at the usual rate, not with a burst.
                due = max(due + appends * SLOT_BYTES / self._bytes_per_second, time.monotonic() - 1)
                time.sleep(max(0, due - time.monotonic()))
        except OSError as error:
            self.failure = str(error)

    def _turn(self, appends):
        """Appends records, rewrites one older one and punches another; returns when all of it is on the disk."""
        changes = {}  # slot -> (next entry, bytes or None for a hole)
        for number in range(self._newest + 1, self._newest + appends + 1):
            changes[number % self._slots] = self._content(number, 0)
        for kind in ("rewrite", "punch"):
            slot = random.randrange(self._slots)
            number, generation, state, _ = self._entries[slot]
            if slot in changes or state != LIVE:
                continue
            if kind == "rewrite":
                changes[slot] = self._content(number, generation + 1)
                self.rewritten += 1
            else:
                changes[slot] = ((number, generation + 1, PUNCHED, ZEROS_SHA256), None)
                self.punched += 1

        withdrawn = {slot: self._entries[slot][:2] + (CHANGING, bytes(32)) for slot in changes}
        self._publish(withdrawn)
        self._write_entries(withdrawn)
        for slot, (_, content) in changes.items():
            file, offset = self._place(slot)
            if content is None:
                _punch(file, offset, SLOT_BYTES)
            else:
                os.pwrite(file, content, offset)
        for file in {self._place(slot)[0] for slot in changes}:
            os.fsync(file)
        promised = {slot: entry for slot, (entry, _) in changes.items()}
        self._write_entries(promised)
        self._publish(promised)
        self._newest += appends
        self.appended_bytes += appends * SLOT_BYTES

    def _content(self, number, generation):
        # Half of it can be compressed, as in ordinary data.
        line = b"record %d generation %d\n" % (number, generation)
        text = (line * (SLOT_BYTES // 2 // len(line) + 1))[: SLOT_BYTES // 2]
        content = os.urandom(SLOT_BYTES // 2) + text
        return (number, generation, LIVE, hashlib.sha256(content).digest()), content

    def _place(self, slot):
        return self._files[slot // SLOTS_PER_FILE], slot % SLOTS_PER_FILE * SLOT_BYTES

    def _write_entries(self, entries):
        for slot, entry in entries.items():
            front = ENTRY.pack(*entry, 0)[:-4]
            os.pwrite(self._index, front + struct.pack("<I", zlib.crc32(front)), slot * ENTRY_BYTES)
        os.fdatasync(self._index)

    def _publish(self, entries):
        for slot, entry in entries.items():
            self._entries[slot] = entry

    def _read_entry(self, slot):
        raw = os.pread(self._index, ENTRY.size, slot * ENTRY_BYTES)
        *entry, crc = ENTRY.unpack(raw)
        return tuple(entry) if crc == zlib.crc32(raw[:-4]) else NOTHING

    @staticmethod
    def _open(directory, name, size):
        file = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(file).st_size != size:
            os.ftruncate(file, size)
        return file
