"""Rates in memory: every look refills the bucket and frees the slots of the dead."""

from collections.abc import Sequence

from holdfast.kernel.clock import Clock
from holdfast.ports.rates import Limit, Short


class MemoryRates:
    """Promises of `ports.rates.Rates`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # level, at
        self._slots: dict[str, dict[str, float]] = {}  # holder -> expiry

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        lacking: Short | None = None
        for limit, amount in zip(limits, amounts, strict=True):
            left, never = self._left(limit), amount > limit.capacity
            if left + 1e-6 >= amount and not never:
                continue
            wait = (amount - left) * limit.period_seconds / limit.capacity if limit.kind == "bucket" else 1.0
            short = Short(limit, left, float("inf") if never else wait, never)
            if lacking is None or short.wait_seconds > lacking.wait_seconds:
                lacking = short
        if lacking is not None:
            return lacking
        now = self._clock.monotonic()
        for limit, amount in zip(limits, amounts, strict=True):
            if limit.kind == "bucket":
                self._buckets[limit.key] = (self._left(limit) - amount, now)
            else:
                self._slots.setdefault(limit.key, {})[holder] = now + expires_seconds
        return None

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        for limit, had, used in zip(limits, reserved, actual, strict=True):
            if limit.kind == "bucket":
                level = min(limit.capacity, self._left(limit) + had - used)
                self._buckets[limit.key] = (level, self._clock.monotonic())
            else:
                self._slots.get(limit.key, {}).pop(holder, None)

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        return [self._left(limit) for limit in limits]

    async def ping(self) -> None:
        """Memory always answers."""

    def _left(self, limit: Limit) -> float:
        now = self._clock.monotonic()
        if limit.kind == "slot":
            held = {holder: until for holder, until in self._slots.get(limit.key, {}).items() if until > now}
            self._slots[limit.key] = held
            return limit.capacity - len(held)
        level, at = self._buckets.get(limit.key, (float(limit.capacity), now))
        return min(limit.capacity, level + (now - at) * limit.capacity / limit.period_seconds)
