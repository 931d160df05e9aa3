"""The first key: made once, installed from the environment, never brought back from the dead."""

import asyncio

import pytest

from holdfast.features.tenancy.keys import KeyEdit, NewKey
from holdfast.features.tenancy.model import Asker
from holdfast.features.tenancy.settings import KeySettings
from holdfast.kernel.errors import AuthenticationError, SettingsError
from holdfast.kernel.secret import Secret
from holdfast.kernel.tenant import Role
from tests.features.tenancy.conftest import Node

FIRST = Secret("first-value-of-the-key")
SECOND = Secret("second-value-of-the-key")


async def test_the_first_start_makes_a_key_that_administers_and_calls(node: Node) -> None:
    made = await node.tenancy.bootstrap.ensure(None)
    assert made is not None
    assert made.secret is not None
    principal = node.tenancy.authenticate(made.secret)
    assert (principal.key_name, principal.role, principal.may_call) == ("bootstrap", Role.ADMIN, True)
    assert [row.action for row in node.store.audits] == ["key.create"]


async def test_the_second_start_makes_none(node: Node) -> None:
    await node.tenancy.bootstrap.ensure(None)
    restarted = node.beside()
    await restarted.tenancy.catalogue.refresh()
    assert await restarted.tenancy.bootstrap.ensure(None) is None


async def test_a_declared_administrator_is_enough(node: Node) -> None:
    await node.tenancy.catalogue.apply_file({}, {"boss": KeySettings(secret=Secret("x"), role="admin")}, {})
    assert await node.tenancy.bootstrap.ensure(None) is None


async def test_without_a_living_administrator_the_next_start_makes_the_key_anew(node: Node) -> None:
    made = await node.tenancy.bootstrap.ensure(None)
    assert made is not None
    assert made.secret is not None
    await node.tenancy.keys.update(node.owner, made.key_id, KeyEdit(expires_at=node.clock.now() + 5))
    await node.clock.advance(5)
    again = await node.tenancy.bootstrap.ensure(None)
    assert again is not None
    assert again.secret is not None
    assert again.key_id == made.key_id
    assert node.tenancy.authenticate(again.secret).role is Role.ADMIN
    with pytest.raises(AuthenticationError):
        node.tenancy.authenticate(made.secret)


async def test_nodes_that_start_together_make_one_key(node: Node) -> None:
    other = node.beside()
    outcomes = await asyncio.gather(node.tenancy.bootstrap.ensure(None), other.tenancy.bootstrap.ensure(None))
    secrets = [outcome.secret for outcome in outcomes if outcome is not None and outcome.secret is not None]
    assert len(secrets) == 1
    assert node.tenancy.authenticate(secrets[0]).role is Role.ADMIN


async def test_the_environment_says_the_key(node: Node) -> None:
    await node.tenancy.bootstrap.ensure(FIRST)
    assert node.tenancy.authenticate(FIRST.reveal()).role is Role.ADMIN
    commits = node.store.commits
    again = await node.tenancy.bootstrap.ensure(FIRST)
    assert again is not None
    assert again.secret == FIRST.reveal()
    assert node.store.commits == commits


async def test_another_value_in_the_environment_ends_the_former_at_once(node: Node) -> None:
    first = await node.tenancy.bootstrap.ensure(FIRST)
    second = await node.tenancy.bootstrap.ensure(SECOND)
    assert first is not None
    assert second is not None
    assert second.key_id == first.key_id
    node.tenancy.authenticate(SECOND.reveal())
    with pytest.raises(AuthenticationError):
        node.tenancy.authenticate(FIRST.reveal())


async def test_the_environment_installs_beside_other_administrators(node: Node) -> None:
    made = await node.tenancy.bootstrap.ensure(None)
    assert made is not None
    await node.tenancy.bootstrap.ensure(FIRST)
    assert node.tenancy.authenticate(FIRST.reveal()).key_id == made.key_id


@pytest.mark.parametrize("way", ["revoked", "rotated"])
async def test_what_was_taken_away_by_api_does_not_come_back_with_a_restart(node: Node, way: str) -> None:
    await node.tenancy.bootstrap.ensure(FIRST)
    principal = node.tenancy.authenticate(FIRST.reveal())
    await node.tenancy.keys.create(node.owner, NewKey(name="second", role=Role.ADMIN))
    if way == "revoked":
        await node.tenancy.keys.revoke(Asker(principal), principal.key_id)
    else:
        await node.tenancy.keys.rotate(Asker(principal), principal.key_id, overlap_seconds=0)
    restarted = node.beside()
    await restarted.tenancy.catalogue.refresh()
    assert await restarted.tenancy.bootstrap.ensure(FIRST) is None
    assert restarted.codes() == {"bootstrap_key_ended"}
    with pytest.raises(AuthenticationError):
        restarted.tenancy.authenticate(FIRST.reveal())


@pytest.mark.parametrize("value", ["short", "with a space in it", "tabs\tin the value", "ümlaute-im-schlüssel"])
async def test_a_value_that_cannot_be_a_key_stops_the_start(node: Node, value: str) -> None:
    with pytest.raises(SettingsError, match="HOLDFAST_BOOTSTRAP_KEY") as caught:
        await node.tenancy.bootstrap.ensure(Secret(value))
    assert value not in caught.value.message


async def test_the_secret_of_a_lesser_key_stops_the_start(node: Node) -> None:
    made = await node.tenancy.keys.create(node.owner, NewKey(name="viewer", role=Role.VIEWER))
    with pytest.raises(SettingsError, match="no administrator"):
        await node.tenancy.bootstrap.ensure(Secret(made.secret))


async def test_a_short_value_is_not_hinted_at(node: Node) -> None:
    await node.tenancy.bootstrap.ensure(FIRST)
    (entry,) = node.tenancy.keys.page(node.owner).keys
    assert entry.key.hint == "fi…"
