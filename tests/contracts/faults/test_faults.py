"""The fault wrapper: faults strike where they are said to, as often as they are said to, and the same way each time."""

import asyncio

import pytest

from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.testing.faults import Crash, Faults


class Engine:
    """A port with every kind of verb."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.backlog_bytes = 7

    @property
    def incarnation(self) -> str:
        return "inc_1"

    def hand(self, what: str) -> None:
        self.done.append(what)

    async def commit(self, what: str, *, level: int = 1) -> str:
        self.done.append(f"{what}@{level}")
        return what


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def faults(clock: VirtualClock) -> Faults:
    return Faults(clock, seed=7)


async def test_without_faults_nothing_is_different(faults: Faults) -> None:
    engine = Engine()
    port = faults.wrap("record", engine)
    port.hand("a")
    assert await port.commit("b", level=2) == "b"
    assert (engine.done, port.incarnation, port.backlog_bytes) == (["a", "b@2"], "inc_1", 7)
    assert faults.passed["before:record.hand"] == faults.passed["after:record.commit"] == 1
    assert faults.struck.total() == 0


async def test_before_is_before_and_after_is_after(faults: Faults) -> None:
    engine = Engine()
    port = faults.wrap("record", engine)
    faults.at("before:record.commit", error=StoreUnavailableError("full"))
    with pytest.raises(StoreUnavailableError):
        await port.commit("a")
    assert engine.done == []
    faults.at("after:record.commit", error=StoreUnavailableError("gone"))
    with pytest.raises(StoreUnavailableError):
        await port.commit("b")
    assert engine.done == ["b@1"]
    assert await port.commit("c") == "c"


async def test_a_fault_strikes_so_many_times_after_so_many_passages(faults: Faults) -> None:
    port = faults.wrap("record", Engine())
    faults.at("before:record.hand", error=Crash(), skip=2, times=2)
    outcomes = []
    for _ in range(6):
        try:
            port.hand("x")
            outcomes.append("passed")
        except Crash:
            outcomes.append("struck")
    assert outcomes == ["passed", "passed", "struck", "struck", "passed", "passed"]
    assert faults.struck["before:record.hand"] == 2


async def test_a_delay_waits_by_the_clock_it_was_given(faults: Faults, clock: VirtualClock) -> None:
    engine = Engine()
    port = faults.wrap("record", engine)
    faults.at("before:record.commit", delay_seconds=30)
    faults.at("after:record.commit", delay_seconds=5)
    task = asyncio.ensure_future(port.commit("a"))
    await asyncio.sleep(0)
    await clock.advance(29)
    assert engine.done == []
    await clock.advance(2)
    assert engine.done == ["a@1"]
    assert not task.done()
    await clock.advance(5)
    assert await task == "a"


async def test_a_plain_verb_cannot_be_asked_to_wait(faults: Faults) -> None:
    port = faults.wrap("record", Engine())
    faults.at("before:record.hand", delay_seconds=1)
    with pytest.raises(ValueError, match="plain call"):
        port.hand("a")


async def test_a_star_is_every_verb_of_the_port_and_of_no_other(faults: Faults) -> None:
    record, money = faults.wrap("record", Engine()), faults.wrap("money", Engine())
    faults.at("before:record.*", error=StoreUnavailableError("away"), times=None)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            record.hand("a")
        with pytest.raises(StoreUnavailableError):
            await record.commit("a")
        money.hand("a")
    faults.clear()
    record.hand("a")


async def test_a_call_is_made_at_its_point(faults: Faults) -> None:
    engine = Engine()
    port = faults.wrap("record", engine)
    seen: list[list[str]] = []
    faults.at("after:record.hand", call=lambda: seen.append(list(engine.done)))
    port.hand("a")
    assert seen == [["a"]]


def struck_by(seed: int) -> list[bool]:
    faults = Faults(VirtualClock(), seed=seed)
    port = faults.wrap("record", Engine())
    faults.at("before:record.hand", error=Crash(), chance=0.3, times=None)
    outcomes = []
    for _ in range(200):
        try:
            port.hand("x")
            outcomes.append(False)
        except Crash:
            outcomes.append(True)
    return outcomes


async def test_the_same_seed_gives_the_same_faults() -> None:
    assert struck_by(1) == struck_by(1) != struck_by(2)
    assert 30 < sum(struck_by(1)) < 90


@pytest.mark.parametrize("point", ["record.commit", "before:record", "during:record.commit", "before:.commit", ""])
def test_a_point_that_cannot_be_is_refused(faults: Faults, point: str) -> None:
    with pytest.raises(ValueError, match="no point"):
        faults.at(point)


def test_a_crash_is_no_error_anything_handles() -> None:
    assert not issubclass(Crash, Exception)
