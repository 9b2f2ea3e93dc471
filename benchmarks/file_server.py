"""
A plain file server on loopback: any GET gives the one file, any PUT is read to its end and dropped.

The kernel moves the bytes of a GET (``sendfile``), and a PUT touches no disk, so that the client is what is
measured. Run as ``python -m benchmarks.file_server FILE``.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILE = Path(sys.argv[1])
ACCEPTED = b'{"data":{}}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with FILE.open("rb") as file:
            self._answer(FILE.stat().st_size)
            self.connection.sendfile(file)

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        room = memoryview(bytearray(1 << 20))
        while left and (received := self.rfile.readinto1(room[:left])):
            left -= received
        self._answer(len(ACCEPTED))
        self.wfile.write(ACCEPTED)

    def _answer(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
