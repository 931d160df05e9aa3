"""API keys: made, read, changed, rotated, revoked. A key's id never changes; its secret is said once."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.declared import hint_of
from holdfast.features.tenancy.ledger import Ledger, audited, check_undeclared, check_version, guard_last_administrator
from holdfast.features.tenancy.limits import limits_from_row, row_from_limits, usable_row
from holdfast.features.tenancy.model import NO_LIMITS, Asker, KeyEntry, TeamEntry, key_entry, key_scope
from holdfast.features.tenancy.names import check_name, moment_from_epoch
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.features.tenancy.sight import narrowed, need
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import (
    ConflictError,
    DeclaredInFileError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from holdfast.kernel.ids import make_id, make_secret
from holdfast.kernel.secret import fingerprint
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from holdfast.ports.directory import DirectoryChange, Key, Put, Team

SCANNED = 10_000  # keys looked at for one page, so that a page never holds the loop
LONGEST_OVERLAP_SECONDS = 30 * 86_400.0


class Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key is made of."""

    name: str
    tenant: Tenant = DEFAULT_TENANT
    role: Role = Role.NONE
    may_call: bool = True
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limits: LimitSettings = NO_LIMITS
    expires_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEdit:
    """What is to be different about a key; a field left UNCHANGED stays."""

    name: str | Unchanged = UNCHANGED
    role: Role | Unchanged = UNCHANGED
    may_call: bool | Unchanged = UNCHANGED
    models: tuple[str, ...] | Unchanged = UNCHANGED
    tags: tuple[str, ...] | Unchanged = UNCHANGED
    limits: LimitSettings | Unchanged = UNCHANGED
    expires_at: float | Unchanged | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class Shown:
    """A key and its secret, this once."""

    entry: KeyEntry
    secret: str


@dataclass(frozen=True, slots=True)
class KeyPage:
    """`after` is where the next page begins, None at the end; a page may be short and yet not the last."""

    keys: tuple[KeyEntry, ...]
    after: str | None


