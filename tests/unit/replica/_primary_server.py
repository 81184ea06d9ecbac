"""A primary behind the standard library's HTTP server: the smallest thing that mounts a ``Publisher``.

As a program it serves a ``models.Counted`` and adds to it until it is killed: ``_primary_server.py DIRECTORY PORT``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from perdure.replica import FeedRefusedError, Publisher


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path, query = self._asked()
        if self.server.token and self.headers.get("authorization") != f"Bearer {self.server.token}":
            self._head(401, {"content-length": "0"})
            return
        try:
            if path == "/snapshot":
                with self.server.publisher.snapshot() as snapshot:
                    self._head(200, snapshot.headers)
                    for chunk in snapshot:
                        self.wfile.write(chunk)
            elif path == "/feed":
                peer = f"{self.client_address[0]}:{self.client_address[1]}"
                feed = self.server.publisher.feed(query, peer=peer, may_fence=True)
                with contextlib.closing(feed):
                    self._head(200, {**feed.headers, "transfer-encoding": "chunked"})
                    for chunk in feed:
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self._head(404, {"content-length": "0"})
        except FeedRefusedError as error:
            self._refuse(error)
        except OSError:
            pass  # The replica is gone.
        self.close_connection = True

    def do_POST(self) -> None:
        path, query = self._asked()
        try:
            {"/replica": self.server.publisher.report, "/fence": self.server.publisher.fence}[path](query)
            self._head(204, {})
        except FeedRefusedError as error:
            self._refuse(error)
        self.close_connection = True

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, dict(parse_qsl(parts.query))

    def _refuse(self, error: FeedRefusedError) -> None:
        body = json.dumps({"error": {"message": error.message}}).encode()
        self._head(error.status, {"content-length": str(len(body)), "perdure-reason": error.reason})
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, publisher: Publisher, port: int = 0, token: str = "") -> None:
        self.publisher = publisher
        self.token = token
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        return


@contextlib.contextmanager
def serving(machine: Any, port: int = 0, token: str = "", **options: Any) -> Iterator[Server]:
    """Serves a machine's feed on the loopback interface while the block runs."""
    publisher = Publisher(machine, **options)
    server = Server(publisher, port, token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        publisher.close()
        server.shutdown()
        thread.join()
        server.server_close()


def main(directory: str, port: str) -> None:
    """Serves a ``Counted`` and adds to it without end; prints each number once it is acknowledged."""
    import perdure
    from perdure.system import system_of
    from tests.unit.replica.models import Counted

    counted = perdure.open(Counted, directory)
    with serving(system_of(counted).machine, int(port), digest_interval_s=0.2):
        number = len(counted.numbers)
        print("ready", flush=True)
        while True:
            counted.add(number)
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
