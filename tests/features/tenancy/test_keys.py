"""Keys: the secret is said once, what it opens ends when it should, every change is audited and conditional."""

import asyncio
import json
from dataclasses import asdict

import pytest

from holdfast.features.tenancy.keys import KeyEdit, NewKey
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.settings import BudgetSettings, LimitSettings
from holdfast.kernel.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    StoreUnavailableError,
)
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from tests.features.tenancy.conftest import Node

ACME = Tenant("acme", "search")


async def make_team(node: Node, tenant: Tenant = ACME) -> None:
    if tenant.organisation not in node.tenancy.catalogue.snapshot.organisations:
        await node.tenancy.organisations.create(node.owner, tenant.organisation)
    await node.tenancy.teams.create(node.owner, tenant)


async def asker(node: Node, role: Role, tenant: Tenant = DEFAULT_TENANT, name: str | None = None) -> Asker:
    made = await node.tenancy.keys.create(node.owner, NewKey(name=name or f"{role}-key", tenant=tenant, role=role))
    return Asker(node.tenancy.authenticate(made.secret), "req_1")


async def test_a_made_key_opens_what_it_says(node: Node) -> None:
    made = await node.tenancy.keys.create(
        node.owner, NewKey(name="ci", models=("gpt-5",), tags=("a",), role=Role.VIEWER)
    )
    principal = node.tenancy.authenticate(made.secret)
    assert principal.key_id == made.entry.key.id
    assert (principal.key_name, principal.tenant, principal.role) == ("ci", DEFAULT_TENANT, Role.VIEWER)
    assert principal.may_use("gpt-5")
    assert not principal.may_use("other")
    assert made.entry.key.version == node.store.version


async def test_the_secret_is_nowhere_but_in_the_answer(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    rotated = await node.tenancy.keys.rotate(node.owner, made.entry.key.id)
    kept = json.dumps([asdict(row) for row in node.store.rows.values()], default=str)
    audit = json.dumps([asdict(row) for row in node.store.audits], default=str)
    for secret in (made.secret, rotated.secret):
        assert secret not in kept + audit
        assert secret not in repr(node.tenancy.catalogue.snapshot)
    for digest, _ in rotated.entry.key.hashes:
        assert digest not in audit


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (None, "No API key"),
        ("", "No API key"),
        ("hf-wrong", "not known"),
        ("\ud800", "not known"),
        ("hf-" + "é" * 9, "not known"),
    ],
)
async def test_what_opens_nothing_is_told_apart(node: Node, secret: str | None, said: str) -> None:
    with pytest.raises(AuthenticationError, match=said) as caught:
        node.tenancy.authenticate(secret)
    assert "wrong" not in caught.value.message


