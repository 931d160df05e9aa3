"""What the embedded engine keeps in memory: bounded, exact, and rebuilt from rows."""

import pytest

from holdfast.engines.embedded import Embedded
from holdfast.engines.embedded.readers import Readers
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import InvalidRequestError
from holdfast.ports.calls import Window
from holdfast.ports.money import Difference, Held
from holdfast.ports.rates import Limit
from tests.contracts.samples import ALWAYS, balance, call_opened


async def test_buckets_and_slots_that_are_idle_are_forgotten(engine: Embedded, clock: VirtualClock) -> None:
    for turn in range(300):
        for index in range(100):
            name = f"{turn}-{index}"
            limits = (Limit(f"tokens:{name}", "bucket", 100), Limit(f"slots:{name}", "slot", 1))
            assert await engine.rates.reserve(limits, [50, 1], "call", 30) is None
            engine.rates.settle(limits, [50, 1], [50, 1], "call")
        await clock.advance(60)
    assert engine.rates.remembered <= 20_000


async def test_a_bucket_in_use_is_not_forgotten(engine: Embedded) -> None:
    limits = (Limit("tokens:busy", "bucket", 100), Limit("slots:busy", "slot", 1))
    assert await engine.rates.reserve(limits, [60, 1], "call", 3600) is None
    for index in range(25_000):
        await engine.rates.reserve((Limit(f"tokens:{index}", "bucket", 100),), [0], "call", 30)
    assert await engine.rates.levels(limits) == [40, 0]


async def test_a_reservation_nobody_opened_is_a_difference_after_an_hour(engine: Embedded, clock: VirtualClock) -> None:
    budget = balance("org:acme")
    await engine.money.reserve("call_leaked", 70, [budget])
    assert await engine.money.recompute(repair=True) == []
    await clock.advance(3601)
    await engine.money.reserve("call_young", 5, [budget])
    expected = [
        Difference(Held(budget.scope, budget.period, 0, 75), Held(budget.scope, budget.period, 0, 5)),
    ]
    assert await engine.money.recompute(repair=True) == expected
    assert await engine.money.recompute(repair=True) == []


async def test_a_scope_nobody_knows_is_said_so(engine: Embedded) -> None:
    with pytest.raises(ValueError, match="no scope"):
        await engine.money.held([balance("planet:earth")])


async def test_a_limit_of_rows_is_held(engine: Embedded) -> None:
    for limit in (0, -1, 10_001):
        with pytest.raises(InvalidRequestError):
            await engine.calls.page(ALWAYS, limit=limit)
        with pytest.raises(InvalidRequestError):
            await engine.calls.usage(Window(0, 1), ["model"], limit=limit)


async def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_answers(engine: Embedded) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    readers: Readers = engine.calls._readers
    with pytest.raises(InvalidRequestError, match="narrower"):
        await readers.read(lambda connection: connection.execute(endless).fetchall(), 0.05)
    opened = call_opened()
    await engine.record.commit(opened)
    assert await engine.calls.get(opened.id) is not None
