"""Requests one behind the other on one connection: answers leave in request order, hot and cold alike."""

import socket

import pytest

from tests.edge.house import CHAT, House, answers, chat, read_all, request
from tests.features.gateway.rig import completion

LAST = request(chat("gpt", "last"), close=True)


async def test_one_request_after_the_other(house: House) -> None:
    raw = await house.talk(request(chat()) + LAST)
    first, second = answers(raw)
    assert (first.status, second.status) == (200, 200)
    assert second.headers[b"connection"] == b"close"


@pytest.mark.parametrize("count", [8, 200])
async def test_answers_leave_in_the_order_of_their_requests(house: House, count: int) -> None:
    kinds = (
        (request(chat("slow")), b"POST", 200, b"chat.completion"),
        (request(method="GET", target=b"/cold/1"), b"GET", 200, b"/cold/1"),
        (request(method="GET", target=b"/v1/models"), b"GET", 200, b"endless"),
        (request(chat(stream=True)), b"POST", 200, b"[DONE]"),
        (request(method="HEAD", target=b"/v1/models"), b"HEAD", 200, b""),
        (request(b"{", target=CHAT), b"POST", 400, b"not valid JSON"),
        (request(b"x" * 5000, target=b"/cold/2"), b"POST", 200, b"5000"),
        (request(method="DELETE", target=b"/v1/models"), b"DELETE", 405, b"takes GET"),
        (request(method="GET", target=b"/slow"), b"GET", 200, b"/slow"),
        (request(method="GET", target=b"/v1/nothing"), b"GET", 404, b"There is no"),
        (request(chat(), key="wrong"), b"POST", 401, b"not known"),
    )
    wanted = [kinds[index % len(kinds)] for index in range(count)]
    raw = await house.talk(b"".join(kind[0] for kind in wanted) + LAST)
    found = answers(raw, iter([*[kind[1] for kind in wanted], b"POST"]))
    assert len(found) == count + 1
    for answer, (_, _, status, said) in zip(found, wanted, strict=False):
        assert answer.status == status
        assert said in answer.body


async def test_thousands_that_are_refused_at_once_behind_one_that_takes_its_time(house: House) -> None:
    refused = b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
    found = answers(await house.talk(request(chat("slow")) + 4_000 * refused + LAST))
    assert [answer.status for answer in found] == [200, *4_000 * [404], 200]


async def test_a_byte_at_a_time(house: House) -> None:
    def act(sock: socket.socket) -> bytes:
        for byte in request(chat()) + LAST:
            sock.sendall(bytes([byte]))
        return read_all(sock)

    assert [answer.status for answer in answers(await house.client(act))] == [200, 200]


async def test_no_more_than_a_few_are_taken_in_at_once(house: House) -> None:
    """A client that asks without end is not read without end."""

    def act(sock: socket.socket) -> int:
        sock.settimeout(1.0)
        sock.sendall(request(chat("held")))
        taken = 0
        try:
            while taken < 200_000_000:
                taken += sock.send(request(chat("gpt", "x" * 30_000)) * 4)
        except TimeoutError:
            return taken
        return taken

    taken = await house.client(act)
    assert taken < 50_000_000
    house.held.sent[0].whole(200, completion())
    await house.when(lambda: not house.connections)


async def test_what_was_pipelined_is_not_asked_when_the_client_has_gone(house: House) -> None:
    def act(sock: socket.socket) -> None:
        sock.sendall(request(chat("held")) + request(chat("held")) + request(chat("held")))

    await house.client(act)
    await house.when(lambda: not house.connections)
    house.held.sent[0].cancel()
    await house.when(lambda: not house.gateway.running)
    assert len(house.held.sent) == 1


async def test_a_request_that_closes_is_the_last_one_answered(house: House) -> None:
    found = answers(await house.talk(request(chat(), close=True) + request(chat())))
    assert [answer.status for answer in found] == [200]


async def test_garbage_behind_a_running_request_is_refused_after_its_answer(house: House) -> None:
    found = answers(await house.talk(request(chat("slow")) + b"\x00\x01 nonsense\r\n\r\n"))
    assert [answer.status for answer in found] == [200, 400]
    assert found[1].error["code"] == "invalid_request"
    assert found[1].headers[b"connection"] == b"close"
