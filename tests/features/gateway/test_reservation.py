"""admit and reservation: money, tokens and slots are taken whole or not at all, and given back once."""

import asyncio
from typing import Any

import pytest

from holdfast.dialects.openai.request import most_input_tokens
from holdfast.features.gateway.model import EMBEDDINGS, Lane
from holdfast.features.gateway.settings import PriceSettings
from holdfast.kernel.errors import StoreUnavailableError, UpstreamTimeoutError
from holdfast.ports.money import Balance, Refused
from holdfast.ports.rates import Limit
from holdfast.ports.upstream import Ended
from tests.features.gateway.rig import (
    INPUT_NANODOLLARS,
    OUTPUT_NANODOLLARS,
    PRICE,
    Rig,
    chat,
    completion,
    limits,
    play_completion,
)

DOLLAR = 1_000_000_000
DEAR = PriceSettings(input_usd="10000", output_usd="20000", max_output_tokens=50)


def bucket(key: str, capacity: int) -> Limit:
    return Limit(key, "bucket", capacity)


def slot(key: str) -> Limit:
    return Limit(key, "slot", 1)


def strict(rig: Rig, *lanes: Lane, **more: Any) -> None:
    rig.use(*(lanes or (rig.lane(rig.one),)), budget_mode="strict", **more)


async def test_strict_reserves_the_most_the_call_can_cost() -> None:
    rig = Rig()
    strict(rig)
    balance = rig.keys.budget(DOLLAR)
    asked = rig.ask(chat(max_tokens=7, n=2))
    await rig.settle()
    (held,) = await rig.ledger.held([balance])
    row = rig.ledger.opened[asked.id]
    assert row.estimated_output_tokens == 14
    assert row.estimated_input_tokens >= len("Hello")
    assert held.reserved_nanodollars == row.reserved_nanodollars
    assert held.reserved_nanodollars == row.estimated_input_tokens * INPUT_NANODOLLARS + 14 * OUTPUT_NANODOLLARS
    rig.one.sent[0].whole(200, completion())
    await asked.done()
    assert list(rig.ledger.balances.values()) == [[10 * INPUT_NANODOLLARS + 5 * OUTPUT_NANODOLLARS, 0]]


async def test_strict_without_a_maximum_reserves_what_the_model_can_answer() -> None:
    for price, most in ((PRICE, 50), (PriceSettings(input_usd="1", output_usd="1"), 4_096)):
        rig = Rig()
        strict(rig, rig.lane(rig.one, price))
        rig.keys.budget(1_000 * DOLLAR)
        rig.one.play = play_completion()
        asked = rig.ask(chat())
        await asked.done()
        assert rig.ledger.opened[asked.id].estimated_output_tokens == most
        assert rig.one.sent[0].json["max_completion_tokens"] == most


async def test_of_two_maxima_strict_counts_the_larger() -> None:
    rig = Rig()
    strict(rig)
    rig.one.play = play_completion()
    asked = rig.ask(chat(max_tokens=40, max_completion_tokens=4))
    await asked.done()
    assert rig.ledger.opened[asked.id].estimated_output_tokens == 40


async def test_expected_reserves_what_such_calls_use_and_learns_it() -> None:
    rig = Rig()
    balance = rig.keys.budget(1_000 * DOLLAR)
    rig.one.play = play_completion(body=completion(usage=(100, 2)))
    estimates = []
    for _ in range(300):
        asked = rig.ask(chat())
        await asked.done()
        estimates.append(rig.ledger.opened[asked.id])
    assert estimates[0].estimated_output_tokens == 256
    assert estimates[-1].estimated_output_tokens < 20
    assert 80 <= estimates[-1].estimated_input_tokens <= 125
    assert (await rig.ledger.held([balance]))[0].reserved_nanodollars == 0


async def test_expected_never_reserves_more_output_than_the_client_allows() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    asked = rig.ask(chat(max_completion_tokens=3))
    await asked.done()
    assert rig.ledger.opened[asked.id].estimated_output_tokens == 3


