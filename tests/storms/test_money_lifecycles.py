"""Ten thousand lives of calls, each ended by another fate, and five crashes: nothing stays reserved, and what was spent is what
the rows say. In process and in virtual time; the store is the real one."""

import asyncio
import json
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.engines.embedded.rates import EmbeddedRates
from holdfast.features.gateway.jobs import close_abandoned, sweep_running
from holdfast.features.gateway.model import CHAT, Gateway, Lane, LimitSet, Model, Request, Route, Snapshot
from holdfast.features.gateway.path import answer
from holdfast.features.gateway.prices import PriceBook
from holdfast.features.gateway.settings import PolicySettings, PriceSettings
from holdfast.features.tenancy.settings import (
    BudgetSettings,
    KeySettings,
    OrganisationSettings,
    TeamSettings,
    TenancySettings,
)
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import SystemClock, VirtualClock
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.findings import Findings
from holdfast.kernel.secret import Secret
from holdfast.kernel.tenant import Principal
from holdfast.ports.calls import Window
from holdfast.ports.rates import Limit
from holdfast.ports.record import Change
from holdfast.upstreams.scripted import ScriptedUpstream
from tests.features.gateway.rig import StillReader

LIVES = 10_000
ERAS = 5
AT_ONCE = 125
START = 1_790_000_000.0
MODELS = {
    "good": ["tokens=6&ttft_ms=40&itl_ms=10"],
    "silent about usage": ["tokens=6&itl_ms=10&fault=no_usage"],
    "busy": ["fault=429&retry_after=1"],
    "wrong": ["fault=context_length_exceeded"],
    "broken": ["fault=503"],
    "cut": ["tokens=6&itl_ms=10&fault=cut&after=3"],
    "reset": ["tokens=6&fault=reset"],
    "stalls": ["tokens=6&itl_ms=10&fault=stall&after=2"],
    "hangs": ["fault=hang"],
    "says it failed": ["tokens=6&itl_ms=10&fault=error_event&after=3"],
    "blank": ["fault=blank"],
    "junk": ["tokens=6&fault=junk"],
    "refuses TLS": ["fault=tls_refused"],
    "long": ["tokens=400&itl_ms=50"],
    "broken, then good": ["fault=503", "tokens=6&itl_ms=10"],
    "hangs, then good": ["fault=hang", "tokens=6&itl_ms=10"],
    "refuses TLS, busy, then good": ["fault=tls_refused", "fault=429", "tokens=3"],
}
POLICY = PolicySettings(
    first_token_seconds=2.0, idle_seconds=1.0, total_seconds=10.0, job_seconds=12.0, linger_seconds=0.5
)
ROUTES = tuple(
    Route(
        f"{mode}-{left}",
        PolicySettings(
            budget_mode=mode,
            on_disconnect=left,
            on_unknown=unknown,
            first_token_seconds=2.0,
            idle_seconds=1.0,
            total_seconds=10.0,
            job_seconds=12.0,
            linger_seconds=0.5,
        ),
        header=f"{mode}-{left}-{unknown}",
    )
    for mode in ("strict", "expected")
    for left in ("cancel", "linger", "finish")
    for unknown in ("retry", "fail")
)
SLOT = Limit("concurrent_calls:lane:all", "slot", 80)
ORGANISATIONS = {
    "rich": OrganisationSettings(
        teams={"a": TeamSettings(), "b": TeamSettings(budgets=(BudgetSettings(limit_usd="100000", period="day"),))},
        budgets=(BudgetSettings(limit_usd="1000000"), BudgetSettings(limit_usd="500000", period="week")),
    ),
    "poor": OrganisationSettings(teams={"a": TeamSettings(budgets=(BudgetSettings(limit_usd="2", period="day"),))}),
    "narrow": OrganisationSettings(
        teams={"a": TeamSettings(concurrent=5, tokens_per_minute=20_000, requests_per_minute=600)}
    ),
}
KEYS = {
    name: KeySettings(secret=Secret(f"secret-of-{name}"), team=team, budgets=budgets)
    for name, team, budgets in (
        ("rich", "rich/a", ()),
        ("richer", "rich/b", ()),
        ("poor", "poor/a", ()),
        ("narrow", "narrow/a", (BudgetSettings(limit_usd="100000", period="day"),)),
    )
}


class Crashed:
    """The record of a process that is dead: nothing handed from now on was ever written."""

    backlog_bytes = 0
    backlog_seconds = 0.0

    def hand(self, *changes: Change) -> None:
        pass


