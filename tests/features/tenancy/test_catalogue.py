"""What the file declares and what the API made stand side by side, and no name is in both."""

import hashlib

import pytest

from holdfast.features.tenancy.keys import KeyEdit, NewKey
from holdfast.features.tenancy.settings import (
    BudgetSettings,
    KeySettings,
    LimitSettings,
    OrganisationSettings,
    TeamSettings,
)
from holdfast.kernel.errors import AuthenticationError, ConflictError, DeclaredInFileError, SettingsError
from holdfast.kernel.secret import Secret
from holdfast.kernel.tenant import DEFAULT_TENANT, Role, Tenant
from tests.features.tenancy.conftest import Node

ORIGINS = {
    "organisations.acme": "holdfast.toml:3",
    "organisations.acme.teams.search": "holdfast.toml:5",
    "organisations.default": "holdfast.toml:20",
    "keys.ci": "holdfast.toml:9",
    'keys."c.d"': "holdfast.toml:11",
}
ACME = {"acme": OrganisationSettings(requests_per_minute=100, teams={"search": TeamSettings(concurrent=2)})}
CI = {
    "ci": KeySettings(secret=Secret("a-secret-from-the-environment"), team="acme/search", role="operator", concurrent=1)
}
SEARCH = Tenant("acme", "search")


async def test_a_declared_key_opens_and_is_limited_as_declared(node: Node) -> None:
    await node.tenancy.catalogue.apply_file(ACME, CI, ORIGINS)
    principal = node.tenancy.authenticate("a-secret-from-the-environment")
    assert (principal.key_name, principal.tenant, principal.role) == ("ci", SEARCH, Role.OPERATOR)
    limits = node.tenancy.limits_of(principal)
    assert [scope for scope, _ in limits] == ["org:acme", "team:acme/search", f"key:{principal.key_id}"]
    assert [one.requests_per_minute for _, one in limits] == [100, None, None]
    assert [one.concurrent for _, one in limits] == [None, 2, 1]


async def test_a_declared_key_keeps_its_id_when_its_secret_changes(node: Node) -> None:
    await node.tenancy.catalogue.apply_file(ACME, CI, ORIGINS)
    before = node.tenancy.authenticate("a-secret-from-the-environment").key_id
    digest = hashlib.sha256(b"another secret").hexdigest().upper()
    await node.tenancy.catalogue.apply_file(ACME, {"ci": KeySettings(sha256=digest, team="acme/search")}, ORIGINS)
    assert node.tenancy.authenticate("another secret").key_id == before
    with pytest.raises(AuthenticationError, match="not known"):
        node.tenancy.authenticate("a-secret-from-the-environment")


async def test_a_declared_expiry_holds(node: Node) -> None:
    key = KeySettings(secret=Secret("a-secret"), expires_at="2026-09-21T18:00:00+02:00")
    await node.tenancy.catalogue.apply_file({}, {"ci": key}, {})
    node.tenancy.authenticate("a-secret")
    await node.clock.advance(1_790_006_400 - node.clock.now())
    with pytest.raises(AuthenticationError, match="2026-09-21T16:00:00"):
        node.tenancy.authenticate("a-secret")


async def test_what_is_declared_is_not_changed_by_api_and_says_where_it_is(node: Node) -> None:
    await node.tenancy.catalogue.apply_file(ACME, CI, ORIGINS)
    key_id = node.tenancy.authenticate("a-secret-from-the-environment").key_id
    tenancy, owner = node.tenancy, node.owner
    for change, place in (
        (tenancy.keys.update(owner, key_id, KeyEdit(tags=("x",))), "holdfast.toml:9"),
        (tenancy.keys.rotate(owner, key_id), "holdfast.toml:9"),
        (tenancy.keys.revoke(owner, key_id), "holdfast.toml:9"),
        (tenancy.keys.create(owner, NewKey(name="ci", tenant=SEARCH)), "holdfast.toml:9"),
        (tenancy.organisations.update(owner, "acme", LimitSettings()), "holdfast.toml:3"),
        (tenancy.organisations.delete(owner, "acme"), "holdfast.toml:3"),
        (tenancy.organisations.create(owner, "acme"), "holdfast.toml:3"),
        (tenancy.teams.update(owner, SEARCH, LimitSettings()), "holdfast.toml:5"),
        (tenancy.teams.delete(owner, SEARCH), "holdfast.toml:5"),
        (tenancy.teams.create(owner, SEARCH), "holdfast.toml:5"),
    ):
        with pytest.raises(DeclaredInFileError, match=place):
            await change
    assert node.store.commits == 0