async def test_embeddings_have_no_output() -> None:
    for mode in ("strict", "expected"):
        rig = Rig()
        rig.use(rig.lane(rig.one), budget_mode=mode)
        rig.one.play = play_completion(body=b'{"data":[1],"usage":{"prompt_tokens":3}}')
        asked = rig.ask({"model": "gpt", "input": ["abc", "d"]}, operation=EMBEDDINGS)
        await asked.done()
        assert rig.ledger.opened[asked.id].estimated_output_tokens == 0
        assert "max_completion_tokens" not in rig.one.sent[0].json


async def test_a_spent_budget_refuses_before_anything_is_sent() -> None:
    rig = Rig()
    strict(rig)
    rig.keys.budget(1_000 * DOLLAR, "org:acme")
    rig.keys.budget(OUTPUT_NANODOLLARS, "key:key_1")
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert (reader.error.status, reader.error.code, reader.error.retry) == (429, "budget_exceeded", "never")
    assert [refused.balance.scope for refused in rig.keys.unfit] == ["key:key_1"]
    assert "key:key_1" in reader.error.message
    assert [refused.balance.scope for refused in rig.keys.unfit] == ["key:key_1"]
    assert not rig.one.tried
    assert all(reserved == 0 for _, reserved in rig.ledger.balances.values())


async def test_a_model_without_a_price_is_refused_under_a_budget_and_free_without_one() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one, None))
    rig.one.play = play_completion()
    assert (await rig.ask(chat()).done()).status == 200
    assert rig.ledger.one.cost_nanodollars is None, "unknown, never 0"
    rig.keys.budget(DOLLAR)
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert (reader.error.status, reader.error.code) == (403, "unpriced_model")
    assert "free = true" in reader.error.message
    rig.use(rig.lane(rig.one, PriceSettings(free=True)))
    asked = rig.ask(chat())
    assert (await asked.done()).status == 200
    assert rig.ledger.closed[asked.id].cost_nanodollars == 0


@pytest.mark.parametrize("which", ["tokens", "slot", "lane"])
async def test_what_was_taken_is_given_back_when_a_later_part_refuses(which: str) -> None:
    rig = Rig()
    balance = rig.keys.budget(1_000 * DOLLAR)
    rig.keys.limit("org:acme", tokens_per_minute=100_000)
    lane = limits(("calls", "slot", 1))
    if which == "tokens":
        rig.keys.limit("team:acme/search", tokens_per_minute=300)
        await rig.rates.reserve((bucket("tokens:team:acme/search", 300),), [299], "x", 60.0)
    elif which == "slot":
        rig.keys.limit("team:acme/search", concurrent=1)
        await rig.rates.reserve((slot("concurrent_calls:team:acme/search"),), [1], "x", 60.0)
    else:
        await rig.rates.reserve(lane.limits, [1], "x", 60.0)
    rig.use(rig.lane(rig.one, limits=lane))
    asked = rig.ask(chat(max_tokens=20))
    reader = await asked.done()
    assert reader.error is not None
    assert reader.error.code == "rate_limited"
    assert reader.error.retry_after_seconds
    assert (await rig.ledger.held([balance]))[0].reserved_nanodollars == 0
    levels = await rig.rates.levels((bucket("tokens:org:acme", 100_000),))
    assert levels == [100_000]
    assert rig.ledger.closed[asked.id].status == "refused"
    assert not rig.one.tried


async def test_a_request_larger_than_a_whole_limit_is_told_that_waiting_cannot_help() -> None:
    rig = Rig()
    strict(rig)
    rig.keys.limit("team:acme/search", output_tokens_per_minute=10)
    reader = await rig.ask(chat(max_tokens=11)).done()
    assert reader.error is not None
    assert (reader.error.status, reader.error.code, reader.error.retry) == (429, "request_exceeds_limit", "never")
    assert "10 output tokens of team:acme/search" in reader.error.message


