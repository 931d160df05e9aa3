"""The contract of ports.calls, on every engine: what is read back, pages, sums, and what retention deletes."""

import random
from dataclasses import fields, replace

import pytest

from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import ENDS, CallOpened, GroupBy, Spent, UsageRow, Window
from tests.contracts.engines import Store
from tests.contracts.samples import ALWAYS, DAY, NOON, attempted, call_closed, call_opened

HOUR = 3600.0


async def test_everything_about_a_call_is_read_back(store: Store) -> None:
    opened = call_opened()
    closed = call_closed(
        opened.id,
        status="error",
        http_status=502,
        lane="azure/gpt-5-mini",
        error_code="upstream_protocol",
        empty=True,
        usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, estimated=True),
        fingerprint="fp_1",
        attempts=3,
        served_from="call_other",
        saved_nanodollars=11,
        upstream_bytes=2**40,
        answer_bytes=13,
    )
    further = (attempted(opened.id, 2), attempted(opened.id, 3, kind="repair", http_status=None, error_code="cut"))
    await store.record.commit(opened, *further, closed)
    row = await store.calls.get(opened.id)
    assert row is not None
    assert (row.opened, row.closed, row.further, row.cost_nanodollars) == (opened, closed, further, 440)
    assert await store.calls.page(ALWAYS) == [row]
    assert type(row.opened.stream) is bool
    assert type(closed.empty) is bool


async def test_nothing_is_nothing_and_not_zero(store: Store) -> None:
    opened = call_opened(end_user=None, stream=False, reserved_nanodollars=0)
    closed = call_closed(
        opened.id,
        finish_reason=None,
        cost_nanodollars=None,
        price_version=None,
        answered_model=None,
        first_token_seconds=None,
    )
    await store.record.commit(opened, closed)
    row = await store.calls.get(opened.id)
    assert row is not None
    assert (row.opened, row.closed, row.cost_nanodollars) == (opened, closed, None)
    assert await store.calls.get("call_nobody") is None


async def test_text_is_kept_as_it_came(store: Store) -> None:
    opened = call_opened(end_user='O\'Hara "the" 🐚 \\ \n %s {rows} -- ; ', model="名前/ü:1")
    await store.record.commit(opened, call_closed(opened.id, finish_reason=""))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.closed is not None
    assert (row.opened, row.closed.finish_reason) == (opened, "")


async def test_a_call_is_open_until_its_end(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened)
    row = await store.calls.get(opened.id)
    assert row is not None
    assert (row.closed, row.cost_nanodollars) == (None, None)
    assert await store.calls.open_calls() == [opened]
    await store.record.commit(call_closed(opened.id))
    assert await store.calls.open_calls() == []


@pytest.mark.parametrize("apart", [False, True])
async def test_the_first_end_stays(store: Store, apart: bool) -> None:
    opened = call_opened()
    first = call_closed(opened.id, status="cancelled", cost_nanodollars=1, upstream_bytes=3, answer_bytes=4)
    store.record.hand(opened)
    store.record.hand(first)
    if apart:
        await store.record.flush()
    store.record.hand(call_closed(opened.id, status="complete", cost_nanodollars=2))
    store.record.hand(call_closed(opened.id, status="unknown", opened=opened._replace(model="another")))
    store.record.hand(opened._replace(model="a third"))
    await store.record.flush()
    row = await store.calls.get(opened.id)
    assert row is not None
    assert (row.opened, row.closed) == (opened, first)
    assert store.record.rejected == 0


