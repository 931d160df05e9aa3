"""Faults at the edges of any port's verbs, so that the product needs no hooks.

    faults = Faults(clock, seed=7)
    record = faults.wrap("record", record)
    faults.at("before:record.commit", error=StoreUnavailableError("the disk is full"), times=3)
    faults.at("after:money.reserve", delay_seconds=5.0, chance=0.1)
    faults.at("after:record.hand", call=lambda: os.kill(os.getpid(), signal.SIGKILL), skip=100)

`before` is before the engine sees the call: with an error there nothing happened. `after` is behind it: the engine did what was
asked, and the caller does not learn of it. An awaited verb can be delayed; a plain one cannot wait, and to ask for it is an error.
"""

import functools
import inspect
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from holdfast.kernel.clock import Clock

P = TypeVar("P")


class Crash(BaseException):
    """The process died here: nothing that handles errors may handle it. The test drops its tasks and reopens the store."""


@dataclass(slots=True)
class Fault:
    """What happens at a point: the next `skip` passages go through, then `times` of them (None: all) by `chance` do not."""

    error: BaseException | None = None
    delay_seconds: float = 0.0
    call: Callable[[], object] | None = None
    times: int | None = 1
    skip: int = 0
    chance: float = 1.0


class Faults:
    """One set of faults over any number of ports. The same seed and the same calls give the same faults."""

    def __init__(self, clock: Clock, *, seed: int = 0) -> None:
        self._clock = clock
        self._random = random.Random(seed)
        self._faults: dict[str, list[Fault]] = {}
        self.passed: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    def at(
        self,
        point: str,
        *,
        error: BaseException | None = None,
        delay_seconds: float = 0.0,
        call: Callable[[], object] | None = None,
        times: int | None = 1,
        skip: int = 0,
        chance: float = 1.0,
    ) -> Fault:
        """Let something happen at `before:port.verb` or `after:port.verb`; `*` for the verb is every one of the port's."""
        when, _, where = point.partition(":")
        port, _, verb = where.partition(".")
        if when not in {"before", "after"} or not port or not verb:
            raise ValueError(f"{point!r} is no point: before:port.verb or after:port.verb")
        fault = Fault(error, delay_seconds, call, times, skip, chance)
        self._faults.setdefault(point, []).append(fault)
        return fault

    def clear(self) -> None:
        """No faults any more; the counts stay."""
        self._faults.clear()

    def wrap(self, name: str, port: P) -> P:
        """The port, with its verbs passing the points `before:name.verb` and `after:name.verb`."""
        return cast(P, _Wrapped(self, name, port))

    def strike(self, point: str) -> float:
        """Pass a point: raises its error, or says for how many seconds to wait."""
        self.passed[point] += 1
        when, _, where = point.partition(":")
        every = f"{when}:{where.partition('.')[0]}.*"
        wait_seconds = 0.0
        for fault in (*self._faults.get(point, ()), *self._faults.get(every, ())):
            if not self._is_due(fault):
                continue
            self.struck[point] += 1
            if fault.call is not None:
                fault.call()
            if fault.error is not None:
                raise fault.error
            wait_seconds += fault.delay_seconds
        return wait_seconds

    async def strike_and_wait(self, point: str) -> None:
        seconds = self.strike(point)
        if seconds > 0:
            await self._clock.sleep(seconds)

    def _is_due(self, fault: Fault) -> bool:
        if fault.skip > 0:
            fault.skip -= 1
            return False
        if fault.times == 0 or self._random.random() >= fault.chance:
            return False
        if fault.times is not None:
            fault.times -= 1
        return True


class _Wrapped:
    """Looks like the port it stands before."""

    def __init__(self, faults: Faults, name: str, port: object) -> None:
        self._faults = faults
        self._name = name
        self._port = port

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._port, verb)
        if verb.startswith("_") or not inspect.isroutine(found):
            return found
        where = f"{self._name}.{verb}"
        if inspect.iscoroutinefunction(found):
            return _awaited(self._faults, where, found)
        return _plain(self._faults, where, found)


def _awaited(faults: Faults, where: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    async def with_faults(*args: Any, **kwargs: Any) -> Any:
        await faults.strike_and_wait("before:" + where)
        answer = await verb(*args, **kwargs)
        await faults.strike_and_wait("after:" + where)
        return answer

    return with_faults


def _plain(faults: Faults, where: str, verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def with_faults(*args: Any, **kwargs: Any) -> Any:
        _never_wait(where, faults.strike("before:" + where))
        answer = verb(*args, **kwargs)
        _never_wait(where, faults.strike("after:" + where))
        return answer

    return with_faults


def _never_wait(where: str, seconds: float) -> None:
    if seconds > 0:
        raise ValueError(f"{where} is a plain call and cannot wait {seconds:g} s")
