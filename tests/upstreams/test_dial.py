"""The way to an upstream: name, TCP, proxy, TLS; each failure names its hop, says what to do, and leaves no socket."""

import asyncio
import base64
import contextlib
import re
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from holdfast.kernel.errors import SettingsError, UpstreamConnectError, UpstreamTimeoutError
from holdfast.ports.upstream import Limits
from tests.upstreams.provider import (
    STREAM_END,
    STREAM_HEAD,
    Asked,
    Provider,
    Talk,
    ask,
    chunk,
    serving,
    settled,
    start,
    upstream_to,
    whole,
)

ON_BOTH_LOOPS = True

IMPATIENT = Limits(connect_seconds=0.2)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_side(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def echo(talk: Talk) -> None:
    while True:
        asked = await talk.asked()
        if asked.body == b"stream":
            await talk.say(STREAM_HEAD + chunk(b"data: a\n\n") + STREAM_END)
        else:
            await talk.say(whole(asked.body))


async def silent(talk: Talk) -> None:
    await talk.left()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full: whoever connects hears nothing, as behind a firewall that drops."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class ConnectProxy:
    """A small HTTP proxy: CONNECT, and absolute-form requests passed on as they are."""

    def __init__(self, refuse: bytes | None = None) -> None:
        self.refuse = refuse
        self.asked: list[Asked] = []
        self.port = 0

    async def serve(self, talk: Talk) -> None:
        head = await talk.head()
        self.asked.append(head)
        if self.refuse is not None:
            await talk.say(self.refuse)
            return
        method, target, _ = head.line.split(" ")
        if method != "CONNECT":
            body = await talk.reader.readexactly(int(head.headers["content-length"]))
            await talk.say(whole(b"by proxy: " + body))
            await talk.left()
            return
        host, port = target.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            await talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._pump(talk.reader, writer), self._pump(reader, talk.writer))
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying(refuse: bytes | None = None) -> AsyncIterator[tuple[ConnectProxy, Provider]]:
    proxy = ConnectProxy(refuse)
    async with serving(proxy.serve) as provider:
        proxy.port = provider.port
        yield proxy, provider


async def test_tls_is_spoken_with_a_trusted_authority_and_the_connection_reused(
    authority: trustme.CA, bundle: str
) -> None:
    async with serving(echo, server_side(authority)) as provider:
        upstream = upstream_to(provider.port, scheme="https", ca_bundle=bundle)
        big = b"x" * 3_000_000
        for body in (b"one", big):
            assert (await ask(upstream, body=body)).batches == [(body,)]
        assert (await ask(upstream, stream=True, body=b"stream")).frames_told == [b"data: a\n\n"]
        assert provider.connections == 1
        await upstream.close()


async def test_cancelling_under_tls_closes_the_socket(authority: trustme.CA, bundle: str) -> None:
    async with serving(silent, server_side(authority)) as provider:
        upstream = upstream_to(provider.port, scheme="https", ca_bundle=bundle)
        told, exchange = await start(upstream)
        exchange.cancel()
        assert told.ended is not None
        assert told.ended.outcome == "cancelled"
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_an_authority_nobody_trusts_is_refused_and_the_way_out_is_named(authority: trustme.CA) -> None:
    async with serving(echo, server_side(authority)) as provider:
        upstream = upstream_to(provider.port, scheme="https")
        with pytest.raises(
            UpstreamConnectError, match=r"upstream 'acme': TLS: .*not trusted.*upstreams\.acme\.ca_bundle"
        ):
            await ask(upstream)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, bundle: str) -> None:
    async with serving(echo, server_side(authority, "other.example")) as provider:
        upstream = upstream_to(provider.port, scheme="https", ca_bundle=bundle)
        with pytest.raises(UpstreamConnectError, match=r"TLS: .*not trusted: .*IP address mismatch"):
            await ask(upstream)
        await upstream.close()


