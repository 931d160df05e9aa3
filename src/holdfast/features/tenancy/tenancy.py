"""The feature put together: what the gateway, the control API and the command line are handed."""

from contextlib import suppress

from holdfast.features.tenancy.bootstrap import Bootstrap
from holdfast.features.tenancy.budgets import Budgets
from holdfast.features.tenancy.catalogue import Catalogue
from holdfast.features.tenancy.keys import Keys
from holdfast.features.tenancy.ledger import Ledger
from holdfast.features.tenancy.organisations import Organisations, Teams
from holdfast.features.tenancy.settings import TenancySettings
from holdfast.features.tenancy.usage import Reports
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.findings import Findings
from holdfast.ports.calls import Calls
from holdfast.ports.directory import Directory
from holdfast.ports.money import Money
from holdfast.ports.record import Record


class Tenancy:
    """At start: `catalogue.refresh()`, `catalogue.apply_file(...)`, `bootstrap.ensure(...)`; then `follow()` for as long as the
    process lives, and `catalogue.apply_file(...)` whenever the file changed."""

    def __init__(
        self,
        settings: TenancySettings,
        *,
        directory: Directory,
        record: Record,
        calls: Calls,
        money: Money,
        findings: Findings,
        clock: Clock,
    ) -> None:
        self._poll_seconds = settings.poll_seconds
        self._clock = clock
        self.catalogue = Catalogue(directory, clock, findings)
        self.budgets = Budgets(self.catalogue, findings)
        ledger = Ledger(self.catalogue, record, clock)
        self.keys = Keys(self.catalogue, ledger, clock, settings.rotation_overlap_seconds)
        self.organisations = Organisations(self.catalogue, ledger)
        self.teams = Teams(self.catalogue, ledger)
        self.reports = Reports(self.catalogue, calls, money, directory, findings, clock)
        self.bootstrap = Bootstrap(self.catalogue, ledger, clock, findings)
        self.authenticate = self.catalogue.authenticate
        self.limits_of = self.catalogue.limits_of
        self.balances_for = self.budgets.balances_for
        self.noticed = self.budgets.noticed
        self.refused = self.budgets.refused

    @property
    def version(self) -> int:
        """Grows whenever an answer of `authenticate`, `limits_of` or `balances_for` may have changed by more than time."""
        return self.catalogue.version

    async def follow(self) -> None:
        """Learn what other nodes change, every `tenancy.poll_seconds`, until cancelled. While the store is away: what is known goes on."""
        while True:
            await self._clock.sleep(self._poll_seconds)
            with suppress(StoreUnavailableError):  # the catalogue keeps its snapshot and opens a finding
                await self.catalogue.refresh()
            self.budgets.sweep(self._clock.now())
