"""Reports show what the asker sees, and never more."""

import pytest

from holdfast.features.tenancy.budgets import period_of
from holdfast.features.tenancy.keys import NewKey
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.errors import NotFoundError, PermissionDeniedError
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from holdfast.ports.calls import CallOpened, CallRow, Window
from holdfast.ports.money import Held
from tests.features.tenancy.conftest import START, Node

SEARCH, ADS, WEB = Tenant("acme", "search"), Tenant("acme", "ads"), Tenant("globex", "web")
BUDGETS = LimitSettings(budgets=(BudgetSettings(limit_usd="10"),))


def call(number: int, tenant: Tenant, key_id: str = "key_x") -> CallRow:
    opened = CallOpened(
        id=f"call_{number:032x}",
        request_id="req",
        organisation=tenant.organisation,
        team=tenant.team,
        key_id=key_id,
        end_user=None,
        operation="chat.completions",
        route="m",
        model="m",
        lane="u/m",
        node="node",
        opened_at=START - number,
        stream=False,
        reserved_nanodollars=0,
        estimated_input_tokens=1,
        estimated_output_tokens=1,
    )
    return CallRow(opened, None)


@pytest.fixture
async def town(node: Node) -> Node:
    for tenant in (SEARCH, ADS, WEB):
        if tenant.organisation not in node.tenancy.catalogue.snapshot.organisations:
            await node.tenancy.organisations.create(node.owner, tenant.organisation, BUDGETS)
        await node.tenancy.teams.create(node.owner, tenant, BUDGETS)
    node.calls.rows = [call(number, tenant) for number, tenant in enumerate((SEARCH, ADS, WEB, DEFAULT_TENANT))]
    return node


async def asker(node: Node, role: Role, tenant: Tenant) -> Asker:
    made = await node.tenancy.keys.create(node.owner, NewKey(name=str(role), tenant=tenant, role=role))
    return Asker(node.tenancy.authenticate(made.secret))


def everything(organisation: str | None = None, team: str | None = None, key_id: str | None = None) -> Window:
    return Window(START - 1000, START + 1, organisation, team, key_id)


@pytest.mark.parametrize(
    ("role", "tenant", "seen"),
    [
        (Role.OPERATOR, DEFAULT_TENANT, {SEARCH, ADS, WEB, DEFAULT_TENANT}),
        (Role.ADMIN, SEARCH, {SEARCH, ADS}),
        (Role.OPERATOR, SEARCH, {SEARCH}),
        (Role.ADMIN, WEB, {WEB}),
    ],
)
async def test_calls_are_those_the_key_sees(town: Node, role: Role, tenant: Tenant, seen: set[Tenant]) -> None:
    who = await asker(town, role, tenant)
    _, rows = await town.tenancy.reports.calls(who, everything())
    assert {Tenant(row.opened.organisation, row.opened.team) for row in rows} == seen
    for row in town.calls.rows:
        if Tenant(row.opened.organisation, row.opened.team) in seen:
            assert await town.tenancy.reports.call(who, row.opened.id) == row
        else:
            with pytest.raises(NotFoundError):
                await town.tenancy.reports.call(who, row.opened.id)


async def test_a_foreign_filter_is_not_found_whether_or_not_it_exists(town: Node) -> None:
    who = await asker(town, Role.ADMIN, SEARCH)
    for organisation in ("globex", "nowhere"):
        with pytest.raises(NotFoundError):
            await town.tenancy.reports.usage(who, everything(organisation=organisation), [])
    operator = await asker(town, Role.OPERATOR, SEARCH)
    with pytest.raises(NotFoundError):
        await town.tenancy.reports.calls(operator, everything(team="ads"))
    _, rows = await town.tenancy.reports.calls(operator, everything(key_id="key_x"))
    assert {row.opened.team for row in rows} == {"search"}


async def test_roles_open_one_report_after_the_other(town: Node) -> None:
    none, viewer, operator = [
        await asker(town, role, DEFAULT_TENANT) for role in (Role.NONE, Role.VIEWER, Role.OPERATOR)
    ]
    reports = town.tenancy.reports
    for ask in (
        reports.usage(none, everything(), []),
        reports.budgets(none),
        reports.calls(viewer, everything()),
        reports.audit(operator),
    ):
        with pytest.raises(PermissionDeniedError):
            await ask
    with pytest.raises(PermissionDeniedError):
        reports.findings(viewer)
    await reports.usage(viewer, everything(), ["team"])
    await reports.budgets(viewer)
    await reports.calls(operator, everything())
    reports.findings(operator)


async def test_a_window_is_bounded_and_an_empty_one_asks_nothing(town: Node) -> None:
    seen, _ = await town.tenancy.reports.usage(town.owner, Window(0, START), [])
    assert seen.until - seen.since == 400 * 86_400
    town.calls.windows.clear()
    for window in (Window(START, START), Window(START, START - 5)):
        assert (await town.tenancy.reports.usage(town.owner, window, []))[1] == []
        assert (await town.tenancy.reports.calls(town.owner, window))[1] == []
    assert town.calls.windows == []


async def test_budgets_say_what_is_held(town: Node) -> None:
    period = period_of(BUDGETS.budgets[0], START).name
    town.money.balances["team:acme/search", period] = Held("team:acme/search", period, 7, 3)
    admin, operator = await asker(town, Role.ADMIN, SEARCH), await asker(town, Role.OPERATOR, SEARCH)
    page = await town.tenancy.reports.budgets(admin)
    assert [one.balance.scope for one in page.standings] == ["org:acme", "team:acme/ads", "team:acme/search"]
    (mine,) = (await town.tenancy.reports.budgets(operator)).standings
    assert (mine.held.spent_nanodollars, mine.held.reserved_nanodollars) == (7, 3)
    first = await town.tenancy.reports.budgets(admin, limit=2)
    assert first.after == "team:acme/ads"
    rest = await town.tenancy.reports.budgets(admin, limit=2, after=first.after)
    assert [one.balance.scope for one in rest.standings] == ["team:acme/search"]
    assert rest.after is None


async def test_findings_are_those_about_what_the_key_sees(town: Node) -> None:
    for subject in ("org:acme month", "team:acme/search month", "team:acme/ads month", "org:globex month", "directory"):
        town.findings.open("code", subject, what="w", todo="t")

    def subjects(who: Asker) -> set[str]:
        return {finding.subject for finding in town.tenancy.reports.findings(who)}

    assert len(subjects(town.owner)) == 5
    admin = await asker(town, Role.ADMIN, SEARCH)
    assert subjects(admin) == {"org:acme month", "team:acme/search month", "team:acme/ads month"}
    assert subjects(await asker(town, Role.OPERATOR, SEARCH)) == {"team:acme/search month"}


async def test_the_audit_of_the_instance_is_for_its_administrators(town: Node) -> None:
    assert len(await town.tenancy.reports.audit(town.owner)) == 5
    admin = await asker(town, Role.ADMIN, SEARCH)
    with pytest.raises(PermissionDeniedError):
        await town.tenancy.reports.audit(admin)
    assert len(await town.tenancy.reports.audit(admin, subject="team:acme/ads")) == 1
    for foreign in ("team:globex/web", "org:globex", "key:key_00000000000000000000000000000000", "nonsense"):
        with pytest.raises(NotFoundError):
            await town.tenancy.reports.audit(admin, subject=foreign)