async def test_the_end_of_a_call_that_was_never_sent_carries_the_whole_row(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(call_closed(opened.id, status="refused", http_status=429, opened=opened))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.opened == opened
    assert row.closed == call_closed(opened.id, status="refused", http_status=429)


async def test_an_end_that_carries_the_row_ends_a_call_that_is_open(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened)
    await store.record.commit(call_closed(opened.id, opened=opened))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.closed == call_closed(opened.id)


async def test_an_attempt_written_twice_is_one(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened, attempted(opened.id, cost_nanodollars=5))
    await store.record.commit(attempted(opened.id, cost_nanodollars=6), call_closed(opened.id, cost_nanodollars=1))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.cost_nanodollars == 6
    assert await store.calls.spent(ALWAYS) == Spent(6, 0)


async def test_one_unpriced_attempt_makes_the_cost_unknown(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened, attempted(opened.id, cost_nanodollars=None), call_closed(opened.id, attempts=2))
    row = await store.calls.get(opened.id)
    assert row is not None
    assert row.cost_nanodollars is None
    assert await store.calls.spent(ALWAYS) == Spent(300, 0)


async def test_pages_are_newest_first_and_meet_without_gap_or_overlap(store: Store) -> None:
    rng = random.Random(7)
    calls = [call_opened(opened_at=NOON + rng.randrange(6)) for _ in range(60)]
    for opened in calls:
        store.record.hand(opened, call_closed(opened.id), attempted(opened.id))
    await store.record.flush()
    expected = sorted(((one.opened_at, one.id) for one in calls), reverse=True)
    seen: list[tuple[float, str]] = []
    before = None
    while page := await store.calls.page(ALWAYS, limit=7, before=before):
        assert all(len(row.further) == 1 for row in page)
        seen += [(row.opened.opened_at, row.opened.id) for row in page]
        before = seen[-1]
    assert seen == expected


async def test_a_window_is_half_open_and_its_conditions_hold_together(store: Store) -> None:
    base = call_opened(opened_at=NOON)
    others = [
        call_opened(opened_at=NOON - 1),
        call_opened(opened_at=NOON + 10),
        call_opened(organisation="beta"),
        call_opened(team="ads"),
        call_opened(key_id="key_2"),
        call_opened(model="claude"),
    ]
    for opened in (base, *others):
        store.record.hand(opened)
    for opened in others[2:]:
        store.record.hand(call_closed(opened.id))
    await store.record.flush()

    async def found(**changed: object) -> int:
        window = replace(Window(NOON, NOON + 10), **changed)  # type: ignore[arg-type]
        page = await store.calls.page(window)
        sums = await store.calls.usage(window, [])
        assert sum(row.calls for row in sums) == len(page)
        return len(page)

    assert await found() == 5
    assert await found(until=NOON + 10.001) == 6
    assert await found(organisation="acme") == 4
    assert await found(team="ads") == 1
    assert await found(key_id="key_2") == 1
    assert await found(model="claude") == 1
    assert await found(status="complete") == 4
    assert await found(status="open") == 1
    assert await found(status="error") == 0
    narrow = Window(NOON, NOON + 10, "acme", "search", "key_1", "gpt-5-mini", "open")
    assert [row.opened for row in await store.calls.page(narrow)] == [base]


async def test_usage_sums_every_attempt_under_its_call(store: Store) -> None:
    one, two = call_opened(model="a"), call_opened(model="b")
    store.record.hand(one, call_closed(one.id, cost_nanodollars=100, saved_nanodollars=5, upstream_bytes=7))
    sent = {"upstream_bytes": 40, "answer_bytes": 9}
    end = call_closed(two.id, lane="azure/b", attempts=2, cost_nanodollars=100, **sent)
    store.record.hand(two, attempted(two.id), end)
    store.record.hand(call_opened(model="b"))
    await store.record.flush()
    assert await store.calls.usage(ALWAYS, ["model"]) == [
        UsageRow(("a",), 1, 0, 20, 10, 5, 100, 5, 0, 7, 0),
        UsageRow(("b",), 2, 0, 27, 13, 5, 170, 0, 0, 40, 9),
    ]
    assert await store.calls.usage(ALWAYS, []) == [UsageRow((), 3, 0, 47, 23, 10, 270, 5, 0, 47, 9)]
    by_lane = {row.group: row.calls for row in await store.calls.usage(ALWAYS, ["lane"])}
    assert by_lane == {("azure/b",): 1, ("openai/gpt-5-mini",): 2}
    assert await store.calls.usage(Window(0, 1), ["model"]) == []


async def test_usage_tells_errors_and_unpriced_calls_apart(store: Store) -> None:
    for status in ENDS:
        opened = call_opened()
        cost = 0 if status in {"complete", "cancelled"} else None
        store.record.hand(opened, call_closed(opened.id, status=status, cost_nanodollars=cost))
    half = call_opened()
    store.record.hand(half, attempted(half.id, cost_nanodollars=None), call_closed(half.id, attempts=2))
    store.record.hand(call_opened())
    await store.record.flush()
    (row,) = await store.calls.usage(ALWAYS, [])
    assert row.calls == 8
    assert row.errors == 3, "error, unknown and lost; a refusal or a cancellation is no error"
    assert row.unpriced_calls == 4, "an open call has no price yet, and a refused one needs none"
    statuses = {row.group[0]: row.calls for row in await store.calls.usage(ALWAYS, ["status"])}
    assert statuses == dict.fromkeys(ENDS, 1) | {"open": 1, "complete": 2}


async def test_usage_groups_by_day_and_hour_in_utc(store: Store) -> None:
    for opened_at in (NOON, NOON + 59 * 60, NOON + HOUR, NOON + DAY, NOON - 12 * HOUR - 1):
        store.record.hand(call_opened(opened_at=opened_at))
    await store.record.flush()
    days = [(row.group, row.calls) for row in await store.calls.usage(ALWAYS, ["day"])]
    assert days == [(("2023-11-14",), 1), (("2023-11-15",), 3), (("2023-11-16",), 1)]
    hours = [row.group for row in await store.calls.usage(ALWAYS, ["hour", "organisation"])]
    assert hours == [
        ("2023-11-14T23", "acme"), ("2023-11-15T12", "acme"), ("2023-11-15T13", "acme"), ("2023-11-16T12", "acme"),
    ]  # fmt: skip
    assert len(await store.calls.usage(ALWAYS, ["hour"], limit=2)) == 2


GROUPS: tuple[GroupBy, ...] = ("organisation", "team", "key_id", "model", "route", "status", "lane", "day", "hour")


@pytest.mark.parametrize("group", GROUPS)
async def test_every_group_adds_up_to_the_whole(store: Store, group: GroupBy) -> None:
    rng = random.Random(3)
    for index in range(40):
        opened = call_opened(
            opened_at=NOON + rng.randrange(100) * HOUR,
            **{
                name: f"{name}-{rng.randrange(4)}"
                for name in ("organisation", "team", "key_id", "model", "route", "lane")
            },
        )
        store.record.hand(opened)
        if index % 4:
            store.record.hand(attempted(opened.id), call_closed(opened.id, lane=opened.lane, cost_nanodollars=index))
    await store.record.flush()
    (whole,) = await store.calls.usage(ALWAYS, [])
    rows = await store.calls.usage(ALWAYS, [group])
    assert len(rows) > 1
    for name in (field.name for field in fields(UsageRow) if field.name != "group"):
        assert sum(getattr(row, name) for row in rows) == getattr(whole, name)


async def test_spent_counts_what_ended_and_what_is_still_held(store: Store) -> None:
    ended, still_open, elsewhere = call_opened(), call_opened(reserved_nanodollars=40), call_opened(team="ads")
    store.record.hand(ended, attempted(ended.id), call_closed(ended.id, cost_nanodollars=300))
    store.record.hand(still_open, attempted(still_open.id))
    store.record.hand(elsewhere, call_closed(elsewhere.id, cost_nanodollars=9))
    await store.record.flush()
    assert await store.calls.spent(Window(NOON, NOON + 1, team="search")) == Spent(440, 40)
    assert await store.calls.spent(ALWAYS) == Spent(449, 40)
    assert await store.calls.spent(Window(NOON + 1, NOON + 2)) == Spent(0, 0)


async def test_open_calls_are_oldest_first_and_by_node(store: Store) -> None:
    calls = [call_opened(opened_at=NOON - index, node=f"node-{index % 2}") for index in range(6)]
    for opened in calls:
        store.record.hand(opened)
    store.record.hand(call_closed(calls[3].id))
    await store.record.flush()
    expected: list[CallOpened] = [calls[index] for index in (5, 4, 2, 1, 0)]
    assert await store.calls.open_calls() == expected
    assert await store.calls.open_calls("node-1") == [calls[5], calls[1]]
    assert await store.calls.open_calls(limit=2) == expected[:2]


async def test_prune_deletes_old_calls_that_ended_a_few_at_a_time(store: Store) -> None:
    old = [call_opened(opened_at=NOON - 10 * DAY + index) for index in range(5)]
    new, still_open = call_opened(opened_at=NOON), call_opened(opened_at=NOON - 20 * DAY)
    for opened in (*old, new):
        store.record.hand(opened, attempted(opened.id), call_closed(opened.id))
    store.record.hand(still_open)
    await store.record.flush()
    assert await store.calls.prune(NOON, limit=3) == 3
    assert await store.calls.get(old[0].id) is None
    assert await store.calls.get(old[4].id) is not None
    assert await store.calls.prune(NOON, limit=3) == 2
    assert await store.calls.prune(NOON, limit=3) == 0
    assert {row.opened.id for row in await store.calls.page(ALWAYS)} == {new.id, still_open.id}
    assert await store.calls.spent(ALWAYS) == Spent(370, 500)


async def test_reads_do_not_wait_for_writes(store: Store) -> None:
    opened = call_opened()
    await store.record.commit(opened)
    for _ in range(2000):
        store.record.hand(call_opened())
    assert await store.calls.get(opened.id) is not None
    await store.record.flush()
    assert len(await store.calls.page(ALWAYS, limit=10)) == 10
