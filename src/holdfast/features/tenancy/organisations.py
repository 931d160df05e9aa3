"""Organisations and their teams: made, read, limited, deleted when nobody lives in them any more."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.ledger import Ledger, audited, check_undeclared, check_version
from holdfast.features.tenancy.limits import row_from_limits, usable_row
from holdfast.features.tenancy.model import (
    NO_LIMITS,
    Asker,
    OrganisationEntry,
    TeamEntry,
    organisation_scope,
    team_scope,
)
from holdfast.features.tenancy.names import check_name
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.features.tenancy.sight import need, need_everywhere
from holdfast.kernel.errors import ConflictError, NotFoundError
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from holdfast.ports.directory import DirectoryChange, Organisation, Put, Team


@dataclass(frozen=True, slots=True)
class OrganisationPage:
    """`after` is where the next page begins, None at the end."""

    organisations: tuple[OrganisationEntry, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class TeamPage:
    """`after` is where the next page begins, None at the end."""

    teams: tuple[TeamEntry, ...]
    after: str | None


class Organisations:
    """Written by administrators of the whole instance; read by whoever sees them."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger) -> None:
        self._catalogue = catalogue
        self._ledger = ledger

    def get(self, asker: Asker, name: str) -> OrganisationEntry:
        sight = need(asker, Role.VIEWER)
        entry = self._catalogue.snapshot.organisations.get(name)
        if entry is None or not sight.sees_organisation(name):
            raise NotFoundError("There is no such organisation.", param="organisation")
        return entry

    def page(self, asker: Asker, *, limit: int = 100, after: str | None = None) -> OrganisationPage:
        """Organisations in the order of their names."""
        sight = need(asker, Role.VIEWER)
        entries = self._catalogue.snapshot.organisations
        names = sorted(name for name in entries if sight.sees_organisation(name) and (after is None or name > after))
        return OrganisationPage(
            tuple(entries[name] for name in names[:limit]), names[limit - 1] if len(names) > limit else None
        )

    async def create(self, asker: Asker, name: str, limits: LimitSettings = NO_LIMITS) -> OrganisationEntry:
        need_everywhere(asker, Role.ADMIN)
        check_name(name, "name")
        row = usable_row(limits)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            known = self._catalogue.snapshot.organisations.get(name)
            if known is not None:
                check_undeclared(f"The organisation {name}", known.origin)
                raise ConflictError(f"There is an organisation {name} already.", param="name")
            former = self._catalogue.rows.organisations.get(name)
            put = Put(Organisation(name, row, at), expect_version=0 if former is None else former.version)
            return (put, audited(asker, at, "organisation.create", organisation_scope(name), None, {"limits": row}))

        await self._ledger.write(plan)
        return self._known(name, OrganisationEntry(name, limits))

    async def update(
        self, asker: Asker, name: str, limits: LimitSettings, *, expect_version: int | None = None
    ) -> OrganisationEntry:
        """The limits as a whole."""
        self.get(asker, name)
        need_everywhere(asker, Role.ADMIN)
        row = usable_row(limits)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            entry = self._own(asker, name, expect_version)
            before = row_from_limits(entry.limits)
            put = Put(Organisation(name, row, entry.created_at or at), expect_version=entry.version)
            return (
                put,
                audited(
                    asker, at, "organisation.update", organisation_scope(name), {"limits": before}, {"limits": row}
                ),
            )

        await self._ledger.write(plan)
        return self._known(name, OrganisationEntry(name, limits))

    async def delete(self, asker: Asker, name: str, *, expect_version: int | None = None) -> None:
        """With its teams; ConflictError while one of them has a key that is not revoked."""
        self.get(asker, name)
        need_everywhere(asker, Role.ADMIN)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            entry = self._own(asker, name, expect_version)
            if name == DEFAULT_TENANT.organisation:
                raise ConflictError(f"The organisation {name} always exists.")
            refuse_while_inhabited(
                self._catalogue, f"The organisation {name}", lambda tenant: tenant.organisation == name
            )
            snapshot, rows = self._catalogue.snapshot, self._catalogue.rows
            teams = [team for tenant, team in snapshot.teams.items() if tenant.organisation == name]
            gone = replace(rows.organisations[name], deleted_at=at)
            return (
                Put(gone, expect_version=entry.version),
                *(deleted_team(rows.teams[team.tenant], at) for team in teams),
                audited(
                    asker,
                    at,
                    "organisation.delete",
                    organisation_scope(name),
                    {"limits": row_from_limits(entry.limits)},
                    None,
                ),
            )

        await self._ledger.write(plan)

    def _own(self, asker: Asker, name: str, expect_version: int | None) -> OrganisationEntry:
        entry = self.get(asker, name)
        check_undeclared(f"The organisation {name}", entry.origin)
        check_version(f"The organisation {name}", entry.version, expect_version)
        return entry

    def _known(self, name: str, written: OrganisationEntry) -> OrganisationEntry:
        return self._catalogue.snapshot.organisations.get(name, written)


