"""Records that clients posted: one append-only file. A record counts once it was fsynced, and is never dropped.

On disk: header (magic, number, length, SHA-256 of the body, CRC-32 of the header so far), then the body.
"""

import hashlib
import os
import struct
import threading
import zlib

HEADER = struct.Struct("<4sQI32sI")
MAGIC = b"PREC"


class Full(Exception):
    """The file has reached its bound: nothing was appended."""


class ClientRecords:
    def __init__(self, path, limit_bytes):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._limit_bytes = limit_bytes
        self._writing = threading.Lock()
        self._offsets = []  # of record number 1, 2, ...
        self._end = 0
        self._recover()

    def newest(self):
        return len(self._offsets)

    def append(self, body):
        """Returns (number, sha256 in hex) once the record is on the disk. Blocks while the file system is frozen."""
        digest = hashlib.sha256(body)
        with self._writing:
            if self._end + HEADER.size + len(body) > self._limit_bytes:
                raise Full()
            number = len(self._offsets) + 1
            front = HEADER.pack(MAGIC, number, len(body), digest.digest(), 0)[:-4]
            record = front + struct.pack("<I", zlib.crc32(front)) + body
            written = 0
            while written < len(record):
                written += os.pwrite(self._file, record[written:], self._end + written)
            os.fdatasync(self._file)
            self._offsets.append(self._end)
            self._end += len(record)
        return number, digest.hexdigest()

    def read(self, number):
        """Reads the record from the disk again: a dict with `intact` False when its bytes are not what was acknowledged; None when there is no such record."""
        if not 1 <= number <= len(self._offsets):
            return None
        found = self._read_at(self._offsets[number - 1], number)
        if found is None:
            return {"number": number, "intact": False}
        digest, length, intact = found
        return {"number": number, "sha256": digest, "length": length, "intact": intact}

    def _read_at(self, offset, number):
        """(sha256 of the body as it is on the disk, its length, whether that is the header's sha256), or None without a valid header."""
        raw = os.pread(self._file, HEADER.size, offset)
        if len(raw) < HEADER.size:
            return None
        magic, found, length, expected, crc = HEADER.unpack(raw)
        if magic != MAGIC or found != number or crc != zlib.crc32(raw[:-4]):
            return None
        # Out of the page cache first: what is asked for is what the disk holds.
        os.posix_fadvise(self._file, offset, HEADER.size + length, os.POSIX_FADV_DONTNEED)
        body = os.pread(self._file, length, offset + HEADER.size)
        digest = hashlib.sha256(body)
        return digest.hexdigest(), length, digest.digest() == expected

    def _recover(self):
        """Takes up every whole record; what follows the last one was never acknowledged and is cut off."""
        while True:
            found = self._read_at(self._end, len(self._offsets) + 1)
            if found is None or not found[2]:
                break
            self._offsets.append(self._end)
            self._end += HEADER.size + found[1]
        self.discarded_bytes = os.fstat(self._file).st_size - self._end
        os.ftruncate(self._file, self._end)
