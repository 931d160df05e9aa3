"""Clients that leave early, are slow, stop reading or only stop sending."""

import asyncio
import socket
import time

import pytest

from holdfast.edge.server import http
from tests.edge.house import (
    CHAT,
    House,
    answers,
    chat,
    many,
    one_answer,
    opened,
    read_all,
    read_until,
    request,
    reset,
)
from tests.features.gateway.rig import DONE, completion, event

WHOLE = request(chat())


async def test_a_client_may_leave_at_every_byte_of_its_request(house: House) -> None:
    for cut in range(len(WHOLE)):
        leave = reset if cut % 2 else socket.socket.close

        def act(sock: socket.socket, sent: bytes = WHOLE[:cut], leave: object = leave) -> None:
            sock.sendall(sent)
            leave(sock)  # type: ignore[operator]

        await house.client(act)
    await house.when(lambda: not house.connections)
    assert not house.ledger.opened


async def test_a_client_may_leave_at_every_byte_of_its_answer(house: House) -> None:
    raw = await house.talk(request(chat(stream=True), close=True))
    for count in range(0, len(raw), 13):

        def act(sock: socket.socket, count: int = count) -> None:
            sock.sendall(request(chat(stream=True), close=True))
            got = 0
            while got < count and (part := sock.recv(count - got)):
                got += len(part)
            if count % 2:
                reset(sock)

        await house.client(act)
    await house.when(lambda: not house.connections and not house.gateway.running)


@pytest.mark.parametrize("target", [CHAT, b"/cold"])
async def test_half_a_request_and_no_more_is_refused(house: House, target: bytes) -> None:
    whole = request(chat(), target=target)
    for cut in (5, 40, len(whole) - 1):
        answer = one_answer(await house.talk(whole[:cut], half_close=True))
        assert (answer.status, "ended" in answer.error["message"]) == (400, True)


@pytest.mark.parametrize("cut", [30, -1])
@pytest.mark.parametrize("first", [request(chat("slow")), request(method="GET", target=b"/slow")], ids=["hot", "cold"])
@pytest.mark.parametrize("second", [CHAT, b"/cold"])
async def test_half_a_request_behind_a_running_one_leaves_it_its_answer(
    house: House, first: bytes, second: bytes, cut: int
) -> None:
    sent = first + request(chat(), target=second)[:cut]
    found = [answer for answer in answers(await house.talk(sent, half_close=True)) if answer.status != 100]
    assert [answer.status for answer in found] == [200, 400]


async def test_an_early_answer_to_a_large_body_can_be_read(house: House) -> None:
    """The control plane may answer before the body has come."""
    sent = request(b"x" * 20_000_000, target=b"/early", close=True)
    assert one_answer(await house.talk(sent)).status == 401
    assert answers(await house.talk(request(b"x" * 40_000_000, target=b"/early")))[0].status == 401