class House:
    """One process over the data folder."""

    def __init__(self, engine: Embedded, tenancy: Tenancy, gateway: Gateway, clock: VirtualClock) -> None:
        self.engine = engine
        self.tenancy = tenancy
        self.gateway = gateway
        self.clock = clock
        self.fates: Counter[str] = Counter()

    def ask(self, dice: random.Random, number: int) -> tuple["asyncio.Task[None]", StillReader]:
        body: dict[str, Any] = {
            "model": dice.choice(list(MODELS)),
            "messages": [{"role": "user", "content": f"{number % 50}"}],
        }
        if dice.random() < 0.5:
            body["stream"] = True
        if dice.random() < 0.6:
            body["max_tokens"] = dice.choice([1, 5, 50, 5_000])
        if dice.random() < 0.3:
            body["temperature"] = 0
        reader = StillReader()
        request = Request(
            f"call_{number}",
            f"req_{number}",
            CHAT,
            f"secret-of-{dice.choice(list(KEYS))}",
            (),
            json.dumps(body).encode(),
            reader,
            self.clock.monotonic(),
            dice.choice(ROUTES).header,
        )
        return asyncio.get_running_loop().create_task(self._live(request, reader)), reader

    async def _live(self, request: Request, reader: StillReader) -> None:
        await answer(self.gateway, request)
        if reader.error is not None:
            self.fates[reader.error.code] += 1
        else:
            self.fates["left" if reader.gone else f"{reader.status}"] += 1

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        sweep_running(self.gateway)
        await asyncio.sleep(0)

    async def crash(self, living: list["asyncio.Task[None]"]) -> None:
        """What was handed a moment ago is written, what follows is not."""
        self.gateway.record = Crashed()  # type: ignore[assignment]
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)


async def opened(folder: Path, clock: VirtualClock, stack: AsyncExitStack) -> House:
    engine = await open_embedded(folder, clock=SystemClock())  # how far its writer is behind is measured in real time
    stack.push_async_callback(engine.close)
    findings, rates = Findings(clock), EmbeddedRates(clock)
    tenancy = Tenancy(
        TenancySettings(),
        directory=engine.directory,
        record=engine.record,
        calls=engine.calls,
        money=engine.money,
        findings=findings,
        clock=clock,
    )
    await tenancy.catalogue.refresh()
    await tenancy.catalogue.apply_file(ORGANISATIONS, KEYS, {})
    upstream = ScriptedUpstream("scripted", clock)
    prices = PriceBook({"scripted": PriceSettings(input_usd="1000", output_usd="4000", max_output_tokens=500)})
    price = prices.price_of("scripted", "scripted")

    def lane(options: str) -> Lane:
        return Lane(f"scripted/{options}", upstream, f"scripted?{options}", price, LimitSet((SLOT,), ("calls",)))

    models = {name: Model(name, tuple(lane(options) for options in lanes)) for name, lanes in MODELS.items()}
    gateway = Gateway(
        snapshot=Snapshot(models, ROUTES, POLICY),
        tenancy=tenancy,
        record=engine.record,
        calls=engine.calls,
        money=engine.money,
        rates=rates,
        clock=clock,
        findings=findings,
        node="node_1",
    )
    await close_abandoned(gateway, clock.now() + 1)
    return House(engine, tenancy, gateway, clock)


def principals(house: House) -> list[Principal]:
    return [house.tenancy.authenticate(f"secret-of-{name}") for name in KEYS]


async def known(house: House) -> None:
    """Every balance of now has been read: reading takes real time, in which virtual time would run far ahead."""
    for principal in principals(house):
        await house.engine.money.held(house.tenancy.balances_for(principal, house.clock.now()))


async def live(house: House, dice: random.Random, numbers: range) -> None:
    """So many calls, a few at a time; some clients leave, some stop reading for a while."""
    await known(house)
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        asked = [house.ask(dice, number) for number in range(first, min(first + AT_ONCE, numbers.stop))]
        for _ in range(60):
            if all(task.done() for task, _ in asked):
                break
            for task, reader in asked:
                if not task.done() and not reader.gone and dice.random() < 0.03:
                    reader.leave()
                elif dice.random() < 0.05:
                    reader.room = False
                elif not reader.room:
                    reader.read_on()
            await house.pass_time(dice.choice([0.02, 0.1, 0.3, 1.0]))
        await asyncio.gather(*[task for task, _ in asked])
        assert not house.gateway.running
        assert not house.gateway.flights


async def nothing_is_left(house: House) -> None:
    await house.engine.record.flush()
    assert house.engine.record.rejected == 0
    assert not await house.engine.calls.open_calls()
    assert await house.gateway.rates.levels((SLOT, Limit("concurrent_calls:team:narrow/a", "slot", 5))) == [80, 5]
    for principal in principals(house):
        for held in await house.engine.money.held(house.tenancy.balances_for(principal, house.clock.now())):
            assert held.reserved_nanodollars == 0, held
    assert await house.engine.money.recompute(repair=False) == []


