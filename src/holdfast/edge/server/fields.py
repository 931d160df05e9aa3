"""The words of the control API's contract: how names, moments, money and limits are written in JSON."""

from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

from holdfast.features.tenancy.limits import MOST, RATES, zone_of
from holdfast.features.tenancy.names import KEY_ID_PATTERN, NAME_PATTERN, epoch_from_moment, moment_from_epoch
from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.money import usd_from_nanodollars

RoleName = Literal["none", "viewer", "operator", "admin"]
PageLimit = Annotated[int, Field(ge=1, le=1000, description="At most this many rows.")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=f"^{NAME_PATTERN}$")]
KeyId = Annotated[str, StringConstraints(pattern=f"^{KEY_ID_PATTERN}$")]
CallId = Annotated[str, StringConstraints(pattern="^call_[0-9a-f]{32}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern="^[!-~]{1,200}$")]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern="^[A-Za-z0-9][A-Za-z0-9 ._:/=@+-]{0,63}$")]
Scope = Annotated[str, StringConstraints(max_length=200, pattern="^(org|team|key):[A-Za-z0-9._/-]{1,150}$")]
Cursor = Annotated[
    str, StringConstraints(max_length=80, pattern=r"^[0-9]{1,11}\.[0-9]{1,9}~(call|audit)_[0-9a-f]{32}$")
]
Etag = Annotated[
    str,
    StringConstraints(pattern=r'^(\*|(W/)?"?[0-9]{1,18}"?)$'),
    Field(description="Change this version only: the ETag last read."),
]


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_whole)]


def _read_moment(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be a moment as RFC 3339 writes it, for example 2027-01-31T00:00:00Z")
    return epoch_from_moment(value)


Moment = Annotated[
    float, BeforeValidator(_read_moment), WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation")
]
MomentText = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class _ZoneSchema:
    """In the contract a time zone is one of those this machine knows; they are read when the contract is asked for."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        found["enum"] = sorted(available_timezones() | {"UTC"})
        return found


def _check_zone(value: str) -> str:
    zone_of(value)
    return value


TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_zone), _ZoneSchema()]


class Body(BaseModel):
    """What is sent to us: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Params(BaseModel):
    """A query: nothing unknown."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class View(BaseModel):
    """What we send."""

    model_config = ConfigDict(extra="forbid")


class BudgetBody(Body):
    """Money for a calendar period. Of two budgets for the same period the smaller holds."""

    limit_usd: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")] = Field(
        description="Dollars, in decimal."
    )
    period: Literal["day", "week", "month"] = "month"
    time_zone: TimeZone = Field(default="UTC", description="Where the days begin; weeks begin on Monday.")
    soft: Annotated[float, Field(ge=0, le=1)] = Field(default=0.8, description="Passing this share is a finding.")


class LimitsBody(Body):
    """What may be used; what is not said is not limited."""

    requests_per_minute: Count | None = None
    input_tokens_per_minute: Count | None = None
    output_tokens_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent: Count | None = None
    budgets: Annotated[list[BudgetBody], Field(max_length=20)] = Field(default_factory=list)


class LimitsPatch(Body):
    """The limits are replaced whole."""

    limits: LimitsBody


class NameQuery(Params):
    """A page of what is listed by name."""

    limit: PageLimit = 100
    after: Name | None = Field(default=None, description="`next` of the page before.")


class BudgetView(View):
    """Money for a calendar period."""

    limit_usd: str
    period: str
    time_zone: str
    soft: float


class LimitsView(View):
    """What may be used; null is not limited."""

    requests_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None
    budgets: list[BudgetView]


def limits_from(body: LimitsBody) -> LimitSettings:
    budgets = tuple(BudgetSettings(**budget.model_dump()) for budget in body.budgets)
    return LimitSettings(**{name: getattr(body, name) for name in RATES}, budgets=budgets)


def limits_view(limits: LimitSettings) -> LimitsView:
    budgets = [
        BudgetView(limit_usd=one.limit_usd, period=one.period, time_zone=one.time_zone, soft=one.soft)
        for one in limits.budgets
    ]
    return LimitsView(**{name: getattr(limits, name) for name in RATES}, budgets=budgets)


def moment(at: float) -> str:
    return moment_from_epoch(at)


def moment_or_null(at: float | None) -> str | None:
    return None if at is None else moment_from_epoch(at)


def usd(nanodollars: int) -> str:
    return usd_from_nanodollars(nanodollars)


def usd_or_null(nanodollars: int | None) -> str | None:
    return None if nanodollars is None else usd_from_nanodollars(nanodollars)


def source_of(origin: str | None) -> Literal["file", "api"]:
    return "api" if origin is None else "file"


def version_of(if_match: str | None) -> int | None:
    return None if if_match is None or if_match == "*" else int(if_match.removeprefix("W/").strip('"'))


def etag(version: int) -> str:
    return f'"{version}"'


def position_of(cursor: str) -> tuple[float, str]:
    at, _, row_id = cursor.partition("~")
    return float(at), row_id


def cursor_of(at: float, row_id: str) -> str:
    return f"{at!r}~{row_id}"
