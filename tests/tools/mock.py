"""A server of bad habits, for proving that the bench sees them."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.tools.bench.wire import Address

Answers = Callable[[int, bytes], list[bytes]]


class Mock(asyncio.Protocol):
    """Answers the n-th request of all with what `answers(n, body)` says, piece by piece; an empty piece closes the connection."""

    def __init__(self, bodies: list[bytes], answers: Answers) -> None:
        self._bodies = bodies
        self._answers = answers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if not found or len(rest) < length:
            return
        self._data = rest[length:]
        self._bodies.append(rest[:length])
        self._next(self._answers(len(self._bodies), rest[:length]))

    def _next(self, pieces: list[bytes]) -> None:
        if not pieces[0]:
            self._transport.close()
            return
        self._transport.write(pieces[0])
        if pieces[1:]:
            asyncio.get_running_loop().call_later(0.002, self._next, pieces[1:])


@contextmanager
def serving(answers: Answers) -> Iterator[tuple[Address, list[bytes]]]:
    """The mock on a thread of its own, for the bench's clients are plain blocking programs."""
    bodies: list[bytes] = []
    loop = asyncio.new_event_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    server = loop.run_until_complete(loop.create_server(lambda: Mock(bodies, answers), sock=listening))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Address("127.0.0.1", listening.getsockname()[1]), bodies
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def whole(text: bytes = b'{"ok":true}', status: bytes = b"200 OK", name: bytes = b"Content-Length") -> bytes:
    return b"HTTP/1.1 %b\r\n%b: %d\r\n\r\n%b" % (status, name, len(text), text)
