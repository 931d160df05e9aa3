"""The disk refuses: those who wait are told, what was handed stays in line, reads go on, and nothing is lost when it comes back."""

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.ports.directory import Organisation, Put
from tests.contracts.samples import ALWAYS, balance, call_closed, call_opened, settled


async def test_nothing_handed_is_lost_and_nothing_refused_is_kept(
    engine: Embedded, full_disk: contextlib.AbstractContextManager[None]
) -> None:
    budget = balance("org:acme")
    known, refused = call_opened(), call_opened()
    for opened in (known, refused):
        await engine.money.reserve(opened.id, 500, [budget])
    await engine.record.commit(known)
    with full_disk:
        for step in range(50):
            engine.record.hand(Put(Organisation("acme", {"step": step})))
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            await engine.record.commit(
                refused, call_closed(refused.id, cost_nanodollars=300), settled(refused.id, 500, 300, budget)
            )
        engine.record.hand(call_closed(known.id, cost_nanodollars=200), settled(known.id, 500, 200, budget))
        with pytest.raises(StoreUnavailableError):
            await engine.record.flush()
        assert engine.record.backlog_bytes > 50
        assert engine.record.rejected == 0
        row = await engine.calls.get(known.id)
        assert row is not None
        assert row.closed is None
        (held,) = await engine.money.held([budget])
        assert (held.spent_nanodollars, held.reserved_nanodollars) == (200, 500)
    await engine.record.flush()
    assert engine.record.backlog_bytes == 0
    assert [row.opened.id for row in await engine.calls.page(ALWAYS)] == [known.id]
    (acme,) = (await engine.directory.changes_since(0)).organisations
    assert (acme.limits, acme.version) == ({"step": 49}, 50)
    engine.record.hand(refused, call_closed(refused.id, cost_nanodollars=300), settled(refused.id, 500, 300, budget))
    assert await engine.money.recompute(repair=False) == []
    (held,) = await engine.money.held([budget])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (500, 0)


async def test_ping_proves_a_write_and_asks_the_disk_at_most_once_a_second(
    engine: Embedded, clock: VirtualClock, full_disk: contextlib.AbstractContextManager[None]
) -> None:
    await engine.record.ping()
    with full_disk:
        await engine.record.ping()
        await clock.advance(1.0)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await engine.record.ping()
    with pytest.raises(StoreUnavailableError):
        await engine.record.ping()
    await clock.advance(1.0)
    await engine.record.ping()


async def test_a_lock_another_program_holds_is_waited_for(engine: Embedded, data: Path) -> None:
    await engine.record.flush()
    with contextlib.closing(apsw.Connection(str(data / "holdfast.sqlite"))) as other:
        other.execute("BEGIN IMMEDIATE")
        opened = call_opened()
        engine.record.hand(opened)
        with pytest.raises(StoreUnavailableError, match="another program"):
            await engine.record.flush()
        assert await engine.calls.get(opened.id) is None
        other.execute("ROLLBACK")
    await engine.record.flush()
    assert await engine.calls.get(opened.id) is not None


async def test_a_first_use_of_a_balance_fails_and_works_later(
    engine: Embedded, full_disk: contextlib.AbstractContextManager[None]
) -> None:
    budget = balance("org:acme")
    with full_disk:
        answers = await asyncio.gather(
            *(engine.money.reserve(f"call_{index}", 1, [budget]) for index in range(3)), return_exceptions=True
        )
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
    await engine.record.flush()
    (held,) = await engine.money.held([budget])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (0, 0)


async def test_closing_says_what_could_not_be_kept(
    data: Path, clock: VirtualClock, full_disk: contextlib.AbstractContextManager[None]
) -> None:
    engine = await open_embedded(data, clock=clock)
    with full_disk:
        engine.record.hand(call_opened())
        with pytest.raises(StoreUnavailableError, match="1 records could not be kept"):
            await engine.close()
    again = await open_embedded(data, clock=clock)
    assert await again.calls.page(ALWAYS) == []
    await again.close()


async def test_who_commits_after_closing_is_told(data: Path, clock: VirtualClock) -> None:
    engine = await open_embedded(data, clock=clock)
    await engine.close()
    with pytest.raises(StoreUnavailableError, match="stopped"):
        await engine.record.commit(call_opened())


async def test_what_is_no_change_is_set_aside(engine: Embedded) -> None:
    opened = call_opened()
    engine.record.hand(opened)
    engine.record.hand("no change at all")  # type: ignore[arg-type]
    engine.record.hand(Put("no row at all"))  # type: ignore[arg-type]
    engine.record.hand(call_opened(model=["no text"]))
    engine.record.hand(call_opened(model="half a character: \ud83d"))
    await engine.record.flush()
    assert engine.record.rejected == 4
    assert [row.opened.id for row in await engine.calls.page(ALWAYS)] == [opened.id]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_nobody_waits_for_a_writer_that_died(
    data: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyError("a defect nobody thought of")

    monkeypatch.setattr("holdfast.engines.embedded.changes.Changes.apply", die)
    engine = await open_embedded(data, clock=clock)
    engine.record.hand(call_opened())
    outcomes = await asyncio.gather(*(engine.record.commit(call_opened()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
    with pytest.raises(StoreUnavailableError, match="stopped"):
        await engine.record.ping()
    assert engine.record.backlog_bytes > 0
    with pytest.raises(StoreUnavailableError, match="1 records could not be kept"):
        await engine.close()
