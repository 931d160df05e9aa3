"""The nouns of tenancy: what stands in a snapshot, who asks, and how a scope is spelt."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.tenant import DEFAULT_TENANT, Principal, Role, Tenant
from holdfast.ports.directory import Key, Organisation, Team

NO_LIMITS = LimitSettings()


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
class KeyEntry:
    """A key, revoked ones included, with what is asked of it on every call made once."""

    key: Key
    principal: Principal
    limits: LimitSettings
    origin: str | None = None

    @property
    def revoked(self) -> bool:
        return self.key.revoked_at is not None

    def live(self, at: float) -> bool:
        """Works now: neither revoked nor expired."""
        return not self.revoked and (self.key.expires_at is None or self.key.expires_at > at)


@dataclass(frozen=True, slots=True)
class Credential:
    """What one digest opens, until when. `ended` is the sentence for afterwards."""

    principal: Principal
    until: float
    ended: str


@dataclass(frozen=True, slots=True)
class Budgeted:
    """A scope that has budgets, and whom it belongs to; an organisation's tenant has no team."""

    scope: str
    tenant: Tenant
    budgets: tuple[BudgetSettings, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known of who may ask; never changed, swapped whole. `key_ids` is in order, so that pages of keys are;
    `live_names` leads to the ids of keys not revoked; `administrators` are those that may administer the whole instance
    until they expire; `budgeted` is in order of scopes; `scopes` is filled on first use, per key."""

    version: int
    organisations: Mapping[str, OrganisationEntry]
    teams: Mapping[Tenant, TeamEntry]
    keys: Mapping[str, KeyEntry]
    credentials: Mapping[bytes, Credential]
    key_ids: tuple[str, ...] = ()
    live_names: Mapping[tuple[Tenant, str], str] = field(default_factory=dict)
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