async def test_five_concurrent_calls_never_pass_a_limit_a_minute_in_strict_mode() -> None:
    """58, 80, 175, 175 and 175 tokens on a limit of 100 tokens a minute: once 663 were spent of it."""
    rig = Rig()
    strict(rig)
    rig.keys.limit("team:acme/search", tokens_per_minute=100)
    prompt = 30
    body = b'{"model":"gpt","messages":["%b"],"max_tokens":%d}'
    fixed = most_input_tokens(body % (b"", 1))
    asked = [rig.ask(body % (b"x" * (prompt - fixed), size - prompt)) for size in (58, 80, 175, 175, 175)]
    await rig.settle()
    assert 1 <= len(rig.one.sent) <= 2
    spent = 0
    for sent in rig.one.sent:
        most = prompt + sent.json["max_tokens"]
        spent += most
        sent.whole(200, completion(usage=(prompt, most - prompt)))
    assert spent <= 100
    for one in asked:
        reader = await one.done()
        assert reader.status == 200 or (reader.error is not None and reader.error.status == 429)
    closed = [row for row in rig.ledger.ends if row.status == "complete"]
    assert sum(row.usage.input_tokens + row.usage.output_tokens for row in closed) == spent
    assert (await rig.rates.levels((bucket("tokens:team:acme/search", 100),)))[0] == 100 - spent


@pytest.mark.parametrize("order", range(5))
async def test_the_ones_that_fit_pass_in_any_order(order: int) -> None:
    rig = Rig()
    strict(rig)
    rig.keys.limit("team:acme/search", tokens_per_minute=100)
    sizes = (58, 80, 175, 175, 175)
    asked = [rig.ask(chat(max_tokens=size - 40)) for size in sizes[order:] + sizes[:order]]
    await rig.settle()
    assert len(rig.one.sent) == 1
    assert rig.one.sent[0].json["max_tokens"] in (18, 40)
    rig.one.sent[0].whole(200, completion())
    for one in asked:
        await one.done()


async def test_a_hundred_at_once_never_pass_a_cap_in_strict_mode() -> None:
    rig = Rig()
    strict(rig)
    balance = rig.keys.budget(DOLLAR)
    asked = [rig.ask(chat(max_tokens=30)) for _ in range(100)]
    await rig.settle()
    (held,) = await rig.ledger.held([balance])
    assert 1 <= len(rig.one.sent) < 100
    assert held.reserved_nanodollars <= DOLLAR
    for sent in rig.one.sent:
        sent.whole(200, completion(usage=(20, 30)))
    for one in asked:
        await one.done()
    (held,) = await rig.ledger.held([balance])
    assert held.reserved_nanodollars == 0
    assert 0 < held.spent_nanodollars <= DOLLAR


async def test_a_dearer_lane_is_asked_only_with_the_money_for_it() -> None:
    rig = Rig()
    strict(rig, rig.lane(rig.one), rig.lane(rig.two, DEAR))
    balance = rig.keys.budget(DOLLAR // 2)
    rig.one.play = play_completion(503, b'{"error":{"message":"busy"}}')
    reader = await rig.ask(chat(max_tokens=30)).done()
    assert reader.status == 503, "what the lane that was asked said"
    assert not rig.two.tried
    rig.keys.budgets = [Balance(balance.scope, balance.period, balance.since, balance.until, 10 * DOLLAR)]
    rig.two.play = play_completion(body=completion(usage=(30, 30)))
    assert (await rig.ask(chat(max_tokens=30)).done()).status == 200
    assert list(rig.ledger.balances.values()) == [[30 * 10_000_000 + 30 * 20_000_000, 0]]


async def test_a_lane_without_a_price_is_passed_over_under_a_budget() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two, None))
    rig.keys.budget(DOLLAR)
    rig.one.play = play_completion(503, b'{"error":{"message":"busy"}}')
    assert (await rig.ask(chat(max_tokens=30)).done()).status == 503
    assert not rig.two.tried


async def test_an_attempt_that_may_have_been_billed_and_the_next_are_both_paid_for_within_the_cap() -> None:
    rig = Rig()
    strict(rig, rig.lane(rig.one), rig.lane(rig.two), on_unknown="retry")
    rig.keys.budget(DOLLAR)
    rig.one.play = lambda sent: sent.end(Ended("timeout", UpstreamTimeoutError("first token")))
    rig.two.play = play_completion()
    asked = rig.ask(chat(max_tokens=30))
    await asked.done()
    unknown = rig.ledger.opened[asked.id].reserved_nanodollars
    answered = 10 * INPUT_NANODOLLARS + 5 * OUTPUT_NANODOLLARS
    assert list(rig.ledger.balances.values()) == [[unknown + answered, 0]]
    reader = await rig.ask(chat(max_tokens=300)).done()
    assert reader.error is not None
    assert rig.two.tried == 1
    assert next(iter(rig.ledger.balances.values()))[1] == 0


