"""attempt: what is sent, when another lane is asked, and what the client gets."""

import json

import pytest

from holdfast.features.gateway.jobs import sweep_running
from holdfast.kernel.errors import (
    UpstreamConnectError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from holdfast.ports.upstream import Ended
from tests.features.gateway.rig import (
    DONE,
    Rig,
    Sent,
    chat,
    completion,
    event,
    limits,
    play_completion,
    usage_event,
)

BUSY = b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}'


async def test_a_body_goes_as_it_came_but_for_the_models_name() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    body = b'{ "model" : "gpt",\t"messages":[{"role":"user","content":"\xc3\xa9 \\"model\\": 1"}], "x_new": [1e3, {"a": null}] }'
    reader = await rig.ask(body).done()
    assert rig.one.sent[0].outgoing.body == body.replace(b'"gpt"', b'"gpt-real"')
    assert (rig.one.sent[0].outgoing.path, rig.one.sent[0].outgoing.model) == ("/chat/completions", "gpt-real")
    assert reader.status == 200
    assert reader.body == completion()
    assert b"holdfast-lane: one/gpt-real\r\n" in reader.headers


async def test_only_headers_that_may_cross_go_up() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    headers = ((b"authorization", b"Bearer hf-key"), (b"cookie", b"a=b"), (b"openai-beta", b"x"), (b"x-sim", b"y"))
    await rig.ask(chat(), headers=headers).done()
    assert rig.one.sent[0].outgoing.headers == [(b"openai-beta", b"x")]


async def test_usage_is_asked_for_and_withheld_only_where_the_client_did_not_ask() -> None:
    frames = (event({"content": "Hi"}), event({}, "stop"), usage_event(7, 3), DONE)
    for asked, seen in (
        (None, [frames[0], frames[1], DONE]),
        ({"include_usage": False}, [frames[0], frames[1], DONE]),
        ({"include_usage": True}, list(frames)),
    ):
        rig = Rig()
        rig.one.play = lambda sent: sent.stream(*frames)
        said = {} if asked is None else {"stream_options": asked}
        reader = await rig.ask(chat(stream=True, **said)).done()
        assert rig.one.sent[0].json["stream_options"] == {"include_usage": True}
        assert reader.got == seen
        assert (rig.ledger.one.usage.input_tokens, rig.ledger.one.usage.output_tokens) == (7, 3)
        assert not rig.ledger.one.usage.estimated


async def test_asking_for_usage_keeps_the_other_stream_options() -> None:
    rig = Rig()
    rig.one.play = lambda sent: sent.stream(DONE)
    await rig.ask(chat(stream=True, stream_options={"include_obfuscation": False, "new": [1, {"a": "b"}]})).done()
    assert rig.one.sent[0].json["stream_options"] == {
        "include_obfuscation": False,
        "new": [1, {"a": "b"}],
        "include_usage": True,
    }


async def test_usage_beside_choices_is_never_withheld() -> None:
    rig = Rig()
    last = event({"content": "!"}, "stop", usage={"prompt_tokens": 4, "completion_tokens": 2})
    rig.one.play = lambda sent: sent.stream(event({"content": "Hi"}), last, DONE)
    reader = await rig.ask(chat(stream=True)).done()
    assert reader.got == [event({"content": "Hi"}), last, DONE]
    assert rig.ledger.one.usage.output_tokens == 2


