"""Counters and histograms cheap enough for every call; the edge renders them for Prometheus."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SECONDS_BOUNDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
OTHER = "other"


class Histogram:
    """Counts per bound, with sum and count."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def quantile(self, q: float) -> float:
        """`quantile_of` everything observed."""
        return quantile_of(self.bounds, self.counts, q)


def quantile_of(bounds: Sequence[float], counts: Sequence[int], q: float) -> float:
    """An estimate by bucket: the quantile's bucket is certain, its place inside is interpolated as if what fell there were
    spread evenly. Above the last bound that bound is said, since nobody knows how far above; 0 when nothing was observed."""
    wanted = q * sum(counts)
    seen = 0
    for index, count in enumerate(counts):
        if count and seen + count >= wanted:
            if index == len(bounds):
                return bounds[-1]
            lower = bounds[index - 1] if index else 0.0
            return lower + (bounds[index] - lower) * (wanted - seen) / count
        seen += count
    return bounds[-1] if seen else 0.0


class Cell:
    """One number that is counted up."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counters:
    """One counter by label values, at most `limit` series of it; what comes later is counted as `other`."""

    __slots__ = ("labels", "limit", "series")

    def __init__(self, labels: tuple[str, ...], limit: int = 1000) -> None:
        self.labels = labels
        self.limit = limit
        self.series: dict[tuple[str, ...], Cell] = {}

    def of(self, key: tuple[str, ...]) -> Cell:
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= self.limit:
                key = (OTHER,) * len(self.labels)
            found = self.series.setdefault(key, Cell())
        return found

    def add(self, key: tuple[str, ...], amount: int = 1) -> None:
        self.of(key).value += amount

    def values(self) -> dict[tuple[str, ...], float]:
        return {key: cell.value for key, cell in self.series.items()}


class Histograms:
    """One histogram by label values, bounded like Counters."""

    __slots__ = ("bounds", "labels", "limit", "series")

    def __init__(self, labels: tuple[str, ...], limit: int = 200, bounds: tuple[float, ...] = SECONDS_BOUNDS) -> None:
        self.labels = labels
        self.limit = limit
        self.bounds = bounds
        self.series: dict[tuple[str, ...], Histogram] = {}

    def of(self, key: tuple[str, ...]) -> Histogram:
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= self.limit:
                key = (OTHER,) * len(self.labels)
                found = self.series.get(key)
            if found is None:
                found = self.series[key] = Histogram(self.bounds)
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """What a metric endpoint prints of one metric: `series` maps label values to a number or a Histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    series: Mapping[tuple[str, ...], float | Histogram]
