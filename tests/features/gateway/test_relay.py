"""relay: backpressure, and what happens when the client leaves."""

import pytest

from holdfast.features.gateway.jobs import sweep_running
from tests.features.gateway.rig import DONE, INPUT_NANODOLLARS, OUTPUT_NANODOLLARS, Rig, chat, event, usage_event

WORDS = [event({"content": word}) for word in ("one", "two", "three", "four", "five")]


async def test_a_slow_reader_holds_the_upstream_back_until_it_reads_on() -> None:
    rig = Rig()
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    sent = rig.one.sent[0]
    sent.begin()
    sent.frames(WORDS[0])
    assert sent.state != "paused"
    asked.reader.room = False
    sent.frames(WORDS[1])
    assert sent.state == "paused"
    asked.reader.read_on()
    assert sent.state != "paused"
    sent.frames(WORDS[2], DONE)
    sent.finish()
    reader = await asked.done()
    assert reader.got == [*WORDS[:3], DONE]


@pytest.mark.parametrize("streaming", [True, False])
async def test_cancel_stops_the_upstream_at_once_and_bills_what_came(streaming: bool) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="cancel")
    asked = rig.ask(chat(stream=streaming, max_tokens=30))
    await rig.settle()
    sent = rig.one.sent[0]
    if streaming:
        sent.begin()
        sent.frames(*WORDS[:3])
    asked.reader.leave()
    assert sent.state == "cancelled"
    await asked.done()
    closed = rig.ledger.one
    assert (closed.status, closed.error_code, closed.usage.estimated) == ("cancelled", None, True)
    assert closed.usage.output_tokens == (3 if streaming else 30), "what came, or what may have been made unseen"
    assert closed.cost_nanodollars == closed.usage.input_tokens * INPUT_NANODOLLARS + (
        closed.usage.output_tokens * OUTPUT_NANODOLLARS
    )
    assert not rig.gateway.running


async def test_linger_goes_on_for_its_time_and_then_stops() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="linger", linger_seconds=10.0)
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    sent = rig.one.sent[0]
    sent.begin()
    sent.frames(WORDS[0])
    asked.reader.leave()
    await rig.clock.advance(9.0)
    sweep_running(rig.gateway)
    assert sent.state != "cancelled"
    sent.frames(WORDS[1])
    await rig.clock.advance(1.0)
    sweep_running(rig.gateway)
    assert sent.state == "cancelled"
    await asked.done()
    assert (rig.ledger.one.status, rig.ledger.one.usage.output_tokens) == ("cancelled", 2)


@pytest.mark.parametrize("policy", ["linger", "finish"])
async def test_an_answer_that_ends_after_its_reader_left_is_complete_and_billed_as_reported(policy: str) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect=policy)
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    sent = rig.one.sent[0]
    sent.begin()
    sent.frames(WORDS[0])
    asked.reader.leave()
    await rig.clock.advance(5.0 if policy == "linger" else 500.0)
    sweep_running(rig.gateway)
    sent.frames(WORDS[1], event({}, "stop"), usage_event(11, 2), DONE)
    sent.finish()
    await asked.done()
    closed = rig.ledger.one
    assert (closed.status, closed.finish_reason, closed.usage.estimated) == ("complete", "stop", False)
    assert (closed.usage.input_tokens, closed.usage.output_tokens) == (11, 2)


@pytest.mark.parametrize("policy", ["linger", "finish"])
async def test_an_upstream_held_back_for_a_reader_that_then_left_goes_on(policy: str) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect=policy)
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    sent = rig.one.sent[0]
    sent.begin()
    asked.reader.room = False
    sent.frames(WORDS[0])
    assert sent.state == "paused"
    asked.reader.leave()
    assert sent.state != "paused"
    sent.frames(WORDS[1])
    assert sent.state != "paused"


async def test_a_client_that_left_before_the_upstream_was_reached_leaves_by_the_same_rule() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="cancel")
    asked = rig.ask(chat())
    asked.reader.leave()
    await asked.done()
    assert rig.one.sent[0].state == "cancelled"
    assert rig.ledger.one.status == "cancelled"
    assert not rig.gateway.running


async def test_a_client_that_left_is_not_tried_for_again() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), on_disconnect="finish")
    asked = rig.ask(chat())
    await rig.settle()
    asked.reader.leave()
    rig.one.sent[0].whole(500, b"{}")
    await asked.done()
    assert rig.two.tried == 0


async def test_the_first_token_is_the_first_that_says_something() -> None:
    rig = Rig()
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    sent = rig.one.sent[0]
    sent.begin()
    await rig.clock.advance(1.0)
    sent.frames(event({"role": "assistant", "content": ""}))
    await rig.clock.advance(2.0)
    sent.frames(WORDS[0])
    await rig.clock.advance(4.0)
    sent.frames(WORDS[1], DONE)
    sent.finish()
    await asked.done()
    assert rig.ledger.one.first_token_seconds == 3.0
