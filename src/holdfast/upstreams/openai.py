"""A provider account that speaks OpenAI's dialect, or a server that claims to.

A body goes out as the bytes it is handed; of the headers handed with it only those of `REQUEST_HEADERS` go, of the
provider's only those of `RESPONSE_HEADERS` come back, under their names towards the client.
"""

import asyncio
import re
from collections.abc import Awaitable, Mapping, Sequence

from holdfast.dialects.openai.headers import REQUEST_HEADERS, response_name
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import SettingsError, UpstreamError, UpstreamStatusError
from holdfast.kernel.secret import Secret
from holdfast.ports.upstream import Ended, Exchange, Headers, Limits, Outgoing, Sink
from holdfast.upstreams.address import parse_base_url
from holdfast.upstreams.answer import HeaderNames
from holdfast.upstreams.connection import Connection
from holdfast.upstreams.dial import Dialler
from holdfast.upstreams.pool import Pool
from holdfast.upstreams.proxy import choose_proxy
from holdfast.upstreams.settings import UpstreamSettings
from holdfast.upstreams.trust import make_context

MAX_HEADS_KEPT = 64
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
OURS = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"content-type",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
PROBE_LIMITS = Limits(connect_seconds=5.0, first_token_seconds=10.0, idle_seconds=10.0, total_seconds=20.0)


class OpenAIUpstream:
    """Raises SettingsError where the settings cannot work."""

    dialect = "openai"

    def __init__(self, name: str, settings: UpstreamSettings, *, clock: Clock, environ: Mapping[str, str]) -> None:
        self.name = name
        self._now = clock.monotonic
        self._address = parse_base_url(name, settings.base_url)
        self._proxy = choose_proxy(name, settings.proxy, self._address, environ)
        trust = make_context(name, settings) if self._address.tls else None
        self._headers = _added(name, settings.headers)
        self._forwarded = REQUEST_HEADERS - self._headers.keys()
        self.dialler = Dialler(name, self._address, self._proxy, trust)
        self.pool = Pool(name, settings, self.dialler, HeaderNames(response_name), clock)
        self._heads: dict[str, bytes] = {}
        self._authorization: bytes | None = None
        self.use_key(settings.key)

    def use_key(self, key: Secret | None) -> None:
        """From the next request on this credential is sent."""
        value = None if key is None else key.reveal().strip()
        if value is not None and not HEADER_VALUE.fullmatch(value):
            raise SettingsError(
                f"upstreams.{self.name}.key holds characters that no header may; is it the right file or variable?"
            )
        self._authorization = f"Bearer {value}".encode("latin-1") if value else None
        self._heads.clear()

    async def send(self, call: Outgoing, sink: Sink) -> Exchange:
        started = now = self._now()
        connection = self.pool.take(now)
        if connection is None:
            dialling: Awaitable[Connection] = self.pool.connect(call.limits.connect_seconds)
            if asyncio.current_task() is None:  # its time limit needs a task
                dialling = asyncio.ensure_future(dialling)
            connection = await dialling
            now = self._now()
        body = call.body
        head = self._heads.get(call.path) or self._head(call.path)
        if call.headers:
            head += self._forward(call.headers)
        head = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        return connection.start(head, body, call.stream, sink, call.limits, started, now)

    async def probe(self) -> None:
        connection = await self.pool.connect(PROBE_LIMITS.connect_seconds)
        sink = _Asked(asyncio.get_running_loop().create_future())
        head = self._lines("GET", "/models") + b"\r\n"
        exchange = connection.start(head, b"", False, sink, PROBE_LIMITS, self._now(), self._now())
        try:
            status = await sink.status
        finally:
            exchange.cancel()
        if status in {401, 403}:
            raise UpstreamStatusError(
                f"upstream '{self.name}' refuses the credential ({status}); check upstreams.{self.name}.key"
            )
        if status == 407 and self._proxy is not None:
            raise UpstreamStatusError(
                f"upstream '{self.name}': proxy {self._proxy.shown} wants other credentials (407)"
            )
        if status >= 500:
            raise UpstreamStatusError(
                f"upstream '{self.name}' answers {status} to GET /models; it is there, but not well"
            )

    async def close(self) -> None:
        self.pool.close()

    def _head(self, path: str) -> bytes:
        head = self._lines("POST", path) + b"content-type: application/json\r\n"
        if len(self._heads) < MAX_HEADS_KEPT:
            self._heads[path] = head
        return head

    def _lines(self, method: str, path: str) -> bytes:
        through_proxy = self._proxy is not None and not self._address.tls
        target = f"{self._address.origin if through_proxy else ''}{self._address.path}{path}"
        headers = {
            b"host": self._address.authority.encode(),
            b"user-agent": b"holdfast",
            b"accept-encoding": b"identity",
        }
        if self._authorization is not None:
            headers[b"authorization"] = self._authorization
        if through_proxy and self._proxy is not None and self._proxy.authorization is not None:
            headers[b"proxy-authorization"] = self._proxy.authorization
        headers |= self._headers
        lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
        return f"{method} {target} HTTP/1.1\r\n".encode("ascii") + lines

    def _forward(self, headers: Headers) -> bytes:
        lines = b""
        for name, value in headers:
            lower = name.lower()
            if lower in self._forwarded and b"\r" not in value and b"\n" not in value:
                lines += b"%b: %b\r\n" % (lower, value)
        return lines


class _Asked:
    """The sink of a probe: the status of whatever is answered."""

    def __init__(self, status: asyncio.Future[int]) -> None:
        self.status = status
        self._answered = 0

    def head(self, status: int, headers: Headers) -> None:
        self._answered = status

    def frames(self, frames: Sequence[bytes]) -> None: ...

    def end(self, ended: Ended) -> None:
        if self.status.done():
            return
        if ended.outcome == "complete":
            self.status.set_result(self._answered)
        else:
            self.status.set_exception(ended.error or UpstreamError("the probe was cancelled"))


def _added(upstream: str, headers: Mapping[str, Secret]) -> dict[bytes, bytes]:
    """The settings' own headers, lower-cased."""
    where = f"upstreams.{upstream}.headers"
    added: dict[bytes, bytes] = {}
    for name, secret in headers.items():
        value = secret.reveal().strip()
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise SettingsError(
                f"{where}: {name!r} is no header name, or its value holds characters that no header may"
            )
        lower = name.lower().encode("ascii")
        if lower in OURS:
            raise SettingsError(f"{where}: {name} is set by Holdfast itself")
        added[lower] = value.encode("latin-1")
    return added
