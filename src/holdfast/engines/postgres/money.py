"""Budgets on PostgreSQL: balances are rows, shared by all nodes; a reservation is committed before `reserve` returns.

The reserves of one process that wait at the same time go in one statement, decided by the server one after the other
while it holds the rows, so no lock waits for a client. What is reserved is one row a call and balance: settling takes the
row away, once; a reserve whose answer was lost, or whose caller has gone, is given back by the same way.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import psycopg

from holdfast.engines.postgres.failures import in_the_way
from holdfast.engines.postgres.pool import Connection, Pool, patiently
from holdfast.engines.postgres.rows import encode
from holdfast.engines.postgres.statements import load
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.money import Balance, Difference, Held, Refused, Settled
from holdfast.ports.record import Record

log = logging.getLogger(__name__)

SCOPES = ("org:", "team:", "key:")
MOST_NANODOLLARS = 1 << 60  # sums of a few such still fit a bigint
MOST_REQUESTS = 256
RECOMPUTE_SECONDS = 600.0
MOST_KNOWN = 100_000
RESERVE_SECONDS = 5.0
COUNT_SECONDS = 60.0  # a balance met in the middle of its period: its calls so far are added up
UNOPENED_SECONDS = 3600.0  # longer than any call waits for its first attempt
TRIES = 5

Pair = tuple[str, str]
Answer = tuple[Held, ...] | Refused


class _Request:
    __slots__ = ("amount", "answer", "balances", "call_id")

    def __init__(self, call_id: str, amount: int, balances: Sequence[Balance], answer: asyncio.Future[Answer]) -> None:
        self.call_id = call_id
        self.amount = amount
        self.balances = balances
        self.answer = answer

    def fail(self, error: HoldfastError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    @property
    def granted(self) -> bool:
        answer = self.answer
        return (
            answer.done() and not answer.cancelled() and answer.exception() is None and type(answer.result()) is tuple
        )

    def released(self) -> Settled:
        pairs = tuple((balance.scope, balance.period) for balance in self.balances)
        return Settled(self.call_id, pairs, self.amount, 0)


class PostgresMoney:
    """Reservations that nobody can use any more are given back through the record."""

    def __init__(self, pool: Pool, readers: Pool, *, clock: Clock, writer: str, record: Record) -> None:
        self._pool = pool
        self._readers = readers
        self._writer = writer
        self._now = clock.now
        self._record = record
        self._sql = load("money.sql")
        for name in ("compare", "free_leaked"):
            self._sql[name] = self._sql[name].replace("{stands}", self._sql["stands"])
        self._known: set[Pair] = set()
        self._waiting: list[_Request] = []
        self._task: asyncio.Task[None] | None = None

    async def reserve(self, call_id: str, amount_nanodollars: int, balances: Sequence[Balance]) -> Answer:
        if not balances:
            return ()
        if amount_nanodollars > MOST_NANODOLLARS:
            raise ConflictError(f"{amount_nanodollars} nanodollars are more than a balance can hold")
        for balance in balances:
            if not balance.scope.startswith(SCOPES):
                raise ConflictError(f"{balance.scope!r} is no scope: org:NAME, team:ORGANISATION/NAME or key:ID")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        request = _Request(call_id, amount_nanodollars, balances, answer)
        self._waiting.append(request)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._serve(), name="postgres money")
        try:
            return await answer
        except asyncio.CancelledError:
            if request.granted:
                self._record.hand(request.released())
            raise

    async def held(self, balances: Sequence[Balance]) -> list[Held]:
        with self._readers.address.translated():
            await self._meet(self._readers, balances)
            async with self._readers.connection() as connection:
                wanted = encode([(balance.scope, balance.period) for balance in balances])
                rows = await (await connection.execute(self._sql["held"], {"wanted": wanted})).fetchall()
        found = {(row[0], row[1]): Held(*row) for row in rows}
        return [found.get((b.scope, b.period)) or Held(b.scope, b.period, 0, 0) for b in balances]

    async def recompute(self, *, repair: bool) -> list[Difference]:
        """One at a time in the fleet; nobody is stopped while calls are added up. To it a reservation whose call is not
        opened yet is right for an hour, as long as its process lives."""
        await self._record.flush()
        with self._readers.address.translated():
            async with self._readers.connection(within_seconds=RECOMPUTE_SECONDS) as connection:
                await connection.execute(self._sql["alone"])
                try:
                    async with patiently(connection, RECOMPUTE_SECONDS):
                        return await self._recompute(connection, repair)
                finally:
                    if not connection.closed:
                        await connection.execute(self._sql["no_longer_alone"])

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=RESERVE_SECONDS)
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _recompute(self, connection: Connection, repair: bool) -> list[Difference]:
        parameters: dict[str, Any] = {"writer": self._writer, "unopened_since": self._now() - UNOPENED_SECONDS}
        rows = await (await connection.execute(self._sql["compare"], parameters)).fetchall()
        differences = [
            Difference(Held(scope, period, spent, reserved), Held(scope, period, right_spent, right_reserved))
            for scope, period, spent, reserved, right_spent, right_reserved in rows
            if (spent, reserved) != (right_spent, right_reserved)
        ]
        if repair and differences:
            deltas = [
                (d.held.scope, d.held.period, d.recomputed.spent_nanodollars - d.held.spent_nanodollars)
                for d in differences
            ]
            parameters["deltas"] = encode(deltas)
            async with connection.transaction():
                for name in ("stop_batches", "lock_balances", "free_leaked", "repair"):
                    await connection.execute(self._sql[name], parameters)
        return differences

    async def _serve(self) -> None:
        while self._waiting:
            requests, self._waiting = self._waiting[:MOST_REQUESTS], self._waiting[MOST_REQUESTS:]
            try:
                await self._reserve(requests)
            except StoreUnavailableError as error:  # no connection: nothing was sent
                for request in requests:
                    request.fail(error)
            except psycopg.Error as error:
                log.warning("reserving money failed: %s", error.sqlstate or type(error).__name__)
                self._doubt(requests, self._pool.address.unavailable(error))
            except asyncio.CancelledError:
                self._doubt(requests + self._waiting, StoreUnavailableError("the store is closing"))
                raise

    def _doubt(self, requests: Sequence[_Request], error: HoldfastError) -> None:
        """The caller is told no, so whatever was stored all the same is given back."""
        for request in requests:
            if not request.answer.done() or request.answer.cancelled():
                request.fail(error)
                self._record.hand(request.released())

    async def _reserve(self, requests: list[_Request]) -> None:
        wanted = sorted({(balance.scope, balance.period) for request in requests for balance in request.balances})
        places = {pair: place for place, pair in enumerate(wanted, start=1)}
        asked = [
            (
                request.call_id,
                request.amount,
                [places[balance.scope, balance.period] for balance in request.balances],
                [min(balance.limit_nanodollars, MOST_NANODOLLARS) for balance in request.balances],
            )
            for request in requests
        ]
        parameters = {"writer": self._writer, "now": self._now(), "wanted": encode(wanted), "asked": encode(asked)}
        every = [balance for request in requests for balance in request.balances]
        rows: list[Any] = []
        for _ in range(TRIES):
            try:
                await self._meet(self._pool, every)
                async with self._pool.connection(within_seconds=RESERVE_SECONDS) as connection:
                    rows = await (await connection.execute(self._sql["reserve"], parameters)).fetchall()
            except psycopg.Error as error:
                if not in_the_way(error):
                    raise
                continue
            if rows:
                break
            self._known.difference_update(wanted)  # pruned meanwhile
        for place, refused, held in rows:
            self._answer(requests[place - 1], refused, held)
        for request in requests[len(rows) :]:
            request.fail(
                StoreUnavailableError("the budgets' rows are being changed by others", retry_after_seconds=1.0)
            )

    def _answer(self, request: _Request, refused: int, held: Sequence[int]) -> None:
        answer: Answer
        if refused:
            balance = request.balances[refused - 1]
            answer = Refused(balance, Held(balance.scope, balance.period, held[0], held[1]))
        else:
            answer = tuple(
                Held(balance.scope, balance.period, held[2 * place], held[2 * place + 1])
                for place, balance in enumerate(request.balances)
            )
        if not request.answer.done():
            request.answer.set_result(answer)
        elif not refused:
            self._record.hand(request.released())

    async def _meet(self, pool: Pool, balances: Sequence[Balance]) -> None:
        """Count balances this process has not seen yet, where nobody else did."""
        fresh = {(b.scope, b.period): b for b in balances if (b.scope, b.period) not in self._known}
        if not fresh:
            return
        wanted = encode([_described(balance) for balance in fresh.values()])
        parameters = {"writer": self._writer, "now": self._now(), "wanted": wanted}
        limit = COUNT_SECONDS + 5.0
        async with pool.connection(within_seconds=limit) as connection, patiently(connection, COUNT_SECONDS):
            await connection.execute(self._sql["know"], parameters)
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        self._known.update(fresh)


def _described(balance: Balance) -> dict[str, Any]:
    """A balance with its scope taken apart: `org:acme`, `team:acme/search` or `key:key_…`."""
    kind, _, name = balance.scope.partition(":")
    described: dict[str, Any] = {
        "scope": balance.scope,
        "period": balance.period,
        "since": balance.since,
        "until": balance.until,
    }
    match kind:
        case "org":
            described["organisation"] = name
        case "team":
            organisation, _, team = name.partition("/")
            described |= {"organisation": organisation, "team": team}
        case _:
            described["key_id"] = name
    return described
