"""Requests as HTTP does not spell them: each gets a clean refusal or a closed connection, and nothing behind it is run."""

import socket
from typing import Any

import pytest

from tests.edge.house import CHAT, House, answers, chat, one_answer, read_all, request
from tests.edge.odd import AUTH, BODY, LENGTH, ODD_BODIES, SMUGGLED, raw


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_is_no_request_is_refused_and_nothing_behind_it_is_run(house: House, sent: bytes) -> None:
    answer = one_answer(await house.talk(sent, half_close=True))
    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"
    assert answer.headers[b"connection"] == b"close"
    assert not house.gateway.running
    assert not house.ledger.opened


async def test_chunked_twice_is_never_decoded_twice(house: House) -> None:
    once = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    sent = raw(
        b"Transfer-Encoding: chunked, chunked", b"Connection: close", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(once), once)
    )
    answer = one_answer(await house.talk(sent))
    assert answer.status == 400
    assert not house.ledger.opened


async def test_a_chunked_body_is_a_body(house: House) -> None:
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in BODY) + b"0\r\nTrailer: x\r\n\r\n"
    answer = one_answer(await house.talk(raw(b"Transfer-Encoding: chunked", b"Connection: close", body=chunks)))
    assert answer.status == 200


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
async def test_a_body_that_is_no_request_is_refused_and_the_connection_goes_on(house: House, body: bytes) -> None:
    found = answers(await house.talk(request(body) + request(BODY, close=True)))
    assert [answer.status for answer in found] == [400, 200]
    assert found[0].error["type"] == "invalid_request_error"
    assert found[0].headers[b"x-should-retry"] == b"false"
    assert len(house.ledger.opened) == 1


async def test_a_refusal_names_the_field(house: House) -> None:
    for body, param in (
        (ODD_BODIES["no model"], "model"),
        (ODD_BODIES["a temperature beyond"], "temperature"),
        (ODD_BODIES["the model twice"], "model"),
        (ODD_BODIES["empty messages"], "messages"),
    ):
        assert one_answer(await house.talk(request(body, close=True))).error["param"] == param


async def test_a_body_at_the_limit_is_taken_and_one_beyond_is_refused(house: House) -> None:
    most = house.serving.settings.max_body_bytes
    padding = most - len(chat(prompt=""))
    whole = request(chat(prompt="x" * padding), close=True)
    assert one_answer(await house.talk(whole)).status == 200
    assert one_answer(await house.talk(request(chat(prompt="x" * (padding + 1)), close=True))).status == 413


def oversized(*, chunked: bool) -> bytes:
    body = b"x" * 50_000_000
    if chunked:
        return raw(b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    return raw(b"Content-Length: %d" % len(body), body=body)


@pytest.mark.parametrize("chunked", [False, True])
async def test_fifty_megabytes_are_refused_so_that_the_client_can_read_it(house: House, chunked: bool) -> None:
    answer = one_answer(await house.talk(oversized(chunked=chunked)))
    assert answer.status == 413
    assert answer.error["code"] == "body_too_large"


async def test_a_body_that_is_said_to_be_too_large_is_refused_before_it_is_sent(house: House) -> None:
    for more in (b"", b"Expect: 100-continue"):
        answer = one_answer(await house.talk(raw(b"Content-Length: 50000000", more, body=b"{" if not more else b"")))
        assert answer.status == 413


async def test_too_many_headers(house: House) -> None:
    for count, status in ((90, 200), (101, 431), (100_000, 431)):
        lines = b"".join(b"X-%d: a\r\n" % number for number in range(count))
        answer = one_answer(await house.talk(request(BODY, headers=lines, close=True)))
        assert answer.status == status
        assert (b"holdfast-error", b"headers_too_large") in answer.headers.items() or status == 200


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Large: " + b"a" * 1_000_000 + b"\r\n",
        b"X" * 1_000_000 + b": a\r\n",
        80 * (b"X-Large: " + b"a" * 1000 + b"\r\n"),
    ],
    ids=["a value", "a name", "many"],
)
async def test_headers_too_large(house: House, headers: bytes) -> None:
    answer = one_answer(await house.talk(request(BODY, headers=headers, close=True)))
    assert answer.status == 431


async def test_headers_without_end_are_refused(house: House) -> None:
    def act(sock: socket.socket) -> bytes:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nX-Endless: ")
        try:
            for _ in range(100):
                sock.sendall(b"a" * 10_000)
        except OSError:
            pass
        return read_all(sock)

    assert one_answer(await house.client(act)).status == 431


async def test_a_request_line_too_large(house: House) -> None:
    for size in (70_000, 1_000_000):
        answer = one_answer(await house.talk(request(method="GET", target=b"/v1/" + b"a" * size)))
        assert answer.status == 431