async def test_the_server_is_told_the_name_it_is_asked_for(authority: trustme.CA, bundle: str) -> None:
    context = server_side(authority, "localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    async with serving(echo, context) as provider:
        upstream = upstream_to(provider.port, base_url=f"https://localhost:{provider.port}/v1", ca_bundle=bundle)
        await ask(upstream)
        assert names == ["localhost"]
        await upstream.close()


async def test_old_tls_is_refused(authority: trustme.CA, bundle: str) -> None:
    context = server_side(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(echo, context) as provider:
        upstream = upstream_to(provider.port, scheme="https", ca_bundle=bundle)
        with pytest.raises(UpstreamConnectError, match="TLS: no handshake"):
            await ask(upstream)
        await upstream.close()


async def test_a_client_certificate_opens_a_server_that_wants_one(
    authority: trustme.CA, bundle: str, tmp_path: Path
) -> None:
    context = server_side(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    mine = authority.issue_cert("client.example")
    both, certificate, key = tmp_path / "both.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)
    pairs = [(str(both), None), (str(certificate), str(key))]
    async with serving(echo, context) as provider:
        for pair in pairs:
            upstream = upstream_to(
                provider.port, scheme="https", ca_bundle=bundle, client_certificate=pair[0], client_key=pair[1]
            )
            assert (await ask(upstream)).status == 200
            await upstream.close()
        without = upstream_to(provider.port, scheme="https", ca_bundle=bundle)
        with contextlib.suppress(UpstreamConnectError):  # TLS 1.3 tells the client after the handshake only
            told = await ask(without)
            assert told.ended is not None
            assert told.ended.outcome == "broken"
        await without.close()


async def test_a_port_that_speaks_no_tls_is_said_so() -> None:
    async def plain(talk: Talk) -> None:
        await talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(plain) as provider:
        upstream = upstream_to(provider.port, scheme="https")
        with pytest.raises(UpstreamConnectError, match=r"upstream 'acme': TLS: .*does that port speak TLS"):
            await ask(upstream)
        assert upstream.pool.open_connections == 0
        await upstream.close()


async def test_a_name_that_does_not_resolve_is_a_dns_failure() -> None:
    upstream = upstream_to(1, base_url="http://-/v1")
    with pytest.raises(UpstreamConnectError, match="upstream 'acme': DNS: the name - cannot be resolved"):
        await ask(upstream)
    assert upstream.pool.open_connections == 0
    await upstream.close()


@pytest.mark.parametrize("hop", ["TCP", "TLS", "proxy"])
async def test_the_connect_limit_names_the_hop_it_passed_at(hop: str) -> None:
    with black_hole() as deaf:
        async with serving(silent) as provider:
            if hop == "TCP":
                upstream = upstream_to(deaf)
            elif hop == "TLS":
                upstream = upstream_to(provider.port, scheme="https")
            else:
                upstream = upstream_to(443, scheme="https", proxy=f"http://127.0.0.1:{provider.port}")
            with pytest.raises(
                UpstreamTimeoutError, match=rf"the connect limit of 0\.2 s passed at {hop}.*connect_seconds"
            ):
                await start(upstream, limits=IMPATIENT)
            assert upstream.pool.open_connections == 0
            await settled(lambda: provider.open_connections == 0)
            await upstream.close()


@pytest.mark.parametrize("hop", ["TCP", "TLS", "proxy"])
async def test_a_dial_cancelled_at_any_hop_leaves_no_socket(hop: str) -> None:
    with black_hole() as deaf:
        async with serving(silent) as provider:
            if hop == "TCP":
                upstream = upstream_to(deaf)
            elif hop == "TLS":
                upstream = upstream_to(provider.port, scheme="https")
            else:
                upstream = upstream_to(443, scheme="https", proxy=f"http://127.0.0.1:{provider.port}")
            dialling = asyncio.ensure_future(start(upstream))
            await settled(lambda: provider.open_connections == (0 if hop == "TCP" else 1))
            await asyncio.sleep(0.02)
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
            assert upstream.pool.open_connections == 0
            await settled(lambda: provider.open_connections == 0)
            await upstream.close()


async def test_https_goes_through_a_tunnel_and_the_proxy_learns_no_secret(authority: trustme.CA, bundle: str) -> None:
    async with serving(echo, server_side(authority)) as provider, proxying() as (proxy, _):
        upstream = upstream_to(
            provider.port, scheme="https", ca_bundle=bundle, proxy=f"http://me:s%40cret@127.0.0.1:{proxy.port}"
        )
        for body in (b"1", b"2"):
            assert (await ask(upstream, body=body)).batches == [(body,)]
        assert [asked.line for asked in proxy.asked] == [f"CONNECT 127.0.0.1:{provider.port} HTTP/1.1"]
        assert proxy.asked[0].headers == {
            "host": f"127.0.0.1:{provider.port}",
            "proxy-authorization": "Basic " + base64.b64encode(b"me:s@cret").decode(),
        }
        await upstream.close()


async def test_http_goes_to_the_proxy_in_absolute_form() -> None:
    async with proxying() as (proxy, _):
        upstream = upstream_to(80, base_url="http://model.invalid:8080/v1", proxy=f"http://me:x@127.0.0.1:{proxy.port}")
        assert (await ask(upstream, body=b"hi")).batches == [(b"by proxy: hi",)]
        assert proxy.asked[0].line == "POST http://model.invalid:8080/v1/chat/completions HTTP/1.1"
        assert proxy.asked[0].headers["host"] == "model.invalid:8080"
        assert proxy.asked[0].headers["proxy-authorization"].startswith("Basic ")
        await upstream.close()


@pytest.mark.parametrize("spelling", [str.upper, str.lower], ids=["upper", "lower"])
async def test_the_environment_names_the_proxy_unless_the_settings_do(
    authority: trustme.CA, bundle: str, spelling: type[str]
) -> None:
    async with serving(echo, server_side(authority)) as provider, proxying() as (proxy, _):
        environ = {
            spelling("https_proxy"): f"http://127.0.0.1:{proxy.port}",
            spelling("http_proxy"): "http://unused.invalid",
        }
        through = upstream_to(provider.port, scheme="https", ca_bundle=bundle, environ=environ)
        assert (await ask(through)).status == 200
        assert len(proxy.asked) == 1
        exempt = upstream_to(
            provider.port, scheme="https", ca_bundle=bundle, environ=environ | {spelling("no_proxy"): "127.0.0.0/8"}
        )
        ignored = upstream_to(provider.port, scheme="https", ca_bundle=bundle, environ=environ, proxy="none")
        assert (await ask(exempt)).status == (await ask(ignored)).status == 200
        assert len(proxy.asked) == 1
        for upstream in (through, exempt, ignored):
            await upstream.close()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants other credentials (407)"),
        (
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "refused a tunnel to 127.0.0.1:443: 'HTTP/1.1 403 Forbidden'",
        ),
        (b"SSH-2.0-x\r\n\r\n", "refused a tunnel"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "answered with more than a head"),
        (b"x" * 100_000, "answered with more than a head"),
        (b"", "closed the connection"),
    ],
    ids=["407", "403", "no HTTP", "body", "no end", "gone"],
)
async def test_a_proxy_that_refuses_is_named_without_its_password(refusal: bytes, said: str) -> None:
    async with proxying(refusal) as (proxy, provider):
        upstream = upstream_to(443, scheme="https", proxy=f"http://me:hush@127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamConnectError, match=re.escape(said)) as caught:
            await ask(upstream)
        assert f"upstream 'acme': proxy: http://127.0.0.1:{proxy.port}" in caught.value.message
        assert "hush" not in caught.value.message
        assert upstream.pool.open_connections == 0
        await settled(lambda: provider.open_connections == 0)
        await upstream.close()


async def test_a_proxy_that_is_not_there_is_a_tcp_failure_of_the_proxy() -> None:
    async with serving(silent) as provider:
        port = provider.port
    upstream = upstream_to(443, scheme="https", proxy=f"http://me:hush@127.0.0.1:{port}")
    with pytest.raises(
        UpstreamConnectError, match=rf"TCP: cannot connect to proxy http://127\.0\.0\.1:{port}: Connection refused"
    ):
        await ask(upstream)
    await upstream.close()


async def test_the_next_address_of_a_name_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(echo) as provider:
        upstream = upstream_to(provider.port, base_url=f"http://localhost:{provider.port}/v1")

        async def both(host: str, port: int) -> list[str]:
            return ["127.0.0.2", "127.0.0.1"]

        monkeypatch.setattr(upstream.dialler, "resolve", both)
        assert (await ask(upstream)).status == 200
        await upstream.close()


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate"])
def test_a_file_that_cannot_be_used_is_refused_at_start(setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"upstreams\.acme\.{setting}: there is no file"):
        upstream_to(1, base_url="https://127.0.0.1/v1", **{setting: str(tmp_path / "none.pem")})  # type: ignore[arg-type]
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(SettingsError, match=rf"upstreams\.acme\.{setting}: "):
        upstream_to(1, base_url="https://127.0.0.1/v1", **{setting: str(junk)})  # type: ignore[arg-type]
