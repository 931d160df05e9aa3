"""The data folder: one process at a time, and only its owner's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.engines.embedded import Embedded, lock_data, open_embedded
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.errors import StoreUnavailableError
from tests.contracts.samples import call_opened


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: mode_of(path) for path in folder.iterdir()}


async def test_nobody_else_may_read_what_is_in_it(engine: Embedded, data: Path) -> None:
    await engine.record.commit(call_opened())
    assert mode_of(data) == 0o700
    files = modes_in(data)
    assert set(files) == {"holdfast.lock", "holdfast.sqlite", "holdfast.sqlite-wal", "holdfast.sqlite-shm"}
    assert set(files.values()) == {0o600}


async def test_a_second_opener_is_told_who_has_it(engine: Embedded, data: Path, clock: VirtualClock) -> None:
    with pytest.raises(StoreUnavailableError, match=f"in use by process {os.getpid()}"):
        await open_embedded(data, clock=clock)
    await engine.record.commit(call_opened())


def test_the_lock_goes_with_the_process_that_held_it(data: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from holdfast.engines.embedded import lock_data;"
        "lock_data(Path(sys.argv[1])); print('locked', flush=True); os.kill(os.getpid(), 9)"
    )
    holder = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, text=True, check=False)
    assert holder.stdout == "locked\n", holder.stderr
    lock_data(data).release()


async def test_a_failed_opening_lets_the_folder_go(data: Path, clock: VirtualClock) -> None:
    (data / "holdfast.sqlite").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="cannot be opened"):
            await open_embedded(data, clock=clock)


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot be used"):
        await open_embedded(tmp_path / "file" / "data", clock=clock)
