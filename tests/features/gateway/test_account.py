"""check and account: what the answer says of itself, and the one end every call gets."""

import logging
from typing import Any

import pytest

from holdfast.kernel.errors import UpstreamProtocolError, UpstreamTimeoutError
from holdfast.ports.calls import CallClosed
from holdfast.ports.money import Settled
from holdfast.ports.upstream import Ended
from tests.features.gateway.rig import (
    DONE,
    INPUT_NANODOLLARS,
    OUTPUT_NANODOLLARS,
    Rig,
    chat,
    completion,
    event,
    play_completion,
    usage_event,
)


async def test_a_complete_call_has_one_row_that_says_everything() -> None:
    rig = Rig()
    asked = rig.ask(chat(user="u1"))
    await rig.settle()
    await rig.clock.advance(2.0)
    opened = rig.ledger.opened[asked.id]
    assert (opened.request_id, opened.organisation, opened.team, opened.key_id) == ("req_1", "acme", "search", "key_1")
    assert (opened.end_user, opened.operation, opened.route, opened.model) == ("u1", "chat.completions", "gpt", "gpt")
    assert (opened.lane, opened.node, opened.stream) == ("one/gpt-real", "node_1", False)
    rig.one.sent[0].whole(200, completion())
    await asked.done()
    closed = rig.ledger.one
    assert (closed.status, closed.http_status, closed.error_code, closed.attempts) == ("complete", 200, None, 1)
    assert (closed.finish_reason, closed.empty, closed.answered_model) == ("stop", False, "gpt-real-0101")
    assert (closed.fingerprint, closed.first_token_seconds) == ("fp_1", 2.0)
    assert closed.closed_at == opened.opened_at + 2.0
    assert closed.cost_nanodollars == 10 * INPUT_NANODOLLARS + 5 * OUTPUT_NANODOLLARS
    assert closed.price_version
    assert not rig.ledger.further


async def test_the_end_and_its_money_are_one_unit() -> None:
    rig = Rig()
    rig.keys.budget(10**12)
    rig.one.play = play_completion()
    await rig.ask(chat()).done()
    kinds = [tuple(type(change).__name__ for change in unit) for unit in rig.ledger.units]
    assert kinds == [("CallOpened",), ("CallClosed", "Settled")]
    closed, settled = rig.ledger.units[1]
    assert isinstance(closed, CallClosed)
    assert isinstance(settled, Settled)
    assert settled.spent_nanodollars == closed.cost_nanodollars
    assert settled.reserved_nanodollars == rig.ledger.opened[closed.id].reserved_nanodollars


@pytest.mark.parametrize("streaming", [False, True])
async def test_what_no_provider_reported_is_an_estimate_and_says_so(streaming: bool) -> None:
    rig = Rig()
    if streaming:
        rig.one.play = lambda sent: sent.stream(*[event({"content": "x"})] * 7, DONE)
    else:
        rig.one.play = play_completion(body=completion("word " * 40, usage=None))
    await rig.ask(chat(stream=streaming)).done()
    closed = rig.ledger.one
    assert closed.usage.estimated
    assert closed.usage.input_tokens > 0
    assert 7 <= closed.usage.output_tokens <= 150
    assert closed.cost_nanodollars == closed.usage.input_tokens * INPUT_NANODOLLARS + (
        closed.usage.output_tokens * OUTPUT_NANODOLLARS
    )
    assert closed.status == "complete"


EMPTY: dict[str, tuple[bytes, str | None]] = {
    "nothing said": (completion(""), "stop"),
    "filtered": (completion("", "content_filter"), "content_filter"),
    "a body of no bytes": (b"", None),
    "junk": (b"<html>ok</html>", None),
}


@pytest.mark.parametrize(("body", "finish"), EMPTY.values(), ids=EMPTY.keys())
async def test_an_answer_that_says_nothing_is_recorded_as_empty(body: bytes, finish: str | None) -> None:
    rig = Rig()
    rig.one.play = play_completion(body=body)
    reader = await rig.ask(chat()).done()
    assert reader.body == body
    closed = rig.ledger.one
    assert (closed.status, closed.empty, closed.finish_reason) == ("complete", True, finish)


@pytest.mark.parametrize("says", [False, True])
async def test_an_empty_stream_is_recorded_as_empty(says: bool) -> None:
    rig = Rig()
    words = [event({"content": "x"})] if says else []
    rig.one.play = lambda sent: sent.stream(
        event({"role": "assistant", "content": ""}), *words, event({}, "length"), usage_event(5, 1), DONE
    )
    await rig.ask(chat(stream=True)).done()
    assert (rig.ledger.one.empty, rig.ledger.one.finish_reason) == (not says, "length")


BEGUN = event({"role": "assistant", "content": "x"})
STREAMS = {
    "with a finish reason and no last event": ([BEGUN, event({}, "stop")], "complete", None),
    "with a last event of its own spelling": ([BEGUN, b"event: end\r\ndata:[DONE]\r\n\r\n"], "complete", None),
    "with neither": ([BEGUN, BEGUN], "error", "stream_interrupted"),
    "with an error": ([BEGUN, b'data: {"error": {"message": "failed"}}\n\n', DONE], "error", "stream_interrupted"),
}


