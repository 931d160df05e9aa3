"""How a change is written: with its audit row, in one unit, on the newest state, and again when another node was faster.
Nobody locks everybody out: of the keys that administer the whole instance, one always remains."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.model import NEVER, Asker, Snapshot
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import ConflictError, DeclaredInFileError, StoreUnavailableError
from holdfast.kernel.ids import make_id
from holdfast.kernel.tenant import DEFAULT_TENANT, Role
from holdfast.ports.directory import Audited, DirectoryChange, Key, Put
from holdfast.ports.record import Level, Record

ATTEMPTS = 5


class Ledger:
    """One change at a time in this process; between processes the conditions on the rows decide."""

    def __init__(self, catalogue: Catalogue, record: Record, clock: Clock) -> None:
        self._catalogue = catalogue
        self._record = record
        self._clock = clock
        self._turn = asyncio.Lock()

    async def write(self, plan: Callable[[float], tuple[DirectoryChange, ...]]) -> None:
        """`plan` reads the catalogue, raises what stands against the change, and says the unit to commit (nothing: no
        change). It is asked again on fresh rows when a condition of its unit no longer holds. Once committed, the catalogue
        knows it; if the store goes away right then, it will."""
        async with self._turn:
            for attempt in range(ATTEMPTS):
                await self._catalogue.refresh()
                changes = plan(self._clock.now())
                if not changes:
                    return
                try:
                    await self._record.commit(*changes, level=Level.SYNCED)
                except ConflictError:
                    if attempt + 1 == ATTEMPTS:
                        raise
                    continue
                break
            with suppress(StoreUnavailableError):
                await self._catalogue.refresh()


def audited(
    asker: Asker, at: float, action: str, subject: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Audited:
    """The audit row of a change; `before` and `after` hold no secret and no digest."""
    return Audited(make_id("audit"), at, asker.principal.key_id, action, subject, asker.request_id, before, after)


def check_version(subject: str, version: int, expected: int | None) -> None:
    if expected is not None and version != expected:
        raise ConflictError(
            f"{subject} is at version {version} by now, not {expected}. Read it again, then repeat the change."
        )


def check_undeclared(subject: str, origin: str | None) -> None:
    if origin is not None:
        raise DeclaredInFileError(f"{subject} is declared at {origin}; change it there.")


def administers(key: Key, at: float) -> bool:
    """May administer the whole instance at that moment."""
    return (
        key.role is Role.ADMIN
        and key.organisation == DEFAULT_TENANT.organisation
        and key.revoked_at is None
        and (key.expires_at is None or key.expires_at > at)
    )


def guard_last_administrator(snapshot: Snapshot, before: Key, after: Key, at: float) -> tuple[Put, ...]:
    """What has to be committed with a change of a key so that an administrator remains: another administrator's row, as it
    was read. Two nodes that each take away the other's survivor then meet on a row, and one of them is refused.
    ConflictError where nobody would remain."""
    if not administers(before, at) or administers(after, at):
        return ()
    entries = [snapshot.keys[key_id] for key_id in snapshot.administrators if key_id != before.id]
    others = [entry for entry in entries if administers(entry.key, at)]
    if not others:
        raise ConflictError(
            f"{before.name} is the last administrator key of this instance. Make another one first (role `admin`, "
            f"organisation `{DEFAULT_TENANT.organisation}`)."
        )
    survivor = min(others, key=lambda entry: (entry.origin is None, -(entry.key.expires_at or NEVER), entry.key.id))
    if survivor.origin is not None:
        return ()
    return (Put(survivor.key, expect_version=survivor.key.version),)
