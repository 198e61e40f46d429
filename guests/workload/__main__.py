"""A busy guest: writes checksummed records without end, and acknowledges those of its clients over HTTP. See server.py, ring.py and client_records.py.

Environment: WORKLOAD_DIRECTORY, WORKLOAD_PORT (0: any, printed), WORKLOAD_RING_MIB, WORKLOAD_BYTES_PER_SECOND, WORKLOAD_LIMIT_MIB (of the clients' records).
"""

import os

from client_records import ClientRecords
from ring import SLOT_BYTES, Ring
from server import make_server

MIB = 1024 * 1024
setting = os.environ.get

directory = setting("WORKLOAD_DIRECTORY", "/var/lib/workload")
os.makedirs(directory, exist_ok=True)
records = ClientRecords(os.path.join(directory, "client-records"), int(setting("WORKLOAD_LIMIT_MIB", "256")) * MIB)
ring = Ring(directory, int(setting("WORKLOAD_RING_MIB", "64")) * MIB // SLOT_BYTES, int(setting("WORKLOAD_BYTES_PER_SECOND", str(3 * MIB // 2))))
server = make_server(int(setting("WORKLOAD_PORT", "8080")), records, ring)
ring.start()
print("workload: port %d, %d records of clients, background record %d" % (server.server_address[1], records.newest(), ring.newest()), flush=True)
server.serve_forever()