class Teams:
    """Written by administrators of their organisation; read by whoever sees them."""

    def __init__(self, catalogue: Catalogue, ledger: Ledger) -> None:
        self._catalogue = catalogue
        self._ledger = ledger

    def get(self, asker: Asker, tenant: Tenant) -> TeamEntry:
        sight = need(asker, Role.VIEWER)
        entry = self._catalogue.snapshot.teams.get(tenant)
        if entry is None or not sight.sees(tenant):
            raise NotFoundError("There is no such team.", param="team")
        return entry

    def page(self, asker: Asker, organisation: str, *, limit: int = 100, after: str | None = None) -> TeamPage:
        """The teams of an organisation, in the order of their names."""
        sight = need(asker, Role.VIEWER)
        snapshot = self._catalogue.snapshot
        if organisation not in snapshot.organisations or not sight.sees_organisation(organisation):
            raise NotFoundError("There is no such organisation.", param="organisation")
        seen: Iterable[Tenant] = (
            tenant for tenant in snapshot.teams if tenant.organisation == organisation and sight.sees(tenant)
        )
        names = sorted(tenant.team for tenant in seen if after is None or tenant.team > after)
        entries = tuple(snapshot.teams[Tenant(organisation, name)] for name in names[:limit])
        return TeamPage(entries, names[limit - 1] if len(names) > limit else None)

    async def create(self, asker: Asker, tenant: Tenant, limits: LimitSettings = NO_LIMITS) -> TeamEntry:
        sight = need(asker, Role.ADMIN)
        check_name(tenant.team, "name")
        row = usable_row(limits)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            organisation = self._catalogue.snapshot.organisations.get(tenant.organisation)
            if organisation is None or not sight.sees_organisation(tenant.organisation):
                raise NotFoundError("There is no such organisation.", param="organisation")
            known = self._catalogue.snapshot.teams.get(tenant)
            if known is not None:
                check_undeclared(f"The team {tenant}", known.origin)
                raise ConflictError(f"There is a team {tenant} already.", param="name")
            former = self._catalogue.rows.teams.get(tenant)
            team = Team(tenant.organisation, tenant.team, row, at)
            return (
                *_turnstile(organisation),
                Put(team, expect_version=0 if former is None else former.version),
                audited(asker, at, "team.create", team_scope(tenant), None, {"limits": row}),
            )

        await self._ledger.write(plan)
        return self._catalogue.snapshot.teams.get(tenant, TeamEntry(tenant, limits))

    async def update(
        self, asker: Asker, tenant: Tenant, limits: LimitSettings, *, expect_version: int | None = None
    ) -> TeamEntry:
        """The limits as a whole."""
        need(asker, Role.ADMIN)
        row = usable_row(limits)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            entry = self._own(asker, tenant, expect_version)
            team = Team(tenant.organisation, tenant.team, row, entry.created_at or at)
            before = {"limits": row_from_limits(entry.limits)}
            return (
                Put(team, expect_version=entry.version),
                audited(asker, at, "team.update", team_scope(tenant), before, {"limits": row}),
            )

        await self._ledger.write(plan)
        return self._catalogue.snapshot.teams.get(tenant, TeamEntry(tenant, limits))

    async def delete(self, asker: Asker, tenant: Tenant, *, expect_version: int | None = None) -> None:
        """ConflictError while it has a key that is not revoked."""
        need(asker, Role.ADMIN)

        def plan(at: float) -> tuple[DirectoryChange, ...]:
            entry = self._own(asker, tenant, expect_version)
            if tenant == DEFAULT_TENANT:
                raise ConflictError(f"The team {tenant} always exists.")
            refuse_while_inhabited(self._catalogue, f"The team {tenant}", lambda home: home == tenant)
            return (
                deleted_team(self._catalogue.rows.teams[tenant], at),
                audited(asker, at, "team.delete", team_scope(tenant), {"limits": row_from_limits(entry.limits)}, None),
            )

        await self._ledger.write(plan)

    def _own(self, asker: Asker, tenant: Tenant, expect_version: int | None) -> TeamEntry:
        entry = self.get(asker, tenant)
        check_undeclared(f"The team {tenant}", entry.origin)
        check_version(f"The team {tenant}", entry.version, expect_version)
        return entry


def deleted_team(row: Team, at: float) -> Put:
    return Put(replace(row, deleted_at=at), expect_version=row.version)


def refuse_while_inhabited(catalogue: Catalogue, subject: str, lives_there: Callable[[Tenant], bool]) -> None:
    inhabitants = [
        name for (organisation, team, name) in catalogue.snapshot.live_names if lives_there(Tenant(organisation, team))
    ]
    if inhabitants:
        raise ConflictError(
            f"{subject} still has {len(inhabitants)} keys, {inhabitants[0]} among them. Revoke them first."
        )


def _turnstile(organisation: OrganisationEntry) -> tuple[Put, ...]:
    """An organisation the API made is written again, as it was read, with each team made in it: deleting it meanwhile
    then fails, and so does making a team in one that is gone."""
    if organisation.origin is not None or organisation.version == 0:
        return ()
    row = Organisation(organisation.name, row_from_limits(organisation.limits), organisation.created_at)
    return (Put(row, expect_version=organisation.version),)
