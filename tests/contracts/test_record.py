"""The contract of ports.record, on every engine: order, atomicity, durability, and what is said when something cannot be stored."""

import asyncio

import pytest

from holdfast.kernel.errors import ConflictError
from holdfast.ports.directory import Organisation, Put
from holdfast.ports.record import Level
from tests.contracts.engines import Store
from tests.contracts.samples import ALWAYS, attempted, audit_row, balance, call_closed, call_opened, key, settled

TOO_LARGE = 2**70  # no engine's whole number


async def test_a_handed_unit_is_written_though_nobody_waits(store: Store) -> None:
    opened = call_opened()
    store.record.hand(opened)
    async with asyncio.timeout(20):
        while await store.calls.get(opened.id) is None:  # noqa: ASYNC110 (nothing tells: that is the point)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("level", list(Level))
async def test_a_committed_unit_can_be_read_at_once(store: Store, level: Level) -> None:
    opened = call_opened()
    await store.record.commit(opened, call_closed(opened.id), level=level)
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.closed is not None


async def test_flush_returns_when_everything_handed_before_is_written(store: Store) -> None:
    calls = [call_opened() for _ in range(500)]
    for opened in calls:
        store.record.hand(opened)
        store.record.hand(call_closed(opened.id))
    await store.record.flush()
    assert {row.opened.id for row in await store.calls.page(ALWAYS, limit=1000)} == {opened.id for opened in calls}
    assert await store.calls.open_calls() == []


async def test_flush_and_commit_of_nothing_return(store: Store) -> None:
    await store.record.flush()
    await store.record.commit()


async def test_handed_and_committed_units_are_applied_in_the_order_of_the_calls(store: Store) -> None:
    opened = call_opened()
    store.record.hand(opened)
    store.record.hand(call_closed(opened.id, finish_reason="first"))
    store.record.hand(Put(Organisation("acme", {"step": 1})))
    committing = asyncio.ensure_future(store.record.commit(Put(Organisation("acme", {"step": 2}))))
    await asyncio.sleep(0)
    store.record.hand(Put(Organisation("acme", {"step": 3})), call_closed(opened.id, finish_reason="last"))
    await committing
    await store.record.commit(Put(Organisation("beta", {"step": 4})))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.closed is not None
    assert row.closed.finish_reason == "first"
    found = (await store.directory.changes_since(0)).organisations
    assert [(one.name, one.limits) for one in found] == [("acme", {"step": 3}), ("beta", {"step": 4})]


async def test_a_commit_stands_behind_what_was_handed_before_it(store: Store) -> None:
    for step in range(20):
        store.record.hand(Put(Organisation("acme", {"step": step, "by": "hand"})))
        await store.record.commit(Put(Organisation("acme", {"step": step, "by": "commit"})))
        (found,) = (await store.directory.changes_since(0)).organisations
        assert found.limits == {"step": step, "by": "commit"}


async def test_commits_keep_their_order_under_concurrency(store: Store) -> None:
    await asyncio.gather(*(store.record.commit(Put(Organisation(f"org-{index:03}"))) for index in range(100)))
    found = (await store.directory.changes_since(0)).organisations
    assert [one.name for one in found] == [f"org-{index:03}" for index in range(100)]
    assert len({one.version for one in found}) == 100


async def test_a_unit_whose_condition_fails_leaves_nothing(store: Store) -> None:
    budget = balance("org:acme")
    opened = call_opened()
    await store.money.reserve(opened.id, 500, [budget])
    await store.record.commit(opened)
    change = settled(opened.id, 500, 300, budget)
    with pytest.raises(ConflictError):
        await store.record.commit(
            attempted(opened.id),
            call_closed(opened.id),
            change,
            Put(Organisation("new")),
            Put(Organisation("acme"), expect_version=7),
            audit_row(),
        )
    row = await store.calls.get(opened.id)
    assert row is not None
    assert (row.closed, row.further) == (None, ())
    (held,) = await store.money.held([budget])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (0, 500)
    assert (await store.directory.changes_since(0)).organisations == ()
    assert list(await store.directory.audit()) == []
    await store.record.commit(call_closed(opened.id), change)
    (held,) = await store.money.held([budget])
    assert (held.spent_nanodollars, held.reserved_nanodollars) == (300, 0)