async def test_an_expired_key_says_since_when(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci", expires_at=node.clock.now() + 10))
    node.tenancy.authenticate(made.secret)
    await node.clock.advance(10)
    with pytest.raises(AuthenticationError, match=r"expired at 2026-09-21T"):
        node.tenancy.authenticate(made.secret)


async def test_both_secrets_of_a_rotation_open_until_the_overlap_ends(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    rotated = await node.tenancy.keys.rotate(node.owner, made.entry.key.id, overlap_seconds=60)
    assert rotated.entry.key.id == made.entry.key.id
    for secret in (made.secret, rotated.secret):
        assert node.tenancy.authenticate(secret).key_id == made.entry.key.id
    await node.clock.advance(60)
    node.tenancy.authenticate(rotated.secret)
    with pytest.raises(AuthenticationError, match="rotated"):
        node.tenancy.authenticate(made.secret)


async def test_a_rotation_without_overlap_ends_the_old_secret_at_once(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    await node.tenancy.keys.rotate(node.owner, made.entry.key.id, overlap_seconds=0)
    with pytest.raises(AuthenticationError, match="rotated"):
        node.tenancy.authenticate(made.secret)


async def test_an_overlap_never_outlives_the_key(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci", expires_at=node.clock.now() + 10))
    rotated = await node.tenancy.keys.rotate(node.owner, made.entry.key.id, overlap_seconds=60)
    await node.clock.advance(10)
    for secret in (made.secret, rotated.secret):
        with pytest.raises(AuthenticationError):
            node.tenancy.authenticate(secret)


async def test_a_revoked_key_ends_here_at_once_and_elsewhere_at_the_next_poll(node: Node) -> None:
    other = node.beside()
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    following = asyncio.create_task(other.tenancy.follow())
    try:
        await asyncio.sleep(0)
        await node.clock.advance(0.5)
        assert other.tenancy.authenticate(made.secret).key_id == made.entry.key.id
        await node.tenancy.keys.revoke(node.owner, made.entry.key.id)
        with pytest.raises(AuthenticationError, match="revoked"):
            node.tenancy.authenticate(made.secret)
        await node.clock.advance(0.5)
        with pytest.raises(AuthenticationError, match="revoked"):
            other.tenancy.authenticate(made.secret)
    finally:
        following.cancel()


async def test_the_snapshot_goes_on_while_the_store_is_away_and_says_so(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    following = asyncio.create_task(node.tenancy.follow())
    try:
        node.store.away = True
        await asyncio.sleep(0)
        await node.clock.advance(5)
        assert node.tenancy.authenticate(made.secret).key_name == "ci"
        assert node.codes() == {"directory_stale"}
        with pytest.raises(StoreUnavailableError):
            await node.tenancy.keys.create(node.owner, NewKey(name="second"))
        node.store.away = False
        await node.clock.advance(1)
        assert node.codes() == set()
    finally:
        following.cancel()


async def test_an_edit_changes_what_it_says_and_nothing_else(node: Node) -> None:
    made = await node.tenancy.keys.create(
        node.owner, NewKey(name="ci", models=("a",), tags=("t",), expires_at=node.clock.now() + 99)
    )
    limits = LimitSettings(requests_per_minute=5, budgets=(BudgetSettings(limit_usd="1.5", period="day"),))
    version = node.tenancy.version
    entry = await node.tenancy.keys.update(node.owner, made.entry.key.id, KeyEdit(limits=limits, expires_at=None))
    assert entry.limits == limits
    assert (entry.key.name, entry.key.models, entry.key.tags, entry.key.expires_at) == ("ci", ("a",), ("t",), None)
    assert entry.key.version > made.entry.key.version
    assert node.tenancy.version > version
    scopes = dict(node.tenancy.limits_of(node.tenancy.authenticate(made.secret)))
    assert list(scopes) == ["org:default", "team:default/default", f"key:{made.entry.key.id}"]
    assert scopes[f"key:{made.entry.key.id}"] == limits


async def test_limits_are_the_same_object_until_something_changes(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    principal = node.tenancy.authenticate(made.secret)
    assert node.tenancy.limits_of(principal) is node.tenancy.limits_of(principal)
    assert node.tenancy.authenticate(made.secret) is principal


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 65, "a\x00", "é", "a\n"])
async def test_a_bad_name_is_refused(node: Node, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        await node.tenancy.keys.create(node.owner, NewKey(name=name))


async def test_a_name_is_taken_once_in_a_team_while_its_key_lives(node: Node) -> None:
    await make_team(node)
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    with pytest.raises(ConflictError, match="another name"):
        await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    await node.tenancy.keys.create(node.owner, NewKey(name="ci", tenant=ACME))
    await node.tenancy.keys.revoke(node.owner, made.entry.key.id)
    await node.tenancy.keys.create(node.owner, NewKey(name="ci"))


async def test_a_change_on_an_old_version_is_refused(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    key = made.entry.key
    await node.tenancy.keys.update(node.owner, key.id, KeyEdit(tags=("x",)), expect_version=key.version)
    for change in (
        node.tenancy.keys.update(node.owner, key.id, KeyEdit(tags=("y",)), expect_version=key.version),
        node.tenancy.keys.revoke(node.owner, key.id, expect_version=key.version),
        node.tenancy.keys.rotate(node.owner, key.id, expect_version=key.version),
    ):
        with pytest.raises(ConflictError, match="by now"):
            await change
    assert node.tenancy.keys.get(node.owner, key.id).key.tags == ("x",)


async def test_two_nodes_that_change_one_key_lose_neither_change(node: Node) -> None:
    other = node.beside()
    key_id = (await node.tenancy.keys.create(node.owner, NewKey(name="ci"))).entry.key.id
    await other.tenancy.catalogue.refresh()
    await asyncio.gather(
        node.tenancy.keys.update(node.owner, key_id, KeyEdit(tags=("x",))),
        other.tenancy.keys.update(node.owner, key_id, KeyEdit(models=("m",))),
    )
    await node.tenancy.catalogue.refresh()
    key = node.tenancy.keys.get(node.owner, key_id).key
    assert (key.tags, key.models) == (("x",), ("m",))


async def test_many_keys_at_once_are_all_made(node: Node) -> None:
    await make_team(node)
    other = node.beside()
    wanted = [
        one.tenancy.keys.create(node.owner, NewKey(name=f"{place}-{number}", tenant=ACME))
        for number in range(10)
        for place, one in enumerate((node, other))
    ]
    made = await asyncio.gather(*wanted)
    await node.tenancy.catalogue.refresh()
    for one in made:
        assert node.tenancy.authenticate(one.secret).tenant == ACME


async def test_every_change_is_audited_with_who_and_what(node: Node) -> None:
    admin = await asker(node, Role.ADMIN)
    made = await node.tenancy.keys.create(admin, NewKey(name="ci"))
    await node.tenancy.keys.update(admin, made.entry.key.id, KeyEdit(name="cd"))
    await node.tenancy.keys.rotate(admin, made.entry.key.id)
    await node.tenancy.keys.revoke(admin, made.entry.key.id)
    rows = await node.tenancy.reports.audit(admin, subject=f"key:{made.entry.key.id}")
    assert {row.action for row in rows} == {"key.create", "key.update", "key.rotate", "key.revoke"}
    assert {row.actor for row in rows} == {admin.principal.key_id}
    assert {row.request_id for row in rows} == {"req_1"}
    renamed = next(row for row in rows if row.action == "key.update")
    assert renamed.before is not None
    assert renamed.after is not None
    assert (renamed.before["name"], renamed.after["name"]) == ("ci", "cd")


async def test_nothing_is_audited_that_did_not_happen(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    before = len(node.store.audits)
    with pytest.raises(ConflictError):
        await node.tenancy.keys.update(node.owner, made.entry.key.id, KeyEdit(tags=("x",)), expect_version=77)
    assert len(node.store.audits) == before


class TestTheLastAdministrator:
    async def test_is_neither_revoked_nor_demoted_nor_expired(self, node: Node) -> None:
        admin = await asker(node, Role.ADMIN)
        key_id = admin.principal.key_id
        for change in (
            node.tenancy.keys.revoke(admin, key_id),
            node.tenancy.keys.update(admin, key_id, KeyEdit(role=Role.OPERATOR)),
            node.tenancy.keys.update(admin, key_id, KeyEdit(expires_at=node.clock.now())),
        ):
            with pytest.raises(ConflictError, match="last administrator"):
                await change
        assert node.tenancy.keys.get(admin, key_id).key.role is Role.ADMIN

    async def test_may_go_once_there_is_another(self, node: Node) -> None:
        admin = await asker(node, Role.ADMIN)
        second = await asker(node, Role.ADMIN, name="second")
        await node.tenancy.keys.revoke(second, admin.principal.key_id)
        with pytest.raises(ConflictError, match="last administrator"):
            await node.tenancy.keys.revoke(second, second.principal.key_id)

    async def test_of_an_organisation_does_not_count(self, node: Node) -> None:
        await make_team(node)
        admin = await asker(node, Role.ADMIN)
        await asker(node, Role.ADMIN, ACME, name="theirs")
        with pytest.raises(ConflictError, match="last administrator"):
            await node.tenancy.keys.revoke(admin, admin.principal.key_id)

    async def test_remains_when_two_nodes_each_take_the_other_away(self, node: Node) -> None:
        first = await asker(node, Role.ADMIN)
        second = await asker(node, Role.ADMIN, name="second")
        other = node.beside()
        await other.tenancy.catalogue.refresh()
        outcomes = await asyncio.gather(
            node.tenancy.keys.revoke(first, second.principal.key_id),
            other.tenancy.keys.revoke(second, first.principal.key_id),
            return_exceptions=True,
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        await node.tenancy.catalogue.refresh()
        snapshot = node.tenancy.catalogue.snapshot
        assert sum(not snapshot.keys[one.principal.key_id].revoked for one in (first, second)) == 1


class TestWhoMay:
    async def test_below_an_administrator_nobody_writes(self, node: Node) -> None:
        for role in (Role.NONE, Role.VIEWER, Role.OPERATOR):
            weak = await asker(node, role)
            for change in (
                node.tenancy.keys.create(weak, NewKey(name="x")),
                node.tenancy.keys.update(weak, weak.principal.key_id, KeyEdit(role=Role.ADMIN)),
                node.tenancy.keys.revoke(weak, weak.principal.key_id),
            ):
                with pytest.raises(PermissionDeniedError):
                    await change

    async def test_an_operator_rotates_what_is_not_above_it(self, node: Node) -> None:
        operator = await asker(node, Role.OPERATOR)
        plain = await asker(node, Role.NONE)
        admin = await asker(node, Role.ADMIN)
        await node.tenancy.keys.rotate(operator, plain.principal.key_id)
        with pytest.raises(PermissionDeniedError, match="above"):
            await node.tenancy.keys.rotate(operator, admin.principal.key_id)

    async def test_a_key_without_a_role_reads_nothing(self, node: Node) -> None:
        weak = await asker(node, Role.NONE)
        with pytest.raises(PermissionDeniedError):
            node.tenancy.keys.page(weak)

    async def test_a_foreign_key_is_not_there(self, node: Node) -> None:
        await make_team(node)
        await make_team(node, Tenant("acme", "ads"))
        await make_team(node, Tenant("globex", "web"))
        mine = await asker(node, Role.ADMIN, ACME)
        neighbour = await asker(node, Role.NONE, Tenant("acme", "ads"))
        stranger = await asker(node, Role.NONE, Tenant("globex", "web"))
        viewer = await asker(node, Role.VIEWER, ACME)
        node.tenancy.keys.get(mine, neighbour.principal.key_id)
        for who, whom in ((mine, stranger), (viewer, neighbour), (viewer, stranger)):
            with pytest.raises(NotFoundError):
                node.tenancy.keys.get(who, whom.principal.key_id)
        for change in (
            node.tenancy.keys.update(mine, stranger.principal.key_id, KeyEdit(tags=("x",))),
            node.tenancy.keys.rotate(mine, stranger.principal.key_id),
            node.tenancy.keys.revoke(mine, stranger.principal.key_id),
            node.tenancy.keys.create(mine, NewKey(name="x", tenant=Tenant("globex", "web"))),
            node.tenancy.keys.create(mine, NewKey(name="x", tenant=DEFAULT_TENANT)),
        ):
            with pytest.raises(NotFoundError):
                await change
        assert {entry.key.organisation for entry in node.tenancy.keys.page(mine).keys} == {"acme"}
        assert {entry.key.team for entry in node.tenancy.keys.page(viewer).keys} == {"search"}
        with pytest.raises(NotFoundError):
            node.tenancy.keys.page(mine, organisation="globex")


async def test_pages_hold_every_key_once(node: Node) -> None:
    for number in range(25):
        await node.tenancy.keys.create(node.owner, NewKey(name=f"k{number}"))
    gone = await node.tenancy.keys.create(node.owner, NewKey(name="gone"))
    await node.tenancy.keys.revoke(node.owner, gone.entry.key.id)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = node.tenancy.keys.page(node.owner, limit=7, after=after)
        assert len(page.keys) <= 7
        seen += [entry.key.name for entry in page.keys]
        after = page.after
        if after is None:
            break
    assert sorted(seen) == sorted(f"k{number}" for number in range(25))
    assert [entry.key.name for entry in node.tenancy.keys.page(node.owner, name="gone", revoked=True).keys] == ["gone"]
    with pytest.raises(NotFoundError):
        node.tenancy.keys.get(node.owner, gone.entry.key.id)
    assert node.tenancy.keys.get(node.owner, gone.entry.key.id, revoked=True).revoked
