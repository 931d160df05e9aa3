"""What is printed: a figure is one quantity of one system, measured once a round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value at or below which `share` of an ascending sequence lies; 0 when it is empty."""
    if not ordered:
        return 0.0
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, slots=True)
class Figure:
    """`values` has one number a round, in the order of the rounds; `goal` is what Holdfast wants of itself, in words."""

    section: str
    system: str
    name: str
    unit: str
    values: tuple[float, ...]
    goal: str = ""

    @property
    def median(self) -> float:
        return median(self.values) if self.values else 0.0

    @property
    def low(self) -> float:
        return min(self.values, default=0.0)

    @property
    def high(self) -> float:
        return max(self.values, default=0.0)

    @property
    def compares(self) -> bool:
        """Whether it is about two systems, or the machine under them, rather than about one system."""
        return " " in self.system or self.system == "machine"

    @property
    def spread(self) -> float:
        """(max - min) / median: over the rounds of a baseline, the machine's own noise."""
        return (self.high - self.low) / self.median if self.median else 0.0


def pairwise(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Ratios round by round: neighbours in time share the machine's mood, medians of two series do not."""
    return tuple(a / b for a, b in zip(over, under, strict=True) if b)


def differences(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(over, under, strict=True))


def ratios(
    section: str, what: str, series: Mapping[str, Sequence[float]], over: str, under: str, *, goal: str = ""
) -> list[Figure]:
    """One figure, when both systems were measured; none otherwise."""
    if over not in series or under not in series:
        return []
    return [Figure(section, f"{over} / {under}", what, "x", pairwise(series[over], series[under]), goal)]


def added(
    section: str, what: str, unit: str, series: Mapping[str, Sequence[float]], name: str, *, goal: str = ""
) -> list[Figure]:
    """What a system adds to calling the upstream directly."""
    if name not in series or "direct" not in series:
        return []
    return [Figure(section, f"{name} - direct", what, unit, differences(series[name], series["direct"]), goal)]


def noise(figure: Figure) -> list[Figure]:
    """The spread of a baseline over the rounds; one round has none to tell."""
    if len(figure.values) < 2:
        return []
    name = f"noise: spread of {figure.system}'s {figure.name} over the rounds"
    return [Figure(figure.section, "machine", name, "%", (figure.spread * 100,))]
