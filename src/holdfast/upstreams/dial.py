"""From a name to a connection that can carry a request: name, TCP, proxy, TLS, each failing under its own name."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address

from holdfast.kernel.errors import UpstreamConnectError, UpstreamTimeoutError
from holdfast.upstreams.address import Address
from holdfast.upstreams.proxy import Proxy

MAX_PROXY_HEAD_BYTES = 16 * 1024


class Dialler:
    """Opens connections to one address. Whatever fails, is cancelled or takes too long leaves no socket behind."""

    def __init__(self, upstream: str, address: Address, proxy: Proxy | None, trust: ssl.SSLContext | None) -> None:
        self._upstream = upstream
        self._address = address
        self._proxy = proxy
        self._trust = trust

    async def dial(self, protocol: asyncio.Protocol, limit_seconds: float) -> None:
        """Connects `protocol`. Raises UpstreamConnectError or UpstreamTimeoutError, naming the hop."""
        steps = _Steps()
        try:
            async with asyncio.timeout(limit_seconds):
                await self._connect(protocol, steps, asyncio.get_running_loop().time() + limit_seconds)
        except TimeoutError:
            raise UpstreamTimeoutError(
                f"upstream '{self._upstream}': the connect limit of {limit_seconds:g} s passed at {steps.now}; "
                "check the way there, or raise connect_seconds of the route"
            ) from None
        finally:
            steps.close_unless_done()

    async def _connect(self, protocol: asyncio.Protocol, steps: "_Steps", until: float) -> None:
        if self._trust is None:
            await self._reach(lambda: protocol, steps, until)
            steps.done()
            return
        opening = _Opening(asyncio.get_running_loop())
        transport = await self._reach(lambda: opening, steps, until)
        if self._proxy is not None:
            await self._tunnel(opening, transport, self._proxy, steps)
        secured = await self._secure(self._trust, transport, protocol, steps)
        protocol.connection_made(secured)
        steps.done()

    async def _reach(self, factory: Callable[[], asyncio.Protocol], steps: "_Steps", until: float) -> asyncio.Transport:
        """Name and TCP of the proxy, else of the upstream; addresses in the resolver's order, each with its share of the time."""
        loop = asyncio.get_running_loop()
        whose = f"proxy {self._proxy.shown}" if self._proxy else self._address.authority
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (self._address.host, self._address.port)
        steps.now = f"DNS, resolving {host}"
        found = await self.resolve(host, port)
        failure: OSError | None = None
        for place, ip in enumerate(found):
            steps.now = f"TCP, connecting to {whose} at {ip} port {port}"
            try:
                async with asyncio.timeout((until - loop.time()) / (len(found) - place)):
                    transport, _ = await loop.create_connection(factory, ip, port)
            except OSError as error:
                failure = error
            else:
                steps.opened = transport
                return transport
        if isinstance(failure, TimeoutError) and failure.errno is None:
            raise failure
        setting = "the proxy's address" if self._proxy else f"upstreams.{self._upstream}.base_url"
        raise self._failure(f"TCP: cannot connect to {whose}: {_reason(failure)}; is it running, and {setting} right?")

    async def resolve(self, host: str, port: int) -> list[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            what = f"DNS: the name {host} cannot be resolved ({_reason(error)})"
            raise self._failure(f"{what}; check the name and this machine's resolver") from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _tunnel(self, opening: "_Opening", transport: asyncio.Transport, proxy: Proxy, steps: "_Steps") -> None:
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        target = f"{host}:{self._address.port}"
        steps.now = f"proxy {proxy.shown}, asking for a tunnel to {target}"
        authorization = b"proxy-authorization: %b\r\n" % proxy.authorization if proxy.authorization else b""
        transport.write(
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (target.encode(), target.encode(), authorization)
        )
        try:
            head = await opening.head
        except OSError as error:
            what = f"proxy: {proxy.shown} broke off while opening a tunnel to {target}: {_reason(error)}"
            raise self._failure(what) from error
        line = head.partition(b"\r\n")[0].decode("latin-1")
        version, _, rest = line.partition(" ")
        status = rest[:3]
        if status == "407":
            raise self._failure(
                f"proxy: {proxy.shown} wants other credentials (407); put user:password into the proxy's URL"
            )
        if not version.startswith("HTTP/1.") or not status.startswith("2"):
            raise self._failure(
                f"proxy: {proxy.shown} refused a tunnel to {target}: {line[:120]!r}; does it allow that host and port?"
            )

    async def _secure(
        self, trust: ssl.SSLContext, transport: asyncio.Transport, protocol: asyncio.Protocol, steps: "_Steps"
    ) -> asyncio.Transport:
        steps.now = f"TLS, shaking hands with {self._address.authority}"
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(transport, protocol, trust, server_hostname=self._address.host)
        except ssl.SSLCertVerificationError as error:
            what = f"TLS: the certificate of {self._address.authority} is not trusted: {error.verify_message}"
            todo = f"for an authority of your own set upstreams.{self._upstream}.ca_bundle"
            raise self._failure(f"{what}; {todo}") from error
        except OSError as error:
            hint = "does that port speak TLS, and want a client certificate?"
            raise self._failure(
                f"TLS: no handshake with {self._address.authority}: {_reason(error)}; {hint}"
            ) from error
        if secured is None:
            raise self._failure(f"TLS: {self._address.authority} closed the connection during the handshake")
        steps.opened = secured
        return secured

    def _failure(self, what: str) -> UpstreamConnectError:
        return UpstreamConnectError(f"upstream '{self._upstream}': {what}")


class _Steps:
    """How far a dial has come, so that a limit names the hop and a failure closes what was opened."""

    __slots__ = ("now", "opened")

    def __init__(self) -> None:
        self.now = "DNS"
        self.opened: asyncio.Transport | None = None

    def done(self) -> None:
        self.opened = None

    def close_unless_done(self) -> None:
        if self.opened is not None:
            self.opened.abort()


class _Opening(asyncio.Protocol):
    """Stands on the socket before the request's protocol does; `head` is what a proxy answers to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head: asyncio.Future[bytes] = loop.create_future()
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if self.head.done():
            return
        if end >= 0 and end + 4 == len(self._received):
            self.head.set_result(bytes(self._received[:end]))
        elif end >= 0 or len(self._received) > MAX_PROXY_HEAD_BYTES:
            self.head.set_exception(ConnectionAbortedError("it answered with more than a head"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(
                exc if isinstance(exc, OSError) else ConnectionResetError("it closed the connection")
            )
            self.head.exception()  # without a proxy nobody awaits it


def _reason(error: OSError | None) -> str:
    if error is None:
        return "it has no address"
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
