"""The load generator and the probe count right and see every wrong answer."""

import msgspec
import pytest

from holdfast.tools.bench.chunks import framed
from holdfast.tools.bench.load import Generator, LoadPlan, LoadResult
from holdfast.tools.bench.probe import ProbePlan, measure
from holdfast.tools.bench.wire import Address, RequestBuffer
from tests.tools.mock import serving, whole


def drive(address: Address, calls: int = 100) -> LoadResult:
    return Generator(LoadPlan(address, connections=4, calls=calls, warm_seconds=0.0)).run()


def test_a_request_is_a_kilobyte_of_json_that_differs_from_call_to_call() -> None:
    request = RequestBuffer(Address("127.0.0.1", 80, key="k"))
    first, second = bytes(request.number(1)), bytes(request.number(2))
    head, _, body = first.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert abs(len(body) - 1024) < 64
    assert first != second
    assert len(first) == len(second)
    asked = msgspec.json.decode(body)
    assert asked["model"] == "mock"
    assert "call-000000000001" in asked["messages"][1]["content"]


def test_two_generators_never_ask_the_same() -> None:
    address = Address("127.0.0.1", 80)
    assert RequestBuffer(address).number(1) != RequestBuffer(address).number(1)


@pytest.mark.parametrize("spelling", [b"Content-Length", b"content-length"])
def test_the_load_generator_counts_what_the_server_counted(spelling: bytes) -> None:
    with serving(lambda n, body: [whole(name=spelling)]) as (address, bodies):
        result = drive(address)
    assert 100 <= result.calls < 104
    assert result.errors == result.reconnects == 0
    assert result.answer_bytes == (11, 11)
    assert 0 < result.p50_us <= result.p99_us
    assert len(bodies) == len(set(bodies)) == result.calls + 4


def test_answers_in_pieces_and_in_chunks_are_whole_answers() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 4\r\n\r\nab", b"cd"]
    chunks = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed(b"abcd") + b"0\r\n", b"\r\n"]
    ways = [pieces, chunks, [whole(b"abcd")]]
    with serving(lambda n, body: ways[n % 3]) as (address, bodies):
        result = drive(address)
    assert result.errors == 0
    assert result.answer_bytes == (4, 4)
    assert len(bodies) == result.calls + 4


def test_a_wrong_status_is_an_error_and_no_call() -> None:
    with serving(lambda n, body: [whole(b"too many", b"429 No") if n % 10 == 0 else whole()]) as (address, bodies):
        result = drive(address)
    assert result.errors > 5
    assert result.first_error == "429: too many"
    assert result.calls >= 100
    assert len(set(bodies)) == len(bodies)


def test_a_server_that_closes_between_answers_costs_reconnects_and_no_errors() -> None:
    with serving(lambda n, body: [whole(), b""] if n % 10 == 0 else [whole()]) as (address, _):
        result = drive(address, calls=600)
    assert result.reconnects > 5
    assert result.errors == 0


def test_an_answer_cut_short_is_an_error() -> None:
    with serving(lambda n, body: [whole()[:-3], b""] if n == 50 else [whole()]) as (address, _):
        result = drive(address)
    assert result.errors == 1
    assert "closed the connection inside an answer" in result.first_error


def test_an_answer_longer_than_it_says_is_an_error() -> None:
    with serving(lambda n, body: [whole() + b"tail"] if n == 50 else [whole()]) as (address, _):
        result = drive(address)
    assert result.errors == 1
    assert "not HTTP" in result.first_error


def test_a_server_that_only_fails_ends_the_run() -> None:
    with serving(lambda n, body: [whole(b"no", b"500 No")]) as (address, _), pytest.raises(OSError, match="500: no"):
        drive(address)


def test_the_probe_takes_turns_and_refuses_wrong_answers() -> None:
    with serving(lambda n, body: [whole()]) as (one, heard_one), serving(lambda n, body: [whole()]) as (two, heard_two):
        result = measure(ProbePlan({"one": one, "two": two}, calls=20))
        assert len(heard_one) == len(heard_two) == 22
        assert set(result.p50_us) == {"one", "two"}
        assert all(result.p50_us[name] <= result.p99_us[name] for name in result.p50_us)
    with serving(lambda n, body: [whole(b"no", b"503 No")]) as (bad, _), pytest.raises(OSError, match="503: no"):
        measure(ProbePlan({"bad": bad}, calls=20))
