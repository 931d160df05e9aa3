"""Power loss: a file system that forgets what was not synced. Committed as `synced` is there; and the test can tell."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from holdfast.engines.embedded import open_embedded
from holdfast.kernel.clock import VirtualClock
from holdfast.ports.record import Level
from tests.contracts.samples import ALWAYS, call_closed, call_opened

NAME = "forgetful"


class ForgetfulFile(apsw.VFSFile):
    """Writes through, and at each sync keeps a copy: what a power loss would leave."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], usual: str, disk: Path) -> None:
        super().__init__(usual, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = None if path is None else Path(path)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802 (SQLite's name)
        super().xSync(flags)
        if self._path is not None:
            shutil.copyfile(self._path, self._disk / self._path.name)


class ForgetfulDisk(apsw.VFS):
    def __init__(self, usual: str, disk: Path) -> None:
        super().__init__(NAME, usual, makedefault=True)
        self._usual = usual
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> ForgetfulFile:  # noqa: N802
        return ForgetfulFile(name, flags, self._usual, self._disk)

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802
        super().xDelete(name, sync_folder)
        (self._disk / Path(name).name).unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """What is on the disk, as opposed to in the operating system's memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    usual = apsw.vfs_names()[0]
    forgetful = ForgetfulDisk(usual, folder)
    yield folder
    forgetful.unregister()
    assert apsw.vfs_names()[0] == usual


async def test_a_power_loss_keeps_every_synced_unit_and_what_came_before_it(tmp_path: Path, disk: Path) -> None:
    clock = VirtualClock()
    engine = await open_embedded(tmp_path / "data", clock=clock, commit_interval_seconds=0.001)
    kept: list[str] = []
    forgotten: list[str] = []
    for turn in range(30):
        opened = call_opened()
        if turn % 3 == 2:
            await engine.record.commit(opened, level=Level.SYNCED)
            kept += [*forgotten, opened.id]
            forgotten = []
        elif turn % 3 == 1:
            await engine.record.commit(opened)
            forgotten.append(opened.id)
        else:
            engine.record.hand(opened)
            forgotten.append(opened.id)
    again = call_opened()
    await engine.record.commit(again)
    await engine.record.commit(again, level=Level.SYNCED)  # changes nothing, and is a promise all the same
    kept += [*forgotten, again.id]
    lost = call_opened()
    await engine.record.commit(lost)
    await engine.record.commit(call_closed(again.id))
    shutil.copytree(disk, tmp_path / "after")
    await engine.close()

    survivor = await open_embedded(tmp_path / "after", clock=clock)
    found = {row.opened.id for row in await survivor.calls.page(ALWAYS, limit=1000)}
    row = await survivor.calls.get(again.id)
    await survivor.close()
    assert set(kept) <= found
    assert lost.id not in found, "this disk forgets nothing: the test proves nothing"
    assert row is not None
    assert row.closed is None
