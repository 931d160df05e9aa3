"""Anything may come over a socket: a clean refusal or a closed connection, never a 500, a hang or a leak. Against real processes."""

import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.edge.house import answers, chat, read_all, request, reset
from tests.edge.odd import ODD_BODIES, SMUGGLED
from tests.features.gateway.rig import KEY as ODD_KEY
from tests.journeys.launcher import Running, launching
from tests.journeys.simulator import Simulator, simulator

pytestmark = pytest.mark.xdist_group("broken_bytes")

CONFIG = """
[server]
headers_seconds = 1.0
keep_alive_seconds = 5.0
max_connections = 300

[defaults]
on_disconnect = "cancel"

[organisations.acme.teams.search]
tokens_per_minute = 1000000000
concurrent = 500

[keys.odd]
secret = "env:ODD_KEY"
team = "acme/search"

[upstreams.sim]
dialect = "openai"
base_url = "URL/v1"
key = "none"

[models.gpt]
lanes = ["sim/scripted?tokens=8"]
concurrent = 400

[models.long]
lanes = ["sim/scripted?tokens=100000&itl_ms=2"]
concurrent = 400
"""


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture(scope="module")
def running(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with launching(tmp_path_factory.mktemp("broken")) as launcher:
        yield launcher(CONFIG.replace("URL", sim.url), {"ODD_KEY": ODD_KEY})


@pytest.fixture(autouse=True)
def nothing_is_left(running: Running, sim: Simulator) -> Iterator[None]:
    """After whatever came: no connection, call, slot or stream is left, no line of the log speaks of a defect, it answers."""
    yield
    assert running.when(lambda: gauge(running, "holdfast_running_calls") == 0), "calls are left"
    assert running.when(lambda: gauge(running, "holdfast_open_connections") <= 1), "connections are left"
    assert sim.calls_when(lambda counted: counted["open"] == 0)["open"] == 0
    assert running.chat("gpt").status == 200
    assert running.process.poll() is None
    defects = [line for line in running.lines() if line.get("level") in ("error", "critical", "ERROR", "CRITICAL")]
    assert not defects, defects[:3]
    assert "Traceback" not in running.log.read_text("utf-8")
    with ThreadPoolExecutor(50) as pool:
        fine = pool.map(lambda _: talk(running, request(chat(), close=True)), range(50))
    assert {status for raw in fine for status in statuses(raw)} == {200}


def gauge(running: Running, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", running.ask("/metrics").body.decode(), re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def connected(running: Running, timeout: float = 15.0) -> socket.socket:
    parts = urlsplit(running.url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=timeout)


def talk(running: Running, sent: bytes, *, half_close: bool = True) -> bytes:
    with connected(running) as sock:
        with suppress(OSError):  # it may be refused before it is whole; the reason is there to read
            sock.sendall(sent)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def statuses(raw: bytes) -> list[int]:
    return [answer.status for answer in answers(raw) if answer.status != 100]


def test_what_is_no_request_is_refused(running: Running) -> None:
    for name, sent in SMUGGLED.items():
        for target in (b"/v1/chat/completions", b"/api/keys", b"/healthz"):
            raw = talk(running, sent.replace(b"/v1/chat/completions", target))
            assert statuses(raw) == [400], (name, target, raw[:200])
            assert json.loads(answers(raw)[0].body)["error"]["code"] == "invalid_request"


def test_bodies_that_are_no_request_are_refused(running: Running) -> None:
    for name, body in ODD_BODIES.items():
        for target in (b"/v1/chat/completions", b"/v1/embeddings"):
            raw = talk(running, request(body, target=target, close=True))
            assert statuses(raw) == [400], (name, target, raw[:200])


def test_bodies_that_are_no_request_are_refused_by_the_control_api_too(running: Running) -> None:
    for name, body in ODD_BODIES.items():
        sent = request(
            body, target=b"/api/keys", key=running.key, headers=b"Content-Type: application/json\r\n", close=True
        )
        (answer,) = answers(talk(running, sent))
        assert answer.status in (400, 413, 415, 422), (name, answer.status)
        assert answer.headers[b"content-type"] == b"application/problem+json"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/api/keys", b"/nowhere"])
def test_fifty_megabytes(running: Running, target: bytes, chunked: bool) -> None:
    body = b"x" * 50_000_000
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    headers = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    sent = request(None, target=target, headers=headers, close=True) + (framed if chunked else body)
    raw = talk(running, sent, half_close=False)
    if target.startswith(b"/v1"):
        assert statuses(raw) == [413]
    else:
        assert not raw or statuses(raw.removesuffix(b"<reset>"))[0] in (401, 404, 413)


def test_headers_without_end(running: Running) -> None:
    for headers in (100_000 * b"X-A: b\r\n", b"X-A: " + b"a" * 1_000_000 + b"\r\n"):
        for target in (b"/v1/chat/completions", b"/api/keys"):
            assert statuses(talk(running, request(chat(), target=target, headers=headers, close=True))) == [431]


def test_hundreds_of_requests_on_one_connection(running: Running) -> None:
    kinds = [
        (request(chat()), 200),
        (request(chat(stream=True)), 200),
        (request(method="GET", target=b"/healthz"), 200),
        (request(method="GET", target=b"/v1/models"), 200),
        (request(b"{"), 400),
        (request(method="GET", target=b"/v1/none"), 404),
        (request(method="GET", target=b"/api/none", key=None), 401),
        (request(chat(), key="wrong"), 401),
    ]
    for count in (1, 8, 200):
        wanted = [kinds[number % len(kinds)] for number in range(count)]
        assert statuses(talk(running, b"".join(sent for sent, _ in wanted))) == [status for _, status in wanted]
    flood = talk(running, request(chat()) + 5_000 * b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert Counter(statuses(flood)) == {200: 1, 404: 5_000}


def test_clients_that_leave_anywhere(running: Running) -> None:
    dice = random.Random(5)
    kinds = [
        request(chat("long", stream=True)),
        request(chat("long")),
        request(chat()),
        request(b"{}", target=b"/api/keys"),
        request(method="GET", target=b"/api/calls"),
    ]

    def leave(_: int) -> None:
        sent = dice.choice(kinds) * dice.choice([1, 1, 3])
        with connected(running) as sock:
            sock.sendall(sent[: dice.randint(1, len(sent))])
            if dice.random() < 0.5:
                sock.settimeout(0.05)
                with suppress(OSError):
                    sock.recv(dice.randint(1, 3_000))
            way = dice.random()
            if way < 0.4:
                reset(sock)
            elif way < 0.6:
                sock.shutdown(socket.SHUT_WR)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(400)))


def test_headers_and_bodies_that_drip(running: Running) -> None:
    """A hundred connections that send a byte now and then cost nobody else anything."""
    held = [connected(running) for _ in range(100)]
    try:
        for number, sock in enumerate(held):
            sock.sendall(request(chat())[: 20 if number % 2 else 60])
        began = time.monotonic()
        assert running.chat("gpt").status == 200
        assert time.monotonic() - began < 5.0
        for sock in held:
            sock.settimeout(10.0)
            assert statuses(read_all(sock)) == [408]
    finally:
        for sock in held:
            sock.close()


def test_more_connections_than_there_may_be(running: Running) -> None:
    held = [connected(running) for _ in range(400)]
    try:
        time.sleep(0.3)
        refused = 0
        for sock in held:
            sock.settimeout(0.02)
            try:
                raw = sock.recv(4096)
            except TimeoutError:
                continue
            refused += 1
            assert not raw or statuses(raw) == [503]
        assert refused >= 100
    finally:
        for sock in held:
            sock.close()
    assert running.when(lambda: connected_again(running))


def connected_again(running: Running) -> bool:
    return 200 in statuses(talk(running, request(chat(), close=True)))


def test_upgrades_proxies_and_odd_methods(running: Running) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    h2c = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n"
    for target in (b"/v1/chat/completions", b"/api/keys", b"/"):
        for headers in (upgrade, h2c):
            assert statuses(talk(running, request(chat(), target=target, headers=headers))) == [400]
            assert statuses(talk(running, request(method="GET", target=target, headers=headers))) == [400]
        for method in ("TRACE", "OPTIONS", "PROPFIND", "PURGE", "PATCH"):
            (status,) = statuses(talk(running, request(method=method, target=target, close=True)))
            assert 400 <= status < 500, (method, target, status)
    assert statuses(talk(running, b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")) == [400]
    (status,) = statuses(talk(running, b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    assert 400 <= status < 500


def test_noise(running: Running) -> None:
    """Requests with bytes flipped, dropped and doubled: seeded, so that a failure can be seen again."""
    dice = random.Random(20261120)
    whole = [
        request(chat(), close=True),
        request(chat(stream=True), close=True),
        request(b"{}", target=b"/api/keys", close=True),
    ]

    def noisy(_: int) -> bytes:
        sent = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(sent))
            way = dice.randrange(4)
            if way == 0:
                sent[at] = dice.randrange(256)
            elif way == 1:
                del sent[at : at + dice.randint(1, 8)]
            elif way == 2:
                sent[at:at] = sent[at : at + dice.randint(1, 40)]
            else:
                sent[at:at] = dice.choice([b"\r\n", b"\n", b"\x00", b"\xff", b": ", b"Transfer-Encoding: chunked\r\n"])
        return bytes(sent)

    sents = [noisy(number) for number in range(600)]
    with ThreadPoolExecutor(8) as pool:
        for sent, raw in zip(sents, pool.map(lambda one: talk(running, one), sents), strict=True):
            for status in statuses(raw.removesuffix(b"<reset>")):
                assert status < 500, (sent, raw[:300])
