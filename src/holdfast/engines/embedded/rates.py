"""EmbeddedRates: buckets and slots of one process, in its memory.

A reservation is one turn of the event loop, so nothing needs a lock. The limits of a plan are resolved once to what holds their
levels; a call then costs a few additions a limit. A bucket is refilled when it is looked at. Full buckets and free slots are
forgotten when memory has grown to twice what the last clearing left.
"""

from collections.abc import Sequence

from holdfast.kernel.clock import Clock
from holdfast.ports.rates import Limit, Short

_NEVER_SECONDS = float("inf")
_SLOT_GUESS_SECONDS = 1.0
_GRAIN = 1e-6  # of a token: what adding up refills may lose
_FORGET_AT = 10_000
_MOST_GROUPS = 20_000


class _Bucket:
    __slots__ = ("at", "capacity", "level", "per_second")

    def __init__(self, limit: Limit, now: float) -> None:
        self.level = float(limit.capacity)
        self.at = now
        self.hold(limit)

    def hold(self, limit: Limit) -> None:
        """This capacity and period are the ones that hold from here on."""
        self.capacity = limit.capacity
        self.per_second = limit.capacity / limit.period_seconds

    def left(self, now: float) -> float:
        level = self.level + (now - self.at) * self.per_second
        self.level = level = level if level < self.capacity else self.capacity
        self.at = now
        return level

    def wait_seconds(self, amount: int, left: float) -> float:
        return max(0.0, amount - left) / self.per_second

    def is_idle(self, now: float) -> bool:
        return self.left(now) >= self.capacity


class _Slots:
    __slots__ = ("capacity", "holders", "next_expiry", "taken")

    def __init__(self, limit: Limit) -> None:
        self.capacity = limit.capacity
        self.holders: dict[str, tuple[int, float]] = {}
        self.taken = 0
        self.next_expiry = _NEVER_SECONDS

    def hold(self, limit: Limit) -> None:
        self.capacity = limit.capacity

    def left(self, now: float) -> float:
        if now >= self.next_expiry:
            self.holders = {holder: held for holder, held in self.holders.items() if held[1] > now}
            self.taken = sum(amount for amount, _ in self.holders.values())
            self.next_expiry = min((until for _, until in self.holders.values()), default=_NEVER_SECONDS)
        return self.capacity - self.taken

    def take(self, amount: int, holder: str, expires_at: float) -> None:
        holders = self.holders
        if holder in holders:
            held, until = holders[holder]
            holders[holder] = (held + amount, max(until, expires_at))
        else:
            holders[holder] = (amount, expires_at)
        self.taken += amount
        self.next_expiry = min(self.next_expiry, expires_at)

    def free(self, holder: str) -> None:
        held = self.holders.pop(holder, None)
        if held is not None:
            self.taken -= held[0]

    def wait_seconds(self, amount: int, left: float) -> float:
        return 0.0 if left >= amount else _SLOT_GUESS_SECONDS

    def is_idle(self, now: float) -> bool:
        self.left(now)
        return self.taken == 0


class _Group:
    """The limits of one plan, resolved: what holds each level, and its place among the amounts. `limits` is kept so that
    its identity stays taken."""

    __slots__ = ("buckets", "limits", "slots")

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.limits = limits
        self.buckets: list[tuple[int, _Bucket]] = []
        self.slots: list[tuple[int, _Slots]] = []


class EmbeddedRates:
    """Promises of `ports.rates.Rates`. A changed capacity holds from the first look that says it; no level is above it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._levels: dict[str, _Bucket | _Slots] = {}
        self._groups: dict[int, _Group] = {}
        self._forget_at = _FORGET_AT

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        now = self._clock.monotonic()
        group = self._groups.get(id(limits)) or self._resolve(limits, now)
        for place, bucket in group.buckets:
            level = bucket.level + (now - bucket.at) * bucket.per_second
            bucket.level = level = level if level < bucket.capacity else bucket.capacity
            bucket.at = now
            if level + _GRAIN < amounts[place]:
                return self._shortest(limits, amounts, now)
        for place, slots in group.slots:
            if now >= slots.next_expiry:
                slots.left(now)
            if slots.capacity - slots.taken < amounts[place]:
                return self._shortest(limits, amounts, now)
        for place, bucket in group.buckets:
            bucket.level -= amounts[place]
        expires_at = now + expires_seconds
        for place, slots in group.slots:
            slots.take(amounts[place], holder, expires_at)
        return None

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        group = self._groups.get(id(limits)) or self._resolve(limits, self._clock.monotonic())
        for place, bucket in group.buckets:
            unused = reserved[place] - actual[place]
            if unused < 0:
                bucket.left(self._clock.monotonic())  # a debt begins now, not when the reservation was made
            bucket.level += unused
        for _, slots in group.slots:
            slots.free(holder)

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        now = self._clock.monotonic()
        self._resolve(limits, now)
        return [self._levels[limit.key].left(now) for limit in limits]

    async def ping(self) -> None:
        """This process's memory always answers."""

    @property
    def remembered(self) -> int:
        """How many buckets and slots are in memory."""
        return len(self._levels)

    def _resolve(self, limits: tuple[Limit, ...], now: float) -> _Group:
        if len(self._levels) >= self._forget_at or len(self._groups) >= _MOST_GROUPS:
            self._forget(now)
        group = _Group(limits)
        for place, limit in enumerate(limits):
            level = self._levels.get(limit.key)
            if level is None:
                level = _Bucket(limit, now) if limit.kind == "bucket" else _Slots(limit)
                self._levels[limit.key] = level
            level.hold(limit)
            if isinstance(level, _Bucket):
                group.buckets.append((place, level))
            else:
                group.slots.append((place, level))
        self._groups[id(limits)] = group
        return group

    def _forget(self, now: float) -> None:
        self._groups = {}
        self._levels = {key: level for key, level in self._levels.items() if not level.is_idle(now)}
        self._forget_at = max(_FORGET_AT, 2 * len(self._levels))

    def _shortest(self, limits: tuple[Limit, ...], amounts: Sequence[int], now: float) -> Short | None:
        """Of the limits that lack something, the one that needs the longest wait."""
        worst: Short | None = None
        for limit, amount in zip(limits, amounts, strict=True):
            level = self._levels[limit.key]
            left = level.left(now)
            never = amount > limit.capacity
            short = Short(limit, left, _NEVER_SECONDS if never else level.wait_seconds(amount, left), never)
            if worst is None or short.wait_seconds > worst.wait_seconds:
                worst = short
        return worst