async def test_the_api_may_add_to_what_is_declared(node: Node) -> None:
    await node.tenancy.catalogue.apply_file(ACME, CI, ORIGINS)
    await node.tenancy.teams.create(node.owner, Tenant("acme", "ads"))
    made = await node.tenancy.keys.create(node.owner, NewKey(name="cd", tenant=SEARCH))
    assert node.tenancy.authenticate(made.secret).tenant == SEARCH
    assert node.tenancy.catalogue.conflicts(ACME, CI, ORIGINS) == []


class TestAFileIsRefused:
    async def refused(
        self, node: Node, organisations: dict[str, OrganisationSettings], keys: dict[str, KeySettings]
    ) -> str:
        version = node.tenancy.version
        said = node.tenancy.catalogue.conflicts(organisations, keys, ORIGINS)
        with pytest.raises(SettingsError) as caught:
            await node.tenancy.catalogue.apply_file(organisations, keys, ORIGINS)
        assert "\n".join(said) == caught.value.message
        assert node.tenancy.version == version
        return caught.value.message

    async def test_that_declares_an_organisation_the_api_made(self, node: Node) -> None:
        await node.tenancy.organisations.create(node.owner, "acme")
        assert "holdfast.toml:3: the organisation acme was made by API" in await self.refused(node, ACME, {})
        await node.tenancy.organisations.delete(node.owner, "acme")
        await node.tenancy.catalogue.apply_file(ACME, {}, ORIGINS)

    async def test_that_declares_a_team_the_api_made(self, node: Node) -> None:
        await node.tenancy.catalogue.apply_file({"acme": OrganisationSettings()}, {}, ORIGINS)
        await node.tenancy.teams.create(node.owner, SEARCH)
        assert "holdfast.toml:5: the team acme/search was made by API" in await self.refused(node, ACME, {})

    async def test_that_declares_a_key_the_api_made(self, node: Node) -> None:
        made = await node.tenancy.keys.create(node.owner, NewKey(name="c.d"))
        keys = {"c.d": KeySettings(secret=Secret("other"))}
        assert (
            f"holdfast.toml:11: the key c.d of default/default was made by API ({made.entry.key.id})"
            in await self.refused(node, {}, keys)
        )
        await node.tenancy.keys.revoke(node.owner, made.entry.key.id)
        await node.tenancy.catalogue.apply_file({}, keys, ORIGINS)

    async def test_that_declares_the_secret_of_a_key_the_api_made(self, node: Node) -> None:
        made = await node.tenancy.keys.create(node.owner, NewKey(name="made"))
        keys = {"ci": KeySettings(secret=Secret(made.secret))}
        message = await self.refused(node, {}, keys)
        assert made.entry.key.id in message
        assert made.secret not in message

    async def test_that_drops_the_home_of_keys_and_teams_the_api_made(self, node: Node) -> None:
        await node.tenancy.catalogue.apply_file(ACME, {}, ORIGINS)
        await node.tenancy.keys.create(node.owner, NewKey(name="cd", tenant=SEARCH))
        await node.tenancy.teams.create(node.owner, Tenant("acme", "ads"))
        message = await self.refused(node, {}, {})
        assert "no longer declares the team acme/search, in which the API made 1 keys" in message
        assert "no longer declares the organisation acme, in which the API made the team acme/ads" in message

    async def test_that_limits_the_default_organisation_as_the_api_does(self, node: Node) -> None:
        default = {"default": OrganisationSettings(concurrent=3)}
        await node.tenancy.organisations.update(node.owner, "default", LimitSettings(concurrent=5))
        assert "holdfast.toml:20: the organisation default has limits set by API" in await self.refused(
            node, default, {}
        )
        await node.tenancy.organisations.update(node.owner, "default", LimitSettings())
        await node.tenancy.catalogue.apply_file(default, {}, ORIGINS)
        assert node.tenancy.catalogue.snapshot.organisations["default"].limits.concurrent == 3

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ({"ci": KeySettings()}, "needs one of"),
            ({"ci": KeySettings(secret=Secret("x"), sha256="0" * 64)}, "needs one of"),
            ({"ci": KeySettings(secret=Secret(""))}, "is empty"),
            ({"ci": KeySettings(sha256="xyz")}, "64 hexadecimal"),
            ({"ci": KeySettings(secret=Secret("x"), team="acme")}, "organisation/team"),
            ({"ci": KeySettings(secret=Secret("x"), team="acme/none")}, "no such team"),
            ({"ci": KeySettings(secret=Secret("x"), expires_at="tomorrow")}, "RFC 3339"),
            ({"c i": KeySettings(secret=Secret("x"))}, "a name is"),
            ({"ci": KeySettings(secret=Secret("x")), "cd": KeySettings(secret=Secret("x"))}, "same secret as keys.ci"),
            ({"ci": KeySettings(secret=Secret("x"), concurrent=0)}, "concurrent must be"),
            ({"ci": KeySettings(secret=Secret("x"), budgets=(BudgetSettings(limit_usd="ten"),))}, "limit_usd"),
            (
                {
                    "ci": KeySettings(
                        secret=Secret("x"), budgets=(BudgetSettings(limit_usd="1", time_zone="Mars/Base"),)
                    )
                },
                "time_zone",
            ),
        ],
    )
    async def test_that_contradicts_itself(self, node: Node, keys: dict[str, KeySettings], said: str) -> None:
        assert said in await self.refused(node, {}, keys)


