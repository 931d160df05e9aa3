from dataclasses import dataclass, field

import pytest

from holdfast.features.tenancy.model import OWNER, Asker
from holdfast.features.tenancy.settings import TenancySettings
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.findings import Findings
from tests.features.tenancy.memory import MemoryCalls, MemoryMoney, MemoryStore

START = 1_790_000_000.0


@dataclass
class Node:
    """One process over a store that others may share."""

    store: MemoryStore
    calls: MemoryCalls
    money: MemoryMoney
    clock: VirtualClock
    findings: Findings
    tenancy: Tenancy
    owner: Asker = field(default_factory=lambda: Asker(OWNER, "req_test"))

    def beside(self) -> "Node":
        """Another process over the same store."""
        return make_node(self.store, self.calls, self.money, self.clock)

    def codes(self) -> set[str]:
        return {finding.code for finding in self.findings.all()}


def make_node(store: MemoryStore, calls: MemoryCalls, money: MemoryMoney, clock: VirtualClock) -> Node:
    findings = Findings(clock)
    tenancy = Tenancy(
        TenancySettings(), directory=store, record=store, calls=calls, money=money, findings=findings, clock=clock
    )
    return Node(store, calls, money, clock, findings, tenancy)


@pytest.fixture
async def node() -> Node:
    made = make_node(MemoryStore(), MemoryCalls(), MemoryMoney(), VirtualClock(START))
    await made.tenancy.catalogue.refresh()
    return made
