"""The OpenAI upstream: what it sends, what it lets back, whose credential it uses, and what its probe finds."""

import pytest

from holdfast.dialects.openai.headers import request_headers, response_name
from holdfast.kernel.errors import SettingsError, UpstreamConnectError, UpstreamStatusError
from holdfast.kernel.secret import Secret
from holdfast.upstreams.address import parse_base_url
from holdfast.upstreams.answer import HeaderNames
from tests.upstreams.provider import (
    Asked,
    Handler,
    Talk,
    Told,
    answering,
    ask,
    outgoing,
    serving,
    upstream_to,
    whole,
)

ON_BOTH_LOOPS = True

FROM_A_CLIENT = [
    (b"Accept", b"text/event-stream"),
    (b"authorization", b"Bearer hf-client"),
    (b"x-api-key", b"hf-client"),
    (b"api-key", b"hf-client"),
    (b"cookie", b"session=1"),
    (b"host", b"gateway.example"),
    (b"content-length", b"999"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close"),
    (b"content-encoding", b"gzip"),
    (b"accept-encoding", b"br"),
    (b"idempotency-key", b"k"),
    (b"x-stainless-lang", b"python"),
    (b"user-agent", b"client"),
    (b"forwarded", b"for=1.2.3.4"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"proxy-authorization", b"Basic x"),
    (b"openai-beta", b"assistants=v2"),
    (b"OpenAI-Organization", b"org-client"),
    (b"openai-project", b"proj\r\nx-evil: 1"),
]


def noting(asked: list[Asked], answer: bytes) -> Handler:
    async def handler(talk: Talk) -> None:
        while True:
            asked.append(await talk.asked())
            await talk.say(answer)

    return handler


async def test_a_request_is_exactly_this() -> None:
    asked: list[Asked] = []
    body = b'{"model":"m","messages":[{"role":"user","content":"h\xc3\xa9"}]}'
    async with serving(noting(asked, whole(b"{}"))) as provider:
        upstream = upstream_to(provider.port)
        await ask(upstream, body=body)
        assert asked[0].line == "POST /v1/chat/completions HTTP/1.1"
        assert asked[0].body == body
        assert asked[0].headers == {
            "host": f"127.0.0.1:{provider.port}",
            "user-agent": "holdfast",
            "accept-encoding": "identity",
            "authorization": "Bearer sk-secret",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        await upstream.close()


async def test_of_a_clients_headers_only_the_listed_ones_go_on() -> None:
    asked: list[Asked] = []
    async with serving(noting(asked, whole(b"{}"))) as provider:
        upstream = upstream_to(provider.port)
        told = Told()
        await upstream.send(outgoing(headers=FROM_A_CLIENT), told)
        await told.end_comes()
        ours = {"host", "user-agent", "accept-encoding", "authorization", "content-type", "content-length"}
        assert {name: value for name, value in asked[0].headers.items() if name not in ours} == {
            "accept": "text/event-stream",
            "openai-beta": "assistants=v2",
        }
        assert asked[0].headers["authorization"] == "Bearer sk-secret"
        assert asked[0].headers["accept-encoding"] == "identity"
        await upstream.close()


def test_the_filter_of_request_headers_says_the_same_beforehand() -> None:
    named_in_lower_case = [(name.lower(), value) for name, value in FROM_A_CLIENT]
    assert [name for name, _ in request_headers(named_in_lower_case)] == [b"accept", b"openai-beta"]


async def test_headers_of_the_settings_are_added_and_win() -> None:
    asked: list[Asked] = []
    headers = {"OpenAI-Organization": Secret("org-ours"), "X-Team": Secret("blue"), "Authorization": Secret("Custom t")}
    async with serving(noting(asked, whole(b"{}"))) as provider:
        upstream = upstream_to(provider.port, headers=headers)
        told = Told()
        await upstream.send(outgoing(headers=FROM_A_CLIENT), told)
        await told.end_comes()
        assert asked[0].headers["openai-organization"] == "org-ours"
        assert asked[0].headers["x-team"] == "blue"
        assert asked[0].headers["authorization"] == "Custom t"
        await upstream.close()


async def test_of_a_providers_headers_only_the_listed_ones_come_back() -> None:
    headers = (
        b"Content-Type: application/json\r\nX-Request-ID: req_1\r\nOpenAI-Processing-MS: 12\r\nopenai-version: 2020-10-01\r\n"
        b"x-ratelimit-remaining-tokens: 9\r\nretry-after: 1\r\nset-cookie: a=b\r\nserver: cloudflare\r\ndate: now\r\n"
        b"openai-organization: org-secret\r\nkeep-alive: timeout=5\r\nalt-svc: h3\r\nstrict-transport-security: x\r\n"
    )
    async with serving(answering(whole(b"{}", headers=headers))) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert dict(told.headers) == {
            b"content-type": b"application/json",
            b"x-upstream-request-id": b"req_1",
            b"openai-processing-ms": b"12",
            b"openai-version": b"2020-10-01",
            b"x-ratelimit-remaining-tokens": b"9",
            b"retry-after": b"1",
        }
        assert all(response_name(name) == name for name, _ in told.headers)
        await upstream.close()


async def test_a_new_credential_is_used_from_the_next_request_on() -> None:
    asked: list[Asked] = []
    async with serving(noting(asked, whole(b"{}"))) as provider:
        upstream = upstream_to(provider.port)
        await ask(upstream)
        upstream.use_key(Secret("sk-new\n"))
        await ask(upstream)
        upstream.use_key(None)
        await ask(upstream)
        assert [one.headers.get("authorization") for one in asked] == ["Bearer sk-secret", "Bearer sk-new", None]
        with pytest.raises(SettingsError, match=r"upstreams\.acme\.key") as refused:
            upstream.use_key(Secret("sk-a\r\nx-evil: 1"))
        assert "sk-a" not in refused.value.message
        await upstream.close()


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("http://127.0.0.1:{}", "/chat/completions"),
        ("http://127.0.0.1:{}/", "/chat/completions"),
        ("http://127.0.0.1:{}/v1/", "/v1/chat/completions"),
        ("http://127.0.0.1:{}/openai/deployments/a%20b", "/openai/deployments/a%20b/chat/completions"),
    ],
)
async def test_paths_are_joined_to_the_base(base_url: str, path: str) -> None:
    asked: list[Asked] = []
    async with serving(noting(asked, whole(b"{}"))) as provider:
        upstream = upstream_to(provider.port, base_url=base_url.format(provider.port))
        await ask(upstream)
        assert asked[0].line == f"POST {path} HTTP/1.1"
        await upstream.close()


