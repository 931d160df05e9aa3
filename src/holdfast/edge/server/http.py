"""What happens to bytes before a route, outermost first.

uvicorn's protocol, subclassed: requests of the model API are answered here, before ASGI; everything else goes on to the
control plane as usual. Limits of ours hold before anything large is kept: 64 KiB and 100 lines of headers, a body's size and
slowest rate, no leniency of the parser. Answers leave in request order, hot and cold ones alike.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from holdfast.edge.server.exchange import Exchange, refusal
from holdfast.kernel.errors import (
    BodyTooLargeError,
    HeadersTooLargeError,
    HoldfastError,
    InvalidRequestError,
    OverloadedError,
    RequestTimeoutError,
)

if TYPE_CHECKING:
    from holdfast.edge.server.serve import Serving

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_LINES = 100
MAX_PIPELINED = 8
BODY_GRACE_SECONDS = 10.0
LAST_WORDS_SECONDS = 2.0
LAST_WORDS_BYTES = 64 * 1024 * 1024
HOT_PREFIX = b"/v1/"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MOST_PROBES = 3


class HotProtocol(HttpToolsProtocol):
    """One client connection."""

    cycle: Any  # an Exchange, or uvicorn's own cycle of a cold request
    pipeline: deque[tuple[Any, Any]]

    def __init__(self, serving: Serving, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parser = httptools.HttpRequestParser(self)  # uvicorn's own is lenient
        self.serving = serving
        self.writing_paused = False
        self.serving_exchange: Exchange | None = None
        self.last_words: bytes | None = None
        self.closes_at: float | None = None
        self.in_headers = False
        self.feeding = 0
        self.header_bytes = 0
        self.body_bytes = 0
        self.sized = False
        self.cold_cycle: RequestResponseCycle | None = None
        self.ended = False
        self.probes = 0
        self.unwritten = 0
        self.since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.serving.settings.max_connections:
            self.refuse(OverloadedError("Too many connections are open here.", retry_after_seconds=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        cycles = [self.serving_exchange, self.cycle, *[cycle for cycle, _ in self.pipeline]]
        self.pipeline.clear()
        super().connection_lost(exc)
        for cycle in cycles:
            if isinstance(cycle, Exchange):
                cycle.left()

    def data_received(self, data: bytes) -> None:
        if self.last_words is not None:
            self._discard(len(data))
            return
        self.feeding = len(data)
        try:
            self.parser.feed_data(data)
            if not self.sized and not self.cycle.complete:
                self._size_up()
        except BodyTooLargeError as error:
            self.refuse(error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if not isinstance(cause, HoldfastError):
                cause = InvalidRequestError("This is not a request as HTTP/1.1 spells one.")
            self.refuse(cause)
        else:
            if self.in_headers:
                self.header_bytes += len(data)
                if self.header_bytes > 2 * MAX_HEADER_BYTES:
                    self.refuse(HeadersTooLargeError(f"The headers are larger than {MAX_HEADER_BYTES} bytes."))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. What it asked for it still gets, if it reads on; whether it does shows when something is
        written, so a first answer that takes its time is announced. A TLS connection is over at its end, whatever is said here."""
        self.ended = True
        cycle = self.cycle
        if self.scheme == "https" or self.last_words is not None:
            return False
        if self.in_headers or (cycle is not None and not cycle.response_complete and cycle.more_body):
            self.refuse(InvalidRequestError("The request ended before it was whole."))
        if self.closes_at is not None or not self.busy:
            return False
        if self.serving_exchange is not None and self.serving_exchange.begun:
            self.serving_exchange.silent()
        else:
            self._probe()
        return True

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.in_headers = True
        self.header_bytes = -self.feeding
        self.body_bytes = 0
        self.sized = True
        self.since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_HEADER_BYTES:
            raise HeadersTooLargeError(f"The request line is larger than {MAX_HEADER_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= MAX_HEADER_LINES:
            raise HeadersTooLargeError(f"There are more than {MAX_HEADER_LINES} header lines.")
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_headers = False
        self.since = self.loop.time()
        if self.parser.should_upgrade():
            raise InvalidRequestError("An upgrade of the connection is not offered here.")
        long = self.feeding > MAX_HEADER_BYTES or self.header_bytes > 0
        if long and sum([len(name) + len(value) for name, value in self.headers]) > MAX_HEADER_BYTES:
            raise HeadersTooLargeError(f"The headers are larger than {MAX_HEADER_BYTES} bytes.")
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.url)
        if self.url.startswith(HOT_PREFIX):
            self._hot()
        else:
            self._cold()

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        cycle = self.cycle
        if not isinstance(cycle, Exchange):
            if self.body_bytes > self.serving.settings.max_body_bytes:
                raise self._too_large()
            super().on_body(body)
            return
        if self.body_bytes > self.serving.settings.max_body_bytes:
            raise self._too_large()
        if not cycle.body:
            cycle.body = body
        elif isinstance(cycle.body, bytearray):
            cycle.body += body
        else:
            cycle.body = bytearray(cycle.body) + body

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if not isinstance(cycle, Exchange):
            super().on_message_complete()
            return
        cycle.complete = True
        cycle.more_body = False
        if cycle.turn:
            self.serving.start(cycle)

    def on_response_complete(self) -> None:
        """A cold answer is whole."""
        self._next()

    def finished(self, exchange: Exchange) -> None:
        """A hot answer is whole."""
        if not exchange.keep_alive and not self.transport.is_closing():
            self.transport.close()
        self._next()

    def refuse(self, error: HoldfastError) -> None:
        """Say why once everything before it was answered, then close; what still arrives is read and thrown away for a
        moment, so that the client gets to see the reason."""
        if self.last_words is not None:
            return
        self.last_words = refusal(self, error)
        self.in_headers = False
        cycle = self.cycle
        if cycle is not None and cycle.more_body:  # it is about this request, which is not whole
            self._drop(cycle)
        if not self.busy:
            self._speak()

    @property
    def busy(self) -> bool:
        """Whether an answer is owed."""
        return self.serving_exchange is not None or self.cold_cycle is not None or bool(self.pipeline)

    def _drop(self, cycle: Any) -> None:
        """This request will not be answered but by the last words; if it has an answer already, by none."""
        if cycle.response_complete or getattr(cycle, "response_started", False):
            self.last_words = b""
        cycle.response_complete = cycle.disconnected = True
        cycle.message_event.set()
        for waiting in [entry for entry in self.pipeline if entry[0] is cycle]:
            self.pipeline.remove(waiting)
        if cycle is self.serving_exchange:
            self.serving_exchange = None
        if cycle is self.cold_cycle:
            self.cold_cycle = None

    def sweep(self, now: float) -> None:
        """Called about once a second: what is too slow is refused, what is idle is closed."""
        settings = self.serving.settings
        if self.closes_at is not None:
            if now >= self.closes_at:
                self.transport.abort()
            return
        waited = now - self.since
        if self.in_headers:
            if waited > settings.headers_seconds:
                self.refuse(RequestTimeoutError(f"The headers did not arrive within {settings.headers_seconds:g} s."))
        elif not self.busy:
            self._sweep_idle(now, waited)
        elif self.ended:
            self._probe()
        elif self._body_is_slow(waited):
            self.refuse(RequestTimeoutError("The body arrived too slowly."))

    def _body_is_slow(self, waited: float) -> bool:
        if (
            self.cycle is None
            or not self.cycle.more_body
            or self.pipeline
            or self.flow.read_paused
            or waited <= BODY_GRACE_SECONDS
        ):
            return False
        return self.body_bytes < self.serving.settings.body_min_bytes_per_second * waited

    def pause_writing(self) -> None:
        self.writing_paused = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.writing_paused = False
        super().resume_writing()
        if self.serving_exchange is not None:
            self.serving_exchange.ready()

    def _hot(self) -> None:
        parser, former = self.parser, self.cycle
        version = parser.get_http_version()
        http11 = version == "1.1"
        if not http11 and version != "1.0":
            raise InvalidRequestError("This is not a request as HTTP/1.1 spells one.")
        exchange = Exchange(
            self, parser.get_method(), self.url, self.headers, http11 and parser.should_keep_alive(), http11
        )
        self.cycle = exchange
        if former is None or former.response_complete:
            exchange.turn = True
            self.serving_exchange = exchange
            if self.expect_100_continue:
                self._size_up()
                self.transport.write(CONTINUE)
        else:
            self.pipeline.appendleft((exchange, None))
            if len(self.pipeline) >= MAX_PIPELINED:
                self.flow.pause_reading()
        self.sized = False

    def _size_up(self) -> None:
        """Refuse a body that is said to be too large as soon as it is said; asked once a message that is not whole yet."""
        self.sized = True
        declared = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
        if declared > self.serving.settings.max_body_bytes:
            raise self._too_large()

    def _cold(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.headers, self.expect_100_continue = url, headers, expect
        self.scope["headers"] = headers
        super().on_headers_complete()
        self.cycle.transport = ColdTransport(self, self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.cold_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _next(self) -> None:
        self.server_state.total_requests += 1
        self.serving_exchange = self.cold_cycle = None
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        if self.pipeline:
            self.loop.call_soon(self._advance)
        elif self.last_words is not None:
            self._speak()
        elif self.ended:
            self.transport.close()
        else:
            self.flow.resume_reading()

    def _advance(self) -> None:
        """It is the turn of the next request. A turn of the loop for each: thousands that are refused at once neither nest
        nor hold it."""
        if not self.pipeline or self.transport.is_closing():
            return
        cycle, app = self.pipeline.pop()
        if len(self.pipeline) < MAX_PIPELINED:
            self.flow.resume_reading()
        if not isinstance(cycle, Exchange):
            self._start_asgi_task(cycle, app)
            return
        cycle.turn = True
        self.serving_exchange = cycle
        if cycle.complete:
            self.serving.start(cycle)
        elif self.expect_100_continue:
            self.transport.write(CONTINUE)

    def _probe(self) -> None:
        """Write to a client that sends no more and has no answer yet: one that has gone resets the connection, and the write
        after that fails."""
        exchange = self.serving_exchange
        if exchange is None or exchange.begun or not exchange.http11 or self.transport.is_closing():
            return
        if self.probes < MOST_PROBES:
            self.probes += 1
            self.transport.write(CONTINUE)

    def _sweep_idle(self, now: float, waited: float) -> None:
        """Everything was answered. A client that takes its answer slowly is not idle; one that takes nothing is cut off."""
        unwritten = self.transport.get_write_buffer_size()
        if unwritten and unwritten != self.unwritten:
            self.unwritten = unwritten
            self.since = now
        elif waited > self.serving.settings.keep_alive_seconds:
            if unwritten:
                self.transport.abort()
            else:
                self.transport.close()

    def _speak(self) -> None:
        if self.transport.is_closing() or self.closes_at is not None:
            return
        if self.last_words:
            self.transport.write(self.last_words)
        if self.ended:
            self.transport.close()
        else:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.flow.resume_reading()
        self.header_bytes = 0
        self.closes_at = self.loop.time() + LAST_WORDS_SECONDS

    def _discard(self, count: int) -> None:
        self.header_bytes += count
        if self.header_bytes > LAST_WORDS_BYTES:
            self.transport.abort()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"The body is larger than {self.serving.settings.max_body_bytes} bytes (server.max_body_bytes)."
        )


class ColdTransport:
    """Where a cold answer is written. To close it before its request has all arrived would reset the connection, and the client
    might never see what it was told."""

    __slots__ = ("_cycle", "_protocol", "is_closing", "write")

    def __init__(self, protocol: HotProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        if self._cycle.more_body:
            self._protocol.refuse(InvalidRequestError("It was answered before it was whole."))
        else:
            self._protocol.transport.close()


def origin_form(url: bytes) -> bytes:
    """The path of a request line that holds a whole URL, as a proxy's client spells it."""
    scheme, divider, rest = url.partition(b"://")
    if not divider or scheme.lower() not in (b"http", b"https"):
        return url
    _, slash, path = rest.partition(b"/")
    return slash + path if slash else b"/"
