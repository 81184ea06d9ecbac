"""A system behind somebody else's server: the standard library's XML-RPC.

``python examples/behind_xmlrpc.py DIR PORT`` serves a stock of things on the loopback interface. The proxy that
``perdure.open`` gives is an ordinary object, so whatever can serve an object can serve it; any thread may call it.
XML-RPC knows no passwords: beyond this machine use ``perdure serve``.
"""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from xmlrpc.server import SimpleXMLRPCServer

import perdure


class Stock:
    """How much there is of what."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, thing: str, count: int) -> int:
        self.counts[thing] = self.counts.get(thing, 0) + count
        return self.counts[thing]

    @perdure.abort_exception
    def take(self, thing: str, count: int) -> int:
        if self.counts.get(thing, 0) < count:
            raise ValueError(f"there are not {count} of {thing}")
        self.counts[thing] -= count
        return self.counts[thing]

    @perdure.readonly
    def count(self, thing: str) -> int:
        return self.counts.get(thing, 0)


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    """One thread for each request: those that wait for the disk share a sync."""

    daemon_threads = True


def main(directory: str, port: int) -> None:
    with perdure.open(Stock, directory) as stock, Server(("127.0.0.1", port), logRequests=False) as server:
        # One by one, rather than the object: only what is named here can be called from outside.
        for method in (stock.add, stock.take, stock.count):
            server.register_function(method)
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
