"""Who is asking: a tenant is a team, always inside one organisation; a key belongs to one team."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a key may do on the control API; each role includes the ones before it. `none` may only call models."""

    NONE = "none"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Tenant:
    organisation: str
    team: str

    def __str__(self) -> str:
        return f"{self.organisation}/{self.team}"


DEFAULT_TENANT = Tenant("default", "default")


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified key. `may_call` is apart from `role`: an administrator need not be able to spend."""

    key_id: str
    key_name: str
    tenant: Tenant
    role: Role
    may_call: bool
    models: tuple[str, ...] = ()  # empty: every model
    tags: tuple[str, ...] = ()
    expires_at: float | None = None

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models