@pytest.mark.parametrize(
    ("url", "authority", "host", "port"),
    [
        ("https://api.example.com/v1", "api.example.com", "api.example.com", 443),
        ("https://api.example.com:443/v1", "api.example.com", "api.example.com", 443),
        ("http://api.example.com:8080", "api.example.com:8080", "api.example.com", 8080),
        ("http://[::1]:8080", "[::1]:8080", "::1", 8080),
        ("http://bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example", 80),
    ],
)
def test_a_base_url_is_read(url: str, authority: str, host: str, port: int) -> None:
    address = parse_base_url("acme", url)
    assert (address.authority, address.host, address.port) == (authority, host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://x/",
        "http://",
        "http://a:b@x/",
        "http://x/?a=1",
        "http://x/#a",
        "http://x:99999",
        "http://x/a b",
        "http://a..b/",
    ],
)
def test_a_base_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^upstreams\.acme\.base_url "):
        parse_base_url("acme", url)


@pytest.mark.parametrize(
    "header", ["transfer-encoding", "Content-Length", "accept-encoding", "bad name", "content-type"]
)
def test_headers_that_are_ours_cannot_be_set(header: str) -> None:
    with pytest.raises(SettingsError, match=r"^upstreams\.acme\.headers: "):
        upstream_to(1, headers={header: Secret("x")})


async def test_the_probe_asks_for_the_models_with_the_credential() -> None:
    asked: list[Asked] = []
    async with serving(noting(asked, whole(b'{"data":[]}'))) as provider:
        upstream = upstream_to(provider.port)
        await upstream.probe()
        assert asked[0].line == "GET /v1/models HTTP/1.1"
        assert asked[0].headers["authorization"] == "Bearer sk-secret"
        assert asked[0].body == b""
        await upstream.close()


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
async def test_the_probe_says_that_the_credential_is_refused_and_keeps_it(status: bytes) -> None:
    async with serving(answering(whole(b'{"error":"sk-secret is bad"}', status=status))) as provider:
        upstream = upstream_to(provider.port)
        with pytest.raises(
            UpstreamStatusError, match=r"upstream 'acme' refuses the credential .*upstreams\.acme\.key"
        ) as refused:
            await upstream.probe()
        assert "sk-secret" not in refused.value.message
        await upstream.close()


async def test_the_probe_takes_a_server_without_that_path_for_well_and_one_in_trouble_not() -> None:
    for answer, trouble in ((b"404 Not Found", False), (b"503 Service Unavailable", True)):
        async with serving(answering(whole(b"", status=answer))) as provider:
            upstream = upstream_to(provider.port)
            if trouble:
                with pytest.raises(UpstreamStatusError, match="answers 503"):
                    await upstream.probe()
            else:
                await upstream.probe()
            await upstream.close()


async def test_the_probe_names_the_failing_hop() -> None:
    async with serving(answering()) as provider:
        port = provider.port
    upstream = upstream_to(port)
    with pytest.raises(UpstreamConnectError, match="TCP"):
        await upstream.probe()
    await upstream.close()


async def test_an_upstream_never_shows_its_key() -> None:
    async def breaking(talk: Talk) -> None:
        await talk.asked()
        await talk.say(b"sk-secret is not HTTP\r\n\r\n")

    async with serving(breaking) as provider:
        upstream = upstream_to(provider.port)
        told = await ask(upstream)
        assert "sk-secret" not in told.error
        assert "sk-secret" not in repr(upstream)
        await upstream.close()


def test_names_a_provider_makes_up_are_not_kept_without_bound() -> None:
    names = HeaderNames(response_name)
    for number in range(5000):
        assert names.learn(b"x-made-up-%d" % number) == b""
    assert names.learn(b"x" * 60_000) == b""
    assert names.learn(b"X-Request-ID") == b"x-upstream-request-id"
    assert len(names.known) <= 1000
    assert max(len(name) for name in names.known) <= 100
