"""A forked child becomes itself: in the kernel, then in this runtime.

Random state that lives in the runtime would be the same in every child of one parent: OpenSSL's, `random`'s, NumPy's, what `uuid` and `tempfile` keep.
"""

import base64
import fcntl
import os
import random
import socket
import ssl
import struct
import sys
import time

RNDADDENTROPY, RNDRESEEDCRNG, SIOCSIFHWADDR = 0x40085203, 0x5207, 0x8924
NETWORK = "eth0"


class Identity:
    """Without `directory` the kernel is left alone, as it is outside a VM."""

    def __init__(self, directory):
        self._kernel = directory is not None
        if self._kernel:
            self._random = os.open("/dev/random", os.O_RDWR)
            self._boot_id = os.open(directory + "/boot-id", os.O_RDWR)
            self._machine_id = os.open("/run/machine-id", os.O_RDWR)
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._network = os.path.exists("/sys/class/net/" + NETWORK)

    def take(self, message):
        mac = message["mac"]
        if self._kernel:
            entropy = base64.b64decode(message["entropy"])
            # struct rand_pool_info: bits of entropy, all of it being new to this machine; bytes; the bytes.
            fcntl.ioctl(self._random, RNDADDENTROPY, struct.pack("=ii", 8 * len(entropy), len(entropy)) + entropy)
            fcntl.ioctl(self._random, RNDRESEEDCRNG, 0)
            # Before the rest, which takes a few milliseconds.
            time.clock_settime_ns(time.CLOCK_REALTIME, message["unixMs"] * 1_000_000)
            socket.sethostname(message["name"])
            os.pwrite(self._boot_id, (message["id"] + "\n").encode(), 0)
            os.pwrite(self._machine_id, (message["id"].replace("-", "") + "\n").encode(), 0)
            if mac and self._network:
                # struct ifreq: the interface's name in 16 bytes, and an address of Ethernet's family.
                address = struct.pack("=16sH14s", NETWORK.encode(), 1, bytes.fromhex(mac.replace(":", "")))
                fcntl.ioctl(self._socket, SIOCSIFHWADDR, address)
        draw_again(mac)


def draw_again(mac):
    # Reseeds OpenSSL's first generator, which those of all threads follow. The bytes are the kernel's, which was reseeded before.
    ssl.RAND_add(os.urandom(48), 48.0)
    random.seed(os.urandom(32))
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(list(memoryview(os.urandom(32)).cast("I")))
    uuid = sys.modules.get("uuid")
    if uuid is not None:
        # The system's own generator of uuid1 keeps the parent's address and sequence.
        uuid._generate_time_safe = None
        uuid._last_timestamp = None
        uuid._node = int(mac.replace(":", ""), 16) if mac else int.from_bytes(os.urandom(6), "big") | 1 << 40
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