async def test_a_store_that_fails_in_the_middle_leaves_nothing_taken() -> None:
    rig = Rig()
    balance = rig.keys.budget(1_000 * DOLLAR)
    rig.keys.limit("org:acme", concurrent=1)

    async def away(*_: object) -> None:
        raise StoreUnavailableError("Redis is away")

    reserve = rig.rates.reserve
    rig.rates.reserve = away  # type: ignore[assignment,method-assign]
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert reader.error.status == 503
    assert (await rig.ledger.held([balance]))[0].reserved_nanodollars == 0
    rig.rates.reserve = reserve  # type: ignore[method-assign]

    async def refuse(*_: object) -> Refused:
        raise StoreUnavailableError("PostgreSQL is away")

    rig.ledger.reserve = refuse  # type: ignore[method-assign,assignment]
    reader = await rig.ask(chat()).done()
    assert reader.error is not None
    assert reader.error.status == 503
    assert await rig.rates.levels((slot("concurrent_calls:org:acme"),)) == [1]


async def test_a_backlog_of_records_refuses_new_calls() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    for name, value in (("backlog_bytes", 64 * 1024 * 1024 + 1), ("backlog_seconds", 5.1)):
        setattr(rig.ledger, name, value)
        reader = await rig.ask(chat()).done()
        assert reader.error is not None
        assert (reader.error.status, reader.error.code) == (503, "overloaded")
        setattr(rig.ledger, name, 0)
    assert (await rig.ask(chat()).done()).status == 200


async def test_no_more_calls_run_than_may() -> None:
    rig = Rig()
    rig.gateway.max_inflight = 2
    asked = [rig.ask(chat()) for _ in range(5)]
    await rig.settle()
    assert [one.reader.error.code for one in asked if one.reader.error] == 3 * ["overloaded"]
    for sent in rig.one.sent:
        sent.whole(200, completion())
    await asyncio.gather(*[one.done() for one in asked])


async def test_a_soft_threshold_is_told_with_every_reservation() -> None:
    rig = Rig()
    balance = rig.keys.budget(DOLLAR)
    rig.one.play = play_completion()
    await rig.ask(chat(max_tokens=3)).done()
    assert [held.scope for held in rig.keys.seen] == [balance.scope]


async def test_a_call_counts_in_the_period_it_was_opened_in() -> None:
    rig = Rig()
    midnight = rig.clock.now() + 10.0
    today = Balance("org:acme", "day:1", 0.0, midnight, DOLLAR)
    tomorrow = Balance("org:acme", "day:2", midnight, 4e9, DOLLAR)
    rig.keys.budgets = [today, tomorrow]
    asked = rig.ask(chat(max_tokens=30))
    await rig.settle()
    await rig.clock.advance(20.0)
    rig.one.sent[0].whole(200, completion())
    await asked.done()
    spent = 10 * INPUT_NANODOLLARS + 5 * OUTPUT_NANODOLLARS
    assert [tuple(held[2:]) for held in await rig.ledger.held([today, tomorrow])] == [(spent, 0), (0, 0)]
    rig.one.play = play_completion()
    await rig.ask(chat(max_tokens=30)).done()
    assert [tuple(held[2:]) for held in await rig.ledger.held([today, tomorrow])] == [(spent, 0), (spent, 0)]


async def test_a_large_body_is_counted_while_others_go_on() -> None:
    rig = Rig()
    strict(rig)
    rig.one.play = play_completion()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    asked = rig.ask({**chat(max_tokens=5), "messages": [{"role": "user", "content": "x" * 30}] * 20_000})
    assert (await asked.done()).status == 200
    ticking.cancel()
    assert rig.ledger.opened[asked.id].estimated_input_tokens >= 600_000
    assert ticks > 20
