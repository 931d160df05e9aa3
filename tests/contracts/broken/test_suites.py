"""A suite that cannot fail proves nothing: each of these engines breaks one promise, and the suite says so."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.kernel.clock import VirtualClock
from tests.contracts import test_calls, test_directory, test_money, test_rates, test_record
from tests.contracts.broken import engines
from tests.contracts.engines import Limiter, Store

FOUND_BY: list[tuple[type[engines.Over], Callable[..., Awaitable[None]]]] = [
    (engines.DropsTheLastUnit, test_record.test_what_was_handed_or_committed_is_there_after_reopening),
    (engines.DropsTheLastUnit, test_record.test_flush_returns_when_everything_handed_before_is_written),
    (engines.TearsUnits, test_record.test_a_unit_whose_condition_fails_leaves_nothing),
    (engines.TearsUnits, test_record.test_a_refused_unit_leaves_its_neighbours_untouched),
    (
        engines.TearsUnits,
        test_record.test_a_handed_unit_that_can_never_be_applied_is_counted_and_its_neighbours_are_kept,
    ),
    (engines.OvertakesItself, test_record.test_a_commit_stands_behind_what_was_handed_before_it),
    (engines.IgnoresConditions, test_directory.test_a_change_can_ask_for_the_version_it_was_made_from),
    (engines.IgnoresConditions, test_directory.test_of_many_changes_from_one_version_one_is_made),
    (engines.SkipsVersions, test_directory.test_a_reader_that_polls_misses_nothing),
    (engines.ReplacesEnds, test_calls.test_the_first_end_stays),
    (engines.LosesAttempts, test_calls.test_usage_sums_every_attempt_under_its_call),
    (engines.ChangesOpenedCalls, test_calls.test_open_calls_are_oldest_first_and_by_node),
    (engines.LooksThenTakes, test_money.test_a_hundred_at_once_never_pass_a_cap),
    (engines.LeaksOnRefusal, test_money.test_a_refusal_names_the_balance_and_takes_from_none),
    (engines.KeepsSomeReserved, test_money.test_reservations_and_ends_that_cross_leave_what_they_say),
    (engines.TakesBeforeItRefuses, test_rates.test_a_refusal_takes_from_none),
    (engines.FillsTooFast, test_rates.test_a_bucket_refills_evenly_and_never_above_its_capacity),
    (engines.ForgetsDebt, test_rates.test_what_was_used_beyond_the_reservation_is_carried_as_debt),
]
PARAMETERS: dict[Callable[..., Awaitable[None]], dict[str, Any]] = {
    test_money.test_a_hundred_at_once_never_pass_a_cap: {"known": True},
    test_calls.test_the_first_end_stays: {"apart": True},
}


@pytest.mark.parametrize(("flaw", "test"), FOUND_BY, ids=lambda one: one.__name__)
async def test_the_suite_finds(tmp_path: Path, flaw: type[engines.Over], test: Callable[..., Awaitable[None]]) -> None:
    clock = VirtualClock()
    node = await engines.open_broken(tmp_path / "data", clock, flaw)
    parameters = PARAMETERS.get(test, {})
    if "limiter" in test.__annotations__:
        with pytest.raises(AssertionError):
            await test(Limiter(node, clock), **parameters)
        await node.close()
        return
    await node.close()
    store = Store(lambda _node: engines.open_broken(tmp_path / "data", clock, flaw), clock, shared=False)
    await store.start()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test(store, **parameters)
    await store.close()


# The examples are written out: what the property says of them, not whether a search finds them.
@pytest.mark.parametrize("flaw", [engines.KeepsSomeReserved, engines.LooksThenTakes, engines.LeaksOnRefusal])
async def test_the_property_of_money_finds(tmp_path: Path, flaw: type[engines.Over]) -> None:
    clock = VirtualClock()
    store = Store(lambda _node: engines.open_broken(tmp_path / "data", clock, flaw), clock, shared=False)
    await store.start()
    lives = [test_money.Life(400, 390, opens=True, further=1, apart=False, other_team=False)] * 12
    with pytest.raises(AssertionError):
        await test_money.nothing_stays_reserved(store, lives)
    await store.close()


@pytest.mark.parametrize("flaw", [engines.FillsTooFast, engines.TakesBeforeItRefuses])
async def test_the_property_of_rates_finds(tmp_path: Path, flaw: type[engines.Over]) -> None:
    clock = VirtualClock()
    node = await engines.open_broken(tmp_path / "data", clock, flaw)
    steps = [("reserve", 40, 90), ("reserve", 5, 50), ("elapse", 20, 0), ("reserve", 35, 1)]
    with pytest.raises(AssertionError):
        await test_rates.granted_is_never_more_than_capacity_and_refill(Limiter(node, clock), steps)
    await node.close()
