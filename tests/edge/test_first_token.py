"""First tokens that come late although calls take as long as before; time is virtual."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import pytest

from holdfast.edge.server.first_token import CODE, FEWEST, LOOK_SECONDS, WINDOWS_RUNNING, FirstTokens
from holdfast.edge.server.latency import short
from holdfast.features.gateway.model import Gateway, Model, Snapshot
from holdfast.features.gateway.settings import PolicySettings
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.findings import Finding, Findings
from holdfast.testing.memory import MemoryStore
from holdfast.tools.report import latency

KEY = ("chat.completions", "m")
TOTAL = 30.5


class Watched(NamedTuple):
    gateway: Gateway
    clock: VirtualClock

    async def window(self, first_token: float, count: int = 50) -> list[Finding]:
        """Ten seconds of such calls; what is open after them."""
        for each in range(count):
            self.gateway.measures.first_token.of(KEY).observe(first_token * (0.9 + 0.2 * each / count))
            self.gateway.measures.total.of(KEY).observe(TOTAL)
        await self.clock.advance(LOOK_SECONDS)
        return self.gateway.findings.all()


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    clock = VirtualClock()
    store = MemoryStore(clock)
    gateway = Gateway(
        Snapshot({"m": Model("m", ())}, (), PolicySettings()), cast(Any, None), store.record, store.calls, store.money,
        store.rates, clock, Findings(clock), "node",
    )  # fmt: skip
    task = asyncio.create_task(FirstTokens(gateway).follow())
    await asyncio.sleep(0)
    yield Watched(gateway, clock)
    task.cancel()


async def test_first_tokens_that_come_late_are_said_although_the_total_is_the_same(watched: Watched) -> None:
    for _ in range(12):
        assert await watched.window(0.4) == []
    total = watched.gateway.measures.total.of(KEY).quantile(0.95)
    assert await watched.window(27.0) == []
    (finding,) = await watched.window(27.0)
    assert watched.gateway.measures.total.of(KEY).quantile(0.95) == total
    assert (finding.code, finding.subject, finding.severity) == (CODE, "chat.completions m", "warning")
    assert "takes 29 s" in finding.what
    assert "used to take 0.4" in finding.what
    assert "GET /api/latency" in finding.todo


async def test_it_stands_until_two_windows_are_back_and_what_is_wrong_never_becomes_usual(watched: Watched) -> None:
    for _ in range(5):
        await watched.window(0.4)
    for _ in range(WINDOWS_RUNNING):
        await watched.window(30.0)
    for _ in range(100):
        assert len(await watched.window(30.0)) == 1
    assert len(await watched.window(0.4)) == 1
    assert len(await watched.window(30.0)) == 1
    assert len(await watched.window(0.4)) == 1
    assert await watched.window(0.4) == []
    await watched.window(30.0)
    assert len(await watched.window(30.0)) == 1


@pytest.mark.parametrize("first_token", [0.0004, 0.02, 0.4, 3.0, 30.0])
async def test_steady_traffic_never_raises_it_nor_does_one_slow_window(watched: Watched, first_token: float) -> None:
    for _ in range(30):
        for _ in range(5):
            assert await watched.window(first_token) == []
        assert await watched.window(100.0, count=FEWEST) == []


@pytest.mark.parametrize("start", [0.05, 0.4, 2.3, 9.0])
async def test_a_slow_drift_never_raises_it(watched: Watched, start: float) -> None:
    first_token = start
    while first_token < 90:
        for _ in range(10):
            assert await watched.window(first_token) == []
        first_token *= 1.1


@pytest.mark.parametrize("start", [0.05, 0.24, 0.49, 0.99, 2.45, 4.9, 9.9, 29.0, 59.0])
async def test_ten_in_a_hundred_more_at_once_never_raises_it(watched: Watched, start: float) -> None:
    for first_token in (start, start * 1.1):
        for _ in range(20):
            assert await watched.window(first_token) == []


async def test_few_samples_never_raise_it(watched: Watched) -> None:
    for _ in range(10):
        await watched.window(0.4)
    for _ in range(50):
        assert await watched.window(30.0, count=FEWEST - 1) == []


async def test_quick_first_tokens_may_become_three_times_slower_by_little(watched: Watched) -> None:
    for first_token in (0.02, 0.2):
        for _ in range(10):
            assert await watched.window(first_token) == []


async def test_a_model_that_is_no_longer_declared_is_forgotten(watched: Watched) -> None:
    for first_token in (0.4, 0.4, 30.0, 30.0):
        await watched.window(first_token)
    assert len(watched.gateway.findings.all()) == 1
    declared = watched.gateway.snapshot
    watched.gateway.swap(Snapshot({}, (), PolicySettings()))
    assert await watched.window(30.0) == []
    watched.gateway.swap(declared)
    for _ in range(5):
        assert await watched.window(30.0) == []


async def test_the_status_has_first_token_and_total_of_the_models_with_the_most_calls(watched: Watched) -> None:
    await watched.window(0.4)
    for model in range(20):
        watched.gateway.measures.total.of(("embeddings", f"other-{model}")).observe(0.3)
        watched.gateway.measures.total.of(("embeddings", f"unused-{model}"))
    rows = short(watched.gateway.measures)
    assert len(rows) == 6
    assert [(row["model"], row["what"], row["count"]) for row in rows[:2]] == [
        ("m", "first token", 50),
        ("m", "total", 50),
    ]
    lines = latency(rows).splitlines()
    assert lines[0].split() == ["operation", "model", "what", "count", "p50", "p95", "p99"]
    assert lines[2].split() == ["chat.completions", "m", "total", "50", "45", "s", "58.5", "s", "59.7", "s"]
