"""One hot request and its answer on one connection: what the gateway's reader is on HTTP/1.1.

It stands where uvicorn keeps its request-response cycle and in the same FIFO, so that pipelined answers leave in request order
and a drain waits for it. Frames are encoded once and written by plain calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from holdfast.dialects.openai.errors import error_body, error_event
from holdfast.kernel.errors import HoldfastError, MethodNotAllowedError

if TYPE_CHECKING:
    from holdfast.edge.server.http import HotProtocol
    from holdfast.features.gateway.needs import Watcher

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON_LINE = b"content-type: application/json\r\n"
CLOSE_LINE = b"connection: close\r\n"
CHUNKED_LINE = b"transfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


class Exchange:
    """Reader of the gateway, and uvicorn's cycle. `begun` is set when a stream has, `gone` when the client left."""

    __slots__ = (
        "_chunked",
        "_head",
        "_protocol",
        "_watcher",
        "begun",
        "body",
        "complete",
        "disconnected",
        "gone",
        "headers",
        "http11",
        "id",
        "keep_alive",
        "message_event",
        "method",
        "more_body",
        "received",
        "request_id",
        "response_complete",
        "turn",
        "url",
    )

    def __init__(
        self,
        protocol: HotProtocol,
        method: bytes,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        http11: bool,
    ) -> None:
        self._protocol = protocol
        self.method = method
        self.url = url
        self.headers = headers
        self.keep_alive = keep_alive
        self.http11 = http11
        self.body: bytes | bytearray = b""
        self.complete = False
        self.more_body = True
        self.turn = False
        self.begun = False
        self.gone = False
        self.disconnected = False
        self.response_complete = False
        self.received = 0.0
        self.id = ""
        self.request_id = ""
        self._watcher: Watcher | None = None
        self._head = b""
        self._chunked = True
        self.message_event = NEVER

    def whole(self, status: int, headers: bytes, body: bytes) -> None:
        """The answer in one piece: one write."""
        if self.response_complete:
            return
        if not self.gone:
            shown = body if self.method != b"HEAD" else b""
            lines = (status_line(status), self._own_lines(), headers, b"content-length: %d\r\n\r\n" % len(body), shown)
            self._write(b"".join(lines))
        self._finish()

    def head(self, status: int, headers: bytes) -> None:
        """Kept until the first frames, so that both leave in one write. HTTP/1.0 has no chunks: the end is the close."""
        self.begun = True
        self._chunked = self.http11
        if not self._chunked:
            self.keep_alive = False
        framing = CHUNKED_LINE if self._chunked else b"\r\n"
        self._head = b"".join(
            (status_line(status), self._own_lines(), b"cache-control: no-store\r\n", headers, framing)
        )

    def frames(self, frames: Sequence[bytes]) -> bool:
        transport = self._protocol.transport
        if self.response_complete or transport.is_closing():  # a closed one raises, and `left` may come a turn later
            return True
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        data = b"%b%x\r\n%b\r\n" % (self._head, len(data), data) if self._chunked else self._head + data
        self._head = b""
        transport.write(data)
        return not self._protocol.writing_paused

    def end(self) -> None:
        if self.response_complete:
            return
        if not self.gone:
            last = LAST_CHUNK if self._chunked else b""
            self._write(self._head + last)
        self._finish()

    def refuse(self, error: HoldfastError) -> None:
        """Our own error in OpenAI's envelope, with what the official SDKs obey; in a stream that has begun, its last event."""
        if self.begun:
            self.frames((error_event(error),))
            self.end()
        else:
            self.whole(error.status, error_lines(error), error_body(error))

    def watch(self, watcher: Watcher | None) -> None:
        self._watcher = watcher
        if watcher is not None and self.gone:
            watcher.left(self)

    def left(self) -> None:
        """The client closed its connection."""
        if self.response_complete or self.gone:
            return
        self.gone = self.disconnected = True
        if self._watcher is not None:
            self._watcher.left(self)

    def silent(self) -> None:
        """The client sends no more."""
        if self._watcher is not None and not self.response_complete:
            self._watcher.silent(self)

    def ready(self) -> None:
        """The socket takes more again."""
        if self._watcher is not None and not self.response_complete:
            self._watcher.ready(self)

    def _write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if not transport.is_closing():
            transport.write(data)

    def _own_lines(self) -> bytes:
        ids = f"x-request-id: {self.request_id}\r\nholdfast-call: {self.id}\r\n".encode()
        return (
            self._protocol.serving.date_line + ids
            if self.keep_alive
            else b"".join((self._protocol.serving.date_line, ids, CLOSE_LINE))
        )

    def _finish(self) -> None:
        self.response_complete = True
        self.body = b""  # an idle connection keeps nothing large
        self._watcher = None
        self._protocol.finished(self)


def error_lines(error: HoldfastError) -> bytes:
    lines = [JSON_LINE, b"cache-control: no-store\r\nholdfast-error: %b\r\n" % error.code.encode()]
    if error.retry_after_seconds is not None:
        seconds = max(error.retry_after_seconds, 0.0)
        lines.append(b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-int(-seconds // 1), int(seconds * 1000)))
    if error.retry == "never":
        lines.append(b"x-should-retry: false\r\n")
    if isinstance(error, MethodNotAllowedError):
        lines.append(f"allow: {error.allow}\r\n".encode())
    if error.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    return b"".join(lines)


def refusal(protocol: HotProtocol, error: HoldfastError) -> bytes:
    """The answer to something that is not a request we read to its end."""
    body = error_body(error)
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"".join(
        (status_line(error.status), protocol.serving.date_line, error_lines(error), CLOSE_LINE, length, body)
    )


class _NeverSet(asyncio.Event):
    """uvicorn sets its cycle's event at every change; nobody waits for a hot exchange's."""

    def set(self) -> None:
        pass


NEVER = _NeverSet()
