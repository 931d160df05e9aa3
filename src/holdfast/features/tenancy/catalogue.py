"""Who may ask, as this node knows it: what the file declares and what the API made, in one snapshot."""

import asyncio
from collections.abc import Iterator, Mapping

from holdfast.features.tenancy.declared import Declared, conflicts_of, read_declared
from holdfast.features.tenancy.limits import limits_from_row
from holdfast.features.tenancy.model import (
    NEVER,
    NO_LIMITS,
    NO_ROWS,
    Budgeted,
    Credential,
    KeyEntry,
    OrganisationEntry,
    Rows,
    Snapshot,
    TeamEntry,
    key_entry,
    key_scope,
    organisation_scope,
    team_scope,
)
from holdfast.features.tenancy.settings import KeySettings, LimitSettings, OrganisationSettings
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import AuthenticationError, SettingsError, StoreUnavailableError
from holdfast.kernel.findings import Findings
from holdfast.kernel.secret import fingerprint
from holdfast.kernel.tenant import DEFAULT_TENANT, Principal, Role, Tenant
from holdfast.ports.directory import Changes, Directory, Key

MISSING = "No API key was given. Send it as `Authorization: Bearer YOUR_KEY`."
UNKNOWN = "This API key is not known here. Check that it is whole, and that it belongs to this Holdfast."
HOMELESS = "The team of this API key does not exist any more."
STALE = "directory_stale"
IN_A_THREAD_FROM = 2_000  # keys; building a larger snapshot would hold the loop


class Catalogue:
    """Reads are plain calls on an immutable snapshot. `version` grows whenever an answer of a read may have changed;
    that keys and rotations end with time is checked on every call and needs no new version."""

    def __init__(self, directory: Directory, clock: Clock, findings: Findings) -> None:
        self._directory = directory
        self._clock = clock
        self._findings = findings
        self._declared = Declared()
        self._rows = NO_ROWS
        self._turn = asyncio.Lock()
        empty = Snapshot(0, {}, {}, {}, {})
        self.snapshot = build(self._declared, self._rows, empty, 0)

    @property
    def version(self) -> int:
        return self.snapshot.version

    @property
    def rows(self) -> Rows:
        """The directory's rows as last read: what a conditional change is based on."""
        return self._rows

    @property
    def declared(self) -> Declared:
        return self._declared

    def authenticate(self, secret: str | None) -> Principal:
        """The key behind a secret. AuthenticationError says whether it is missing, unknown, expired, rotated away or revoked."""
        if not secret:
            raise AuthenticationError(MISSING)
        try:
            credential = self.snapshot.credentials.get(fingerprint(secret))
        except UnicodeEncodeError as error:
            raise AuthenticationError(UNKNOWN) from error
        if credential is None:
            raise AuthenticationError(UNKNOWN)
        if credential.until <= self._clock.now():
            raise AuthenticationError(credential.ended)
        return credential.principal

    def limits_of(self, principal: Principal) -> tuple[tuple[str, LimitSettings], ...]:
        """(scope, limits) of organisation, team and key, the same tuple on every call until the snapshot changes."""
        snapshot = self.snapshot
        found = snapshot.scopes.get(principal.key_id)
        if found is None:
            tenant = principal.tenant
            organisation = snapshot.organisations.get(tenant.organisation)
            team = snapshot.teams.get(tenant)
            key = snapshot.keys.get(principal.key_id)
            found = (
                (organisation_scope(tenant.organisation), NO_LIMITS if organisation is None else organisation.limits),
                (team_scope(tenant), NO_LIMITS if team is None else team.limits),
                (key_scope(principal.key_id), NO_LIMITS if key is None else key.limits),
            )
            snapshot.scopes[principal.key_id] = found
        return found

    def conflicts(
        self,
        organisations: Mapping[str, OrganisationSettings],
        keys: Mapping[str, KeySettings],
        origins: Mapping[str, str],
    ) -> list[str]:
        """What stands against taking over these settings, a sentence each; nothing is changed."""
        try:
            declared = read_declared(organisations, keys, origins)
        except SettingsError as error:
            return [error.message]
        return conflicts_of(declared, self._rows)

    async def apply_file(
        self,
        organisations: Mapping[str, OrganisationSettings],
        keys: Mapping[str, KeySettings],
        origins: Mapping[str, str],
    ) -> None:
        """Take over what the file says now, whole; SettingsError and no change where it contradicts itself or what the API made."""
        declared = read_declared(organisations, keys, origins)
        async with self._turn:
            conflicts = conflicts_of(declared, self._rows)
            if conflicts:
                raise SettingsError("\n".join(conflicts))
            await self._swap(declared, self._rows)

    async def refresh(self) -> None:
        """Learn what changed in the directory. StoreUnavailableError: the snapshot stays, and is a finding until a refresh succeeds."""
        async with self._turn:
            try:
                changes = await self._directory.changes_since(self._rows.version)
            except StoreUnavailableError as error:
                self._findings.open(
                    STALE,
                    "directory",
                    what=f"Keys, teams and organisations are those last read; changes do not arrive: {error.message}",
                    todo="Bring the store back. Until then a key revoked elsewhere still works on this node.",
                    severity="error",
                )
                raise
            self._findings.clear(STALE, "directory")
            if changes.version == self._rows.version and not (changes.organisations or changes.teams or changes.keys):
                return
            await self._swap(self._declared, merged(self._rows, changes))

    async def _swap(self, declared: Declared, rows: Rows) -> None:
        version = self.snapshot.version + 1
        if len(rows.keys) + len(declared.keys) >= IN_A_THREAD_FROM:
            snapshot = await asyncio.to_thread(build, declared, rows, self.snapshot, version)
        else:
            snapshot = build(declared, rows, self.snapshot, version)
        self._declared, self._rows, self.snapshot = declared, rows, snapshot