async def test_a_strict_call_without_a_maximum_gets_one_and_only_then() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), budget_mode="strict")
    rig.one.play = play_completion()
    await rig.ask(chat()).done()
    await rig.ask(chat(n=3)).done()
    await rig.ask(chat(max_tokens=9)).done()
    await rig.ask(chat(max_completion_tokens=9)).done()
    await rig.ask(chat(max_tokens=None)).done()
    sent = [asked.json for asked in rig.one.sent]
    assert [body.get("max_completion_tokens") for body in sent] == [50, 50, None, 9, 50]
    assert sent[2]["max_tokens"] == 9


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503, 504, 529])
async def test_a_status_that_another_lane_may_not_have_moves_on(status: int) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))
    rig.one.play = play_completion(status, BUSY)
    rig.two.play = play_completion()
    reader = await rig.ask(chat()).done()
    assert (reader.status, reader.body) == (200, completion())
    assert b"holdfast-lane: two/gpt-real" in reader.headers
    closed = rig.ledger.one
    assert (closed.status, closed.attempts, closed.lane) == ("complete", 2, "two/gpt-real")
    assert closed.cost_nanodollars == 0, "the row carries its first attempt, which cost nothing"
    assert [row.lane for row in rig.ledger.further] == ["two/gpt-real"]
    assert rig.ledger.further[0].cost_nanodollars == 10 * 1_000_000 + 5 * 2_000_000


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_a_status_that_the_request_causes_never_moves_on(status: int) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))
    rig.one.play = play_completion(
        status, BUSY, ((b"content-type", b"application/json"), (b"x-should-retry", b"false"))
    )
    reader = await rig.ask(chat()).done()
    assert (reader.status, reader.body) == (status, BUSY)
    assert b"x-should-retry: false\r\n" in reader.headers
    assert rig.two.tried == 0
    assert (rig.ledger.one.status, rig.ledger.one.http_status, rig.ledger.one.cost_nanodollars) == ("error", status, 0)


async def test_the_last_lanes_error_reaches_the_client_when_all_fail() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))
    rig.one.play = play_completion(500, BUSY)
    rig.two.play = play_completion(429, BUSY, ((b"content-type", b"application/json"), (b"retry-after", b"7")))
    reader = await rig.ask(chat()).done()
    assert (reader.status, reader.body) == (429, BUSY)
    assert b"retry-after: 7\r\n" in reader.headers


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Bad gateway</html>", b'{"detail":"no"}', b'{"error":"no"}', b'{"error":null}', b"[]", b"\xff\xfe"],
)
async def test_a_foreign_error_body_is_wrapped_as_what_it_then_is(body: bytes) -> None:
    rig = Rig()
    rig.one.play = play_completion(418, body, ((b"content-type", b"text/html"), (b"retry-after", b"1")))
    reader = await rig.ask(chat()).done()
    assert reader.status == 418
    error = reader.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "upstream_status"
    assert reader.headers.count(b"content-type:") == 1
    assert b"content-type: application/json\r\n" in reader.headers
    assert b"retry-after: 1\r\n" in reader.headers


async def test_no_connection_moves_on_and_costs_nothing() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), on_unknown="fail")
    rig.one.refuse = UpstreamConnectError("no route")
    rig.two.play = play_completion()
    before = rig.clock.now()
    reader = await rig.ask(chat()).done()
    assert reader.status == 200
    assert rig.ledger.one.cost_nanodollars == 0
    assert rig.ledger.further[0].sent_at == rig.ledger.further[0].ended_at == before


async def test_no_connection_anywhere_is_told_and_costs_nothing() -> None:
    rig = Rig()
    rig.one.refuse = UpstreamConnectError("no route")
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert (reader.error.status, reader.error.code) == (502, "upstream_unreachable")
    closed = rig.ledger.one
    assert (closed.status, closed.error_code, closed.cost_nanodollars) == ("error", "upstream_unreachable", 0)


async def test_every_row_of_an_attempt_ends_when_it_ended() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.two), rig.lane(rig.one))
    rig.two.play = play_completion(500, BUSY)
    rig.one.refuse = UpstreamConnectError("no route")
    before = rig.clock.now()
    await rig.ask(chat()).done()
    assert [(row.sent_at, row.ended_at) for row in rig.ledger.further] == [(before, before)]


