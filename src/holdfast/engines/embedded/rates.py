"""EmbeddedRates: buckets and slots of one process, in its memory.

A reservation is one turn of the event loop, so nothing needs a lock. A bucket is refilled when it is looked at. Full buckets and
free slots are forgotten, two looked at for each new one, so memory holds about what was used within a period.
"""

from collections import deque
from collections.abc import Sequence

from holdfast.kernel.clock import Clock
from holdfast.ports.rates import Limit, Short

_NEVER_SECONDS = float("inf")
_SLOT_GUESS_SECONDS = 1.0
_GRAIN = 1e-6  # of a token: what adding up refills may lose


class _Bucket:
    __slots__ = ("at", "capacity", "level", "per_second")

    def __init__(self, limit: Limit, now: float) -> None:
        self.capacity = limit.capacity
        self.per_second = limit.capacity / limit.period_seconds
        self.level = float(limit.capacity)
        self.at = now

    def left(self, limit: Limit, now: float) -> float:
        """The level now. The limit's capacity and period are the ones that hold from here on."""
        self.capacity = capacity = limit.capacity
        self.per_second = per_second = capacity / limit.period_seconds
        self.level = level = min(self.level + (now - self.at) * per_second, capacity)
        self.at = now
        return level

    def take(self, limit: Limit, amount: int, holder: str, now: float, expires_at: float) -> bool:
        level = self.left(limit, now)
        if level + _GRAIN < amount:
            return False
        self.level = level - amount
        return True

    def give_back(self, amount: int, holder: str) -> None:
        self.level += amount

    def settle(self, limit: Limit, unused: int, holder: str, now: float) -> None:
        self.level = min(limit.capacity, self.left(limit, now) + unused)

    def wait_seconds(self, amount: int, left: float) -> float:
        return max(0.0, amount - left) / self.per_second

    def is_idle(self, now: float) -> bool:
        return self.level + (now - self.at) * self.per_second >= self.capacity


class _Slots:
    __slots__ = ("holders", "next_expiry", "taken")

    def __init__(self) -> None:
        self.holders: dict[str, tuple[int, float]] = {}
        self.taken = 0
        self.next_expiry = _NEVER_SECONDS

    def left(self, limit: Limit, now: float) -> float:
        if now >= self.next_expiry:
            self._expire(now)
        return limit.capacity - self.taken

    def take(self, limit: Limit, amount: int, holder: str, now: float, expires_at: float) -> bool:
        if self.left(limit, now) < amount:
            return False
        held, until = self.holders.get(holder, (0, expires_at))
        self.holders[holder] = (held + amount, max(until, expires_at))
        self.taken += amount
        self.next_expiry = min(self.next_expiry, expires_at)
        return True

    def give_back(self, amount: int, holder: str) -> None:
        held, until = self.holders.pop(holder)
        if held > amount:
            self.holders[holder] = (held - amount, until)
        self.taken -= amount

    def settle(self, limit: Limit, unused: int, holder: str, now: float) -> None:
        held, _ = self.holders.pop(holder, (0, 0.0))
        self.taken -= held

    def wait_seconds(self, amount: int, left: float) -> float:
        return 0.0 if left >= amount else _SLOT_GUESS_SECONDS

    def is_idle(self, now: float) -> bool:
        return self.taken == 0

    def _expire(self, now: float) -> None:
        self.holders = {holder: held for holder, held in self.holders.items() if held[1] > now}
        self.taken = sum(amount for amount, _ in self.holders.values())
        self.next_expiry = min((until for _, until in self.holders.values()), default=_NEVER_SECONDS)


_Level = _Bucket | _Slots


class EmbeddedRates:
    """Promises of `ports.rates.Rates`. A capacity that changes holds from the next look on; no level is above it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._levels: dict[str, _Level] = {}
        self._looked_at: deque[str] = deque()

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        now = self._clock.monotonic()
        expires_at = now + expires_seconds
        levels = self._levels
        taken: list[tuple[_Level, int]] = []
        for limit, amount in zip(limits, amounts, strict=True):
            level = levels.get(limit.key)
            if level is None:
                level = self._start(limit, now)
            if not level.take(limit, amount, holder, now, expires_at):
                for other, its_amount in taken:
                    other.give_back(its_amount, holder)
                return self._shortest(limits, amounts, now)
            taken.append((level, amount))
        return None

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        now = self._clock.monotonic()
        for limit, had, used in zip(limits, reserved, actual, strict=True):
            level = self._levels.get(limit.key)
            if level is None:
                if limit.kind == "slot" or used <= had:
                    continue  # it was full, or free, and forgotten
                level = self._start(limit, now)
            level.settle(limit, had - used, holder, now)

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        now = self._clock.monotonic()
        found = [(limit, self._levels.get(limit.key)) for limit in limits]
        return [float(limit.capacity) if level is None else level.left(limit, now) for limit, level in found]

    async def ping(self) -> None:
        """This process's memory always answers."""

    @property
    def remembered(self) -> int:
        """How many buckets and slots are in memory."""
        return len(self._levels)

    def _start(self, limit: Limit, now: float) -> _Level:
        for _ in range(min(2, len(self._looked_at))):
            key = self._looked_at.popleft()
            if self._levels[key].is_idle(now):
                del self._levels[key]
            else:
                self._looked_at.append(key)
        level: _Level = _Bucket(limit, now) if limit.kind == "bucket" else _Slots()
        self._levels[limit.key] = level
        self._looked_at.append(limit.key)
        return level

    def _shortest(self, limits: tuple[Limit, ...], amounts: Sequence[int], now: float) -> Short | None:
        """Of the limits that lack something, the one that needs the longest wait."""
        worst: Short | None = None
        for limit, amount in zip(limits, amounts, strict=True):
            level = self._levels.get(limit.key) or self._start(limit, now)
            left = level.left(limit, now)
            never = amount > limit.capacity
            short = Short(limit, left, _NEVER_SECONDS if never else level.wait_seconds(amount, left), never)
            if worst is None or short.wait_seconds > worst.wait_seconds:
                worst = short
        return worst