@pytest.mark.parametrize("model", ["gpt", "slow"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_only_stops_sending_gets_its_answer(
    house: House, model: str, version: bytes, stream: bool
) -> None:
    raw = await house.talk(request(chat(model, stream=stream), version=version), half_close=True)
    *interim, answer = answers(raw)
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n" if stream else b"}")
    assert {said.status for said in interim} <= {100}
    assert not interim or version == b"1.1"


async def test_a_client_that_only_stops_sending_gets_the_answers_of_all_it_asked(house: House) -> None:
    sent = request(chat("slow")) + request(method="GET", target=b"/slow") + request(chat()) + WHOLE[:30]
    found = [answer for answer in answers(await house.talk(sent, half_close=True)) if answer.status != 100]
    assert [answer.status for answer in found] == [200, 200, 200, 400]


async def test_a_client_that_only_stops_sending_may_wait_longer_than_its_route_lingers() -> None:
    async with opened() as house:
        waiting = asyncio.create_task(house.talk(request(chat("held")), half_close=True))
        await house.when(lambda: bool(house.held.sent))
        await asyncio.sleep(2.5)
        house.held.sent[0].whole(200, completion())
        assert answers(await waiting)[-1].status == 200
        await house.is_left_clean()


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
async def test_a_client_that_left_is_noticed_while_its_answer_is_waited_for(house: House, leave: object) -> None:
    """Closing looks like only having stopped to send, until something is written."""
    house.route(on_disconnect="cancel")

    def act(sock: socket.socket) -> None:
        sock.sendall(request(chat("held")))
        while not house.held.sent:
            time.sleep(0.005)
        leave(sock)  # type: ignore[operator]

    await house.client(act)
    await house.when(lambda: house.held.sent[0].state == "cancelled")
    await house.when(lambda: not house.connections)


@pytest.mark.parametrize("more", [request(chat()), request(chat())[:30], request(chat())[:-1]])
async def test_a_client_that_left_is_noticed_whatever_it_sent_behind(house: House, more: bytes) -> None:
    house.route(on_disconnect="cancel")

    def act(sock: socket.socket) -> None:
        sock.sendall(request(chat("held")) + more)
        while not house.held.sent:
            time.sleep(0.005)

    await house.client(act)
    await house.when(lambda: house.held.sent[0].state == "cancelled")
    await house.when(lambda: not house.connections)


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
async def test_a_client_that_leaves_a_stream_stops_it_under_cancel(house: House, leave: object) -> None:
    house.route(on_disconnect="cancel")

    def act(sock: socket.socket) -> None:
        sock.sendall(request(chat("endless", stream=True)))
        read_until(sock, b"data: ", 5)
        leave(sock)  # type: ignore[operator]

    await house.client(act)
    await house.when(lambda: not house.gateway.running)
    closed = house.ledger.one
    assert closed.status == "cancelled"
    assert 4 <= closed.usage.output_tokens < 2_000
    assert house.scripted.counts.open == 0


async def test_a_silent_stream_is_stopped_at_once_under_cancel(house: House) -> None:
    """A model that thinks sends nothing that would show who has gone."""
    house.route(on_disconnect="cancel")

    def act(sock: socket.socket) -> None:
        sock.sendall(request(chat("held", stream=True)))
        while not house.held.sent:
            time.sleep(0.005)
        house.loop.call_soon_threadsafe(house.held.sent[0].begin)
        house.loop.call_soon_threadsafe(house.held.sent[0].frames, event({"content": "a"}))
        read_until(sock, b"data: ")

    await house.client(act)
    await house.when(lambda: house.held.sent[0].state == "cancelled", seconds=1.0)


async def test_a_reader_that_stops_reading_holds_its_stream_back_and_costs_little_memory(house: House) -> None:
    before = house.scripted.counts.completion_tokens

    def act(sock: socket.socket) -> bytes:
        sock.sendall(request(chat("flood", stream=True), close=True))
        first = read_until(sock, b"data: ")
        time.sleep(0.5)
        said = house.scripted.counts.completion_tokens - before
        assert said < 150_000, "the stream went on into a buffer"
        return first + read_all(sock)

    raw = await house.client(act)
    answer = one_answer(raw)
    assert answer.body.endswith(DONE)
    assert answer.body.count(b'"delta":{"content"') == 300_000


async def test_a_reader_that_never_reads_on_is_cut_off(house: House) -> None:
    """Its answer is complete, but nobody takes it."""

    def act(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(request(chat("held"), close=True))
        while not house.held.sent:
            time.sleep(0.005)
        house.loop.call_soon_threadsafe(house.held.sent[0].whole, 200, b"x" * 30_000_000)
        while house.connections:
            time.sleep(0.02)

    acting = asyncio.create_task(house.client(act))
    await house.when(lambda: bool(house.ledger.ends))
    (connection,) = house.connections
    now = house.loop.time()
    connection.sweep(now)
    assert connection in house.connections
    connection.sweep(now + 1_000.0)
    await acting


async def test_headers_that_do_not_come_are_not_waited_for() -> None:
    async with opened(headers_seconds=0.3) as house:
        answer = one_answer(await house.talk(WHOLE[:50]))
        assert answer.status == 408
        assert answer.error["code"] == "request_timeout"

        def drip(sock: socket.socket) -> bytes:
            try:
                for byte in WHOLE:
                    sock.sendall(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                pass
            return read_all(sock)

        assert (await house.client(drip)).startswith(b"HTTP/1.1 408 ")
        await house.is_left_clean()


@pytest.mark.parametrize("target", [CHAT, b"/cold"])
async def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, target: bytes) -> None:
    monkeypatch.setattr(http, "BODY_GRACE_SECONDS", 0.3)
    async with opened() as house:
        assert one_answer(await house.talk(request(chat(), target=target)[:-20])).status == 408

        def steady(sock: socket.socket) -> bytes:
            sent = request(chat(prompt="x" * 40_000), close=True)
            for at in range(0, len(sent), 8_000):
                sock.sendall(sent[at : at + 8_000])
                time.sleep(0.2)
            return read_all(sock)

        assert one_answer(await house.client(steady)).status == 200
        await house.is_left_clean()


async def test_a_connection_without_requests_is_closed_after_a_while() -> None:
    async with opened(keep_alive_seconds=1.0) as house:
        assert await house.talk() == b""
        assert answers(await house.talk(WHOLE))[0].status == 200


async def test_a_running_stream_is_not_idle() -> None:
    async with opened(keep_alive_seconds=1.0, headers_seconds=0.5) as house:
        waiting = asyncio.create_task(house.talk(request(chat("held", stream=True), close=True)))
        await house.when(lambda: bool(house.held.sent))
        house.held.sent[0].begin()
        house.held.sent[0].frames(event({"content": "a"}))
        await asyncio.sleep(3.0)
        house.held.sent[0].frames(DONE)
        house.held.sent[0].finish()
        assert one_answer(await waiting).body.endswith(DONE)


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    def act(sock: socket.socket) -> bytes:
        head, _, body = request(chat(), headers=b"Expect: 100-continue\r\n", close=True).partition(b"\r\n\r\n")
        sock.sendall(head + b"\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        return read_all(sock)

    async with opened() as house:
        assert one_answer(await house.client(act)).status == 200

        def behind(sock: socket.socket) -> bytes:
            head, _, body = request(chat(), headers=b"Expect: 100-continue\r\n", close=True).partition(b"\r\n\r\n")
            sock.sendall(request(chat("slow")) + head + b"\r\n\r\n")
            first = read_until(sock, b"100 Continue\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 200 ")
            sock.sendall(body)
            return read_all(sock)

        assert one_answer(await house.client(behind)).status == 200
        await house.is_left_clean()


async def test_more_connections_than_there_may_be_are_told_so() -> None:
    async with opened(max_connections=20) as house:

        def act(sock: socket.socket) -> list[bytes]:
            with many(house, 30) as sockets:
                time.sleep(0.2)
                said = []
                for one in sockets:
                    one.settimeout(0.3)
                    try:
                        said.append(one.recv(65536))
                    except TimeoutError:
                        said.append(b"")
                return said

        said = await house.client(act)
        refused = [one for one in said if one]
        assert len(refused) >= 10
        assert {one_answer(one).status for one in refused} == {503}
        assert all(b"retry-after: 1\r\n" in one for one in refused)
        await house.when(lambda: not house.connections)
        await house.is_left_clean()


async def test_more_calls_than_there_may_be_at_once_are_told_so() -> None:
    async with opened() as house:
        house.gateway.max_inflight = 3
        waiting = [asyncio.create_task(house.talk(request(chat("held"), close=True))) for _ in range(5)]
        await house.when(lambda: len(house.ledger.ends) == 2)
        for sent in house.held.sent:
            sent.whole(200, completion())
        statuses = sorted([one_answer(await one).status for one in waiting])
        assert statuses == [200, 200, 200, 503, 503]
        await house.is_left_clean()


async def test_hundreds_of_streams_at_once_each_get_their_own(house: House) -> None:
    def act(_: socket.socket) -> list[bytes]:
        with many(house, 200) as sockets:
            for number, sock in enumerate(sockets):
                sock.sendall(request(chat(prompt=f"number {number}", stream=True), close=True))
            return [read_all(sock) for sock in sockets]

    found = [one_answer(raw) for raw in await house.client(act)]
    assert {answer.status for answer in found} == {200}
    assert all(answer.body.endswith(DONE) for answer in found)
    assert len({answer.headers[b"holdfast-call"] for answer in found}) == 200
