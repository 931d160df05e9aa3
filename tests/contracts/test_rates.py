"""The contract of ports.rates, on every engine: all or nothing, never more than was granted, dead holders give back."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.kernel.ids import make_id
from holdfast.ports.rates import Limit
from tests.contracts.engines import Limiter

EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
MINUTE = 60.0
A_LITTLE = 0.01


def bucket(name: str, capacity: int, period_seconds: float = MINUTE) -> Limit:
    return Limit(f"input_tokens:{name}", "bucket", capacity, period_seconds)


def slots(name: str, capacity: int) -> Limit:
    return Limit(f"slots:{name}", "slot", capacity)


async def settle(
    limiter: Limiter, limits: tuple[Limit, ...], reserved: list[int], actual: list[int], holder: str
) -> None:
    """Settling is handed; a later question of the same node is answered after it."""
    limiter.rates.settle(limits, reserved, actual, holder)
    await limiter.rates.levels(limits)


async def test_a_bucket_starts_full_and_a_slot_free(limiter: Limiter) -> None:
    limits = (bucket("a", 100), slots("a", 3))
    assert await limiter.rates.levels(limits) == [100, 3]
    assert await limiter.rates.reserve(limits, [100, 1], "call_1", 60) is None
    assert await limiter.rates.levels(limits) == [0, 2]


async def test_no_limit_is_no_refusal(limiter: Limiter) -> None:
    assert await limiter.rates.reserve((), [], "call_1", 60) is None
    limiter.rates.settle((), [], [], "call_1")
    assert await limiter.rates.levels(()) == []


async def test_a_bucket_refills_evenly_and_never_above_its_capacity(limiter: Limiter) -> None:
    limits = (bucket("a", 600),)
    await limiter.rates.reserve(limits, [600], "call_1", 60)
    await limiter.elapse(6)
    (level,) = await limiter.rates.levels(limits)
    assert level == pytest.approx(60, abs=0.01)
    await limiter.elapse(0.5)
    (level,) = await limiter.rates.levels(limits)
    assert level == pytest.approx(65, abs=0.01)
    await limiter.elapse(1000)
    assert await limiter.rates.levels(limits) == [600]


async def test_a_refusal_says_what_lacked_most_and_how_long_until_it_fits(limiter: Limiter) -> None:
    plenty, little, least = bucket("plenty", 1000), bucket("little", 100), bucket("least", 60)
    limits = (plenty, little, least)
    assert await limiter.rates.reserve(limits, [10, 50, 50], "call_1", 60) is None
    short = await limiter.rates.reserve(limits, [10, 60, 50], "call_2", 60)
    assert short is not None
    assert short.limit == least
    assert short.available == pytest.approx(10, abs=0.01)
    assert short.wait_seconds == pytest.approx(40, abs=0.1)
    assert not short.never
    await limiter.elapse(short.wait_seconds - 1)
    assert await limiter.rates.reserve(limits, [10, 60, 50], "call_2", 60) is not None
    await limiter.elapse(1 + A_LITTLE)
    assert await limiter.rates.reserve(limits, [10, 60, 50], "call_2", 60) is None


async def test_a_refusal_takes_from_none(limiter: Limiter) -> None:
    limits = (slots("a", 5), bucket("a", 100), bucket("b", 10), slots("b", 5))
    assert await limiter.rates.reserve(limits, [1, 50, 11, 1], "call_1", 60) is not None
    assert await limiter.rates.levels(limits) == [5, 100, 10, 5]
    assert await limiter.rates.reserve((slots("b", 1), slots("a", 5)), [1, 1], "call_2", 60) is None
    assert (
        await limiter.rates.reserve((slots("a", 5), bucket("a", 100), slots("b", 1)), [1, 50, 1], "call_3", 60)
        is not None
    )
    assert await limiter.rates.levels((slots("a", 5), bucket("a", 100))) == [4, 100]


async def test_what_can_never_fit_is_said_so(limiter: Limiter) -> None:
    limits = (bucket("a", 100), bucket("b", 10))
    await limiter.rates.reserve(limits, [100, 0], "call_1", 60)
    short = await limiter.rates.reserve(limits, [50, 11], "call_2", 60)
    assert short is not None
    assert (short.limit, short.never) == (limits[1], True)


async def test_settling_adds_back_what_was_not_used(limiter: Limiter) -> None:
    limits = (bucket("a", 100), slots("a", 2))
    await limiter.rates.reserve(limits, [80, 1], "call_1", 60)
    await settle(limiter, limits, [80, 1], [30, 1], "call_1")
    assert await limiter.rates.levels(limits) == [70, 2]


async def test_settling_never_fills_a_bucket_above_its_capacity(limiter: Limiter) -> None:
    limits = (bucket("a", 100),)
    await limiter.rates.reserve(limits, [80], "call_1", 60)
    await limiter.elapse(MINUTE)
    await settle(limiter, limits, [80], [0], "call_1")
    assert await limiter.rates.levels(limits) == [100]


async def test_what_was_used_beyond_the_reservation_is_carried_as_debt(limiter: Limiter) -> None:
    limits = (bucket("a", 60),)
    await limiter.rates.reserve(limits, [10], "call_1", 60)
    await settle(limiter, limits, [10], [100], "call_1")
    assert await limiter.rates.levels(limits) == [-40]
    short = await limiter.rates.reserve(limits, [1], "call_2", 60)
    assert short is not None
    assert short.wait_seconds == pytest.approx(41, abs=0.1)
    await limiter.elapse(41 + A_LITTLE)
    assert await limiter.rates.reserve(limits, [1], "call_2", 60) is None


async def test_debt_is_booked_though_the_bucket_was_full_again(limiter: Limiter) -> None:
    limits = (bucket("a", 60),)
    await limiter.rates.reserve(limits, [10], "call_1", 6000)
    await limiter.elapse(5000)
    await settle(limiter, limits, [10], [50], "call_1")
    assert await limiter.rates.levels(limits) == [20]


async def test_slots_are_free_again_when_settled_or_expired(limiter: Limiter) -> None:
    limits = (slots("a", 2),)
    assert await limiter.rates.reserve(limits, [1], "call_1", 10) is None
    assert await limiter.rates.reserve(limits, [1], "call_2", 100) is None
    short = await limiter.rates.reserve(limits, [1], "call_3", 100)
    assert short is not None
    assert (short.available, short.never) == (0, False)
    assert short.wait_seconds > 0
    await settle(limiter, limits, [1], [1], "call_2")
    assert await limiter.rates.levels(limits) == [1]
    assert await limiter.rates.reserve(limits, [1], "call_3", 100) is None
    await limiter.elapse(10 + A_LITTLE)
    assert await limiter.rates.levels(limits) == [1], "the slot of a holder that died came back"
    assert await limiter.rates.reserve(limits, [1], "call_4", 100) is None
    assert await limiter.rates.reserve(limits, [1], "call_5", 100) is not None


async def test_settling_twice_or_after_expiry_frees_no_slot_of_another(limiter: Limiter) -> None:
    limits = (slots("a", 2),)
    await limiter.rates.reserve(limits, [1], "call_1", 10)
    await limiter.elapse(11)
    await limiter.rates.reserve(limits, [1], "call_2", 100)
    await limiter.rates.reserve(limits, [1], "call_3", 100)
    await settle(limiter, limits, [1], [1], "call_1")
    await settle(limiter, limits, [1], [1], "call_1")
    assert await limiter.rates.levels(limits) == [0]


async def test_keys_do_not_meet(limiter: Limiter) -> None:
    await limiter.rates.reserve((bucket("a", 100), slots("a", 1)), [100, 1], "call_1", 60)
    assert await limiter.rates.reserve((bucket("b", 100), slots("b", 1)), [100, 1], "call_1", 60) is None


async def test_a_changed_capacity_holds_from_the_next_reserve_on(limiter: Limiter) -> None:
    await limiter.rates.reserve((bucket("a", 100), slots("a", 1)), [10, 1], "call_1", 60)
    assert await limiter.rates.levels((bucket("a", 50),)) == [50]
    assert await limiter.rates.reserve((slots("a", 2),), [1], "call_2", 60) is None
    short = await limiter.rates.reserve((bucket("a", 50),), [51], "call_3", 60)
    assert short is not None
    assert short.never


async def test_a_hundred_at_once_take_no_more_than_there_is(limiter: Limiter) -> None:
    limits = (slots("a", 40), bucket("a", 1000), bucket("b", 700))
    answers = await asyncio.gather(
        *(limiter.rates.reserve(limits, [1, 30, 30], f"call_{index}", 60) for index in range(100))
    )
    assert sum(1 for answer in answers if answer is None) == 23
    assert await limiter.rates.levels(limits) == [17, 310, 10]


async def test_calls_of_a_hundred_tokens_limit_never_spend_663(limiter: Limiter) -> None:
    limits = (bucket("a", 100),)
    answers = [
        await limiter.rates.reserve(limits, [tokens], f"call_{tokens}", 60) for tokens in (58, 80, 175, 175, 175)
    ]
    assert [answer is None for answer in answers] == [True, False, False, False, False]


async def test_ping_answers(limiter: Limiter) -> None:
    await limiter.rates.ping()


Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 60), st.integers(0, 120)),
        st.tuples(st.just("settle"), st.integers(0, 150), st.integers(0, 150)),
        st.tuples(st.just("elapse"), st.integers(0, 30), st.just(0)),
    ),
    max_size=30,
)


@EXAMPLES
@given(steps=STEPS)
async def test_what_was_granted_is_never_more_than_capacity_and_refill(limiter: Limiter, steps: list[Step]) -> None:
    await granted_is_never_more_than_capacity_and_refill(limiter, steps)


async def granted_is_never_more_than_capacity_and_refill(limiter: Limiter, steps: list[Step]) -> None:
    name = make_id("team")
    limits = (bucket(f"{name}-a", 50), slots(name, 4), bucket(f"{name}-b", 100))
    granted, elapsed = [0, 0], 0
    held: dict[str, list[int]] = {}
    for number, (step, first, second) in enumerate(steps):
        if step == "elapse":
            await limiter.elapse(first)
            elapsed += first
        elif step == "settle" and held:
            holder, amounts = held.popitem()
            actual = [first, 1, second]
            await settle(limiter, limits, amounts, actual, holder)
            granted[0] += first - amounts[0]
            granted[1] += second - amounts[2]
        elif step == "reserve":
            before = await limiter.rates.levels(limits)
            amounts = [first, 1, second]
            if await limiter.rates.reserve(limits, amounts, f"call_{number}", 1_000_000) is None:
                assert all(left >= amount - 0.001 for left, amount in zip(before, amounts, strict=True))
                held[f"call_{number}"] = amounts
                granted[0] += first
                granted[1] += second
                assert granted[0] <= 50 + elapsed * 50 / MINUTE + 0.01
                assert granted[1] <= 100 + elapsed * 100 / MINUTE + 0.01
            else:
                assert await limiter.rates.levels(limits) == pytest.approx(before, abs=0.001)
        assert len(held) <= 4
        levels = await limiter.rates.levels(limits)
        assert levels[1] == 4 - len(held)
        assert levels[0] <= 50
        assert levels[2] <= 100
