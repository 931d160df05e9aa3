"""Latencies and lengths as distributions: a number, `uniform:LOW:HIGH`, or `lognormal:P50:P99`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

P99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class Constant:
    value: float

    def at(self, u: float) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform:
    low: float
    high: float

    def at(self, u: float) -> float:
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Heavy-tailed, said by its median and its 99th percentile."""

    p50: float
    p99: float

    def at(self, u: float) -> float:
        sigma = math.log(self.p99 / self.p50) / P99
        return self.p50 * math.exp(sigma * NormalDist().inv_cdf(min(max(u, 1e-9), 1 - 1e-9)))


Distribution = Constant | Uniform | LogNormal
"""`at(u)` is the quantile: what a uniform u in [0, 1) is mapped to."""

ZERO = Constant(0.0)
THIRTY_TWO = Constant(32.0)


def seeded(seed: int | str | bytes) -> Random:
    """A source whose numbers follow from the seed: this is a script, nothing here is secret."""
    return Random(seed)


def parse_distribution(text: str) -> Distribution:
    """Raises ValueError with a sentence that says what is wrong."""
    kind, *numbers = text.split(":")
    if not numbers:
        return Constant(_number(kind))
    builders: dict[str, Callable[[float, float], Distribution]] = {"uniform": _uniform, "lognormal": _lognormal}
    if kind not in builders or len(numbers) != 2:
        raise ValueError("must be a number, uniform:LOW:HIGH or lognormal:P50:P99")
    return builders[kind](_number(numbers[0]), _number(numbers[1]))


def _uniform(low: float, high: float) -> Distribution:
    if high < low:
        raise ValueError("must be uniform:LOW:HIGH with LOW not above HIGH")
    return Uniform(low, high)


def _lognormal(p50: float, p99: float) -> Distribution:
    if not 0 < p50 <= p99:
        raise ValueError("must be lognormal:P50:P99 with 0 < P50 <= P99")
    return LogNormal(p50, p99)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number") from error
    if not 0 <= number < 1e9:
        raise ValueError(f"{text} is not between 0 and 1,000,000,000")
    return number
