"""What a key may see and do on the control API.

Keys of the organisation `default` are the instance's own: their role holds everywhere. Elsewhere an administrator's role
holds in its organisation, an operator's and a viewer's in its team. What lies outside is not there: NotFoundError.

| role | may |
|---|---|
| none | call models, and ask who it is |
| viewer | read keys, teams, organisations, usage and budgets; of the instance: latency |
| operator | read calls and findings too, and rotate keys whose role is not above its own |
| admin | read the audit too; write keys and teams; of the instance: write organisations, read settings |
"""

from dataclasses import dataclass

from holdfast.features.tenancy.model import Asker
from holdfast.kernel.errors import NotFoundError, PermissionDeniedError
from holdfast.kernel.tenant import DEFAULT_TENANT, Principal, Role, Tenant


@dataclass(frozen=True, slots=True)
class Sight:
    """None means any. A team is never said without its organisation."""

    organisation: str | None
    team: str | None

    @property
    def everywhere(self) -> bool:
        return self.organisation is None

    def sees_organisation(self, organisation: str) -> bool:
        return self.organisation is None or self.organisation == organisation

    def sees(self, tenant: Tenant) -> bool:
        return self.sees_organisation(tenant.organisation) and (self.team is None or self.team == tenant.team)


def sight_of(principal: Principal) -> Sight:
    if principal.tenant.organisation == DEFAULT_TENANT.organisation:
        return Sight(None, None)
    if principal.role is Role.ADMIN:
        return Sight(principal.tenant.organisation, None)
    return Sight(principal.tenant.organisation, principal.tenant.team)


def need(asker: Asker, role: Role) -> Sight:
    """What this key sees, if its role reaches; PermissionDeniedError otherwise."""
    if not asker.principal.role.covers(role):
        raise PermissionDeniedError(
            f"This needs the role {role}; the key {asker.principal.key_name} has the role {asker.principal.role}."
        )
    return sight_of(asker.principal)


def need_everywhere(asker: Asker, role: Role) -> None:
    """For what belongs to the instance and not to an organisation in it."""
    if not need(asker, role).everywhere:
        raise PermissionDeniedError(
            f"This needs a key of the organisation {DEFAULT_TENANT.organisation} with the role {role}: it concerns the whole instance."
        )


def narrowed(sight: Sight, organisation: str | None, team: str | None) -> tuple[str | None, str | None]:
    """The filter somebody asked for, within what they see. A foreign name is not found, whether or not it exists."""
    if organisation is not None and not sight.sees_organisation(organisation):
        raise NotFoundError(f"There is no organisation {organisation}.", param="organisation")
    if team is not None and sight.team is not None and sight.team != team:
        raise NotFoundError(f"There is no team {team}.", param="team")
    return (
        organisation if sight.organisation is None else sight.organisation,
        team if sight.team is None else sight.team,
    )
