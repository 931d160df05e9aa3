"""The part of the assembly that opens engines: SQLite in the data folder, or PostgreSQL; this process's memory, or Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from holdfast.engines.embedded import open_embedded
from holdfast.engines.embedded.backup import backup
from holdfast.engines.embedded.rates import EmbeddedRates
from holdfast.engines.postgres import open_postgres, probe_postgres, take_place
from holdfast.engines.redis import open_redis
from holdfast.engines.settings import StoreSettings
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import OwnError, StoreUnavailableError
from holdfast.kernel.findings import Findings
from holdfast.ports.calls import Calls
from holdfast.ports.directory import Directory
from holdfast.ports.money import Money
from holdfast.ports.rates import Rates
from holdfast.ports.record import Record

FLEET_LOOK_SECONDS = 2.0
Look = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Engines:
    """Where state lives, by port. `backup` copies the record into a folder while it is in use; None where the store has
    tools of its own. `data` is the folder files are kept in, if any are."""

    record: Record
    calls: Calls
    money: Money
    directory: Directory
    rates: Rates
    incarnation: str
    data: Path | None = None
    backup: Callable[[Path], Awaitable[None]] | None = None


async def join_fleet(store: StoreSettings, node: str, stack: AsyncExitStack) -> Look | None:
    """Over PostgreSQL: takes this node's place until the stack closes, and says how to look whether it still has it.
    SettingsError where another node runs and not all of them count limits in Redis."""
    if store.postgres is None:
        return None
    place = await take_place(store.postgres.reveal(), node=node, alone=store.redis is None)
    stack.push_async_callback(place.close)
    return place.look


async def keep_place(look: Look, findings: Findings, clock: Clock) -> None:
    """Until cancelled: a place whose connection was lost is taken again, and one that another node took is a finding."""
    while True:
        await clock.sleep(FLEET_LOOK_SECONDS)
        try:
            taken = await look()
        except StoreUnavailableError:
            continue
        if taken is None:
            findings.clear("limits_per_node", "rates")
            continue
        findings.open(
            "limits_per_node", "rates", what=f"Limits may be counted twice: {taken}.", severity="error",
            todo="Give every node over this database the same store.redis, or stop all of them but one.",
        )  # fmt: skip


async def probe_stores(store: StoreSettings, clock: Clock, node: str) -> list[tuple[str, str | None]]:
    """Setting and what failed, for each server the settings name; nothing is changed there."""
    found = []
    if store.postgres is not None:
        found.append(("store.postgres", await _failure(probe_postgres(store.postgres.reveal(), node=node))))
    if store.redis is not None:
        found.append(("store.redis", await _failure(_probe_redis(store.redis.reveal(), clock, node))))
    return found


async def _probe_redis(url: str, clock: Clock, node: str) -> None:
    redis = await open_redis(url, clock=clock, node=node)
    await redis.close()


async def _failure(probing: Awaitable[None]) -> str | None:
    try:
        await probing
    except OwnError as error:
        return error.message
    return None


async def open_engines(store: StoreSettings, clock: Clock, node: str, stack: AsyncExitStack) -> Engines:
    """Opened engines; the stack closes them."""
    rates: Rates | None = None
    if store.redis is not None:
        redis = await open_redis(store.redis.reveal(), clock=clock, node=node)
        stack.push_async_callback(redis.close)
        rates = redis.rates
    if store.postgres is not None:
        postgres = await open_postgres(
            store.postgres.reveal(),
            clock=clock,
            node=node,
            connections=store.postgres_connections,
            commit_interval_seconds=store.commit_interval_seconds,
        )
        stack.push_async_callback(postgres.close)
        return Engines(
            postgres.record,
            postgres.calls,
            postgres.money,
            postgres.directory,
            rates or EmbeddedRates(clock),
            postgres.incarnation,
        )
    data = Path(store.data)
    embedded = await open_embedded(data, clock=clock, commit_interval_seconds=store.commit_interval_seconds)
    stack.push_async_callback(embedded.close)
    return Engines(
        embedded.record,
        embedded.calls,
        embedded.money,
        embedded.directory,
        rates or embedded.rates,
        embedded.incarnation,
        data,
        partial(_copied, data),
    )


async def _copied(data: Path, target: Path) -> None:
    await asyncio.to_thread(backup, data, target)
