"""Limits between their three spellings: settings, the directory's rows, and what a person may say."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.errors import InvalidRequestError
from holdfast.kernel.money import nanodollars_from_usd

PERIODS = ("day", "week", "month")
RATES = (
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "tokens_per_minute",
    "concurrent",
)
INT64 = 2**63 - 1
MOST = 2**53 - 1  # what every JSON reader can hold exactly


def limits_from_row(row: Mapping[str, Any]) -> LimitSettings:
    """What a directory row says; a word that only a later release knows is passed over."""
    known = {name: row[name] for name in RATES if row.get(name) is not None}
    names = {field.name for field in fields(BudgetSettings)}
    budgets = tuple(
        BudgetSettings(**{name: value for name, value in budget.items() if name in names})
        for budget in row.get("budgets", ())
    )
    return LimitSettings(**known, budgets=budgets)


def row_from_limits(limits: LimitSettings) -> dict[str, Any]:
    """The reverse; what is not limited is left out."""
    row: dict[str, Any] = {name: value for name in RATES if (value := getattr(limits, name)) is not None}
    if limits.budgets:
        row["budgets"] = [
            {field.name: getattr(budget, field.name) for field in fields(BudgetSettings)} for budget in limits.budgets
        ]
    return row


def only_limits(limits: LimitSettings) -> LimitSettings:
    """The limits of a settings object that says more than limits."""
    return LimitSettings(**{field.name: getattr(limits, field.name) for field in fields(LimitSettings)})


def usable_row(limits: LimitSettings) -> dict[str, Any]:
    """The row of limits that somebody asked for; InvalidRequestError where they cannot be used."""
    fault = fault_of(limits)
    if fault is not None:
        raise InvalidRequestError(f"limits.{fault}.", param="limits")
    return row_from_limits(limits)


def fault_of(limits: LimitSettings) -> str | None:
    """The first thing wrong with limits, as a sentence that names the field; None: they can be used."""
    for name in RATES:
        value = getattr(limits, name)
        if value is not None and not 1 <= value <= MOST:
            return f"{name} must be a whole number from 1 to {MOST}"
    for budget in limits.budgets:
        fault = _fault_of_budget(budget)
        if fault is not None:
            return f"budgets: {fault}"
    return None


def _fault_of_budget(budget: BudgetSettings) -> str | None:
    try:
        limit = nanodollars_from_usd(budget.limit_usd)
    except ValueError as error:
        return f"limit_usd: {error}"
    if not 0 <= limit <= INT64:
        return "limit_usd must be from 0 to 9223372036 dollars"
    if budget.period not in PERIODS:
        return f"period must be one of {', '.join(PERIODS)}"
    if not 0 <= budget.soft < float("inf"):
        return "soft must be at least 0"
    try:
        zone_of(budget.time_zone)
    except ValueError as error:
        return f"time_zone: {error}"
    return None


def zone_of(name: str) -> tzinfo:
    """The time zone of that name in the IANA database; ValueError where there is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is no time zone; write it as the IANA database does, for example Europe/Berlin"
        ) from error
