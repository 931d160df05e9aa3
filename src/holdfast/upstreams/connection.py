"""One connection, one exchange at a time, reused while both sides keep to the rules.

Hot: per received chunk there is one parse, one cut and one call of the sink; no task, queue, future, timer or clock.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

import httptools

from holdfast.kernel.errors import (
    StreamInterruptedError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from holdfast.ports.upstream import Ended, Headers, Limits, Outcome, Sink
from holdfast.upstreams.answer import Answer, HeaderNames
from holdfast.upstreams.deadlines import Deadlines
from holdfast.upstreams.inflate import InflateError, Inflater
from holdfast.upstreams.sse import FrameCutter, FrameTooLongError

MAX_FRAME_BYTES = 8 * 1024 * 1024
LARGE_BODY_BYTES = 64 * 1024  # from here on a copy costs more than a second buffer
COMPLETE = (Ended("complete", None, sent=True, reused=False), Ended("complete", None, sent=True, reused=True))


class Owner(Protocol):
    """The pool, as a connection sees it."""

    deadlines: Deadlines

    def release(self, connection: "Connection") -> None:
        """It has served and can serve again."""
        ...

    def lost(self, connection: "Connection") -> None:
        """It is closed; said exactly once."""
        ...


class Nobody:
    """The sink of an exchange that has ended."""

    def head(self, status: int, headers: Headers) -> None: ...

    def frames(self, frames: Sequence[bytes]) -> None: ...

    def end(self, ended: Ended) -> None: ...


NOBODY = Nobody()


class HttpExchange:
    """The caller's handle on one request; harmless after its end, whatever its connection does by then."""

    __slots__ = (
        "answering",
        "connection",
        "first_at",
        "framed",
        "heard",
        "idle_at",
        "idle_seconds",
        "limits",
        "paused",
        "reused",
        "sink",
        "total_at",
    )

    def __init__(
        self, connection: "Connection", sink: Sink, limits: Limits, reused: bool, started: float, now: float
    ) -> None:
        self.connection: Connection | None = connection
        self.sink = sink
        self.limits = limits
        self.reused = reused
        self.heard = False
        self.paused = False
        self.answering = False  # the first token has come
        self.framed = False  # a frame was delivered
        self.first_at = now + limits.first_token_seconds
        self.total_at = started + limits.total_seconds
        self.idle_seconds = limits.idle_seconds
        self.idle_at = self.total_at

    def pause(self) -> None:
        if self.connection is not None and not self.paused:
            self.paused = True
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        if self.connection is not None and self.paused:
            self.paused = False
            self.connection.transport.resume_reading()

    def cancel(self) -> None:
        if self.connection is not None:
            self.connection.end(self, "cancelled", None)

    def expire(self, limit: str) -> None:
        if self.connection is not None:
            self.connection.expire(self, limit)


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection of a pool."""

    __slots__ = (
        "_answer",
        "_cutter",
        "_exchange",
        "_held",
        "_held_bytes",
        "_inflater",
        "_lost",
        "_owner",
        "_served",
        "_unsent",
        "_upstream",
        "idle",
        "idle_since",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, owner: Owner, upstream: str, names: HeaderNames, max_answer_bytes: int) -> None:
        self._owner = owner
        self._upstream = upstream
        self._answer = Answer(names, max_answer_bytes)
        self._exchange: HttpExchange | None = None
        self._cutter: FrameCutter | None = None
        self._inflater: Inflater | None = None
        self._held: list[bytes] = []  # an answer that is delivered whole, as far as it has come
        self._held_bytes = 0
        self._unsent = False  # something of the request is still in our own buffer
        self._served = False
        self._lost = False
        self.idle = False
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        return not self._lost and not self.transport.is_closing()

    def start(
        self, head: bytes, body: bytes, stream: bool, sink: Sink, limits: Limits, started: float, now: float
    ) -> HttpExchange:
        """Sends a request; the connection must be usable and at rest."""
        exchange = self._exchange = HttpExchange(self, sink, limits, self._served, started, now)
        self._answer.expect(stream)
        self._owner.deadlines.watch(exchange, now)
        if len(body) < LARGE_BODY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        return exchange

    def close(self) -> None:
        """Closes at once, without ending an exchange."""
        if not self._lost:
            self._lost = True
            self._owner.lost(self)
            self.transport.abort()

    def forsake(self) -> None:
        """It never came to stand: what close is to a connection without a transport."""
        if not self._lost:
            self._lost = True
            self._owner.lost(self)

    def end(self, exchange: HttpExchange, outcome: Outcome, error: UpstreamError | None) -> None:
        """Ends an exchange before its answer was whole; the connection cannot be used again."""
        sent = not self._unsent or bool(self._answer.head_bytes)
        sink = self._detach(exchange)
        self.close()
        sink.end(Ended(outcome, error, sent, exchange.reused))

    def expire(self, exchange: HttpExchange, limit: str) -> None:
        seconds, setting = {
            "first token": (exchange.limits.first_token_seconds, "first_token_seconds"),
            "idle": (exchange.limits.idle_seconds, "idle_seconds"),
            "total": (exchange.limits.total_seconds, "total_seconds"),
        }[limit]
        what = f"upstream '{self._upstream}': the {limit} limit of {seconds:g} s passed"
        todo = f"it is too slow for this route, or {setting} is too small"
        self.end(exchange, "timeout", UpstreamTimeoutError(f"{what}; {todo}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # pause_writing is to say at once that something has not left us; TLS compares with >=, plain sockets with >.
        self.transport.set_write_buffer_limits(high=0 if transport.get_extra_info("ssl_object") is None else 1)

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()
            return
        exchange.heard = True
        answer = self._answer
        in_head = answer.status == 0
        if in_head:
            answer.head_bytes += len(data)
        unreadable = ""
        try:
            answer.feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            unreadable = answer.refusal or f"answered with what is no HTTP/1.1 ({error})"
        if in_head and answer.status:
            self._begin(exchange, answer)
        if answer.parts:
            self._take(exchange, answer)
        elif not answer.complete and answer.too_long:
            unreadable = "answered with a head or trailers that do not end"
        if self._exchange is not exchange:
            return
        if answer.complete:
            self._finish(exchange, answer, reusable=answer.keep_alive and not unreadable and not self._unsent)
        elif unreadable:
            self._break(exchange, unreadable)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._owner.lost(self)
        exchange = self._exchange
        if exchange is None:
            return
        if exc is None and self._answer.status and self._answer.until_eof:
            self._finish(exchange, self._answer, reusable=False)
        elif self._answer.head_bytes:
            self._break(exchange, "broke off in the middle of an answer")
        else:
            self._break(exchange, "closed the connection without an answer")

    def eof_received(self) -> None:
        if self._exchange is None:
            self.close()

    def _begin(self, exchange: HttpExchange, answer: Answer) -> None:
        if answer.event_stream:
            self._cutter = FrameCutter(MAX_FRAME_BYTES)
        else:
            exchange.answering = True
        if answer.coding:
            self._inflater = Inflater()
        exchange.sink.head(answer.status, answer.headers)

    def _take(self, exchange: HttpExchange, answer: Answer) -> None:
        """Hands on what is whole of a stream; puts the pieces of any other answer aside."""
        if self._cutter is None:
            if not answer.complete or self._held:
                self._hold(exchange, answer)
            return
        parts = answer.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        exchange.answering = True
        try:
            if self._inflater is not None:
                data = self._inflater.inflate(data, MAX_FRAME_BYTES)
            frames = self._cutter.cut(data)
        except FrameTooLongError:
            self._break(exchange, f"sent an event of more than {MAX_FRAME_BYTES} bytes")
        except InflateError as error:
            self._break(exchange, f"sent a compressed stream that {error}")
        else:
            if frames:
                exchange.framed = True
                exchange.sink.frames(frames)

    def _hold(self, exchange: HttpExchange, answer: Answer) -> None:
        piece = b"".join(answer.parts)
        answer.parts.clear()
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > answer.max_whole_bytes:
            self._break(exchange, f"answers with more than the {answer.max_whole_bytes} bytes of max_answer_bytes")

    def _finish(self, exchange: HttpExchange, answer: Answer, *, reusable: bool) -> None:
        try:
            rest = self._rest(answer)
        except InflateError as error:
            self._break(exchange, f"sent a compressed answer that {error}")
            return
        if rest or not answer.event_stream:
            exchange.sink.frames((rest,))
            if self._exchange is not exchange:
                return
        sink = self._detach(exchange)
        self._served = True
        if reusable and not self._lost:
            self._owner.release(self)
        else:
            self.close()
        sink.end(COMPLETE[exchange.reused])

    def _rest(self, answer: Answer) -> bytes:
        """The whole body, or what a stream leaves after its last blank line."""
        if self._cutter is not None:
            if self._inflater is not None and not self._inflater.whole:
                raise InflateError("breaks off")
            return self._cutter.rest()
        parts = self._held + answer.parts if self._held else answer.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        answer.parts.clear()
        if self._inflater is None:
            return body
        body = self._inflater.inflate(body, answer.max_whole_bytes)
        if not self._inflater.whole:
            raise InflateError("breaks off")
        return body

    def _detach(self, exchange: HttpExchange) -> Sink:
        self._owner.deadlines.forget(exchange)
        if exchange.paused and not self._lost:
            self.transport.resume_reading()
        self._exchange = exchange.connection = self._cutter = self._inflater = None
        if self._held:
            self._held = []
            self._held_bytes = 0
        sink, exchange.sink = exchange.sink, NOBODY
        return sink

    def _break(self, exchange: HttpExchange, what: str) -> None:
        message = f"upstream '{self._upstream}' {what}"
        error: UpstreamError
        if exchange.framed:
            error = StreamInterruptedError(f"{message}; what had come of the stream was passed on")
        elif self._unsent and not self._answer.head_bytes:
            error = UpstreamConnectError(f"{message} and before the whole request was sent; asking again is safe")
        else:
            error = UpstreamProtocolError(
                f"{message}; check that its base_url is the dialect's own endpoint, and its status page"
            )
        self.end(exchange, "broken", error)