async def test_a_refused_unit_leaves_its_neighbours_untouched(store: Store) -> None:
    calls = [call_opened() for _ in range(6)]
    await store.record.commit(Put(Organisation("acme"), expect_version=0))
    store.record.hand(calls[0])
    outcomes = await asyncio.gather(
        store.record.commit(calls[1]),
        store.record.commit(calls[2], Put(Organisation("acme"), expect_version=0)),
        store.record.commit(calls[3], Put(Organisation("beta"), expect_version=0)),
        store.record.commit(calls[4], Put(Organisation("beta"), expect_version=0)),
        store.record.commit(calls[5]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None), ConflictError, type(None), ConflictError, type(None),
    ]  # fmt: skip
    written = {row.opened.id for row in await store.calls.page(ALWAYS)}
    assert written == {calls[index].id for index in (0, 1, 3, 5)}


async def test_a_handed_unit_that_can_never_be_applied_is_counted_and_its_neighbours_are_kept(store: Store) -> None:
    good, bad, ended = call_opened(), call_opened(reserved_nanodollars=TOO_LARGE), call_opened()
    store.record.hand(good)
    store.record.hand(bad, Put(Organisation("with the bad one")))
    store.record.hand(ended, call_closed(ended.id))
    await store.record.flush()
    assert store.record.rejected == 1
    assert await store.calls.get(bad.id) is None
    assert {row.opened.id for row in await store.calls.page(ALWAYS)} == {good.id, ended.id}
    assert (await store.directory.changes_since(0)).organisations == ()


async def test_the_end_of_a_call_nobody_opened_is_no_fact(store: Store) -> None:
    with pytest.raises(ConflictError):
        await store.record.commit(call_closed("call_nobody"), Put(Organisation("acme")))
    store.record.hand(call_closed("call_nobody"), Put(Organisation("acme")))
    await store.record.flush()
    assert store.record.rejected == 1
    assert (await store.directory.changes_since(0)).organisations == ()


async def test_a_committed_unit_that_can_never_be_applied_is_refused(store: Store) -> None:
    opened = call_opened()
    with pytest.raises(ConflictError):
        await store.record.commit(opened, call_closed(opened.id, cost_nanodollars=TOO_LARGE))
    assert await store.calls.get(opened.id) is None
    assert store.record.rejected == 0


async def test_a_cancelled_commit_is_stored_whole_or_not_at_all(store: Store) -> None:
    pairs = [(call_opened(), key()) for _ in range(40)]
    tasks = [asyncio.ensure_future(store.record.commit(opened, Put(made))) for opened, made in pairs]
    for turn, task in enumerate(tasks):
        if turn % 3 == 0:
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.record.flush()
    keys = {found.id for found in (await store.directory.changes_since(0)).keys}
    calls = {row.opened.id for row in await store.calls.page(ALWAYS)}
    assert [opened.id in calls for opened, _ in pairs] == [made.id in keys for _, made in pairs]


async def test_what_was_handed_or_committed_is_there_after_reopening(store: Store) -> None:
    incarnation = store.record.incarnation
    budget = balance("team:acme/search")
    first, last = call_opened(), call_opened()
    await store.money.reserve(first.id, 500, [budget])
    await store.record.commit(first, call_closed(first.id), settled(first.id, 500, 300, budget))
    await store.record.commit(Put(key(id="key_kept")), audit_row(id="aud_kept"))
    store.record.hand(last)
    store.record.hand(call_closed(last.id, status="error"))
    await store.reopen()
    assert store.record.incarnation == incarnation
    assert {row.opened.id for row in await store.calls.page(ALWAYS)} == {first.id, last.id}
    row = await store.calls.get(last.id)
    assert row is not None
    assert row.closed is not None
    assert row.closed.status == "error"
    assert [found.id for found in (await store.directory.changes_since(0)).keys] == ["key_kept"]
    assert [found.id for found in await store.directory.audit()] == ["aud_kept"]


async def test_the_backlog_is_what_is_not_written_yet(store: Store) -> None:
    assert store.record.backlog_bytes == 0
    assert store.record.backlog_seconds == 0
    for _ in range(100):
        store.record.hand(call_opened())
    assert store.record.backlog_bytes > 100
    await store.clock.advance(2.0)
    assert store.record.backlog_seconds <= 2.0
    await store.record.flush()
    assert store.record.backlog_bytes == 0
    assert store.record.backlog_seconds == 0


async def test_ping_answers_while_the_store_takes_writes(store: Store) -> None:
    await asyncio.gather(*(store.record.ping() for _ in range(20)))
    await store.clock.advance(2.0)
    await store.record.ping()


async def test_every_node_sees_what_any_node_committed(store: Store) -> None:
    other = await store.join()
    if other is None:
        return
    opened = call_opened()
    await store.record.commit(opened, Put(Organisation("acme")))
    assert other.record.incarnation == store.record.incarnation
    assert await other.calls.get(opened.id) is not None
    with pytest.raises(ConflictError):
        await other.record.commit(Put(Organisation("acme"), expect_version=0))
