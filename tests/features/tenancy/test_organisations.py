"""Organisations and teams: who may write them, and that nobody's home is deleted."""

import asyncio

import pytest

from holdfast.features.tenancy.keys import NewKey
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.kernel.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from holdfast.kernel.tenant import Role, Tenant
from tests.features.tenancy.conftest import Node

SEARCH = Tenant("acme", "search")


async def acme(node: Node) -> None:
    await node.tenancy.organisations.create(node.owner, "acme")
    await node.tenancy.teams.create(node.owner, SEARCH)


async def member(node: Node, role: Role, tenant: Tenant = SEARCH) -> Asker:
    made = await node.tenancy.keys.create(node.owner, NewKey(name=f"{role}", tenant=tenant, role=role))
    return Asker(node.tenancy.authenticate(made.secret))


async def test_limits_are_replaced_whole_and_reach_the_keys(node: Node) -> None:
    await acme(node)
    viewer = await member(node, Role.VIEWER)
    await node.tenancy.organisations.update(node.owner, "acme", LimitSettings(concurrent=3, requests_per_minute=9))
    await node.tenancy.organisations.update(node.owner, "acme", LimitSettings(concurrent=4))
    await node.tenancy.teams.update(node.owner, SEARCH, LimitSettings(tokens_per_minute=7))
    organisation, team, _ = (limits for _, limits in node.tenancy.limits_of(viewer.principal))
    assert organisation == LimitSettings(concurrent=4)
    assert team == LimitSettings(tokens_per_minute=7)


async def test_what_has_keys_is_not_deleted(node: Node) -> None:
    await acme(node)
    viewer = await member(node, Role.VIEWER)
    for deletion in (
        node.tenancy.teams.delete(node.owner, SEARCH),
        node.tenancy.organisations.delete(node.owner, "acme"),
    ):
        with pytest.raises(ConflictError, match="still has 1 keys, viewer among them"):
            await deletion
    await node.tenancy.keys.revoke(node.owner, viewer.principal.key_id)
    await node.tenancy.organisations.delete(node.owner, "acme")
    with pytest.raises(NotFoundError):
        node.tenancy.organisations.get(node.owner, "acme")
    with pytest.raises(NotFoundError):
        node.tenancy.teams.get(node.owner, SEARCH)


async def test_a_deleted_name_can_be_taken_again(node: Node) -> None:
    await acme(node)
    await node.tenancy.teams.update(node.owner, SEARCH, LimitSettings(concurrent=1))
    await node.tenancy.organisations.delete(node.owner, "acme")
    await acme(node)
    assert node.tenancy.teams.get(node.owner, SEARCH).limits == LimitSettings()


async def test_a_key_and_the_deletion_of_its_team_never_both_succeed(node: Node) -> None:
    for number in range(10):
        tenant = Tenant(f"o{number}", "t")
        await node.tenancy.organisations.create(node.owner, tenant.organisation)
        await node.tenancy.teams.create(node.owner, tenant)
        other = node.beside()
        await other.tenancy.catalogue.refresh()
        deleted, made = await asyncio.gather(
            other.tenancy.teams.delete(node.owner, tenant),
            node.tenancy.keys.create(node.owner, NewKey(name="k", tenant=tenant)),
            return_exceptions=True,
        )
        assert (deleted is None) == isinstance(made, NotFoundError)
        if not isinstance(made, BaseException):
            await node.tenancy.catalogue.refresh()
            assert node.tenancy.authenticate(made.secret).tenant == tenant


async def test_a_team_and_the_deletion_of_its_organisation_never_both_succeed(node: Node) -> None:
    await node.tenancy.organisations.create(node.owner, "acme")
    other = node.beside()
    await other.tenancy.catalogue.refresh()
    node.store.before_commit = None
    outcomes = await asyncio.gather(
        other.tenancy.organisations.delete(node.owner, "acme"),
        node.tenancy.teams.create(node.owner, SEARCH),
        return_exceptions=True,
    )
    await node.tenancy.catalogue.refresh()
    snapshot = node.tenancy.catalogue.snapshot
    assert (SEARCH in snapshot.teams) == ("acme" in snapshot.organisations)
    assert not isinstance(outcomes[0], BaseException) or isinstance(outcomes[0], ConflictError)


