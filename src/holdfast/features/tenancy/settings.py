"""[organisations.NAME], their teams, [keys.NAME]: who may ask, and how much."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import at_least, between, one_of, setting, usd

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def _time_zone(value: str) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if value == "UTC":
            return
        close = get_close_matches(value, sorted(available_timezones()), 1, 0.6)
        near = f'; did you mean "{close[0]}"?' if close else ', such as "Europe/Berlin"'
        raise ValueError(f'"{value}" is no time zone{near}') from error


def _sha256(value: str | None) -> None:
    if value is not None and not _SHA256.fullmatch(value):
        raise ValueError("must be 64 hexadecimal digits")


def _team(value: str) -> None:
    if not re.fullmatch(r"[^/]+/[^/]+", value):
        raise ValueError('must be spelt organisation/team, for example "acme/search"')


def _moment(value: Any) -> Any:
    """TOML has moments of its own; both spellings end as RFC 3339 text."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("must be a moment, for example 2027-01-31T00:00:00Z") from error
    if not isinstance(moment, datetime):
        return value
    if moment.tzinfo is None:
        raise ValueError("needs a time zone: end it with Z, or with an offset such as +01:00")
    return moment.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Money for a calendar period."""

    limit_usd: str = setting(help='Dollars for the period, for example "250" or "0.10".', convert=usd)
    period: str = setting("month", help="The calendar period it is for.", check=one_of("day", "week", "month"))
    time_zone: str = setting("UTC", help="The time zone in which days begin; weeks begin on Monday.", check=_time_zone)
    soft: float = setting(0.8, help="Passing this share of the limit is a finding.", check=between(0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What an organisation, a team or a key may use; what is not said is not limited."""

    requests_per_minute: int | None = setting(None, help="Requests a minute.", check=at_least(1))
    input_tokens_per_minute: int | None = setting(None, help="Input tokens a minute.", check=at_least(1))
    output_tokens_per_minute: int | None = setting(None, help="Output tokens a minute.", check=at_least(1))
    tokens_per_minute: int | None = setting(None, help="Input and output tokens a minute together.", check=at_least(1))
    concurrent: int | None = setting(None, help="Calls in flight at once.", check=at_least(1))
    budgets: tuple[BudgetSettings, ...] = setting((), help="Money, by calendar period.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamSettings(LimitSettings):
    """A team: the tenant, inside one organisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganisationSettings(LimitSettings):
    """An organisation and its teams."""

    teams: dict[str, TeamSettings] = setting(factory=dict, help="The teams, by name.")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings(LimitSettings):
    """An API key whose secret comes from the environment or a file."""

    secret: Secret | None = setting(None, help='The key itself: "env:NAME" or "file:PATH".')
    sha256: str | None = setting(None, help="Instead of the secret: its SHA-256 in hexadecimal.", check=_sha256)
    team: str = setting("default/default", help="The team it belongs to, organisation/team.", check=_team)
    role: str = setting(
        "none", help="What it may do on the control API.", check=one_of("none", "viewer", "operator", "admin")
    )
    may_call: bool = setting(True, help="Whether it may call models.")
    models: tuple[str, ...] = setting((), help="The models it may use; empty: every model.")
    tags: tuple[str, ...] = setting((), help="Free words to find it by.")
    expires_at: str | None = setting(
        None, help="The moment it ends, RFC 3339, for example 2027-01-31T00:00:00Z.", convert=_moment
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.secret is None and self.sha256 is None:
            yield "secret", 'is missing: say the key as "env:NAME" or "file:PATH", or its sha256'
        if self.secret is not None and self.sha256 is not None:
            yield "sha256", "cannot stand beside secret: say one of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenancySettings:
    """How keys are kept."""

    poll_seconds: float = setting(
        0.5,
        help="How often a node looks for changes other nodes made: a revoked key stops everywhere within twice this.",
        check=at_least(0.05),
        restart=True,
    )
    rotation_overlap_seconds: float = setting(
        86_400.0, help="How long the old secret of a rotated key goes on.", check=at_least(0), restart=True
    )
