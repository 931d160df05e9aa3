"""Prometheus text over the measures the process keeps anyway.

At most `MOST_LINES` sample lines, whatever clients send: each metric shows so many series under their own labels, the ones
that came first, and sums the rest as `other`, so that no counter ever steps back. It is rendered in slices with the loop
turning in between, because a gateway with many models has thousands of lines.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from holdfast.kernel.measure import OTHER, SECONDS_BOUNDS, Histogram, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_LINES = 5_000
SLICE_LINES = 150
CALL_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STAGE_BOUNDS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def folded(series: Mapping[tuple[str, ...], float | Histogram], most: int) -> dict[tuple[str, ...], float | Histogram]:
    """The first `most` series, and the sum of the rest as `other`."""
    if len(series) <= most:
        return dict(series)
    shown = dict(islice(series.items(), most))
    rest = (OTHER,) * len(next(iter(shown)))
    others = [value for key, value in islice(series.items(), most, None)]
    if rest in shown:
        others.append(shown.pop(rest))
    histograms = [value for value in others if isinstance(value, Histogram)]
    shown[rest] = (
        _summed(histograms) if histograms else sum(value for value in others if not isinstance(value, Histogram))
    )
    return shown


def _summed(histograms: list[Histogram]) -> Histogram:
    found = Histogram(histograms[0].bounds)
    for histogram in histograms:
        found.counts = [ours + theirs for ours, theirs in zip(found.counts, histogram.counts, strict=True)]
        found.total += histogram.total
    return found


def lines_of(sample: Sample, bounds: tuple[float, ...] = SECONDS_BOUNDS) -> Iterator[str]:
    """The lines of one metric; a histogram is shown at `bounds`, which are among its own."""
    yield f"# HELP {sample.name} {sample.help}"
    yield f"# TYPE {sample.name} {sample.kind}"
    for key, value in sample.series.items():
        labels = ",".join(
            [f'{name}="{text.translate(_ESCAPES)}"' for name, text in zip(sample.labels, key, strict=True)]
        )
        if isinstance(value, Histogram):
            yield from _histogram_lines(sample.name, labels, value, bounds)
        else:
            yield f"{sample.name}{{{labels}}} {value:.12g}" if labels else f"{sample.name} {value:.12g}"


def _histogram_lines(name: str, labels: str, histogram: Histogram, bounds: tuple[float, ...]) -> Iterator[str]:
    before = f"{labels}," if labels else ""
    braced = f"{{{labels}}}" if labels else ""
    counts, total = list(histogram.counts), histogram.total
    shown = set(bounds)
    below = 0
    for bound, count in zip(histogram.bounds, counts, strict=False):
        below += count
        if bound in shown:
            yield f'{name}_bucket{{{before}le="{bound:.12g}"}} {below}'
    below += counts[-1]
    yield f'{name}_bucket{{{before}le="+Inf"}} {below}'
    yield f"{name}_sum{braced} {total:.12g}"
    yield f"{name}_count{braced} {below}"


async def exposition(parts: Iterable[tuple[Sample, tuple[float, ...]]]) -> bytes:
    """The page: every sample with the bounds it is shown at."""
    text: list[str] = []
    for sample, bounds in parts:
        lines = lines_of(sample, bounds)
        while slice_ := list(islice(lines, SLICE_LINES)):
            text.append("\n".join(slice_))
            await asyncio.sleep(0)
    return ("\n".join(text) + "\n").encode()