async def test_an_administrator_of_an_organisation_writes_teams_and_not_organisations(node: Node) -> None:
    await acme(node)
    await node.tenancy.organisations.create(node.owner, "globex")
    admin = await member(node, Role.ADMIN)
    await node.tenancy.teams.create(admin, Tenant("acme", "ads"))
    await node.tenancy.teams.update(admin, Tenant("acme", "ads"), LimitSettings(concurrent=1))
    await node.tenancy.teams.delete(admin, Tenant("acme", "ads"))
    for refused in (
        node.tenancy.organisations.create(admin, "initech"),
        node.tenancy.organisations.update(admin, "acme", LimitSettings()),
        node.tenancy.organisations.delete(admin, "acme"),
    ):
        with pytest.raises(PermissionDeniedError, match="whole instance"):
            await refused
    for foreign in (
        node.tenancy.organisations.update(admin, "globex", LimitSettings()),
        node.tenancy.organisations.delete(admin, "globex"),
        node.tenancy.teams.create(admin, Tenant("globex", "web")),
        node.tenancy.teams.create(admin, Tenant("nowhere", "web")),
    ):
        with pytest.raises(NotFoundError):
            await foreign
    assert [entry.name for entry in node.tenancy.organisations.page(admin).organisations] == ["acme"]


async def test_a_viewer_sees_its_team_alone(node: Node) -> None:
    await acme(node)
    await node.tenancy.teams.create(node.owner, Tenant("acme", "ads"))
    viewer = await member(node, Role.VIEWER)
    assert [entry.tenant for entry in node.tenancy.teams.page(viewer, "acme").teams] == [SEARCH]
    with pytest.raises(NotFoundError):
        node.tenancy.teams.get(viewer, Tenant("acme", "ads"))
    with pytest.raises(NotFoundError):
        node.tenancy.teams.page(viewer, "default")
    with pytest.raises(PermissionDeniedError):
        await node.tenancy.teams.update(viewer, SEARCH, LimitSettings())


async def test_names_and_limits_are_checked(node: Node) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        await node.tenancy.organisations.create(node.owner, "a/b")
    with pytest.raises(InvalidRequestError, match="concurrent"):
        await node.tenancy.organisations.create(node.owner, "acme", LimitSettings(concurrent=0))
    await acme(node)
    with pytest.raises(ConflictError, match="already"):
        await node.tenancy.organisations.create(node.owner, "acme")
    with pytest.raises(ConflictError, match="already"):
        await node.tenancy.teams.create(node.owner, SEARCH)


async def test_changes_on_old_versions_are_refused(node: Node) -> None:
    await acme(node)
    organisation = node.tenancy.organisations.get(node.owner, "acme")
    team = node.tenancy.teams.get(node.owner, SEARCH)
    for change in (
        node.tenancy.organisations.update(node.owner, "acme", LimitSettings(), expect_version=organisation.version - 1),
        node.tenancy.organisations.delete(node.owner, "acme", expect_version=organisation.version - 1),
        node.tenancy.teams.update(node.owner, SEARCH, LimitSettings(), expect_version=team.version - 1),
        node.tenancy.teams.delete(node.owner, SEARCH, expect_version=team.version - 1),
    ):
        with pytest.raises(ConflictError, match="by now"):
            await change


async def test_pages_hold_every_name_once(node: Node) -> None:
    for number in range(7):
        await node.tenancy.organisations.create(node.owner, f"o{number}")
    for number in range(7):
        await node.tenancy.teams.create(node.owner, Tenant("o1", f"t{number}"))
    names: list[str] = []
    teams: list[str] = []
    after: str | None = None
    while True:
        page = node.tenancy.organisations.page(node.owner, limit=3, after=after)
        names += [entry.name for entry in page.organisations]
        after = page.after
        if after is None:
            break
    while True:
        team_page = node.tenancy.teams.page(node.owner, "o1", limit=3, after=after)
        teams += [entry.tenant.team for entry in team_page.teams]
        after = team_page.after
        if after is None:
            break
    assert names == ["default", *(f"o{number}" for number in range(7))]
    assert teams == [f"t{number}" for number in range(7)]


async def test_a_key_made_in_a_team_does_not_survive_its_deletion_unnoticed(node: Node) -> None:
    await acme(node)
    viewer = await node.tenancy.keys.create(node.owner, NewKey(name="k", tenant=SEARCH))
    await node.tenancy.keys.revoke(node.owner, viewer.entry.key.id)
    await node.tenancy.teams.delete(node.owner, SEARCH)
    with pytest.raises(AuthenticationError, match="revoked"):
        node.tenancy.authenticate(viewer.secret)
