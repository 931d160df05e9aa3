"""Money by calendar period: which period a moment falls in, what a key's calls count against, and when it becomes a finding."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.limits import zone_of
from holdfast.features.tenancy.settings import BudgetSettings
from holdfast.kernel.findings import Findings
from holdfast.kernel.money import nanodollars_from_usd, usd_from_nanodollars
from holdfast.kernel.tenant import Principal
from holdfast.ports.money import Balance, Held, Refused

SOFT = "budget_soft"
SPENT = "budget_spent"
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Period:
    """`month:2026-11:Europe/Berlin`, from its first moment to that of the next one."""

    name: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a balance becomes a finding. `until` is when its period ends."""

    soft_nanodollars: int
    limit_nanodollars: int
    until: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """A key's balances, good from `since` until `until`."""

    balances: tuple[Balance, ...]
    since: float
    until: float


def period_of(budget: BudgetSettings, at: float) -> Period:
    """The calendar day, week (from Monday) or month in the budget's time zone that holds this moment. Days are as long as the
    clocks of the zone make them; where midnight does not exist, or twice, the day begins at its first moment."""
    zone = zone_of(budget.time_zone)
    day = datetime.fromtimestamp(at, zone).date()
    if budget.period == "day":
        first, following, label = day, day + timedelta(days=1), day.isoformat()
    elif budget.period == "week":
        first = day - timedelta(days=day.weekday())
        following, label = first + timedelta(days=7), first.isoformat()
    else:
        first = day.replace(day=1)
        following, label = (first + timedelta(days=31)).replace(day=1), f"{first.year:04d}-{first.month:02d}"
    return Period(f"{budget.period}:{label}:{budget.time_zone}", _midnight(first, zone), _midnight(following, zone))


def _midnight(day: date, zone: tzinfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()


def balances_of(scope: str, budgets: Sequence[BudgetSettings], at: float) -> list[Balance]:
    """One balance a period; of two budgets for the same period the smaller holds."""
    found: dict[str, Balance] = {}
    for budget in budgets:
        period = period_of(budget, at)
        limit = nanodollars_from_usd(budget.limit_usd)
        known = found.get(period.name)
        if known is None or limit < known.limit_nanodollars:
            found[period.name] = Balance(scope, period.name, period.since, period.until, limit)
    return list(found.values())


class Budgets:
    """Plain calls, cheap enough for every call: a key's balances are made once a period."""

    def __init__(self, catalogue: Catalogue, findings: Findings) -> None:
        self._catalogue = catalogue
        self._findings = findings
        self._version = -1
        self._kept: dict[str, _Kept] = {}
        self._marks: dict[tuple[str, str], _Mark] = {}
        self._opened: dict[tuple[str, str, str], float] = {}

    def balances_for(self, principal: Principal, at: float) -> tuple[Balance, ...]:
        """What a call of this key counts against, organisation first; the same tuple until a period or a budget changes."""
        if self._version != self._catalogue.version:
            self._kept, self._marks, self._version = {}, {}, self._catalogue.version
        kept = self._kept.get(principal.key_id)
        if kept is not None and kept.since <= at < kept.until:
            return kept.balances
        balances: list[Balance] = []
        for scope, limits in self._catalogue.limits_of(principal):
            balances.extend(balances_of(scope, limits.budgets, at))
            self._mark(scope, limits.budgets, at)
        since = max((balance.since for balance in balances), default=-FOREVER)
        until = min((balance.until for balance in balances), default=FOREVER)
        self._kept[principal.key_id] = _Kept(tuple(balances), since, until)
        return self._kept[principal.key_id].balances

    def noticed(self, balances: Sequence[Balance], held: Sequence[Held]) -> None:
        """What a reservation found: passing the soft threshold, or the limit, is a finding until the period ends or the
        budget grows."""
        for now in held:
            mark = self._marks.get((now.scope, now.period))
            if mark is None:
                continue
            spent = now.spent_nanodollars
            if spent >= mark.soft_nanodollars:
                self._open(SOFT, now, mark)
                if spent >= mark.limit_nanodollars:
                    self._open(SPENT, now, mark)
            elif self._opened:
                self._clear(SOFT, now.scope, now.period)
            if spent < mark.limit_nanodollars and self._opened:
                self._clear(SPENT, now.scope, now.period)

    def refused(self, refused: Refused) -> None:
        """A call did not fit into its budget any more."""
        balance = refused.balance
        self._open(SPENT, refused.held, _Mark(0, balance.limit_nanodollars, balance.until))

    def sweep(self, at: float) -> None:
        """Clear the findings of periods that ended."""
        for code, scope, period in [key for key, until in self._opened.items() if until <= at]:
            self._clear(code, scope, period)
        for name in [name for name, mark in self._marks.items() if mark.until <= at]:
            del self._marks[name]

    def _mark(self, scope: str, budgets: Sequence[BudgetSettings], at: float) -> None:
        for budget in budgets:
            period = period_of(budget, at)
            limit = nanodollars_from_usd(budget.limit_usd)
            known = self._marks.get((scope, period.name))
            if known is None or limit <= known.limit_nanodollars:
                self._marks[scope, period.name] = _Mark(int(limit * budget.soft), limit, period.until)

    def _open(self, code: str, held: Held, mark: _Mark) -> None:
        key = (code, held.scope, held.period)
        if key in self._opened:
            return
        self._opened[key] = mark.until
        spent, limit = usd_from_nanodollars(held.spent_nanodollars), usd_from_nanodollars(mark.limit_nanodollars)
        ended = "has passed its soft threshold" if code == SOFT else "is spent or reserved: calls are refused"
        self._findings.open(
            code,
            subject_of(held.scope, held.period),
            what=f"The budget of {held.scope} for {held.period} {ended}: ${spent} of ${limit} spent.",
            todo="Raise the budget, or find out who spends it: GET /api/usage. The next period begins by itself.",
            severity="warning" if code == SOFT else "error",
        )

    def _clear(self, code: str, scope: str, period: str) -> None:
        if self._opened.pop((code, scope, period), None) is not None:
            self._findings.clear(code, subject_of(scope, period))


def subject_of(scope: str, period: str) -> str:
    return f"{scope} {period}"
