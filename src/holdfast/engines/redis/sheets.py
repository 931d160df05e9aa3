"""What waits to be said to Redis, and how many of it become one script call."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.engines.redis.line import Command
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.ports.rates import Limit, Short

PREFIX = "hf1:"  # of every key; the number is that of the layout


class Plan:
    """The limits of a plan as the scripts read them."""

    __slots__ = ("keys", "limits", "shape")

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.limits = limits
        self.keys = tuple(PREFIX + limit.key for limit in limits)
        self.shape = tuple((int(limit.kind == "slot"), limit.capacity, limit.period_seconds) for limit in limits)


@dataclass(slots=True)
class Ask:
    plan: Plan
    amounts: Sequence[int]
    holder: str
    expires_seconds: float
    answer: asyncio.Future[Short | None]

    @property
    def granted(self) -> bool:
        answer = self.answer
        return answer.done() and not answer.cancelled() and answer.exception() is None and answer.result() is None

    def fail(self, error: StoreUnavailableError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class Settlement:
    at: float
    plan: Plan
    reserved: Sequence[int]
    actual: Sequence[int]
    holder: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Settlements under a mark by which Redis knows them when they are sent again."""

    mark: str
    settlements: list[Settlement]


@dataclass(slots=True)
class Sheet:
    """Distinct keys and plans of one script call."""

    keys: list[str] = field(default_factory=list)
    plans: list[list[Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)

    def number(self, plan: Plan) -> int:
        found = self.numbers.get(id(plan))
        if found is None:
            self.plans.append([(self._place(key), *shape) for key, shape in zip(plan.keys, plan.shape, strict=True)])
            found = self.numbers[id(plan)] = len(self.plans)
        return found

    def _place(self, key: str) -> int:
        place = self.places.get(key)
        if place is None:
            self.keys.append(key)
            place = self.places[key] = len(self.keys)
        return place

    def command(self, sha: str, rows: Sequence[Any], time: str) -> Command:
        arguments = (json.dumps((self.plans, rows), separators=(",", ":")), time)
        return ("EVALSHA", sha, len(self.keys), *self.keys, *arguments)
