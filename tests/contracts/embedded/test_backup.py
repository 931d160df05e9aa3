"""A backup is one moment of a running store; a restore is whole, begins a new history and keeps what it replaced."""

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.engines.embedded.backup import backup, restore
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import ConflictError, SchemaMismatchError, StoreUnavailableError
from tests.contracts.samples import ALWAYS, balance, call_closed, call_opened, settled


async def test_a_backup_of_a_busy_store_is_one_moment_of_it(
    engine: Embedded, data: Path, tmp_path: Path, clock: VirtualClock
) -> None:
    budget = balance("org:acme", 10**9)
    writing = True

    async def write() -> None:
        while writing:
            opened = call_opened()
            await engine.money.reserve(opened.id, 500, [budget])
            engine.record.hand(opened)
            engine.record.hand(call_closed(opened.id, cost_nanodollars=300), settled(opened.id, 500, 300, budget))
            await asyncio.sleep(0)

    writer = asyncio.create_task(write())
    await asyncio.sleep(0.02)
    await engine.record.flush()
    await asyncio.to_thread(backup, data, tmp_path / "copy")
    writing = False
    await writer
    await engine.record.commit(call_opened(id="call_after"))

    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "copy").iterdir()} == {0o600}
    incarnation = restore(tmp_path / "copy", tmp_path / "elsewhere")
    other = await open_embedded(tmp_path / "elsewhere", clock=clock)
    assert incarnation == other.incarnation != engine.incarnation
    assert await other.calls.get("call_after") is None
    assert len(await other.calls.page(ALWAYS, limit=1)) == 1
    assert await other.money.recompute(repair=False) == []
    await other.close()


async def test_a_restore_replaces_and_keeps_what_it_replaced(tmp_path: Path, clock: VirtualClock) -> None:
    data = tmp_path / "data"
    engine = await open_embedded(data, clock=clock)
    await engine.record.commit(call_opened(id="call_before"))
    backup(data, tmp_path / "copy")
    await engine.record.commit(call_opened(id="call_after"))
    with pytest.raises(StoreUnavailableError, match="in use"):
        restore(tmp_path / "copy", data)
    await engine.close()
    restore(tmp_path / "copy", data)
    engine = await open_embedded(data, clock=clock)
    assert [row.opened.id for row in await engine.calls.page(ALWAYS)] == ["call_before"]
    await engine.close()
    with contextlib.closing(apsw.Connection(str(data / "holdfast.sqlite.replaced"))) as replaced:
        ids = replaced.execute("SELECT id FROM calls ORDER BY id").fetchall()
    assert ids == [("call_after",), ("call_before",)]


async def test_a_record_that_is_damaged_can_be_replaced(engine: Embedded, data: Path, tmp_path: Path) -> None:
    await engine.record.commit(call_opened())
    backup(data, tmp_path / "copy")
    ruined = tmp_path / "ruined"
    ruined.mkdir()
    (ruined / "holdfast.sqlite").write_bytes(b"no database at all" * 1000)
    restore(tmp_path / "copy", ruined)
    assert (ruined / "holdfast.sqlite.replaced").read_bytes().startswith(b"no database")


async def test_what_is_no_whole_backup_is_refused_and_changes_nothing(
    engine: Embedded, data: Path, tmp_path: Path, clock: VirtualClock
) -> None:
    for _ in range(300):
        engine.record.hand(call_opened())
    await engine.record.flush()
    backup(data, tmp_path / "copy")
    target = tmp_path / "target"
    kept = await open_embedded(target, clock=clock)
    await kept.record.commit(call_opened(id="call_kept"))
    await kept.close()
    whole = (tmp_path / "copy" / "holdfast.sqlite").read_bytes()
    damages = {
        "cut": whole[: len(whole) // 2],
        "scratched": whole[:20_000] + b"\xff" * 8192 + whole[28_192:],
        "empty": b"",
        "text": b"not a database" * 500,
    }
    for name, content in damages.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "holdfast.sqlite").write_bytes(content)
        with pytest.raises((ConflictError, StoreUnavailableError)):
            restore(folder, target)
    with pytest.raises(ConflictError, match="no backup"):
        restore(tmp_path / "nowhere", target)
    kept = await open_embedded(target, clock=clock)
    assert [row.opened.id for row in await kept.calls.page(ALWAYS)] == ["call_kept"]
    await kept.close()
    assert not list(target.glob("*.part"))


async def test_a_backup_of_a_much_newer_release_is_refused(
    engine: Embedded, data: Path, tmp_path: Path, clock: VirtualClock
) -> None:
    backup(data, tmp_path / "copy")
    with contextlib.closing(apsw.Connection(str(tmp_path / "copy" / "holdfast.sqlite"))) as copy:
        copy.execute("INSERT INTO migrations VALUES (90, 'far_ahead', 0.0)")
    with pytest.raises(SchemaMismatchError):
        restore(tmp_path / "copy", tmp_path / "target")


async def test_a_backup_is_never_written_over_and_never_half_there(
    engine: Embedded, data: Path, tmp_path: Path, full_disk: contextlib.AbstractContextManager[None]
) -> None:
    backup(data, tmp_path / "copy")
    with pytest.raises(ConflictError, match="already"):
        backup(data, tmp_path / "copy")
    with pytest.raises(StoreUnavailableError, match="no record"):
        backup(tmp_path / "nowhere", tmp_path / "other")
    with full_disk, pytest.raises(StoreUnavailableError):
        backup(data, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
