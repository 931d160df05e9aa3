"""The nouns of tenancy: what stands in a snapshot, who asks, and how a scope is spelt."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.features.tenancy.names import moment_from_epoch
from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.tenant import DEFAULT_TENANT, Principal, Role, Tenant
from holdfast.ports.directory import Key, Organisation, Team

NO_LIMITS = LimitSettings()
NEVER = float("inf")


def organisation_scope(organisation: str) -> str:
    return f"org:{organisation}"


def team_scope(tenant: Tenant) -> str:
    return f"team:{tenant.organisation}/{tenant.team}"


def key_scope(key_id: str) -> str:
    return f"key:{key_id}"


@dataclass(frozen=True, slots=True)
class OrganisationEntry:
    """`origin` is where it was declared (`holdfast.toml:12`), None for what the API made. Version 0: no row yet."""

    name: str
    limits: LimitSettings = NO_LIMITS
    origin: str | None = None
    version: int = 0
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class TeamEntry:
    """A team; origin and version as with an organisation."""

    tenant: Tenant
    limits: LimitSettings = NO_LIMITS
    origin: str | None = None
    version: int = 0
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Credential:
    """What one digest opens, until when. `ended` is the sentence for afterwards."""

    principal: Principal
    until: float
    ended: str


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key, revoked ones included, with what is asked of it on every call made once."""

    key: Key
    principal: Principal
    limits: LimitSettings
    credentials: tuple[tuple[bytes, Credential], ...]
    origin: str | None = None

    @property
    def revoked(self) -> bool:
        return self.key.revoked_at is not None

    def live(self, at: float) -> bool:
        """Works now: neither revoked nor expired."""
        return not self.revoked and (self.key.expires_at is None or self.key.expires_at > at)


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A scope that has budgets, and whom it belongs to; an organisation's tenant has no team."""

    scope: str
    tenant: Tenant
    budgets: tuple[BudgetSettings, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known of who may ask; never changed, swapped whole. `key_ids` and `budgeted` are in order, so that pages
    are; `live_names` leads from organisation, team and name to keys not revoked; `administrators` are the keys that may
    administer the whole instance until they expire; `scopes` is filled on first use, per key."""

    version: int
    organisations: Mapping[str, OrganisationEntry]
    teams: Mapping[Tenant, TeamEntry]
    keys: Mapping[str, KeyEntry]
    credentials: Mapping[bytes, Credential]
    key_ids: tuple[str, ...] = ()
    live_names: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    administrators: tuple[str, ...] = ()
    budgeted: tuple[Budgeted, ...] = ()
    scopes: dict[str, tuple[tuple[str, LimitSettings], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the directory holds, as last read; deleted and revoked ones included, because their versions still count."""

    version: int
    organisations: Mapping[str, Organisation]
    teams: Mapping[Tenant, Team]
    keys: Mapping[str, Key]


NO_ROWS = Rows(0, {}, {}, {})


@dataclass(frozen=True, slots=True)
class Asker:
    """A verified key on the control API, and the request it asks in."""

    principal: Principal
    request_id: str | None = None


# Holdfast itself: the first start, and commands given on the machine where the data is.
OWNER = Principal("holdfast", "holdfast", DEFAULT_TENANT, Role.ADMIN, may_call=False)


def key_entry(key: Key, limits: LimitSettings, origin: str | None = None) -> KeyEntry:
    principal = Principal(
        key_id=key.id,
        key_name=key.name,
        tenant=Tenant(key.organisation, key.team),
        role=key.role,
        may_call=key.may_call,
        models=key.models,
        tags=key.tags,
        expires_at=key.expires_at,
    )
    credentials = tuple((bytes.fromhex(digest), _credential(key, principal, until)) for digest, until in key.hashes)
    return KeyEntry(key, principal, limits, credentials, origin)


def _credential(key: Key, principal: Principal, valid_until: float | None) -> Credential:
    if key.revoked_at is not None:
        return Credential(principal, -NEVER, "This API key was revoked. Ask an administrator for another one.")
    if valid_until is not None and (key.expires_at is None or valid_until < key.expires_at):
        ended = (
            f"This API key was rotated, and its old secret ended at {moment_from_epoch(valid_until)}. Use the new one."
        )
        return Credential(principal, valid_until, ended)
    if key.expires_at is not None:
        return Credential(principal, key.expires_at, f"This API key expired at {moment_from_epoch(key.expires_at)}.")
    return Credential(principal, NEVER, "")
