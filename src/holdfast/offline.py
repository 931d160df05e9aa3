"""The part of the assembly that works without a server: reach every store and lane, recompute budgets, copy and bring back the record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast.engines.embedded import backup as embedded
from holdfast.engines.embedded.folder import lock_data
from holdfast.engines.settings import StoreSettings
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError, UpstreamError
from holdfast.kernel.ids import make_id
from holdfast.kernel.measure import Counters
from holdfast.lanes import Upstreams, with_demo
from holdfast.ports.upstream import Upstream
from holdfast.settings import Loaded
from holdfast.stores import open_engines, probe_stores


async def probe_lanes(loaded: Loaded, environ: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    """Model, lane, and the sentence that names the hop that failed; each upstream is reached once."""
    upstreams = Upstreams(SystemClock(), environ)
    try:
        made = upstreams.made_of(with_demo(loaded).settings, Counters(("lane", "status", "code")))
        await upstreams.use(made)
        lanes = [(model.name, lane) for model in made.snapshot.models.values() for lane in model.lanes]
        asked = {lane.upstream.name: lane.upstream for _, lane in lanes}
        said = dict(zip(asked, await asyncio.gather(*[_probed(each) for each in asked.values()]), strict=True))
    finally:
        await upstreams.close()
    return [(model, lane.name, said[lane.upstream.name]) for model, lane in lanes]


async def reach_stores(store: StoreSettings) -> list[tuple[str, str | None]]:
    """Setting and the sentence that names the hop that failed, for each server that holds state."""
    return await probe_stores(store, SystemClock(), make_id("node"))


async def _probed(upstream: Upstream) -> str | None:
    try:
        await upstream.probe()
    except UpstreamError as error:
        return error.message
    return None


async def recompute(store: StoreSettings, *, repair: bool) -> list[dict[str, Any]]:
    """Every budget compared with its calls, by a process of our own: nobody else may have the data folder."""
    async with AsyncExitStack() as stack:
        engines = await open_engines(store, SystemClock(), make_id("node"), stack)
        return [asdict(difference) for difference in await engines.money.recompute(repair=repair)]


def back_up(store: StoreSettings, target: Path) -> None:
    """Copy the record of a data folder that nobody uses."""
    lock = lock_data(Path(store.data))
    try:
        embedded.backup(Path(store.data), target)
    finally:
        lock.release()


def restore(store: StoreSettings, source: Path) -> str:
    """Make a backup the record; the incarnation that begins."""
    return embedded.restore(source, Path(store.data))


def need_files(store: StoreSettings) -> None:
    """Backup and restore are for the embedded engine's files."""
    if store.postgres is not None:
        raise SettingsError(
            "The record is in PostgreSQL: back it up and restore it with its own tools (pg_dump and pg_restore, or snapshots). "
            "After a restore, docs/backup.md says how to begin a new incarnation before the first start."
        )
