"""Periods are what a wall calendar says; soft and spent budgets are findings until the period ends."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.features.tenancy.budgets import Period, balances_of, period_of
from holdfast.features.tenancy.keys import KeyEdit, NewKey
from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.tenant import Principal
from holdfast.ports.money import Held, Refused
from tests.features.tenancy.conftest import Node

# Clocks that jump at midnight, by half an hour, by a whole day, and not at all.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Havana",
]
USD = 1_000_000_000


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def budget(period: str = "month", zone: str = "UTC", limit: str = "10", soft: float = 0.8) -> BudgetSettings:
    return BudgetSettings(limit_usd=limit, period=period, time_zone=zone, soft=soft)


@pytest.mark.parametrize(
    ("period", "zone", "moment", "name", "first", "last"),
    [
        ("month", "UTC", "2026-11-20T12:00", "month:2026-11:UTC", "2026-11-01", "2026-12-01"),
        ("month", "UTC", "2026-12-31T23:59:59", "month:2026-12:UTC", "2026-12-01", "2027-01-01"),
        ("month", "UTC", "2028-02-29T12:00", "month:2028-02:UTC", "2028-02-01", "2028-03-01"),
        ("week", "UTC", "2026-11-22T23:00", "week:2026-11-16:UTC", "2026-11-16", "2026-11-23"),
        ("week", "UTC", "2026-11-23T00:00", "week:2026-11-23:UTC", "2026-11-23", "2026-11-30"),
        ("week", "UTC", "2027-01-01T00:00", "week:2026-12-28:UTC", "2026-12-28", "2027-01-04"),
        ("day", "Europe/Berlin", "2026-11-20T00:00", "day:2026-11-20:Europe/Berlin", "2026-11-20", "2026-11-21"),
    ],
)
def test_a_period_is_that_of_the_calendar(
    period: str, zone: str, moment: str, name: str, first: str, last: str
) -> None:
    assert period_of(budget(period, zone), at(moment, zone)) == Period(name, at(first, zone), at(last, zone))


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Sao_Paulo", "2018-11-04", 23),  # its midnight does not exist
        ("America/Sao_Paulo", "2018-02-17", 25),  # its last hour comes twice
        ("America/Havana", "2026-11-01", 25),  # its first hour comes twice
        ("Asia/Kathmandu", "2026-06-01", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, day: str, hours: float) -> None:
    period = period_of(budget("day", zone), at(f"{day}T12:00", zone))
    assert period.name == f"day:{day}:{zone}"
    assert period.until - period.since == hours * 3600


def test_a_day_that_a_country_left_out_is_no_period() -> None:
    before = period_of(budget("day", "Pacific/Apia"), at("2011-12-29T12:00", "Pacific/Apia"))
    after = period_of(budget("day", "Pacific/Apia"), before.until)
    assert after.name == "day:2011-12-31:Pacific/Apia"
    assert (before.until - before.since, after.until - after.since) == (86_400, 86_400)


def test_one_moment_is_another_day_elsewhere() -> None:
    moment = at("2026-11-20T23:30")
    assert period_of(budget("day"), moment).name.startswith("day:2026-11-20")
    assert period_of(budget("day", "Asia/Kathmandu"), moment).name.startswith("day:2026-11-21")


@given(
    moment=st.integers(946_684_800, 2_524_608_000).map(float),
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(["day", "week", "month"]),
)
def test_periods_cover_all_time_without_gap_or_overlap(moment: float, zone: str, period: str) -> None:
    wanted = budget(period, zone)
    found = period_of(wanted, moment)
    assert found.since <= moment < found.until
    assert period_of(wanted, found.since) == found
    following = period_of(wanted, found.until)
    assert following.since == found.until
    assert following.name != found.name
    assert period_of(wanted, found.until - 0.001) == found
    assert timedelta(seconds=found.until - found.since) >= timedelta(hours=20)


def test_of_two_budgets_for_one_period_the_smaller_holds() -> None:
    balances = balances_of("org:acme", (budget(limit="10"), budget(limit="2.5"), budget("day")), at("2026-11-20T12:00"))
    assert [(balance.period, balance.limit_nanodollars) for balance in balances] == [
        ("month:2026-11:UTC", 5 * USD // 2),
        ("day:2026-11-20:UTC", 10 * USD),
    ]


async def budgeted(node: Node, *budgets: BudgetSettings) -> Principal:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci", limits=LimitSettings(budgets=budgets)))
    return node.tenancy.authenticate(made.secret)


def spend(node: Node, principal: Principal, dollars: float, reserved: float = 0) -> None:
    balances = node.tenancy.balances_for(principal, node.clock.now())
    held = [Held(balance.scope, balance.period, int(dollars * USD), int(reserved * USD)) for balance in balances]
    node.tenancy.noticed(balances, held)


async def test_balances_are_those_of_organisation_team_and_key(node: Node) -> None:
    await node.tenancy.organisations.update(node.owner, "default", LimitSettings(budgets=(budget(limit="100"),)))
    principal = await budgeted(node, budget("day"))
    now = node.clock.now()
    balances = node.tenancy.balances_for(principal, now)
    assert [balance.scope for balance in balances] == ["org:default", f"key:{principal.key_id}"]
    assert node.tenancy.balances_for(principal, now + 1) is balances
    tomorrow = node.tenancy.balances_for(principal, balances[1].until)
    assert tomorrow[0] == balances[0]
    assert tomorrow[1].since == balances[1].until
    await node.tenancy.keys.update(node.owner, principal.key_id, KeyEdit(limits=LimitSettings()))
    assert [balance.scope for balance in node.tenancy.balances_for(principal, now)] == ["org:default"]


async def test_a_key_without_a_budget_has_no_balance(node: Node) -> None:
    assert node.tenancy.balances_for(await budgeted(node), node.clock.now()) == ()


async def test_passing_the_soft_threshold_is_one_finding_until_the_next_period(node: Node) -> None:
    principal = await budgeted(node, budget("day", soft=0.5))
    spend(node, principal, 4.99)
    assert node.codes() == set()
    for _ in range(3):
        spend(node, principal, 5)
    (finding,) = node.findings.all()
    assert (finding.code, finding.count) == ("budget_soft", 1)
    assert finding.subject == f"key:{principal.key_id} day:2026-09-21:UTC"
    assert "$5.00 of $10.00" in finding.what
    node.tenancy.budgets.sweep(node.clock.now())
    assert node.codes() == {"budget_soft"}
    node.tenancy.budgets.sweep(at("2026-09-22T00:00"))
    assert node.codes() == set()


async def test_a_spent_budget_and_a_refused_call_are_findings(node: Node) -> None:
    principal = await budgeted(node, budget("day"))
    spend(node, principal, 10)
    assert node.codes() == {"budget_soft", "budget_spent"}
    spend(node, principal, 1)
    assert node.codes() == set()
    (balance,) = node.tenancy.balances_for(principal, node.clock.now())
    node.tenancy.refused(Refused(balance, Held(balance.scope, balance.period, 0, 10 * USD)))
    assert node.codes() == {"budget_spent"}


async def test_a_budget_that_grew_is_no_finding_any_more(node: Node) -> None:
    principal = await budgeted(node, budget("day"))
    spend(node, principal, 9)
    assert node.codes() == {"budget_soft"}
    limits = LimitSettings(budgets=(budget("day", limit="1000"),))
    await node.tenancy.keys.update(node.owner, principal.key_id, KeyEdit(limits=limits))
    spend(node, principal, 9)
    assert node.codes() == set()
