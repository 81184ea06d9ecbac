"""What goes wrong between a replica and its primary: a relay that cuts connections, and a primary that is none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def accepting(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listens on the loopback interface, and has each connection answered in a thread of its own. Gives the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_now: set[socket.socket] = set()
    stopping = threading.Event()

    def one(connection: socket.socket) -> None:
        open_now.add(connection)
        with connection, contextlib.suppress(OSError):
            answer(connection)
        open_now.discard(connection)

    def accept() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=one, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in list(open_now):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def cutting(url: str, after_bytes: Callable[[], int]) -> Iterator[str]:
    """A relay to ``url`` that cuts each connection after so many bytes of the answer."""
    port = int(url.rpartition(":")[2])

    def relay(connection: socket.socket) -> None:
        left_bytes = after_bytes()
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            request = connection.recv(65536)
            upstream.sendall(request)
            while left_bytes > 0:
                data = upstream.recv(min(65536, left_bytes))
                if not data:
                    return
                left_bytes -= len(data)
                connection.sendall(data)

    with accepting(relay) as relay_url:
        yield relay_url


def http_answer(body: bytes, status: str = "200 OK") -> Callable[[socket.socket], None]:
    """Answers every request with the same body."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status.encode(), len(body)) + body
        )

    return answer
