"""Driven coroutines: no turn of the loop before the first line, none after the news."""

import asyncio

import pytest

from holdfast.kernel.drive import Drive, Signal, Turns


async def test_it_runs_at_once_and_goes_on_inside_the_signal() -> None:
    seen: list[str] = []
    signal = Signal()

    async def work() -> None:
        seen.append("begun")
        await signal
        seen.append("done")

    def outside() -> None:
        Drive(work())
        seen.append("driven")
        signal.set()
        seen.append("set")

    asyncio.get_running_loop().call_soon(outside)
    await asyncio.sleep(0.01)
    assert seen == ["begun", "driven", "done", "set"]


async def test_a_signal_that_happened_is_not_waited_for() -> None:
    signal = Signal()
    signal.set()
    await signal


async def test_a_task_may_wait_for_a_signal_too() -> None:
    signal = Signal()
    asyncio.get_running_loop().call_soon(signal.set)
    await asyncio.wait_for(signal_as_coroutine(signal), 1)


async def signal_as_coroutine(signal: Signal) -> None:
    await signal


async def test_futures_tasks_and_errors_in_them_are_waited_for() -> None:
    seen: list[object] = []
    loop = asyncio.get_running_loop()

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("told")

    async def work() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        try:
            await asyncio.ensure_future(failing())
        except ValueError as error:
            seen.append(str(error))

    loop.call_soon(lambda: Drive(work()))
    await asyncio.sleep(0.05)
    assert seen == ["told"]


async def test_what_needs_a_task_says_so_when_it_has_none() -> None:
    seen: list[type[Exception]] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(0)
        except RuntimeError as error:
            seen.append(type(error))

    asyncio.get_running_loop().call_soon(lambda: Drive(work()))
    await asyncio.sleep(0.01)
    assert seen == [RuntimeError]


@pytest.mark.parametrize("times", [1, 2])
async def test_setting_twice_resumes_once(times: int) -> None:
    seen: list[int] = []
    signal = Signal()

    async def work() -> None:
        await signal
        seen.append(1)

    def outside() -> None:
        Drive(work())
        for _ in range(times):
            signal.set()

    asyncio.get_running_loop().call_soon(outside)
    await asyncio.sleep(0.01)
    assert seen == [1]


async def test_few_calls_do_not_wait_for_one_another_and_many_pass_a_stage_together() -> None:
    under_way: list[int] = []
    turns = Turns(under_way, few=2)
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(name + "1")
        await turns
        seen.append(name + "2")

    def start(names: str) -> None:
        for name in names:
            turns.take(lambda name=name: Drive(work(name)))  # type: ignore[misc]

    loop = asyncio.get_running_loop()
    loop.call_soon(start, "ab")
    await asyncio.sleep(0.01)
    assert seen == ["a1", "a2", "b1", "b2"]
    seen.clear()
    under_way.extend(range(3))
    loop.call_soon(start, "abc")
    await asyncio.sleep(0.01)
    assert seen == ["a1", "b1", "c1", "a2", "b2", "c2"]


async def test_one_that_raises_takes_nobodys_turn_away() -> None:
    turns = Turns([1, 2, 3], few=2)
    seen: list[str] = []
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def failing() -> None:
        raise ValueError("one")

    for act in (lambda: seen.append("a"), failing, lambda: seen.append("b")):
        turns.take(act)
    await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    assert seen == ["a", "b"]
    assert [str(error) for error in told] == ["one"]


async def test_a_task_may_take_a_turn_too() -> None:
    turns = Turns([1, 2, 3], few=2)
    async with asyncio.timeout(1):
        await turns