def merged(rows: Rows, changes: Changes) -> Rows:
    return Rows(
        changes.version,
        {**rows.organisations, **{row.name: row for row in changes.organisations}},
        {**rows.teams, **{Tenant(row.organisation, row.name): row for row in changes.teams}},
        {**rows.keys, **{row.id: row for row in changes.keys}},
    )


def build(declared: Declared, rows: Rows, before: Snapshot, version: int) -> Snapshot:
    """`before` lends the entries of rows that did not change."""
    organisations = dict(_organisations(declared, rows))
    teams = {tenant: entry for tenant, entry in _teams(declared, rows) if tenant.organisation in organisations}
    keys = {key_id: _key_entry(row, before.keys.get(key_id)) for key_id, row in rows.keys.items()}
    keys.update(declared.keys)
    credentials: dict[bytes, Credential] = {}
    live_names: dict[tuple[str, str, str], str] = {}
    administrators: list[str] = []
    homes = {(tenant.organisation, tenant.team) for tenant in teams}
    for key_id, entry in keys.items():
        key = entry.key
        if key.revoked_at is None:
            live_names[key.organisation, key.team, key.name] = key_id
            if key.role is Role.ADMIN and key.organisation == DEFAULT_TENANT.organisation:
                administrators.append(key_id)
        homeless = key.revoked_at is None and (key.organisation, key.team) not in homes
        for digest, own in entry.credentials:
            credential = Credential(entry.principal, -NEVER, HOMELESS) if homeless else own
            known = credentials.get(digest)
            if known is None or known.until < credential.until:
                credentials[digest] = credential
    return Snapshot(
        version=version,
        organisations=organisations,
        teams=teams,
        keys=keys,
        credentials=credentials,
        key_ids=tuple(sorted(keys)),
        live_names=live_names,
        administrators=tuple(administrators),
        budgeted=tuple(sorted(_budgeted(organisations, teams, keys), key=lambda one: one.scope)),
    )


def _budgeted(
    organisations: Mapping[str, OrganisationEntry], teams: Mapping[Tenant, TeamEntry], keys: Mapping[str, KeyEntry]
) -> Iterator[Budgeted]:
    for name, organisation in organisations.items():
        if organisation.limits.budgets:
            yield Budgeted(organisation_scope(name), Tenant(name, ""), organisation.limits.budgets)
    for tenant, team in teams.items():
        if team.limits.budgets:
            yield Budgeted(team_scope(tenant), tenant, team.limits.budgets)
    for key_id, key in keys.items():
        if key.limits.budgets and not key.revoked:
            yield Budgeted(key_scope(key_id), key.principal.tenant, key.limits.budgets)


def _organisations(declared: Declared, rows: Rows) -> Iterator[tuple[str, OrganisationEntry]]:
    default = DEFAULT_TENANT.organisation
    yield default, OrganisationEntry(default)
    for name, row in rows.organisations.items():
        if row.deleted_at is None:
            yield name, OrganisationEntry(name, limits_from_row(row.limits), None, row.version, row.created_at)
    yield from declared.organisations.items()


def _teams(declared: Declared, rows: Rows) -> Iterator[tuple[Tenant, TeamEntry]]:
    yield DEFAULT_TENANT, TeamEntry(DEFAULT_TENANT)
    for tenant, row in rows.teams.items():
        if row.deleted_at is None:
            yield tenant, TeamEntry(tenant, limits_from_row(row.limits), None, row.version, row.created_at)
    yield from declared.teams.items()


def _key_entry(row: Key, before: KeyEntry | None) -> KeyEntry:
    if before is not None and before.key is row:
        return before
    return key_entry(row, limits_from_row(row.limits))
