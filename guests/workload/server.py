"""The workload's HTTP interface, on the guest's port 8080. All answers are JSON.

  GET  /health                    200 once the state was recovered from the disk
  POST /records                   the body becomes a record; {number, sha256} is answered once it is durable. 413 over 1 MiB, 507 when full
  GET  /records/<n>               {number, sha256, length, intact}, re-read from the disk; 404 for none
  GET  /records?from=&to=         {newest, records: [...]}, both ends included, at most 10,000
  GET  /background?from=&to=      {oldest, newest, records: [{number, generation, state, sha256, intact}]}, re-read from the disk, at most 10,000
  GET  /stats                     counters since the start of the process
"""

import json
import socketserver
import time
from http.server import BaseHTTPRequestHandler

from client_records import Full

BODY_LIMIT_BYTES = 1024 * 1024
RANGE_LIMIT = 10_000


class Refused(Exception):
    def __init__(self, status, message):
        self.status, self.message = status, message


def _range(query, first, last):
    given = dict(part.partition("=")[::2] for part in query.split("&") if part)
    try:
        start, end = int(given.get("from", first)), int(given.get("to", last))
    except ValueError:
        raise Refused(400, "from and to must be whole numbers")
    if end - start >= RANGE_LIMIT:
        raise Refused(400, "ask for at most %d records at once" % RANGE_LIMIT)
    return range(max(start, first), min(end, last) + 1)


def make_server(port, records, ring):
    started = time.monotonic()

    def records_in(query):
        return {"newest": records.newest(), "records": [records.read(n) for n in _range(query, 1, records.newest())]}

    def background_in(query):
        oldest, newest = ring.oldest(), ring.newest()
        return {"oldest": oldest, "newest": newest, "records": [ring.read(n) for n in _range(query, oldest, newest)]}

    def one_record(text):
        found = records.read(int(text)) if text.isdecimal() else None
        if found is None:
            raise Refused(404, "there is no such record")
        return found

    def stats():
        uptime = time.monotonic() - started
        return {
            "uptimeMs": round(uptime * 1000),
            "records": records.newest(),
            "discardedBytes": records.discarded_bytes,
            "oldest": ring.oldest(),
            "newest": ring.newest(),
            "appendedBytes": ring.appended_bytes,
            "bytesPerSecond": round(ring.appended_bytes / uptime) if uptime else 0,
            "rewritten": ring.rewritten,
            "punched": ring.punched,
            "failure": ring.failure,
        }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 300

        def do_GET(self):
            path, _, query = self.path.partition("?")
            if path == "/health":
                self._answer(lambda: {"status": "ok"})
            elif path == "/stats":
                self._answer(stats)
            elif path == "/records":
                self._answer(lambda: records_in(query))
            elif path == "/background":
                self._answer(lambda: background_in(query))
            elif path.startswith("/records/"):
                self._answer(lambda: one_record(path[len("/records/") :]))
            else:
                self._send(404, {"error": "there is nothing at this path"})

        def do_POST(self):
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > BODY_LIMIT_BYTES:
                self.close_connection = True  # the body is not read, so what follows on this connection makes no sense
                self._send(413, {"error": "the body must have a length of at most %d bytes" % BODY_LIMIT_BYTES})
                return
            body = self.rfile.read(int(length))
            if self.path != "/records":
                self._send(404, {"error": "only /records takes a body"})
                return
            self._answer(lambda: dict(zip(("number", "sha256"), records.append(body))))

        def _answer(self, make):
            try:
                self._send(200, make())
            except Refused as refused:
                self._send(refused.status, {"error": refused.message})
            except Full:
                self._send(507, {"error": "the records' file is full; nothing was stored"})
            except OSError as error:
                self._send(500, {"error": "the disk failed: %s; nothing is acknowledged" % error})

        def _send(self, status, value):
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 64

    return Server(("0.0.0.0", port), Handler)
