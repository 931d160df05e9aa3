"""Rates on Redis: what all nodes share by the minute and at once, in scripts that take all or nothing.

Reserves that wait at the same time go in one script call, settlements in another before it, both in one write. Time is the
server's, so that nodes whose clocks differ share the same bucket. A settlement whose answer was lost is sent again under
the same mark and counted once. A reserve whose answer was lost is refused, and its slots are freed again; what it may
have taken from buckets refills.
"""

import asyncio
import json
import logging
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from holdfast.engines.redis.line import Command, Line
from holdfast.engines.redis.scripts import Scripts
from holdfast.engines.redis.sheets import PREFIX, Ask, Batch, Plan, Settlement, Sheet
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.ids import make_id
from holdfast.ports.rates import Limit, Short

log = logging.getLogger(__name__)

MOST_ASKED = 64  # of one script call: Redis answers nobody else while it runs, about 10 µs each
MOST_SETTLED = 128
MOST_WAITING = 100_000
MOST_PLANS = 10_000
SETTLE_PAUSE_SECONDS = 0.005
RETRY_SECONDS = 0.25
STALE_SECONDS = 60.0  # a settlement older than this no longer matters: buckets refilled, slots expired
CLOSE_SECONDS = 2.0
PING_SECONDS = 1.0


class RedisRates:
    """`dropped` counts settlements that were given up because Redis stayed away too long."""

    def __init__(self, line: Line, scripts: Scripts, *, clock: Clock, node: str, time: Clock | None) -> None:
        self.dropped = 0
        self._line = line
        self._scripts = scripts
        self._monotonic = clock.monotonic
        self._clock = time
        self._node = node
        self._plans: dict[int, Plan] = {}
        self._asks: deque[Ask] = deque()
        self._settlements: deque[Settlement] = deque()
        self._unsure: Batch | None = None  # its answer is outstanding
        self._pinged: tuple[float, StoreUnavailableError | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = self._loop.create_task(self._run(), name="redis rates")

    async def reserve(
        self, limits: tuple[Limit, ...], amounts: Sequence[int], holder: str, expires_seconds: float
    ) -> Short | None:
        if not limits:
            return None
        if self._task.done():
            raise StoreUnavailableError("the rates are closed")
        ask = Ask(self._plan(limits), amounts, holder, expires_seconds, self._loop.create_future())
        self._asks.append(ask)
        self._wake.set()
        try:
            return await ask.answer
        except asyncio.CancelledError:
            if ask.granted:
                self._give_back(ask)
            raise

    def settle(self, limits: tuple[Limit, ...], reserved: Sequence[int], actual: Sequence[int], holder: str) -> None:
        if not limits:
            return
        if len(self._settlements) >= MOST_WAITING:
            self._settlements.popleft()
            self.dropped += 1
        self._settlements.append(Settlement(self._monotonic(), self._plan(limits), reserved, actual, holder))
        self._wake_in(SETTLE_PAUSE_SECONDS)

    async def levels(self, limits: tuple[Limit, ...]) -> list[float]:
        if not limits:
            return []
        plan = self._plan(limits)
        await self._send_settlements()
        script = self._scripts.levels
        (answer,) = await self._line.ask(
            ("EVALSHA", script.sha, len(plan.keys), *plan.keys, json.dumps(plan.shape), self._time())
        )
        return [float(level) for level in answer]

    async def ping(self) -> None:
        """Redis takes a write; asked at most once a second."""
        now = self._loop.time()
        if self._pinged is None or now - self._pinged[0] >= PING_SECONDS:
            try:
                await self._line.ask(("SET", f"{PREFIX}ping:{self._node}", "1", "PX", 1000))
            except StoreUnavailableError as error:
                self._pinged = (self._loop.time(), error)
            else:
                self._pinged = (self._loop.time(), None)
        if self._pinged[1] is not None:
            raise StoreUnavailableError(self._pinged[1].message, retry_after_seconds=1.0)

    async def close(self) -> None:
        """Settles what waits, but does not wait for a server that is away."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send_settlements()
        except (StoreUnavailableError, TimeoutError):
            log.warning("closing with %d settlements that Redis did not take", len(self._settlements))
        while self._asks:
            self._asks.popleft().fail(StoreUnavailableError("the rates are closed"))
        await self._line.close()

    def _plan(self, limits: tuple[Limit, ...]) -> Plan:
        plan = self._plans.get(id(limits))
        if plan is None or plan.limits is not limits:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[id(limits)] = Plan(limits)
        return plan

    def _wake_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._wake.set)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            while self._asks or self._settlements or self._unsure is not None:
                try:
                    await self._take_turn()
                except StoreUnavailableError:
                    self._forget_stale()
                    self._wake_in(RETRY_SECONDS)
                    break

    async def _take_turn(self) -> None:
        asks = [self._asks.popleft() for _ in range(min(MOST_ASKED, len(self._asks)))]
        batch = self._next_batch()
        commands = [self._settling(batch)] if batch is not None else []
        if asks:
            sheet = Sheet()
            rows = [(sheet.number(ask.plan), ask.holder, ask.expires_seconds, ask.amounts) for ask in asks]
            commands.append(sheet.command(self._scripts.reserve.sha, rows, self._time()))
        sent = False
        try:
            async with self._line.turn() as say:
                sent = True
                answers = await say(*commands)
        except StoreUnavailableError as error:
            self._fail(asks, error, sent)
            raise
        except asyncio.CancelledError:
            self._fail(asks, StoreUnavailableError("the rates are closed"), sent)
            raise
        self._is_sure(batch)
        if asks:
            self._answer(asks, answers[-1])

    async def _send_settlements(self) -> None:
        """In their order, before whoever reads levels."""
        while (batch := self._next_batch()) is not None:
            await self._line.ask(self._settling(batch))
            self._is_sure(batch)

    def _next_batch(self) -> Batch | None:
        if self._unsure is None and self._settlements:
            count = min(MOST_SETTLED, len(self._settlements))
            settlements = [self._settlements.popleft() for _ in range(count)]
            self._unsure = Batch(make_id(PREFIX + "settled"), settlements)
        return self._unsure

    def _is_sure(self, batch: Batch | None) -> None:
        if self._unsure is batch:
            self._unsure = None

    def _settling(self, batch: Batch) -> Command:
        sheet = Sheet(keys=[batch.mark])
        rows = [(sheet.number(one.plan), one.holder, one.reserved, one.actual) for one in batch.settlements]
        return sheet.command(self._scripts.settle.sha, rows, self._time())

    def _time(self) -> str:
        """What the scripts take for now, in microseconds; nothing: the server's own clock."""
        return "" if self._clock is None else str(round(self._clock.now() * 1_000_000))

    def _forget_stale(self) -> None:
        before = self._monotonic() - STALE_SECONDS
        if self._unsure is not None and self._unsure.settlements[-1].at < before:
            self.dropped += len(self._unsure.settlements)
            self._unsure = None
        while self._settlements and self._settlements[0].at < before:
            self._settlements.popleft()
            self.dropped += 1

    def _fail(self, asks: Sequence[Ask], error: StoreUnavailableError, sent: bool) -> None:
        """Slots that Redis may have given all the same are freed."""
        for ask in asks:
            ask.fail(error)
            if sent:
                self.settle(ask.plan.limits, ask.amounts, ask.amounts, ask.holder)

    def _give_back(self, ask: Ask) -> None:
        """All of a reservation that nobody waits for any more."""
        self.settle(ask.plan.limits, ask.amounts, [0] * len(ask.amounts), ask.holder)

    def _answer(self, asks: Sequence[Ask], answers: Sequence[Any]) -> None:
        for ask, answer in zip(asks, answers, strict=True):
            if ask.answer.done():
                if answer == 0:
                    self._give_back(ask)
            elif answer == 0:
                ask.answer.set_result(None)
            else:
                place, available, wait_seconds, never = answer
                wait = math.inf if never else float(wait_seconds)
                ask.answer.set_result(Short(ask.plan.limits[place - 1], float(available), wait, bool(never)))
