"""What runs beside the path: job limits, calls a crash left open, retention."""

import asyncio

import pytest

from holdfast.features.gateway.jobs import close_abandoned, keep_closing_abandoned, keep_retention, sweep_running
from holdfast.features.gateway.model import Route
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.ports.calls import CallOpened
from tests.features.gateway.rig import DONE, Rig, chat, completion, event, policy


def left_open(rig: Rig, id: str, *, seconds_ago: float = 10.0, reserved: int = 0) -> CallOpened:
    row = CallOpened(
        id=id,
        request_id=id,
        organisation="acme",
        team="search",
        key_id="key_1",
        end_user=None,
        operation="chat.completions",
        route="gpt",
        model="gpt",
        lane="one/gpt-real",
        node="node_0",
        opened_at=rig.clock.now() - seconds_ago,
        stream=False,
        reserved_nanodollars=reserved,
        estimated_input_tokens=10,
        estimated_output_tokens=20,
    )
    rig.ledger.hand(row)
    return row


async def test_the_job_limit_counts_from_the_request_and_over_all_attempts() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), job_seconds=10.0)
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    await rig.clock.advance(6.0)
    rig.one.sent[0].whole(500, b"{}")
    await rig.settle()
    rig.two.sent[0].begin()
    rig.two.sent[0].frames(event({"content": "Hi"}))
    await rig.clock.advance(3.5)
    sweep_running(rig.gateway)
    assert rig.two.sent[0].state != "cancelled"
    await rig.clock.advance(0.5)
    sweep_running(rig.gateway)
    assert rig.two.sent[0].state == "cancelled"
    reader = await asked.done()
    assert b"stream_interrupted" in reader.got[-1]
    assert b"job" in reader.got[-1]
    assert [row.status for row in rig.ledger.further] == ["error"]


@pytest.mark.parametrize("reserved", [0, 77])
async def test_a_call_a_crash_left_open_ends_unknown_and_is_charged(reserved: int) -> None:
    rig = Rig()
    balance = rig.keys.budget(10**12)
    rig.ledger.balances[balance.scope, balance.period] = [0, reserved]
    left_open(rig, "call_dead", reserved=reserved)
    assert await close_abandoned(rig.gateway, rig.clock.now()) == 1
    closed = rig.ledger.one
    assert (closed.status, closed.error_code, closed.usage.estimated) == ("unknown", "outcome_unknown", True)
    expected = reserved or 10 * 1_000_000 + 20 * 2_000_000
    assert closed.cost_nanodollars == expected
    assert rig.ledger.balances[balance.scope, balance.period] == [expected, 0]


async def test_any_number_of_calls_is_closed() -> None:
    rig = Rig()
    for number in range(1_203):
        left_open(rig, f"call_{number}x")
    assert await close_abandoned(rig.gateway, rig.clock.now()) == 1_203
    assert not await rig.ledger.open_calls()


async def test_a_running_call_is_nobodys_to_close() -> None:
    rig = Rig()
    asked = rig.ask(chat())
    await rig.settle()
    await rig.clock.advance(5.0)
    assert await close_abandoned(rig.gateway, rig.clock.now()) == 0
    rig.one.sent[0].whole(200, completion())
    await asked.done()
    assert rig.ledger.one.status == "complete"


async def test_other_nodes_calls_are_closed_by_age_alone_and_the_longest_limit_there_was_counts() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), routes=(Route("slow", policy(job_seconds=3_000.0)),), job_seconds=100.0)
    job = asyncio.create_task(keep_closing_abandoned(rig.gateway))
    await rig.settle()
    rig.use(rig.lane(rig.one), job_seconds=100.0)
    left_open(rig, "call_young", seconds_ago=0.0)
    left_open(rig, "call_old", seconds_ago=3_200.0)
    await rig.clock.advance(61.0)
    assert set(rig.ledger.closed) == {"call_old"}
    await rig.clock.advance(3_200.0)
    assert set(rig.ledger.closed) == {"call_old", "call_young"}
    job.cancel()


async def test_a_store_that_is_away_for_a_while_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    job = asyncio.create_task(keep_closing_abandoned(rig.gateway))
    left_open(rig, "call_old", seconds_ago=9_999.0)

    async def away(node: str | None = None, *, limit: int = 1) -> list[CallOpened]:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(rig.ledger, "open_calls", away)
        await rig.clock.advance(200.0)
    assert not job.done()
    await rig.clock.advance(100.0)
    assert set(rig.ledger.closed) == {"call_old"}
    job.cancel()


async def test_rows_past_their_time_are_deleted_a_little_at_a_time_and_an_outage_is_waited_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    asked: list[float] = []
    answers = iter([10_000, 3, 0])

    async def prune(opened_before: float, *, limit: int = 10_000) -> int:
        asked.append(rig.clock.now() - opened_before)
        if len(asked) == 4:
            raise StoreUnavailableError("away")
        return next(answers, 0)

    monkeypatch.setattr(rig.ledger, "prune", prune)
    job = asyncio.create_task(keep_retention(rig.gateway, 2.0))
    await rig.settle()
    await rig.clock.advance(601.0)
    assert asked == pytest.approx([2 * 86_400.0] * 3)
    await rig.clock.advance(1_300.0)
    assert len(asked) == 5
    job.cancel()


async def test_finish_is_bounded_by_the_job_limit_alone() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="finish", job_seconds=100.0)
    asked = rig.ask(chat(stream=True))
    await rig.settle()
    rig.one.sent[0].begin()
    rig.one.sent[0].frames(event({"content": "Hi"}), DONE)
    asked.reader.leave()
    await rig.clock.advance(99.0)
    sweep_running(rig.gateway)
    assert rig.one.sent[0].state != "cancelled"
    await rig.clock.advance(1.0)
    sweep_running(rig.gateway)
    assert rig.one.sent[0].state == "cancelled"
    await asked.done()
