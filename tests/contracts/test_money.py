"""The contract of ports.money, on every engine: no cap is passed by a race, nothing stays reserved, rows and calls agree."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.kernel.ids import make_id
from holdfast.ports.money import Balance, Held, Refused, Settled
from tests.contracts.engines import Store
from tests.contracts.samples import DAY, NOON, attempted, balance, call_closed, call_opened, settled

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


async def held(store: Store, *balances: Balance) -> list[tuple[int, int]]:
    await store.record.flush()
    return [(one.spent_nanodollars, one.reserved_nanodollars) for one in await store.money.held(balances)]


async def test_a_reservation_is_told_with_all_its_balances_in_order(store: Store) -> None:
    balances = [balance("key:key_1"), balance("org:acme"), balance("team:acme/search")]
    answer = await store.money.reserve("call_1", 30, balances)
    assert answer == tuple(Held(one.scope, one.period, 0, 30) for one in balances)
    answer = await store.money.reserve("call_2", 12, balances[1:2])
    assert answer == (Held("org:acme", balances[1].period, 0, 42),)
    assert await store.money.held(balances) == [
        Held("key:key_1", balances[0].period, 0, 30),
        Held("org:acme", balances[1].period, 0, 42),
        Held("team:acme/search", balances[2].period, 0, 30),
    ]


async def test_no_balance_is_no_limit(store: Store) -> None:
    assert await store.money.reserve("call_1", 30, []) == ()
    assert await store.money.held([]) == []


async def test_a_refusal_names_the_balance_and_takes_from_none(store: Store) -> None:
    wide, narrow, last = balance("org:acme", 1000), balance("team:acme/search", 100), balance("key:key_1", 10)
    assert not isinstance(await store.money.reserve("call_1", 60, [wide, narrow]), Refused)
    refused = await store.money.reserve("call_2", 41, [wide, narrow, last])
    assert refused == Refused(narrow, Held(narrow.scope, narrow.period, 0, 60))
    assert await held(store, wide, narrow, last) == [(0, 60), (0, 60), (0, 0)]
    assert not isinstance(await store.money.reserve("call_3", 40, [wide, narrow]), Refused), "a limit can be used up"


async def test_settling_gives_back_and_books(store: Store) -> None:
    budgets = [balance("org:acme"), balance("key:key_1")]
    await store.money.reserve("call_1", 500, budgets)
    store.record.hand(settled("call_1", 500, 320, *budgets))
    assert await held(store, *budgets) == [(320, 0), (320, 0)]


async def test_a_call_that_reserves_again_holds_the_sum_and_gives_it_all_back(store: Store) -> None:
    budgets = [balance("org:acme"), balance("key:key_1", 1_000)]
    await store.money.reserve("call_1", 500, budgets)
    more = await store.money.reserve("call_1", 300, budgets)
    assert more == tuple(Held(one.scope, one.period, 0, 800) for one in budgets)
    assert isinstance(await store.money.reserve("call_1", 201, budgets), Refused)
    assert await held(store, *budgets) == [(0, 800), (0, 800)]
    store.record.hand(settled("call_1", 800, 320, *budgets))
    assert await held(store, *budgets) == [(320, 0), (320, 0)]


async def test_settling_with_nothing_spent_is_a_release(store: Store) -> None:
    budget = balance("org:acme", 500)
    await store.money.reserve("call_1", 500, [budget])
    store.record.hand(settled("call_1", 500, 0, budget))
    assert await held(store, budget) == [(0, 0)]
    assert not isinstance(await store.money.reserve("call_2", 500, [budget]), Refused)


async def test_a_running_call_may_pass_the_limit_and_the_next_is_refused(store: Store) -> None:
    budget = balance("org:acme", 500)
    await store.money.reserve("call_1", 400, [budget])
    store.record.hand(settled("call_1", 400, 900, budget))
    assert await held(store, budget) == [(900, 0)]
    refused = await store.money.reserve("call_2", 1, [budget])
    assert refused == Refused(budget, Held(budget.scope, budget.period, 900, 0))


async def test_a_larger_limit_holds_from_the_next_reserve_on(store: Store) -> None:
    budget = balance("org:acme", 100)
    await store.money.reserve("call_1", 100, [budget])
    assert isinstance(await store.money.reserve("call_2", 1, [budget]), Refused)
    assert not isinstance(await store.money.reserve("call_2", 1, [replace(budget, limit_nanodollars=101)]), Refused)


async def test_periods_do_not_meet(store: Store) -> None:
    november = balance("org:acme", 500)
    december = Balance("org:acme", "month:2023-12:UTC", november.until, november.until + 31 * DAY, 500)
    await store.money.reserve("call_1", 400, [november])
    await store.money.reserve("call_2", 450, [december])
    store.record.hand(settled("call_1", 400, 390, november))
    assert await held(store, november, december) == [(390, 0), (0, 450)]


@pytest.mark.parametrize("known", [False, True])
async def test_a_hundred_at_once_never_pass_a_cap(store: Store, known: bool) -> None:
    budgets = [balance("org:acme", 10_000), balance("team:acme/search", 1000), balance("key:key_1", 5000)]
    other = await store.join()
    nodes = [store.money, store.money if other is None else other.money]
    if known:
        await asyncio.gather(*(node.held(budgets) for node in nodes))
    answers = await asyncio.gather(
        *(nodes[index % 2].reserve(f"call_{index}", 30, budgets) for index in range(100)),
    )
    assert sum(1 for answer in answers if not isinstance(answer, Refused)) == 33
    assert await held(store, *budgets) == [(0, 990)] * 3


async def test_reservations_and_ends_that_cross_leave_what_they_say(store: Store) -> None:
    budget = balance("org:acme", 500)
    other = await store.join()
    nodes = [(store.money, store.record), (store.money, store.record) if other is None else (other.money, other.record)]
    spent = 0

    async def call(index: int) -> None:
        nonlocal spent
        money, record = nodes[index % 2]
        answer = await money.reserve(f"call_{index}", 50, [budget])
        if isinstance(answer, Refused):
            return
        (after,) = answer
        assert after.spent_nanodollars + after.reserved_nanodollars <= 500
        await asyncio.sleep(0)
        spent += index % 7
        record.hand(settled(f"call_{index}", 50, index % 7, budget))

    await asyncio.gather(*(call(index) for index in range(200)))
    for _, record in nodes:
        await record.flush()
    assert await held(store, budget) == [(spent, 0)]


async def test_a_budget_declared_in_the_middle_counts_the_period_so_far(store: Store) -> None:
    budget = balance("org:acme")
    for opened_at in (budget.since - 1, budget.since, NOON, budget.until - 1, budget.until):
        opened = call_opened(opened_at=opened_at)
        store.record.hand(opened, attempted(opened.id), call_closed(opened.id, cost_nanodollars=100))
    for changed in ({"organisation": "beta"}, {"team": "ads"}, {"key_id": "key_2"}):
        opened = call_opened(**changed)
        store.record.hand(opened, call_closed(opened.id, cost_nanodollars=1))
    free = call_opened()
    store.record.hand(free, call_closed(free.id, cost_nanodollars=None))
    # Not flushed: what was handed before the first use counts too.
    assert await store.money.reserve("call_1", 5, [budget]) == (Held(budget.scope, budget.period, 512, 5),)
    assert await held(store, balance("team:acme/search"), balance("key:key_1")) == [(511, 0), (512, 0)]
    assert await held(store, balance("team:acme/nobody"), balance("org:acm")) == [(0, 0), (0, 0)]


async def test_calls_open_when_a_budget_is_declared_are_held_and_then_booked(store: Store) -> None:
    older, budget = balance("key:key_1"), balance("org:acme")
    opened = call_opened()
    await store.money.reserve(opened.id, 500, [older])
    await store.record.commit(opened)
    assert await held(store, older, budget) == [(0, 500), (0, 500)]
    store.record.hand(call_closed(opened.id, cost_nanodollars=300), settled(opened.id, 500, 300, older))
    assert await held(store, older, budget) == [(300, 0), (300, 0)]
    assert await store.money.recompute(repair=False) == []


async def test_first_uses_at_once_learn_a_balance_once(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened, call_closed(opened.id, cost_nanodollars=300))
    budget = balance("org:acme", 400)
    answers = await asyncio.gather(*(store.money.reserve(f"call_{index}", 10, [budget]) for index in range(20)))
    assert sum(1 for answer in answers if not isinstance(answer, Refused)) == 10
    assert await held(store, budget) == [(300, 100)]


async def test_ends_during_a_first_use_are_counted_once(store: Store) -> None:
    calls = [call_opened() for _ in range(60)]
    for opened in calls:
        store.record.hand(opened)
    budget = balance("org:acme")

    async def end(index: int) -> None:
        for _ in range(index % 12):
            await asyncio.sleep(0)
        store.record.hand(call_closed(calls[index].id, cost_nanodollars=10))

    await asyncio.gather(store.money.held([budget]), *(end(index) for index in range(len(calls))))
    assert await held(store, budget) == [(600, 0)]
    assert await store.money.recompute(repair=False) == []


async def test_balances_are_there_after_reopening(store: Store) -> None:
    budget = balance("org:acme", 1000)
    ended, still_open = call_opened(), call_opened(reserved_nanodollars=200)
    await store.money.reserve(ended.id, 500, [budget])
    await store.money.reserve(still_open.id, 200, [budget])
    store.record.hand(ended, still_open)
    store.record.hand(call_closed(ended.id, cost_nanodollars=300), settled(ended.id, 500, 300, budget))
    await store.reopen()
    assert await held(store, budget) == [(300, 200)]
    assert isinstance(await store.money.reserve("call_1", 501, [budget]), Refused)
    assert not isinstance(await store.money.reserve("call_2", 500, [budget]), Refused)


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_call_a_crash_left_open_is_charged_what_it_held(store: Store, looked_at: bool) -> None:
    budgets = [balance("org:acme"), balance("key:key_1")]
    opened = call_opened(reserved_nanodollars=500)
    await store.money.reserve(opened.id, 500, budgets)
    await store.record.commit(opened)
    await store.reopen()
    if looked_at:
        assert await held(store, *budgets) == [(0, 500), (0, 500)]
    (left,) = await store.calls.open_calls()
    end = call_closed(left.id, status="unknown", cost_nanodollars=left.reserved_nanodollars)
    await store.record.commit(end, settled(left.id, left.reserved_nanodollars, left.reserved_nanodollars, *budgets))
    assert await held(store, *budgets) == [(500, 0), (500, 0)]
    assert await store.money.recompute(repair=False) == []


async def test_recompute_finds_and_repairs_what_calls_do_not_say(store: Store) -> None:
    right, wrong = balance("org:acme"), balance("key:key_1")
    opened = call_opened()
    await store.money.reserve(opened.id, 500, [right, wrong])
    store.record.hand(opened, call_closed(opened.id, cost_nanodollars=300), settled(opened.id, 500, 300, right, wrong))
    assert await store.money.recompute(repair=True) == []
    store.record.hand(settled(opened.id, 0, 45, wrong))
    assert await held(store, wrong) == [(345, 0)]
    for repair in (False, True):
        (difference,) = await store.money.recompute(repair=repair)
        assert difference.held == Held(wrong.scope, wrong.period, 345, 0)
        assert difference.recomputed == Held(wrong.scope, wrong.period, 300, 0)
    assert await store.money.recompute(repair=False) == []
    assert await held(store, right, wrong) == [(300, 0), (300, 0)]
    await store.reopen()
    assert await held(store, right, wrong) == [(300, 0), (300, 0)]


async def test_recompute_frees_what_an_ended_call_still_holds(store: Store) -> None:
    budget = balance("org:acme", 1000)
    opened = call_opened()
    await store.money.reserve(opened.id, 500, [budget])
    store.record.hand(opened, call_closed(opened.id, cost_nanodollars=300), Settled(opened.id, (), 0, 0))
    await store.record.flush()
    await store.money.recompute(repair=True)
    assert await held(store, budget) == [(300, 0)]
    assert await store.money.recompute(repair=False) == []


async def test_recompute_leaves_calls_in_flight_alone(store: Store) -> None:
    budget = balance("org:acme")
    opened = call_opened(reserved_nanodollars=200)
    await store.money.reserve(opened.id, 200, [budget])
    await store.money.reserve("call_about_to_open", 70, [budget])
    await store.record.commit(opened)
    assert await store.money.recompute(repair=True) == []
    assert await held(store, budget) == [(0, 270)]


async def test_pruned_calls_are_no_difference(store: Store) -> None:
    budget = balance("org:acme")
    old, new = call_opened(opened_at=NOON - 10 * DAY), call_opened()
    for opened in (old, new):
        await store.money.reserve(opened.id, 500, [budget])
        store.record.hand(opened, call_closed(opened.id, cost_nanodollars=100), settled(opened.id, 500, 100, budget))
    await store.record.flush()
    assert await store.calls.prune(NOON) == 1
    assert await store.money.recompute(repair=True) == []
    assert await held(store, budget) == [(200, 0)]


@dataclass(frozen=True)
class Life:
    """How one call goes: what it reserves, whether and how it ends, what it cost."""

    reserved: int
    cost: int
    opens: bool
    further: int
    apart: bool
    other_team: bool


LIVES = st.lists(
    st.builds(
        Life,
        reserved=st.integers(0, 400),
        cost=st.integers(0, 600),
        opens=st.booleans(),
        further=st.integers(0, 2),
        apart=st.booleans(),
        other_team=st.booleans(),
    ),
    max_size=25,
)


async def live(store: Store, life: Life, organisation: str, budgets: Sequence[Balance]) -> int:
    """One call from its reservation to its end; what it spent."""
    team = "ads" if life.other_team else "search"
    opened = call_opened(organisation=organisation, team=team, reserved_nanodollars=life.reserved)
    mine = [one for one in budgets if not (life.other_team and one.scope.startswith("team:"))]
    answer = await store.money.reserve(opened.id, life.reserved, mine)
    if isinstance(answer, Refused):
        assert (
            answer.held.spent_nanodollars + answer.held.reserved_nanodollars + life.reserved
            > answer.balance.limit_nanodollars
        )
        return 0
    for after, one in zip(answer, mine, strict=True):
        assert after.spent_nanodollars + after.reserved_nanodollars <= one.limit_nanodollars
    await asyncio.sleep(0)
    if not life.opens:
        store.record.hand(settled(opened.id, life.reserved, 0, *mine))
        return 0
    store.record.hand(opened)
    if life.apart:
        await store.record.flush()
    for number in range(life.further):
        store.record.hand(attempted(opened.id, 2 + number, cost_nanodollars=7))
    spent = life.cost + 7 * life.further
    end = (call_closed(opened.id, cost_nanodollars=life.cost), settled(opened.id, life.reserved, spent, *mine))
    if life.apart:
        await store.record.commit(*end)
    else:
        store.record.hand(*end)
    return spent


@EXAMPLES
@given(lives=LIVES)
async def test_whatever_happens_nothing_stays_reserved(store: Store, lives: list[Life]) -> None:
    await nothing_stays_reserved(store, lives)


async def nothing_stays_reserved(store: Store, lives: list[Life]) -> None:
    organisation = make_id("org")
    budgets = [balance(f"org:{organisation}", 3000), balance(f"team:{organisation}/search", 1500)]
    spent = await asyncio.gather(*(live(store, life, organisation, budgets) for life in lives))
    mine = [cost for cost, life in zip(spent, lives, strict=True) if not life.other_team]
    assert await held(store, *budgets) == [(sum(spent), 0), (sum(mine), 0)]
    assert await store.money.recompute(repair=False) == []
