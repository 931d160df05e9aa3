"""Figures of the engines beside each other in one run, on this machine, now: python -m tests.benchmarks.bench_engines

PostgreSQL runs with fsync, as it would for a user; clients, servers and load share the machine's cores.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import uvloop

from holdfast.engines.embedded import open_embedded
from holdfast.engines.postgres import open_postgres
from holdfast.engines.redis import open_redis
from holdfast.kernel.clock import SystemClock
from holdfast.ports.money import Balance, Money
from holdfast.ports.rates import Limit, Rates
from holdfast.ports.record import Record
from tests.contracts.samples import attempted, call_closed, call_opened, settled
from tests.servers import PostgresServer, RedisServer

CALLERS = 64
CALLS = 20_000
RESERVES = 20_000
BUDGETS = tuple(Balance(scope, "p", 0.0, 4e9, 10**17) for scope in ("org:acme", "team:acme/search", "key:key_1"))
LIMITS = (
    *(Limit(f"requests:{name}", "bucket", 10**9) for name in ("org", "team", "key")),
    *(Limit(f"tokens:{name}", "bucket", 10**9) for name in ("org", "team", "key", "lane in", "lane out")),
    Limit("slots:lane", "slot", 10**6),
)


class Store(Protocol):
    @property
    def record(self) -> Record: ...

    @property
    def money(self) -> Money: ...


async def hand_calls(store: Store) -> tuple[float, float]:
    """Whole calls a second until all are written, and microseconds of the loop a `hand` takes."""
    calls = [call_opened() for _ in range(CALLS)]
    units = [(call_closed(opened.id), settled(opened.id, 500, 300, *BUDGETS)) for opened in calls]
    handing = 0.0
    began = time.perf_counter()
    for start in range(0, CALLS, 100):
        at = time.perf_counter()
        for opened, unit in zip(calls[start : start + 100], units[start : start + 100], strict=True):
            store.record.hand(opened)
            store.record.hand(*unit)
        handing += time.perf_counter() - at
        await asyncio.sleep(0)
    await store.record.flush()
    return CALLS / (time.perf_counter() - began), handing / (2 * CALLS) * 1e6


async def open_then_close(store: Store) -> float:
    """Rows a second when the end comes in a later batch than the opening, with a further attempt each."""
    calls = [call_opened() for _ in range(CALLS // 2)]
    began = time.perf_counter()
    for opened in calls:
        store.record.hand(opened)
    await store.record.flush()
    for opened in calls:
        store.record.hand(call_closed(opened.id), attempted(opened.id), settled(opened.id, 500, 300, *BUDGETS))
    await store.record.flush()
    return 2 * len(calls) / (time.perf_counter() - began)


async def at_once(verb: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Calls of a verb a second with CALLERS waiting at any time, and the CPU microseconds of this process for one."""
    numbers = iter(range(RESERVES))

    async def caller() -> None:
        for number in numbers:
            await verb(number)

    await verb(-1)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return RESERVES / (time.perf_counter() - began), (time.process_time() - cpu) / RESERVES * 1e6


async def reserve_money(money: Money) -> tuple[float, float]:
    return await at_once(lambda number: money.reserve(f"call_{number}", 100, BUDGETS))


async def reserve_rates(rates: Rates) -> tuple[float, float]:
    amounts = [1, 1, 1, 500, 500, 500, 500, 300, 1]

    async def take_and_settle(number: int) -> None:
        await rates.reserve(LIMITS, amounts, f"call_{number}", 60.0)
        rates.settle(LIMITS, amounts, amounts, f"call_{number}")

    return await at_once(take_and_settle)


def show(what: str, embedded: float, scaled: float, name: str, unit: str = "/s") -> None:
    print(f"{what:52} embedded {embedded:12,.1f}{unit}   {name} {scaled:10,.1f}{unit}   ratio {scaled / embedded:.3f}")


async def measure(postgres_url: str, redis_url: str, folder: Path) -> None:
    clock = SystemClock()
    embedded = await open_embedded(folder, clock=clock)
    postgres = await open_postgres(postgres_url, clock=clock, node="bench")
    redis = await open_redis(redis_url, clock=clock, node="bench")
    await postgres.money.held(BUDGETS)
    await embedded.money.held(BUDGETS)
    (calls, hand), (calls_there, hand_there) = await hand_calls(embedded), await hand_calls(postgres)
    show("calls opened, closed and settled in one batch", calls, calls_there, "postgres")
    show("loop time of one hand", hand, hand_there, "postgres", " µs")
    show(
        "openings and ends in different batches",
        await open_then_close(embedded),
        await open_then_close(postgres),
        "postgres",
    )
    (money, cpu), (money_there, cpu_there) = await reserve_money(embedded.money), await reserve_money(postgres.money)
    show(f"money reserved on 3 balances by {CALLERS} callers", money, money_there, "postgres")
    show("own CPU of one", cpu, cpu_there, "postgres", " µs")
    (rates, cpu), (rates_there, cpu_there) = await reserve_rates(embedded.rates), await reserve_rates(redis.rates)
    show(f"9 limits reserved and settled by {CALLERS} callers", rates, rates_there, "redis   ")
    show("own CPU of one", cpu, cpu_there, "redis   ", " µs")
    await asyncio.gather(embedded.close(), postgres.close(), redis.close())


def main() -> None:
    postgres, redis = PostgresServer(durable=True), RedisServer()
    try:
        postgres.start()
        redis.start()
        with tempfile.TemporaryDirectory() as folder:
            uvloop.run(measure(postgres.fresh_url(), redis.url(), Path(folder) / "data"))
    finally:
        postgres.remove()
        redis.remove()


if __name__ == "__main__":
    main()