async def test_a_key_whose_team_is_gone_opens_nothing(node: Node) -> None:
    await node.tenancy.catalogue.apply_file(ACME, {}, ORIGINS)
    made = await node.tenancy.keys.create(node.owner, NewKey(name="cd", tenant=SEARCH))
    restarted = node.beside()
    await restarted.tenancy.catalogue.refresh()
    with pytest.raises(AuthenticationError, match="team of this API key"):
        restarted.tenancy.authenticate(made.secret)
    await restarted.tenancy.catalogue.apply_file(ACME, {}, ORIGINS)
    assert restarted.tenancy.authenticate(made.secret).tenant == SEARCH


async def test_the_default_team_always_exists(node: Node) -> None:
    assert node.tenancy.teams.get(node.owner, DEFAULT_TENANT).limits == LimitSettings()
    for deletion in (
        node.tenancy.organisations.delete(node.owner, "default"),
        node.tenancy.teams.delete(node.owner, DEFAULT_TENANT),
    ):
        with pytest.raises(ConflictError, match="always exists"):
            await deletion


async def test_a_refresh_that_finds_nothing_changes_no_version(node: Node) -> None:
    await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    snapshot = node.tenancy.catalogue.snapshot
    await node.tenancy.catalogue.refresh()
    assert node.tenancy.catalogue.snapshot is snapshot


async def test_a_large_directory_is_read_whole(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.features.tenancy.catalogue.IN_A_THREAD_FROM", 3)
    made = [await node.tenancy.keys.create(node.owner, NewKey(name=f"k{number}")) for number in range(6)]
    other = node.beside()
    await other.tenancy.catalogue.refresh()
    assert [other.tenancy.authenticate(one.secret).key_name for one in made] == [f"k{number}" for number in range(6)]


async def test_a_row_of_a_later_release_is_read_as_far_as_it_is_understood(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="ci"))
    row = node.store.rows["key", made.entry.key.id]
    row.limits.update({"concurrent": 4, "calls_per_fortnight": 3, "budgets": [{"limit_usd": "1", "carry": True}]})
    other = node.beside()
    await other.tenancy.catalogue.refresh()
    limits = other.tenancy.limits_of(other.tenancy.authenticate(made.secret))[2][1]
    assert limits == LimitSettings(concurrent=4, budgets=(BudgetSettings(limit_usd="1"),))