class Keys:
    """Every verb raises PermissionDeniedError where the role does not reach, NotFoundError for what the asker cannot see."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger, clock: Clock, rotation_overlap_seconds: float) -> None:
        self._catalogue = catalogue
        self._ledger = ledger
        self._clock = clock
        self._overlap_seconds = rotation_overlap_seconds

    def get(self, asker: Asker, id: str, *, revoked: bool = False) -> KeyEntry:
        """`revoked`: also a key that is revoked."""
        sight = need(asker, Role.VIEWER)
        entry = self._catalogue.snapshot.keys.get(id)
        if entry is None or not sight.sees(entry.principal.tenant) or (entry.revoked and not revoked):
            raise NotFoundError("There is no such key.", param="id")
        return entry

    def page(
        self,
        asker: Asker,
        *,
        organisation: str | None = None,
        team: str | None = None,
        name: str | None = None,
        revoked: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> KeyPage:
        """Keys in the order of their ids."""
        sight = need(asker, Role.VIEWER)
        organisation, team = narrowed(sight, organisation, team)
        snapshot = self._catalogue.snapshot
        start = 0 if after is None else bisect_right(snapshot.key_ids, after)
        found: list[KeyEntry] = []
        for place in range(start, min(start + SCANNED, len(snapshot.key_ids))):
            entry = snapshot.keys[snapshot.key_ids[place]]
            tenant = entry.principal.tenant
            if (
                (organisation is None or tenant.organisation == organisation)
                and (team is None or tenant.team == team)
                and (name is None or entry.key.name == name)
                and (revoked or not entry.revoked)
            ):
                if len(found) == limit:
                    return KeyPage(tuple(found), found[-1].key.id)
                found.append(entry)
        rest = start + SCANNED < len(snapshot.key_ids)
        return KeyPage(tuple(found), snapshot.key_ids[start + SCANNED - 1] if rest else None)

    async def create(self, asker: Asker, wanted: NewKey) -> Shown:
        sight = need(asker, Role.ADMIN)
        check_name(wanted.name, "name")
        row = usable_row(wanted.limits)
        secret, key_id = make_secret(), make_id("key")
        made = Key(
            id=key_id,
            name=wanted.name,
            organisation=wanted.tenant.organisation,
            team=wanted.tenant.team,
            hashes=((fingerprint(secret).hex(), None),),
            hint=hint_of(secret),
            role=wanted.role,
            may_call=wanted.may_call,
            models=wanted.models,
            tags=wanted.tags,
            limits=row,
            expires_at=wanted.expires_at,
        )

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            team = self._catalogue.snapshot.teams.get(wanted.tenant)
            if team is None or not sight.sees(wanted.tenant):
                raise NotFoundError(f"There is no team {wanted.tenant}.", param="team")
            self._check_free(wanted.tenant, wanted.name, None)
            key = replace(made, created_at=at)
            return (
                *turnstile(team),
                Put(key, expect_version=0),
                audited(asker, at, "key.create", key_scope(key_id), None, audit_view(key)),
            )

        await self._ledger.write(plan)
        return Shown(self._known(key_id, made), secret)

    async def update(self, asker: Asker, id: str, edit: KeyEdit, *, expect_version: int | None = None) -> KeyEntry:
        need(asker, Role.ADMIN)
        changed: dict[str, Any] = {
            field.name: value for field in fields(edit) if (value := getattr(edit, field.name)) is not UNCHANGED
        }
        if "name" in changed:
            check_name(changed["name"], "name")
        if "limits" in changed:
            changed["limits"] = usable_row(changed["limits"])

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            before = self._own(asker, id, expect_version)
            after = replace(before.key, **changed)
            if after.name != before.key.name:
                self._check_free(before.principal.tenant, after.name, id)
            return self._replaced(asker, at, "key.update", before.key, after)

        return await self._written(id, plan)

    async def rotate(
        self, asker: Asker, id: str, *, overlap_seconds: float | None = None, expect_version: int | None = None
    ) -> Shown:
        """A new secret; the one until now goes on for the overlap, an older one ends at once."""
        need(asker, Role.OPERATOR)
        overlap = self._overlap_seconds if overlap_seconds is None else overlap_seconds
        if not 0 <= overlap <= LONGEST_OVERLAP_SECONDS:
            raise InvalidRequestError(
                f"overlap_seconds must be from 0 to {LONGEST_OVERLAP_SECONDS:.0f}.", param="overlap_seconds"
            )
        secret = make_secret()

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            before = self._own(asker, id, expect_version)
            if not asker.principal.role.covers(before.key.role):
                raise PermissionDeniedError(
                    f"The key {before.key.name} has the role {before.key.role}, which is above yours."
                )
            old = (before.key.hashes[0][0], at + overlap)
            after = replace(before.key, hashes=((fingerprint(secret).hex(), None), old), hint=hint_of(secret))
            return self._replaced(asker, at, "key.rotate", before.key, after)

        return Shown(await self._written(id, plan), secret)

    async def revoke(self, asker: Asker, id: str, *, expect_version: int | None = None) -> None:
        """For ever. Every node refuses the key within twice `tenancy.poll_seconds`."""
        need(asker, Role.ADMIN)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            before = self._own(asker, id, expect_version)
            return self._replaced(asker, at, "key.revoke", before.key, replace(before.key, revoked_at=at))

        await self._written(id, plan)

    def _own(self, asker: Asker, id: str, expect_version: int | None) -> KeyEntry:
        entry = self.get(asker, id)
        check_undeclared(f"The key {entry.key.name}", entry.origin)
        check_version(f"The key {entry.key.name}", entry.key.version, expect_version)
        return entry

    def _replaced(self, asker: Asker, at: float, action: str, before: Key, after: Key) -> tuple[DirectoryChange, ...]:
        return (
            *guard_last_administrator(self._catalogue.snapshot, before, after, at),
            Put(after, expect_version=before.version),
            audited(asker, at, action, key_scope(before.id), audit_view(before), audit_view(after)),
        )

    async def _written(self, id: str, plan: Callable[[float], tuple[DirectoryChange, ...]]) -> KeyEntry:
        planned: list[Key] = []

        def remembered(at: float) -> tuple[DirectoryChange, ...]:
            changes = plan(at)
            keys = [change.row for change in changes if isinstance(change, Put) and isinstance(change.row, Key)]
            planned[:] = [key for key in keys if key.id == id]
            return changes

        await self._ledger.write(remembered)
        return self._known(id, planned[0])

    def _known(self, id: str, written: Key) -> KeyEntry:
        entry = self._catalogue.snapshot.keys.get(id)
        if entry is not None and entry.key.version > written.version:
            return entry
        return key_entry(written, limits_from_row(written.limits))

    def _check_free(self, tenant: Tenant, name: str, but: str | None) -> None:
        snapshot = self._catalogue.snapshot
        owner = snapshot.live_names.get((tenant.organisation, tenant.team, name))
        if owner is None or owner == but:
            return
        origin = snapshot.keys[owner].origin
        if origin is not None:
            raise DeclaredInFileError(
                f"The key {name} of {tenant} is declared at {origin}; take another name.", param="name"
            )
        raise ConflictError(f"{tenant} has a key {name} already ({owner}); take another name.", param="name")


def turnstile(team: TeamEntry) -> tuple[Put, ...]:
    """A team the API made is written again, as it was read, with each key made in it: deleting the team meanwhile then
    fails, and so does making a key in a team that is gone."""
    if team.origin is not None or team.version == 0:
        return ()
    tenant = team.tenant
    row = Team(tenant.organisation, tenant.team, row_from_limits(team.limits), team.created_at)
    return (Put(row, expect_version=team.version),)


def audit_view(key: Key) -> dict[str, Any]:
    """What the audit keeps of a key: everything but its digests."""
    return {
        "name": key.name,
        "team": f"{key.organisation}/{key.team}",
        "hint": key.hint,
        "role": str(key.role),
        "may_call": key.may_call,
        "models": list(key.models),
        "tags": list(key.tags),
        "limits": key.limits,
        "expires_at": _moment(key.expires_at),
        "old_secret_until": _moment(key.hashes[1][1]) if len(key.hashes) > 1 else None,
        "revoked_at": _moment(key.revoked_at),
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else moment_from_epoch(at)
