"""/api/settings and /api/whoami."""

from typing import Any

from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import MomentText, RoleName, View, moment_or_null
from holdfast.features.tenancy.sight import need_everywhere, sight_of
from holdfast.kernel.tenant import Role


class SettingsView(View):
    """The settings in effect, secrets masked."""

    version: str = Field(description="The version of Holdfast.")
    settings: dict[str, Any]
    origins: dict[str, str] = Field(
        description="Where each was said, by dotted path: `holdfast.toml:12`, `environment` or `flag`; the rest are defaults."
    )


class SightView(View):
    """What the key sees; null is everything."""

    organisation: str | None
    team: str | None


class WhoamiView(View):
    """The key that asks."""

    key_id: str
    key_name: str
    organisation: str
    team: str
    role: RoleName
    may_call: bool
    models: list[str] = Field(description="Empty: every model.")
    tags: list[str]
    expires_at: MomentText | None
    sees: SightView


async def get_settings(asker: Asking, deps: Deps, _: NoQuery) -> SettingsView:
    """The effective settings, with where each was said."""
    need_everywhere(asker, Role.ADMIN)
    shown = deps.settings()
    return SettingsView(version=deps.version, settings=dict(shown.settings), origins=dict(shown.origins))


async def whoami(asker: Asking, _: NoQuery) -> WhoamiView:
    """The key that asks, and what it sees. Every key may ask this."""
    principal = asker.principal
    sight = sight_of(principal)
    return WhoamiView(
        key_id=principal.key_id,
        key_name=principal.key_name,
        organisation=principal.tenant.organisation,
        team=principal.tenant.team,
        role=principal.role.value,
        may_call=principal.may_call,
        models=list(principal.models),
        tags=list(principal.tags),
        expires_at=moment_or_null(principal.expires_at),
        sees=SightView(organisation=sight.organisation, team=sight.team),
    )


TABLE = (
    Endpoint("GET", "/api/settings", get_settings),
    Endpoint("GET", "/api/whoami", whoami),
)