@pytest.mark.storm
async def test_ten_thousand_lives_leave_nothing_reserved(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    dice = random.Random(20261120)
    fates: Counter[str] = Counter()
    for era in range(ERAS):
        async with AsyncExitStack() as stack:
            house = await opened(tmp_path / "data", clock, stack)
            await nothing_is_left(house)
            share = LIVES // ERAS
            await live(house, dice, range(era * share, (era + 1) * share))
            await nothing_is_left(house)
            fates += house.fates
            dying = [house.ask(dice, LIVES + era * 1_000 + number)[0] for number in range(100)]
            await house.pass_time(dice.choice([0.0, 0.03, 0.2]))
            await house.crash(dying)
        await clock.advance(20_000.0)
    async with AsyncExitStack() as stack:
        house = await opened(tmp_path / "data", clock, stack)
        await nothing_is_left(house)
        await the_rows_say_what_was_spent(house)
    assert sum(fates.values()) == LIVES
    assert {
        "200",
        "400",
        "429",
        "503",
        "left",
        "budget_exceeded",
        "rate_limited",
        "upstream_timeout",
        "upstream_protocol",
    } <= set(fates), fates


async def the_rows_say_what_was_spent(house: House) -> None:
    """Each row once: a poor team never spends beyond its day in strict mode, and sums by team are sums of rows."""
    rows = await house.engine.calls.usage(Window(0.0, house.clock.now() + 1), ("organisation", "status"), limit=100)
    spent = Counter[str]()
    for row in rows:
        spent[row.group[0]] += row.cost_nanodollars
        assert row.group[1] != "open"
    assert set(spent) == {"rich", "poor", "narrow"}
    for principal in principals(house):
        name = principal.tenant.organisation
        window = Window(0.0, house.clock.now() + 1, organisation=name)
        assert (await house.engine.calls.spent(window)).spent_nanodollars == spent[name]


@pytest.mark.storm
async def test_a_strict_cap_is_never_passed_whatever_happens(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    dice = random.Random(7)
    async with AsyncExitStack() as stack:
        house = await opened(tmp_path / "data", clock, stack)
        snapshot = house.gateway.snapshot
        strict = tuple(route for route in ROUTES if route.policy.budget_mode == "strict")
        house.gateway.swap(Snapshot(snapshot.models, (Route("all", strict[0].policy), *strict), snapshot.defaults))
        await known(house)
        poor = house.tenancy.authenticate("secret-of-poor")
        for first in range(0, 600, 100):
            asked = [house.ask(dice, first + number) for number in range(100)]
            while not all(task.done() for task, _ in asked):
                for held in await house.engine.money.held(house.tenancy.balances_for(poor, clock.now())):
                    assert held.spent_nanodollars + held.reserved_nanodollars <= 2_000_000_000
                await house.pass_time(0.2)
            await asyncio.gather(*[task for task, _ in asked])
        (held,) = await house.engine.money.held(house.tenancy.balances_for(poor, clock.now()))
        assert 0 < held.spent_nanodollars <= 2_000_000_000
        await nothing_is_left(house)


@pytest.mark.storm
@pytest.mark.parametrize(("period", "later"), [("day", 86_400.0), ("week", 7 * 86_400.0), ("month", 31 * 86_400.0)])
async def test_a_budget_is_whole_again_in_the_next_period(tmp_path: Path, period: str, later: float) -> None:
    clock = VirtualClock(START)
    async with AsyncExitStack() as stack:
        house = await opened(tmp_path / "data", clock, stack)
        budget = BudgetSettings(limit_usd="0.5", period=period, time_zone="Europe/Berlin")
        keys = {**KEYS, "rich": KeySettings(secret=Secret("secret-of-rich"), team="rich/a", budgets=(budget,))}
        await house.tenancy.catalogue.apply_file(ORGANISATIONS, keys, {})

        async def spend() -> HoldfastError | None:
            await known(house)
            for number in range(100):
                reader = StillReader()
                body = b'{"model":"good","messages":[{"role":"user","content":"x"}],"max_tokens":6}'
                request = Request(
                    f"call_{clock.now()}_{number}",
                    "r",
                    CHAT,
                    "secret-of-rich",
                    (),
                    body,
                    reader,
                    clock.monotonic(),
                    None,
                )
                task = asyncio.get_running_loop().create_task(answer(house.gateway, request))
                while not task.done():
                    await house.pass_time(0.05)
                if reader.error is not None:
                    return reader.error
            return None

        first = await spend()
        assert first is not None
        assert first.code == "budget_exceeded"
        assert period in first.message
        again = await spend()
        assert again is not None
        await clock.advance(later)
        calls = len(await house.engine.calls.page(Window(0.0, 4e9), limit=1_000))
        assert (await spend()) is not None
        assert len(await house.engine.calls.page(Window(0.0, 4e9), limit=1_000)) > calls + 2
        await nothing_is_left(house)