async def test_a_whole_url_is_a_path(house: House) -> None:
    for target in (b"http://house/v1/models", b"HTTPS://user@house:1/v1/models?x=http://y"):
        assert one_answer(await house.talk(request(method="GET", target=target, close=True))).status == 200
    answer = one_answer(await house.talk(request(method="GET", target=b"http://house", close=True)))
    assert answer.json()["cold"] == "/"


async def test_odd_targets(house: House) -> None:
    for target, status in (
        (b"/v1/%00", 404),
        (b"/v1/chat/completions/", 404),
        (b"/v1//models", 404),
        (b"/v1/../v1/models", 404),
        (b"/v1/models/%ff%fe", 404),
        (b"/v1/models/" + b"a" * 5_000, 404),
        (b"/v1/models/gpt", 200),
        (b"/v1/models?limit=%zz", 200),
        (b"/v1/models#x", 404),
    ):
        answer = one_answer(await house.talk(request(method="GET", target=target, close=True)))
        assert answer.status == status, target


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "GET", "HEAD"])
async def test_another_method_is_refused_and_told_which_there_is(house: House, method: str) -> None:
    (answer,) = answers(await house.talk(request(method=method, close=True)), iter([method.encode()]))
    assert answer.status == 405
    assert answer.headers[b"allow"] == b"POST"


async def test_a_head_is_a_get_without_its_body(house: House) -> None:
    (answer,) = answers(await house.talk(request(method="HEAD", target=b"/v1/models", close=True)), iter([b"HEAD"]))
    assert answer.status == 200
    assert int(answer.headers[b"content-length"]) > 100


async def test_what_is_for_proxies_is_refused(house: House) -> None:
    answer = one_answer(await house.talk(b"CONNECT house:443 HTTP/1.1\r\nHost: h\r\n\r\n", half_close=True))
    assert answer.status == 400


@pytest.mark.parametrize("body", [None, BODY])
@pytest.mark.parametrize("target", [CHAT, b"/cold"])
@pytest.mark.parametrize(
    "headers",
    [
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ],
    ids=["websocket", "h2c"],
)
async def test_an_upgrade_is_refused_and_runs_nothing_again(
    house: House, headers: bytes, target: bytes, body: bytes | None
) -> None:
    """The call before it on the same connection stays the only one."""
    found = answers(await house.talk(request(BODY) + request(body, target=target, headers=headers)))
    assert [answer.status for answer in found] == [200, 400]
    assert len(house.ledger.opened) == 1
    found = answers(await house.talk(request(chat("slow")) + request(body, target=target, headers=headers)))
    assert [answer.status for answer in found] == [200, 400]
    assert len(house.ledger.opened) == 2


async def test_headers_that_decide_something_are_there_once(house: House) -> None:
    twice = {
        "authorization": AUTH,
        "host": b"Host: other\r\n",
        "content-type": b"Content-Type: application/json\r\n" * 2,
        "x-holdfast-route": b"X-Holdfast-Route: a\r\nx-holdfast-route: b\r\n",
    }
    for name, lines in twice.items():
        answer = one_answer(await house.talk(request(BODY, headers=lines, close=True)))
        assert answer.status == 400
        assert name in answer.error["message"]
    assert (
        one_answer(await house.talk(request(BODY, headers=b"X-Other: a\r\nX-Other: b\r\n", close=True))).status == 200
    )


async def test_a_host_is_wanted_from_http_1_1_on(house: House) -> None:
    answer = one_answer(await house.talk(raw(LENGTH, b"Connection: close", host=b"", body=BODY)))
    assert (answer.status, "Host" in answer.error["message"]) == (400, True)


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("members", [{}, {"stream": True}])
async def test_http_1_0_gets_its_answer_and_the_end_is_the_close(
    house: House, keep: bytes, members: dict[str, Any]
) -> None:
    answer = one_answer(await house.talk(request(chat(**members), version=b"1.0", headers=keep)))
    assert answer.status == 200
    assert answer.headers[b"connection"] == b"close"
    assert b"transfer-encoding" not in answer.headers
    assert (b"[DONE]" in answer.body) is bool(members)


async def test_a_request_id_of_the_clients_comes_back_if_it_is_one(house: House) -> None:
    for given, taken in ((b"req-1.A:z", True), (b"a b", False), (b"a" * 129, False), (b"\xc3\xa9", False)):
        answer = one_answer(await house.talk(request(BODY, headers=b"X-Request-Id: " + given + b"\r\n", close=True)))
        assert (answer.headers[b"x-request-id"] == given) is taken
        assert answer.headers[b"holdfast-call"].startswith(b"call_")
