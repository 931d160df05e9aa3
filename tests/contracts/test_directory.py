"""The contract of ports.directory, on every engine: versions that grow by commit, conditional changes, an audit that stays."""

import asyncio

import pytest

from holdfast.kernel.errors import ConflictError
from holdfast.ports.directory import Key, Organisation, Put, Team
from tests.contracts.engines import Store
from tests.contracts.samples import DAY, NOON, audit_row, key


async def test_everything_put_is_read_back(store: Store) -> None:
    organisation = Organisation("acme", {"requests_per_minute": 60, "budgets": [{"limit_usd": "0.10"}]}, NOON, NOON + 1)
    team = Team("acme", "search", {"concurrent": 3}, NOON, None)
    full, bare = key(id="key_full"), key(id="key_bare", hashes=(), models=(), tags=(), limits={}, expires_at=None)
    await store.record.commit(Put(organisation), Put(team), Put(full), Put(bare))
    found = await store.directory.changes_since(0)
    rows: list[Organisation | Team | Key] = [*found.organisations, *found.teams, *found.keys]
    versions = [row.version for row in rows]
    assert versions == sorted(set(versions))
    assert found.version == versions[-1]
    assert found.organisations == (Organisation("acme", organisation.limits, NOON, NOON + 1, versions[0]),)
    assert found.teams == (Team("acme", "search", {"concurrent": 3}, NOON, None, versions[1]),)
    assert found.keys == (key(id="key_full", version=versions[2]), key(
        id="key_bare", hashes=(), models=(), tags=(), limits={}, expires_at=None, version=versions[3],
    ))  # fmt: skip


async def test_an_empty_directory_is_at_version_zero(store: Store) -> None:
    found = await store.directory.changes_since(0)
    assert (found.version, found.organisations, found.teams, found.keys) == (0, (), (), ())


async def test_only_what_changed_since_is_told(store: Store) -> None:
    await store.record.commit(Put(Organisation("acme")), Put(Team("acme", "search")), Put(key(id="key_1")))
    first = await store.directory.changes_since(0)
    nothing = await store.directory.changes_since(first.version)
    assert (nothing.version, nothing.organisations, nothing.teams, nothing.keys) == (first.version, (), (), ())
    await store.record.commit(Put(key(id="key_1", revoked_at=NOON)))
    second = await store.directory.changes_since(first.version)
    assert [(found.id, found.revoked_at) for found in second.keys] == [("key_1", NOON)]
    assert second.organisations == ()
    assert second.version > first.version


async def test_revoked_and_deleted_rows_are_told_too(store: Store) -> None:
    await store.record.commit(Put(Organisation("acme", deleted_at=NOON)), Put(key(id="key_1", revoked_at=NOON)))
    found = await store.directory.changes_since(0)
    assert (found.organisations[0].deleted_at, found.keys[0].revoked_at) == (NOON, NOON)


async def test_a_change_can_ask_for_the_version_it_was_made_from(store: Store) -> None:
    await store.record.commit(Put(Team("acme", "search"), expect_version=0))
    (team,) = (await store.directory.changes_since(0)).teams
    with pytest.raises(ConflictError):
        await store.record.commit(Put(Team("acme", "search"), expect_version=0))
    with pytest.raises(ConflictError):
        await store.record.commit(Put(Team("acme", "search"), expect_version=team.version + 1))
    with pytest.raises(ConflictError):
        await store.record.commit(Put(Team("acme", "nobody"), expect_version=1))
    await store.record.commit(Put(Team("acme", "search", {"concurrent": 1}), expect_version=team.version))
    (changed,) = (await store.directory.changes_since(team.version)).teams
    assert (changed.limits, changed.version > team.version) == ({"concurrent": 1}, True)


async def test_same_names_in_different_places_are_different_rows(store: Store) -> None:
    await store.record.commit(
        Put(Organisation("a"), expect_version=0),
        Put(Team("a", "b"), expect_version=0),
        Put(Team("b", "b"), expect_version=0),
        Put(Team("a", "a"), expect_version=0),
        Put(key(id="a"), expect_version=0),
    )
    found = await store.directory.changes_since(0)
    assert [(team.organisation, team.name) for team in found.teams] == [("a", "b"), ("b", "b"), ("a", "a")]


async def test_of_many_changes_from_one_version_one_is_made(store: Store) -> None:
    await store.record.commit(Put(Organisation("acme")))
    (before,) = (await store.directory.changes_since(0)).organisations
    other = await store.join()
    records = [store.record, store.record if other is None else other.record]
    outcomes = await asyncio.gather(
        *(
            records[index % 2].commit(
                Put(Organisation("acme", {"winner": index}), expect_version=before.version),
                audit_row(id=f"aud_{index}"),
            )
            for index in range(20)
        ),
        return_exceptions=True,
    )
    winners = [index for index, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert all(outcome is None or isinstance(outcome, ConflictError) for outcome in outcomes)
    (after,) = (await store.directory.changes_since(before.version)).organisations
    assert after.limits == {"winner": winners[0]}
    assert [row.id for row in await store.directory.audit()] == [f"aud_{winners[0]}"]


async def test_a_reader_that_polls_misses_nothing(store: Store) -> None:
    """Versions grow by commit: whoever asks from the last version it saw gets every row, whatever commits meanwhile."""
    other = await store.join()
    records = [store.record, store.record if other is None else other.record]
    writing = asyncio.gather(
        *(records[index % 2].commit(Put(key(id=f"key_{index:03}", tags=(str(index),)))) for index in range(120))
    )
    seen: set[str] = set()
    version = 0
    while True:
        finished = writing.done()
        found = await store.directory.changes_since(version)
        assert found.version >= version
        seen |= {one.id for one in found.keys}
        version = found.version
        if finished:
            break
    await writing
    assert seen == {f"key_{index:03}" for index in range(120)}


async def test_the_audit_is_newest_first_and_by_subject(store: Store) -> None:
    rows = [audit_row(id=f"aud_{index}", at=NOON + index // 2, subject=f"key_{index % 2}") for index in range(8)]
    for row in rows:
        await store.record.commit(row)
    expected = list(reversed(rows))
    assert list(await store.directory.audit()) == expected
    seen = list(await store.directory.audit(limit=3))
    while page := await store.directory.audit(limit=3, before=(seen[-1].at, seen[-1].id)):
        seen += page
    assert seen == expected
    assert list(await store.directory.audit(subject="key_1")) == [row for row in expected if row.subject == "key_1"]


async def test_an_audit_row_keeps_before_and_after(store: Store) -> None:
    row = audit_row(before={"limits": {"a": [1, None, "é"]}}, after=None, request_id=None)
    await store.record.commit(row)
    assert list(await store.directory.audit()) == [row]


async def test_an_audit_row_is_never_replaced(store: Store) -> None:
    row = audit_row(id="aud_1")
    await store.record.commit(row)
    with pytest.raises(ConflictError):
        await store.record.commit(audit_row(id="aud_1", actor="somebody else"), Put(Organisation("acme")))
    assert list(await store.directory.audit()) == [row]
    assert (await store.directory.changes_since(0)).organisations == ()


async def test_versions_go_on_after_reopening(store: Store) -> None:
    await store.record.commit(Put(Organisation("acme")))
    before = await store.directory.changes_since(0)
    await store.reopen()
    await store.record.commit(Put(key(id="key_1", expires_at=NOON + DAY)))
    after = await store.directory.changes_since(before.version)
    assert after.version > before.version
    assert [found.id for found in after.keys] == ["key_1"]
