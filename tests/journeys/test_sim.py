"""The simulator as HTTP: what it answers, what it refuses, what it counts, and what a hang-up stops."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from holdfast.edge.sim import SimOptions, personality
from holdfast.edge.sim.connection import Connection
from holdfast.edge.sim.server import SimServer
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.scripted import ScriptedModel
from tests.journeys.simulator import CHAT, Simulator, chat, read_all, read_until, simulator, spelt


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture
def sim(shared: Simulator) -> Simulator:
    shared.reset()
    return shared


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def error_of(answer: bytes) -> dict[str, object]:
    error: dict[str, object] = json.loads(body_of(answer))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def until(holds: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    while not holds():
        meanwhile()
        await asyncio.sleep(0.001)


def test_counting_starts_at_nothing_and_is_exact(sim: Simulator) -> None:
    empty = {"total": 0, "by_fingerprint": {}, "open": 0, "prompt_tokens": 0, "completion_tokens": 0}
    assert sim.calls().items() >= empty.items()
    for prompt in ("a", "a", "b"):
        assert status_of(sim.talk(spelt(CHAT, chat(prompt=prompt)))) == 200
    counted = sim.calls()
    assert (counted["total"], sorted(counted["by_fingerprint"].values())) == (3, [1, 2])
    assert (counted["prompt_tokens"], counted["completion_tokens"], counted["open"]) == (24, 96, 0)
    sim.reset()
    assert sim.calls().items() >= empty.items()


def test_a_stream_is_chunked_and_whole(sim: Simulator) -> None:
    answer = sim.talk(spelt(CHAT, chat("scripted?tokens=3&itl_ms=1", stream=True)))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in head
    assert b"transfer-encoding: chunked" in head
    assert body.endswith(b"\r\n0\r\n\r\n")
    assert body.count(b"data: ") == 1 + 3 + 1 + 1


def test_http_1_0_gets_no_chunks(sim: Simulator) -> None:
    raw = json.dumps(chat("scripted?tokens=3", stream=True)).encode()
    answer = sim.talk(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(raw), raw))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")
    with sim.connect() as held:
        held.sendall(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        assert read_until(held, b'{"status":"ok"}', 2).count(b"connection: keep-alive") == 2


def test_pipelined_requests_are_answered_in_order(sim: Simulator) -> None:
    slow, fast = chat("scripted?text=slow&ttft_ms=80"), chat("scripted?text=fast")
    sent = b"".join(
        (
            spelt(CHAT, slow, close=False),
            spelt(CHAT, fast | {"stream": True}, close=False),
            spelt("/nope", method="GET", close=False),
            spelt(CHAT, fast, close=True),
            spelt(CHAT, chat("scripted?text=never"), close=False),
        )
    )
    answer = sim.talk(sent)
    places = [answer.find(mark) for mark in (b'"slow"', b'"fast"', b"404 Not Found")]
    assert places == sorted(places)
    assert min(places) > 0
    assert answer.rfind(b'"fast"') > places[-1]
    assert b"never" not in answer
    assert sim.calls()["total"] == 3


def test_a_thousand_pipelined_requests(sim: Simulator) -> None:
    with sim.connect() as held:
        held.sendall(spelt("/healthz", method="GET", close=False) * 1000)
        assert read_until(held, b'{"status":"ok"}', 1000).count(b"HTTP/1.1 200 OK") == 1000


def test_head_404_and_405(sim: Simulator) -> None:
    plain = sim.talk(spelt("/healthz", method="GET"))
    bare = sim.talk(spelt("/healthz", method="HEAD"))
    assert bare == plain.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    missing = sim.talk(spelt("/v1/nothing", {}))
    assert (status_of(missing), error_of(missing)["code"]) == (404, "not_found")
    for target, method, allowed in (
        (CHAT, "GET", b"allow: POST"),
        (CHAT, "HEAD", b"allow: POST"),
        ("/healthz", "DELETE", b"allow: GET, HEAD"),
    ):
        answer = sim.talk(spelt(target, method=method))
        assert status_of(answer) == 405
        assert allowed in answer
    assert status_of(sim.talk(spelt("/sim/other", method="GET"))) == 404
    assert status_of(sim.talk(spelt("http://sim/healthz?x=1", method="GET"))) == 200


def test_models(sim: Simulator) -> None:
    listed = json.loads(body_of(sim.talk(spelt("/v1/models", method="GET"))))
    assert [model["id"] for model in listed["data"]] == ["scripted", "scripted-embedding"]
    one = json.loads(body_of(sim.talk(spelt("/v1/models/any%2Fname", method="GET"))))
    assert (one["id"], one["object"]) == ("any/name", "model")


BROKEN: dict[str, tuple[bytes, int]] = {
    "no JSON": (spelt(CHAT, b"{"), 400),
    "no body": (spelt(CHAT), 400),
    "no UTF-8": (spelt(CHAT, b'{"model":"\xff"}'), 400),
    "lone surrogate": (spelt(CHAT, b'{"model":"\\ud800","messages":[{"role":"user"}]}'), 400),
    "too deep": (spelt(CHAT, b'{"model":' + b"[" * 200_000), 400),
    "too deep inside": (spelt(CHAT, b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 200_000), 400),
    "long number": (spelt(CHAT, b'{"model":"m","messages":[{"role":"user"}],"seed":' + b"9" * 10_000 + b"}"), 400),
    "an array": (spelt(CHAT, b"[]"), 400),
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two lengths": (
        b"POST /healthz HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "bad chunk": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "many headers": (b"GET /healthz HTTP/1.1\r\nHost: s\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
    "large headers": (b"GET /healthz HTTP/1.1\r\nHost: s\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    "endless header": (b"GET /healthz HTTP/1.1\r\nHost: s\r\na: " + b"b" * 200_000, 431),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests_get_an_error_in_openai_s_envelope(sim: Simulator, name: str) -> None:
    sent, status = BROKEN[name]
    answer = sim.talk(sent)
    assert status_of(answer) == status
    assert error_of(answer)["type"] == "invalid_request_error"
    assert sim.calls()["total"] == 0


def test_a_body_over_the_limit_is_refused_and_a_large_one_is_not(sim: Simulator) -> None:
    with sim.connect() as held:
        held.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Length: 99999999\r\n\r\n")
        piece = b"x" * (1 << 20)
        for _ in range(65):
            held.sendall(piece)
        answer = read_until(held, b"body_too_large")
    assert status_of(answer) == 413
    large = chat(prompt="long " * 1_000_000)
    answered = json.loads(body_of(sim.talk(spelt(CHAT, large))))
    assert answered["usage"]["prompt_tokens"] == 3 + 4 + 1_250_000


def test_expect_100_continue_and_chunked_bodies(sim: Simulator) -> None:
    raw = json.dumps(chat("scripted?text=heard")).encode()
    with sim.connect() as held:
        held.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        assert read_until(held, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for at in range(0, len(raw), 10):
            part = raw[at : at + 10]
            held.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        held.sendall(b"0\r\n\r\n")
        assert b'"heard"' in read_until(held, b'"system_fingerprint"')


def test_an_upgrade_is_not_taken(sim: Simulator) -> None:
    answer = sim.talk(spelt("/healthz", method="GET", headers="Upgrade: h2c\r\nConnection: Upgrade\r\n", close=True))
    assert status_of(answer) == 200


def test_a_hang_up_stops_a_stream_at_once(sim: Simulator) -> None:
    with sim.connect() as held:
        held.sendall(spelt(CHAT, chat("scripted?tokens=100000&itl_ms=5", stream=True)))
        received = read_until(held, b'"content":', 6).count(b'"content":') - 1  # the role's chunk holds one too
        assert sim.calls()["open"] == 1
    counted = sim.calls_when(lambda calls: calls["open"] == 0)
    assert (counted["open"], counted["hung_up"]) == (0, 1)
    assert received <= counted["completion_tokens"] < 100_000
    assert sim.calls()["completion_tokens"] == counted["completion_tokens"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_before_the_first_token_costs_the_prompt_alone(sim: Simulator, stream: bool) -> None:
    with sim.connect() as held:
        held.sendall(spelt(CHAT, chat("scripted?ttft_ms=60000", stream=stream)))
        assert sim.calls_when(lambda calls: calls["open"] == 1)["open"] == 1
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    counted = sim.calls_when(lambda calls: calls["open"] == 0)
    assert (counted["open"], counted["prompt_tokens"], counted["completion_tokens"]) == (0, 9, 0)


def test_hang_ups_in_numbers_leave_nothing_open_and_count_what_was_said(sim: Simulator) -> None:
    held = [sim.connect() for _ in range(60)]
    for number, one in enumerate(held):
        one.sendall(spelt(CHAT, chat(f"scripted?fault=stall&after={number}", stream=True)))
    everything = sum(min(number, 32) for number in range(60))
    assert sim.calls_when(lambda calls: calls["completion_tokens"] == everything)["open"] == 60
    for one in held:
        one.close()
    counted = sim.calls_when(lambda calls: calls["open"] == 0)
    assert (counted["total"], counted["open"], counted["completion_tokens"]) == (60, 0, everything)


def test_a_reader_that_does_not_read_holds_the_answer_back(sim: Simulator) -> None:
    with sim.connect() as held:
        held.sendall(spelt(CHAT, chat("scripted?tokens=200000", stream=True)))
        assert sim.calls_when(lambda calls: calls["completion_tokens"] > 0)["completion_tokens"] < 200_000
        answer = read_all(held)
    assert answer.count(b'"delta":{"content"') == 200_000
    assert sim.calls()["completion_tokens"] == 200_000


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with simulator(tls_certificate=certificate, tls_key=key) as sim:
        assert sim.url.startswith("https://")
        for target, body, expected in (
            ("/healthz", b"", b'"ok"'),
            (CHAT, chat("scripted?text=sealed", stream=True), b"sealed"[:4]),
        ):
            with sim.connect() as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as held:
                held.sendall(spelt(target, body, method="POST" if body else "GET"))
                assert expected in read_until(held, expected)


def test_a_port_that_refuses_tls() -> None:
    with simulator(tls_refuse=True) as sim:
        assert sim.url.startswith("https://")
        for _ in range(2):
            with sim.connect() as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
                ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_schedule_and_its_reset(tmp_path: Path) -> None:
    schedule = tmp_path / "faults.toml"
    schedule.write_text("[[window]]\nfrom_call = 2\nuntil_call = 3\nfault = 429\nretry_after = 7\n")
    with simulator(schedule=schedule, seed=3) as sim:
        statuses = [status_of(sim.talk(spelt(CHAT, chat()))) for _ in range(3)]
        sim.reset()
        again = [sim.talk(spelt(CHAT, chat())) for _ in range(3)]
    assert statuses == [status_of(answer) for answer in again] == [200, 429, 200]
    assert b"retry-after: 7\r\n" in again[1]


async def test_what_is_too_slow_is_told_so_and_what_is_idle_is_closed() -> None:
    loop = asyncio.get_running_loop()
    server = SimServer(ScriptedModel(SystemClock()), SimOptions(), loop)
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    idle, slow_head, slow_body, waiting = [await asyncio.open_connection(host, port) for _ in range(4)]
    slow_head[1].write(b"GET /healthz HTTP/1.1\r\nHost:")
    slow_body[1].write(spelt(CHAT, chat())[:-1])
    waiting[1].write(spelt(CHAT, chat("scripted?fault=hang")))
    await until(lambda: server.model.counts.open == 1)
    for _ in range(9):
        server.sweep_connections()
    assert len(server.connections) == 4
    for (reader, _), expected in ((slow_head, 408), (slow_body, 408), (idle, 0)):
        reading = asyncio.ensure_future(reader.read())
        await until(reading.done, server.sweep_connections)
        answer = reading.result()
        assert (status_of(answer) if answer else 0) == expected
    assert server.model.counts.open == 1
    for _, writer in (idle, slow_head, slow_body, waiting):
        writer.close()
    await until(lambda: server.model.counts.open == 0 and not server.connections)
    listener.close()
    server.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])  # noqa: S104 (refused)
def test_hosts_beyond_this_machine_have_to_be_allowed(host: str) -> None:
    with pytest.raises(SettingsError, match="allow-remote"):
        SimOptions(host=host)
    assert SimOptions(host=host, allow_remote=True).host == host


def test_what_cannot_be_used_is_said() -> None:
    assert personality("ttft_ms=200; fault=503").status == 503
    with pytest.raises(SettingsError, match="ttft_ms"):
        personality("tfft_ms=200")
    with pytest.raises(SettingsError, match="certificate"):
        SimOptions(tls_key=Path("key.pem"))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert SimOptions(host=host).host == host