@pytest.mark.parametrize(("frames", "status", "code"), STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_that_failed_is_no_complete_one(frames: list[bytes], status: str, code: str | None) -> None:
    rig = Rig()
    rig.one.play = lambda sent: sent.stream(*frames)
    await rig.ask(chat(stream=True)).done()
    assert (rig.ledger.one.status, rig.ledger.one.error_code, rig.ledger.one.http_status) == (status, code, 200)


async def test_tool_calls_are_not_empty() -> None:
    rig = Rig()
    tool = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    rig.one.play = lambda sent: sent.stream(event({"tool_calls": [tool]}), event({}, "tool_calls"), DONE)
    await rig.ask(chat(stream=True)).done()
    assert (rig.ledger.one.empty, rig.ledger.one.finish_reason) == (False, "tool_calls")


async def test_spent_is_the_sum_over_all_attempts() -> None:
    rig = Rig()
    rig.keys.budget(10**12)
    rig.use(rig.lane(rig.one), rig.lane(rig.two), rig.lane(rig.one, model="third"))
    rig.one.play = lambda sent: (
        sent.whole(200, completion())
        if sent.json["model"] == "third"
        else sent.end(Ended("timeout", UpstreamTimeoutError("slow")))
    )
    rig.two.play = play_completion(500, b"{}")
    asked = rig.ask(chat(max_tokens=30))
    await asked.done()
    closed = rig.ledger.one
    costs = [closed.cost_nanodollars, *[row.cost_nanodollars for row in rig.ledger.further]]
    assert costs == [
        closed.usage.input_tokens * INPUT_NANODOLLARS + 30 * OUTPUT_NANODOLLARS,
        0,
        10 * INPUT_NANODOLLARS + 5 * OUTPUT_NANODOLLARS,
    ]
    assert [(row.number, row.status, row.lane) for row in rig.ledger.further] == [
        (2, "error", "two/gpt-real"),
        (3, "complete", "one/third"),
    ]
    ((spent, reserved),) = rig.ledger.balances.values()
    assert (spent, reserved) == (sum(cost or 0 for cost in costs), 0)
    assert (closed.status, closed.attempts, closed.lane) == ("complete", 3, "one/third")


ENDS: dict[str, tuple[Any, str, str | None]] = {
    "an error status": (play_completion(400, b"{}"), "error", "upstream_status"),
    "a redirect": (play_completion(307, b""), "error", "upstream_status"),
    "a timeout": (lambda sent: sent.end(Ended("timeout", UpstreamTimeoutError("slow"))), "unknown", "upstream_timeout"),
    "broken before the head": (
        lambda sent: sent.end(Ended("broken", UpstreamProtocolError("cut"))),
        "unknown",
        "upstream_protocol",
    ),
    "not sent": (
        lambda sent: sent.end(Ended("broken", UpstreamProtocolError("cut"), sent=False)),
        "error",
        "upstream_protocol",
    ),
}


@pytest.mark.parametrize(("play", "status", "code"), ENDS.values(), ids=ENDS.keys())
async def test_every_way_to_end_has_its_name(play: Any, status: str, code: str | None) -> None:
    rig = Rig()
    rig.one.play = play
    await rig.ask(chat()).done()
    assert (rig.ledger.one.status, rig.ledger.one.error_code) == (status, code)


async def test_a_defect_ends_the_call_as_one_and_gives_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.keys.budget(10**12)
    rig.keys.limit(concurrent=1)
    monkeypatch.setattr("holdfast.features.gateway.path.attempt", _broken)
    asked = rig.ask(chat())
    await rig.settle()
    assert isinstance(asked.task.exception(), ZeroDivisionError)
    closed = rig.ledger.one
    assert (closed.status, closed.http_status, closed.error_code) == ("refused", 500, "internal_error")
    assert [reserved for _, reserved in rig.ledger.balances.values()] == [0]
    monkeypatch.undo()
    rig.one.play = play_completion()
    assert (await rig.ask(chat()).done()).status == 200


async def _broken(*_: object) -> None:
    raise ZeroDivisionError


async def test_calls_are_counted_by_model_tenant_lane_and_outcome() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two))
    rig.one.play = play_completion(503, b"{}")
    rig.two.play = play_completion()
    await rig.ask(chat()).done()
    rig.two.play = play_completion(500, b"{}")
    await rig.ask(chat()).done()
    measures = rig.gateway.measures
    calls = measures.calls.values()
    assert calls["chat.completions", "gpt", "complete", ""] == 1
    assert calls["chat.completions", "gpt", "error", "upstream_status"] == 1
    assert measures.attempts.values()["one/gpt-real", "error", "upstream_status"] == 2
    assert measures.attempts.values()["two/gpt-real", "error", "upstream_status"] == 1
    assert measures.tokens.values()["chat.completions", "gpt", "output"] == 5
    assert measures.tenant_calls.values()["acme", "search"] == 2
    assert measures.tenant_tokens.values()["acme", "search"] == 15
    assert measures.tenant_nanodollars.values()["acme", "search"] == 20_000_000


async def test_the_log_holds_ids_and_figures_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.one.play = play_completion(body=completion("the secret answer"))
    with caplog.at_level(logging.INFO, "holdfast.calls"):
        await rig.ask({"model": "gpt", "messages": [{"role": "user", "content": "the secret question"}]}).done()
    (record,) = caplog.records
    said = repr(record.__dict__)
    assert "req_1" in said
    assert "call_1" in said
    assert "secret" not in said
    assert "hf-key" not in said
