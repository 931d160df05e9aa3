"""Who used what, what it cost, and what is left: read-only, and never more than the asker sees."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from holdfast.features.tenancy.budgets import balances_of
from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.sight import Sight, narrowed, need, need_everywhere
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import NotFoundError
from holdfast.kernel.findings import Finding, Findings
from holdfast.kernel.tenant import Role, Tenant
from holdfast.ports.calls import CallRow, Calls, GroupBy, UsageRow, Window
from holdfast.ports.directory import Audited, Directory
from holdfast.ports.money import Balance, Held, Money

LONGEST_WINDOW_SECONDS = 400 * 86_400.0
SCOPES_A_PAGE = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget in its current period."""

    balance: Balance
    held: Held


@dataclass(frozen=True, slots=True)
class StandingPage:
    """`after` is the scope where the next page begins, None at the end."""

    standings: tuple[Standing, ...]
    after: str | None


class Reports:
    """Every verb raises PermissionDeniedError where the role does not reach, NotFoundError for what the asker cannot see."""

    def __init__(
        self, catalogue: Catalogue, calls: Calls, money: Money, directory: Directory, findings: Findings, clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._calls = calls
        self._money = money
        self._directory = directory
        self._findings = findings
        self._clock = clock

    async def usage(
        self, asker: Asker, window: Window, by: Sequence[GroupBy], *, limit: int = 1000
    ) -> tuple[Window, list[UsageRow]]:
        """Sums by group, with the window they are really of: within what the asker sees, and of bounded length."""
        seen = self._seen(need(asker, Role.VIEWER), window)
        if seen.since >= seen.until:
            return seen, []
        return seen, await self._calls.usage(seen, by, limit=limit)

    async def calls(
        self, asker: Asker, window: Window, *, limit: int = 100, before: tuple[float, str] | None = None
    ) -> tuple[Window, list[CallRow]]:
        """Newest first."""
        seen = self._seen(need(asker, Role.OPERATOR), window)
        if seen.since >= seen.until:
            return seen, []
        return seen, await self._calls.page(seen, limit=limit, before=before)

    async def call(self, asker: Asker, call_id: str) -> CallRow:
        sight = need(asker, Role.OPERATOR)
        row = await self._calls.get(call_id)
        if row is None or not sight.sees(Tenant(row.opened.organisation, row.opened.team)):
            raise NotFoundError("There is no such call.", param="id")
        return row

    async def budgets(
        self,
        asker: Asker,
        *,
        organisation: str | None = None,
        team: str | None = None,
        limit: int = SCOPES_A_PAGE,
        after: str | None = None,
    ) -> StandingPage:
        """What each budget holds in its current period, in the order of scopes."""
        organisation, team = narrowed(need(asker, Role.VIEWER), organisation, team)
        at = self._clock.now()
        budgeted = self._catalogue.snapshot.budgeted
        start = 0 if after is None else bisect_right(budgeted, after, key=lambda one: one.scope)
        visible = (
            one
            for one in budgeted[start:]
            if (organisation is None or one.tenant.organisation == organisation)
            and (team is None or one.tenant.team == team)
        )
        scopes = list(islice(visible, limit + 1))
        page = scopes[:limit]
        balances = [balance for one in page for balance in balances_of(one.scope, one.budgets, at)]
        held = await self._money.held(balances)
        standings = tuple(Standing(balance, now) for balance, now in zip(balances, held, strict=True))
        return StandingPage(standings, page[-1].scope if len(scopes) > limit else None)

    async def audit(
        self, asker: Asker, *, subject: str | None = None, limit: int = 100, before: tuple[float, str] | None = None
    ) -> Sequence[Audited]:
        """Newest first. Without a subject it concerns the whole instance."""
        sight = need(asker, Role.ADMIN)
        if subject is None:
            need_everywhere(asker, Role.ADMIN)
        elif not self._sees_scope(sight, subject):
            raise NotFoundError("There is no such subject.", param="subject")
        return await self._directory.audit(limit=limit, before=before, subject=subject)

    def findings(self, asker: Asker) -> list[Finding]:
        """Oldest first; those about the instance only for keys of the instance."""
        sight = need(asker, Role.OPERATOR)
        return [
            finding for finding in self._findings.all() if self._sees_scope(sight, finding.subject.partition(" ")[0])
        ]

    def _seen(self, sight: Sight, window: Window) -> Window:
        organisation, team = narrowed(sight, window.organisation, window.team)
        since = max(window.since, window.until - LONGEST_WINDOW_SECONDS)
        return replace(window, since=since, organisation=organisation, team=team)

    def _sees_scope(self, sight: Sight, scope: str) -> bool:
        if sight.everywhere:
            return True
        kind, _, name = scope.partition(":")
        if kind == "key":
            entry = self._catalogue.snapshot.keys.get(name)
            return entry is not None and sight.sees(entry.principal.tenant)
        organisation, _, team = name.partition("/")
        if kind == "team":
            return sight.sees(Tenant(organisation, team))
        return kind == "org" and sight.team is None and sight.sees_organisation(organisation)
