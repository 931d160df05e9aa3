"""Stage 2: is this very call under way already? Then wait for its answer instead of paying again.

Only calls whose answer nobody samples merge: temperature 0, a seed, embeddings, or where the route opts in. The creator's key
pays; a follower passed `identify` on its own and costs nothing.
"""

import asyncio
import hashlib

from holdfast.dialects.openai.request import ABSENT, ChatFields
from holdfast.features.gateway.model import Call, Gateway
from holdfast.features.gateway.needs import Reader
from holdfast.features.gateway.relay import give_whole
from holdfast.kernel.errors import HoldfastError

FlightKey = tuple[str, str, bytes]


class Flight:
    """One answer that several readers wait for; `waiting` counts the followers that have not left."""

    __slots__ = ("answer", "call_id", "key", "landed", "nanodollars", "waiting")

    def __init__(self, key: FlightKey, call_id: str) -> None:
        self.key = key
        self.call_id = call_id
        self.waiting = 0
        self.landed: asyncio.Future[None] | None = None
        self.answer: tuple[int, bytes, bytes] | HoldfastError | None = None
        self.nanodollars = 0

    def land(self, answer: tuple[int, bytes, bytes] | HoldfastError) -> None:
        self.answer = answer
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(None)


def reuse(gateway: Gateway, call: Call) -> Flight | None:
    """The flight to follow, or None: this call is its own. A call that others may join is entered in `flights`."""
    if call.stream or not shareable(call):
        return None
    key = (str(call.plan.principal.tenant), call.request.operation.path, hashlib.sha256(call.request.body).digest())
    flight = gateway.flights.get(key)
    if flight is not None:
        return flight
    call.flight = gateway.flights[key] = Flight(key, call.id)
    return None


def shareable(call: Call) -> bool:
    fields = call.fields
    if not isinstance(fields, ChatFields) or call.plan.policy.share_sampled:
        return True
    return fields.temperature == 0 or (fields.seed is not None and fields.seed is not ABSENT)


class Follower:
    """Counts a follower out of its flight when it leaves."""

    __slots__ = ("_flight",)

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    def left(self, reader: Reader) -> None:
        self._flight.waiting -= 1

    def silent(self, reader: Reader) -> None:
        pass

    def ready(self, reader: Reader) -> None:
        pass


async def follow(flight: Flight, call: Call) -> None:
    """Wait for the leader's answer and give it to this call's reader; the leader's error is this one's too."""
    if flight.landed is None:
        flight.landed = asyncio.get_running_loop().create_future()
    flight.waiting += 1
    call.served_from = flight
    reader = call.request.reader
    reader.watch(Follower(flight))
    await flight.landed
    reader.watch(None)
    if isinstance(flight.answer, HoldfastError):
        raise flight.answer
    if flight.answer is not None:
        status, headers, body = flight.answer
        give_whole(call, status, headers, body)
        call.status = "complete" if status < 400 else "error"
