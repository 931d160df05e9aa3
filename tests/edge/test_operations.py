"""Readiness and the findings that a process's own state makes; time is passed in, faults are put before the ports."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from holdfast.edge.server import operations as module
from holdfast.edge.server.health import LagWindow, reasons
from holdfast.edge.server.operations import Operations, low_disk
from holdfast.features.gateway.model import Gateway, Lane, Model, Snapshot
from holdfast.features.gateway.settings import PolicySettings
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.findings import Findings
from holdfast.kernel.measure import Histogram
from holdfast.testing.faults import Faults
from holdfast.testing.memory import MemoryStore

FINE: dict[str, Any] = {
    "started": True, "draining": False, "store": None, "rates": None, "lagging": False, "running_calls": 0,
    "max_inflight": 10,
}  # fmt: skip


class Server:
    def __init__(self) -> None:
        self.draining = False
        self.lag = Histogram()
        self.open_connections = 3


class Bench(NamedTuple):
    operations: Operations
    gateway: Gateway
    store: MemoryStore
    faults: Faults
    server: Server
    stale: list[str | None]

    def codes(self) -> set[str]:
        return {finding.code for finding in self.gateway.findings.all()}

    def unready(self) -> list[str]:
        return [reason.code for reason in self.operations.reasons()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    clock = VirtualClock()
    store = MemoryStore(clock)
    faults = Faults(clock)
    gateway = Gateway(
        Snapshot({}, (), PolicySettings()), cast(Any, None), faults.wrap("record", store.record), store.calls,
        store.money, faults.wrap("rates", store.rates), clock, Findings(clock), "node", max_inflight=2,
    )  # fmt: skip
    stale: list[str | None] = [None]
    operations = Operations(
        gateway, version="0", data=tmp_path, stale_prices=lambda _: stale[0], dropped_lines=lambda: 0
    )
    server = Server()
    operations.started(server)
    return Bench(operations, gateway, store, faults, server, stale)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"started": False}, "starting"),
        ({"draining": True}, "draining"),
        ({"store": "it is away"}, "store_unavailable"),
        ({"rates": "it is away"}, "rates_unavailable"),
        ({"lagging": True}, "loop_lag"),
        ({"running_calls": 10}, "calls_in_flight"),
    ],
)
def test_each_reason_alone_sends_traffic_elsewhere(change: dict[str, Any], code: str) -> None:
    assert reasons(**FINE) == []
    assert [reason.code for reason in reasons(**{**FINE, **change})] == [code]


def test_it_is_not_ready_before_it_started_and_started_stays_true_while_it_drains(bench: Bench) -> None:
    fresh = Operations(bench.gateway, version="0", data=None, stale_prices=lambda _: None, dropped_lines=lambda: 0)
    assert not fresh.has_started
    assert [reason.code for reason in fresh.reasons()] == ["starting"]
    bench.server.draining = True
    assert bench.operations.has_started
    assert bench.unready() == ["draining"]


@pytest.mark.parametrize(("port", "code"), [("record", "store_unavailable"), ("rates", "rates_unavailable")])
async def test_a_store_that_goes_and_comes_back(bench: Bench, port: str, code: str) -> None:
    await bench.operations.look()
    assert bench.unready() == []
    bench.faults.at(f"before:{port}.ping", error=StoreUnavailableError("The disk is full."), times=2)
    for _ in range(2):
        await bench.operations.look()
        assert bench.unready() == [code]
        assert bench.codes() == {code}
    finding = bench.gateway.findings.all()[0]
    assert (finding.what, finding.severity, finding.count) == ("The disk is full.", "error", 2)
    await bench.operations.look()
    assert bench.unready() == []
    assert bench.codes() == set()


async def test_a_store_that_does_not_answer_at_all_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    bench.faults.at("before:record.ping", delay_seconds=3600)
    await bench.operations.look()
    assert bench.unready() == ["store_unavailable"]


async def test_records_that_wait_or_were_lost_are_findings(bench: Bench) -> None:
    bench.store.record.backlog_seconds = 2.0
    bench.store.record.rejected = 3
    await bench.operations.look()
    assert bench.codes() == {"record_backlog", "record_rejected"}
    bench.store.record.backlog_seconds = 0.0
    await bench.operations.look()
    assert bench.codes() == {"record_rejected"}
    assert bench.unready() == []


async def test_as_many_calls_as_may_be_is_full(bench: Bench) -> None:
    bench.gateway.running.update({"a": cast(Any, None), "b": cast(Any, None)})
    assert bench.unready() == ["calls_in_flight"]


def test_one_pause_of_the_machine_is_no_lag_but_a_late_loop_is() -> None:
    lag, window = Histogram(), LagWindow()
    window.look(lag)
    for second in range(12):
        for _ in range(20):
            lag.observe(0.001)
        if second == 3:
            lag.observe(1.5)
        window.look(lag)
        assert not window.lagging
    for _ in range(2):
        lag.observe(0.6)
        lag.observe(0.6)
        window.look(lag)
    assert window.lagging


def test_a_loop_that_is_still_somewhat_late_goes_on_lagging_and_a_calm_one_is_taken_back() -> None:
    lag, window = Histogram(), LagWindow()
    window.look(lag)
    for _ in range(5):
        lag.observe(1.0)
    window.look(lag)
    assert window.lagging
    for _ in range(12):
        for _ in range(5):
            lag.observe(0.2)
        window.look(lag)
    assert window.lagging
    for _ in range(12):
        for _ in range(20):
            lag.observe(0.001)
        window.look(lag)
    assert not window.lagging


async def test_a_late_loop_is_a_finding_and_lowers_readiness(bench: Bench) -> None:
    await bench.operations.look()
    for _ in range(5):
        bench.server.lag.observe(1.0)
    await bench.operations.look()
    assert bench.unready() == ["loop_lag"]
    assert bench.codes() == {"loop_lag"}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("total_gib", "free_gib", "low"),
    [(10, 0.5, True), (10, 1.5, False), (100, 4, True), (100, 6, False), (4000, 9, True), (4000, 11, False)],
)
async def test_a_disk_that_fills_is_said_in_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, total_gib: float, free_gib: float, low: bool
) -> None:
    usage = Usage(int(total_gib * module.GIB), 0, int(free_gib * module.GIB))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    await bench.operations.look_slowly()
    assert ("disk_low" in bench.codes()) is low
    usage = Usage(usage.total, 0, usage.total)
    await bench.operations.look_slowly()
    assert "disk_low" not in bench.codes()
    assert bench.unready() == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert low_disk(tmp_path / "nothing") is not None


class ListPrice(NamedTuple):
    version: str
    max_output_tokens: int | None = None


async def test_old_list_prices_are_said_where_they_are_used_and_made_up_answers_always(bench: Bench) -> None:
    bench.stale[0] = "the list prices are old"
    await bench.operations.look_slowly()
    assert bench.codes() <= {"disk_low"}
    lane = Lane("s/m", cast(Any, None), "m", cast(Any, ListPrice("shipped:2026-01-01:abc")), scripted=True)
    bench.gateway.swap(Snapshot({"m": Model("m", (lane,))}, (), PolicySettings()))
    await bench.operations.look_slowly()
    assert {"prices_stale", "scripted_serving"} <= bench.codes()
    assert {f.severity for f in bench.gateway.findings.all() if f.code != "disk_low"} == {"info"}
    bench.gateway.swap(Snapshot({}, (), PolicySettings()))
    await bench.operations.look_slowly()
    assert bench.codes() <= {"disk_low"}


async def test_it_looks_every_second_until_cancelled(bench: Bench) -> None:
    clock = cast(VirtualClock, bench.gateway.clock)
    task = asyncio.create_task(bench.operations.follow())
    for seen in range(1, 4):
        await came(lambda seen=seen: bench.faults.passed["after:record.ping"] == seen)
        await asyncio.sleep(0.05)
        assert bench.faults.passed["before:record.ping"] == seen
        await clock.advance(1.0)
    task.cancel()


async def came(holds: Callable[..., bool]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")
