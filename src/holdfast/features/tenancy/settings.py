"""[organisations.NAME], their teams, [keys.NAME]: who may ask, and how much."""

from dataclasses import dataclass

from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import at_least, one_of, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Money for a calendar period."""

    limit_usd: str = setting(help='Dollars for the period, for example "250" or "0.10".')
    period: str = setting("month", help="The calendar period it is for.", check=one_of("day", "week", "month"))
    time_zone: str = setting("UTC", help="The time zone in which days begin; weeks begin on Monday.")
    soft: float = setting(0.8, help="Passing this share of the limit is a finding.", check=at_least(0))


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
    sha256: str | None = setting(None, help="Instead of the secret: its SHA-256 in hexadecimal.")
    team: str = setting("default/default", help="The team it belongs to, organisation/team.")
    role: str = setting("none", help="What it may do on the control API.", check=one_of("none", "viewer", "operator", "admin"))
    may_call: bool = setting(True, help="Whether it may call models.")
    models: tuple[str, ...] = setting((), help="The models it may use; empty: every model.")
    tags: tuple[str, ...] = setting((), help="Free words to find it by.")
    expires_at: str | None = setting(None, help="The moment it ends, RFC 3339, for example 2027-01-31T00:00:00Z.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenancySettings:
    """How keys are kept."""

    poll_seconds: float = setting(0.5, help="How often a node looks for changes other nodes made: a revoked key stops everywhere within twice this.", check=at_least(0.05))
    rotation_overlap_seconds: float = setting(86_400.0, help="How long the old secret of a rotated key goes on.", check=at_least(0))