@pytest.mark.parametrize(
    ("on_unknown", "strict", "moves"),
    [
        (None, False, True),
        (None, True, False),
        ("retry", True, True),
        ("fail", False, False),
    ],
)
async def test_an_unknown_outcome_follows_the_routes_policy(on_unknown: str | None, strict: bool, moves: bool) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), on_unknown=on_unknown, budget_mode="strict" if strict else "expected")
    rig.one.play = lambda sent: sent.end(Ended("timeout", UpstreamTimeoutError("first token"), sent=True))
    rig.two.play = play_completion()
    reader = await rig.ask(chat(max_tokens=20)).done()
    assert rig.two.tried == int(moves)
    assert (reader.status == 200) is moves
    closed = rig.ledger.one
    assert closed.usage.estimated, "it may have been billed"
    assert closed.usage.output_tokens == 20
    assert closed.cost_nanodollars
    if not moves:
        assert reader.error is not None
        assert (reader.error.status, closed.status, closed.error_code) == (504, "unknown", "upstream_timeout")


async def test_nothing_is_retried_after_something_was_forwarded() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))

    def break_off(sent: Sent) -> None:
        sent.begin()
        sent.frames(event({"content": "Hi"}))
        sent.end(Ended("broken", UpstreamProtocolError("broke off")))

    rig.one.play = break_off
    reader = await rig.ask(chat(stream=True)).done()
    assert rig.two.tried == 0
    assert reader.got[0] == event({"content": "Hi"})
    said = json.loads(reader.got[1].removeprefix(b"data: "))
    assert said["error"]["code"] == "stream_interrupted"
    assert "1 events" in said["error"]["message"]
    assert len(reader.got) == 2
    assert (rig.ledger.one.status, rig.ledger.one.http_status) == ("error", 200)


async def test_a_stream_that_broke_before_its_first_event_moves_on() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))

    def break_off(sent: Sent) -> None:
        sent.begin()
        sent.end(Ended("broken", UpstreamProtocolError("broke off")))

    rig.one.play = break_off
    rig.two.play = lambda sent: sent.stream(event({"content": "Hi"}), DONE)
    reader = await rig.ask(chat(stream=True)).done()
    assert reader.got == [event({"content": "Hi"}), DONE]


def stale(sent: Sent, *, left: bool = True) -> None:
    sent.end(Ended("broken", UpstreamProtocolError("closed without an answer"), sent=left, reused=True))


async def test_a_stale_connection_is_tried_once_more_on_the_same_lane() -> None:
    rig = Rig()
    rig.one.play = lambda sent: stale(sent) if len(rig.one.sent) == 1 else sent.whole(200, completion())
    reader = await rig.ask(chat()).done()
    assert reader.status == 200
    assert rig.one.tried == 2


async def test_a_stale_connection_is_tried_once_more_and_no_more() -> None:
    rig = Rig()
    rig.one.play = stale
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert rig.one.tried == 2


async def test_a_stale_connection_that_took_nothing_is_tried_again_under_any_policy() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_unknown="fail")
    rig.one.play = lambda sent: stale(sent, left=False) if len(rig.one.sent) == 1 else sent.whole(200, completion())
    assert (await rig.ask(chat()).done()).status == 200


async def test_a_stale_connection_that_may_have_taken_it_is_not_tried_again_under_fail() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_unknown="fail")
    rig.one.play = stale
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert rig.one.tried == 1


async def test_attempts_are_bounded() -> None:
    rig = Rig()
    rig.use(*[rig.lane(rig.one, model=f"m{number}") for number in range(5)], max_attempts=3)
    rig.one.play = play_completion(500, BUSY)
    await rig.ask(chat()).done()
    assert [sent.json["model"] for sent in rig.one.sent] == ["m0", "m1", "m2"]
    assert rig.ledger.one.attempts == 3
    assert [row.number for row in rig.ledger.further] == [2, 3]


