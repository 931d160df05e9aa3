"""Organisations, teams, keys and the audit of their changes: what the API made. What the settings file declares is not here.

Promises
- A key's secret is never stored: only the SHA-256 of its 256 random bits.
- Every change is committed with its audit row, in one unit; `expect_version` makes a change conditional (ConflictError).
- Versions grow by commit: `changes_since(v)` returns every row whose last change is after v, revoked and deleted ones included,
  so that a node that polls learns of a revocation within its poll interval (<= 1 s on every node).
- An audit row is append-only: no verb changes or deletes one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.kernel.tenant import Role


@dataclass(frozen=True, slots=True)
class Organisation:
    name: str
    limits: dict[str, Any] = field(default_factory=dict)  # as in settings: requests_per_minute, budgets ...
    created_at: float = 0.0
    deleted_at: float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Team:
    organisation: str
    name: str
    limits: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    deleted_at: float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Key:
    """`hashes` holds one fingerprint, or two while a rotation overlaps: (sha256 in hex, valid until or None)."""

    id: str
    name: str
    organisation: str
    team: str
    hashes: tuple[tuple[str, float | None], ...]
    hint: str  # how it is shown: hf-1a2b…9f
    role: Role = Role.NONE
    may_call: bool = True
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    expires_at: float | None = None
    created_at: float = 0.0
    revoked_at: float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Put:
    """Insert or replace a row. `expect_version`: 0 = must not exist, n = must be at n, None = whatever."""

    row: Organisation | Team | Key
    expect_version: int | None = None


@dataclass(frozen=True, slots=True)
class Audited:
    """Who did what to what. `before`/`after` hold no secret."""

    id: str
    at: float
    actor: str
    action: str
    subject: str
    request_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


DirectoryChange = Put | Audited


@dataclass(frozen=True, slots=True)
class Changes:
    version: int
    organisations: tuple[Organisation, ...]
    teams: tuple[Team, ...]
    keys: tuple[Key, ...]


class Directory(Protocol):
    async def changes_since(self, version: int) -> Changes:
        """0: everything. Cheap when nothing changed."""
        ...

    async def audit(
        self, *, limit: int = 100, before: tuple[float, str] | None = None, subject: str | None = None
    ) -> Sequence[Audited]:
        """Newest first."""
        ...
