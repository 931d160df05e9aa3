"""How long things take, as percentiles: an average hides the calls somebody waited for, so none is ever said."""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import TypedDict

from holdfast.features.gateway.model import Measures
from holdfast.kernel.measure import Histogram

DIGITS = 7
SHORT_MODELS = 5


class Figures(TypedDict):
    count: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one series with these labels; the percentiles are estimates by bucket."""

    labels: tuple[str, ...]
    count: int
    p50: float
    p95: float
    p99: float

    def figures(self) -> Figures:
        return Figures(count=self.count, p50_seconds=self.p50, p95_seconds=self.p95, p99_seconds=self.p99)


def spreads(series: Mapping[tuple[str, ...], Histogram]) -> list[Spread]:
    """Of every series something was observed in, by label."""
    return [_spread(labels, series[labels]) for labels in sorted(series) if any(series[labels].counts)]


def short(measures: Measures) -> list[dict[str, object]]:
    """First token and total of the few models with the most calls, for a status that is asked often."""
    most = nlargest(SHORT_MODELS, measures.total.series.items(), key=lambda item: sum(item[1].counts))
    return [
        {"operation": spread.labels[0], "model": spread.labels[1], "what": what, **spread.figures()}
        for labels, _ in most
        for what, kept in (("first token", measures.first_token), ("total", measures.total))
        if labels in kept.series
        for spread in spreads({labels: kept.series[labels]})
    ]


def _spread(labels: tuple[str, ...], histogram: Histogram) -> Spread:
    p50, p95, p99 = (round(histogram.quantile(q), DIGITS) for q in (0.5, 0.95, 0.99))
    return Spread(labels, sum(histogram.counts), p50, p95, p99)