async def test_a_lane_is_given_back_at_its_attempts_end() -> None:
    """A slot of the first lane is free, and only what it used is gone from its bucket, while the second lane answers."""
    rig = Rig()
    first = limits(("calls", "slot", 1), ("tokens", "bucket", 10_000))
    second = limits(("calls", "slot", 1), of="second")
    rig.use(rig.lane(rig.one, limits=first), rig.lane(rig.two, limits=second))
    rig.one.play = play_completion(500, BUSY)
    asked = rig.ask(chat())
    await rig.settle()
    assert len(rig.two.sent) == 1
    assert await rig.rates.levels(first.limits) == [1, 10_000]
    assert await rig.rates.levels(second.limits) == [0]
    rig.two.sent[0].whole(200, completion())
    await asked.done()
    assert await rig.rates.levels(first.limits) == [1, 10_000]
    assert await rig.rates.levels(second.limits) == [1]


async def test_each_lane_is_charged_with_its_own_attempt() -> None:
    rig = Rig()
    first = limits(("tokens", "bucket", 10_000))
    second = limits(("tokens", "bucket", 10_000), of="second")
    rig.use(rig.lane(rig.one, limits=first), rig.lane(rig.two, limits=second), on_unknown="retry")
    rig.one.play = lambda sent: sent.end(Ended("timeout", UpstreamTimeoutError("idle"), sent=True))
    rig.two.play = play_completion()
    await rig.ask(chat(max_tokens=20)).done()
    unknown = rig.ledger.one.usage
    assert await rig.rates.levels(first.limits) == [10_000 - unknown.input_tokens - unknown.output_tokens]
    assert await rig.rates.levels(second.limits) == [10_000 - 15]


async def test_a_full_lane_is_passed_over_and_the_first_error_told_when_none_is_left() -> None:
    rig = Rig()
    full = limits(("calls", "slot", 1))
    await rig.rates.reserve(full.limits, [1], "somebody", 1000.0)
    rig.use(rig.lane(rig.one), rig.lane(rig.two, limits=full), rig.lane(rig.one, model="third"))
    rig.one.play = lambda sent: (
        sent.whole(503, BUSY) if sent.json["model"] != "third" else sent.whole(200, completion())
    )
    assert (await rig.ask(chat()).done()).status == 200
    rig.use(rig.lane(rig.one), rig.lane(rig.two, limits=full))
    reader = await rig.ask(chat()).done()
    assert (reader.status, reader.body) == (503, BUSY)
    assert rig.two.tried == 0


async def test_the_job_limit_ends_the_call_and_asks_no_further_lane() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), job_seconds=5.0)
    asked = rig.ask(chat())
    await rig.settle()
    await rig.clock.advance(6.0)
    sweep_running(rig.gateway)
    reader = await asked.done()
    assert rig.one.sent[0].state == "cancelled"
    assert rig.two.tried == 0
    assert reader.error is not None
    assert reader.error.status == 504
    assert "job" in reader.error.message
    assert rig.ledger.one.error_code == "upstream_timeout"
    assert not rig.gateway.running


async def test_an_answer_in_one_piece_to_a_streaming_request_is_passed_on_as_it_is() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    reader = await rig.ask(chat(stream=True)).done()
    assert (reader.status, reader.body) == (200, completion())
    assert rig.ledger.one.usage.output_tokens == 5


async def test_a_stream_is_passed_on_byte_for_byte() -> None:
    rig = Rig()
    frames = [b": comment\n\n", b"event: x\r\ndata: {}\r\n\r\n", event({"content": "é\u2028"}), b"data: junk\n\n", DONE]
    rig.one.play = lambda sent: sent.stream(*frames)
    reader = await rig.ask(chat(stream=True, stream_options={"include_usage": True})).done()
    assert reader.got == frames
    assert b"content-type: text/event-stream" in reader.headers


async def test_whatever_cancels_a_call_its_client_hears_an_end() -> None:
    rig = Rig()
    asked = rig.ask(chat())
    await rig.settle()
    rig.one.sent[0].cancel()
    reader = await asked.done()
    assert reader.error is not None
    assert reader.error.status == 500
