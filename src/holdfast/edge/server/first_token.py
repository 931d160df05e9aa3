"""Notices when first tokens come later than they used to, which a call's total does not show: a route that answers whole
after 30 s, where it streamed from 0.4 s on, takes as long as before."""

from dataclasses import dataclass

from holdfast.features.gateway.model import Gateway
from holdfast.kernel.measure import Histogram, quantile_of

LOOK_SECONDS = 10.0
FEWEST = 20
SLOW_TIMES = 3.0
SLOW_BY_SECONDS = 0.5
WINDOWS_RUNNING = 2
NEW_WEIGHT = 0.2
CODE = "first_token_slow"


@dataclass(slots=True)
class Pace:
    """One histogram that only grows, looked at in windows. `usual` is the weighted p95 of former windows that were not slow,
    so that what is wrong never becomes what is usual; `against` counts windows running that contradict `slow`."""

    seen: list[int]
    usual: float | None = None
    slow: bool = False
    against: int = 0

    def look(self, histogram: Histogram) -> float | None:
        """The p95 of what came since the last look; None, and nothing learned, where that was too little to tell."""
        counts = list(histogram.counts)
        window = [now - before for before, now in zip(self.seen, counts, strict=True)]
        self.seen = counts
        if sum(window) < FEWEST:
            return None
        now = quantile_of(histogram.bounds, window, 0.95)
        if self.usual is None:
            self.usual = now
            return now
        late = now > max(SLOW_TIMES * self.usual, self.usual + SLOW_BY_SECONDS)
        self.against = self.against + 1 if late is not self.slow else 0
        if self.against >= WINDOWS_RUNNING:
            self.slow, self.against = late, 0
        if not late and not self.slow:
            self.usual += NEW_WEIGHT * (now - self.usual)
        return now


class FirstTokens:
    """`follow` runs beside the server: a finding for each operation and model whose first tokens have become slow."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._paces: dict[tuple[str, ...], Pace] = {}

    async def follow(self) -> None:
        """Look every ten seconds, until cancelled."""
        while True:
            await self._gateway.clock.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        findings = self._gateway.findings
        for key, histogram in self._gateway.measures.first_token.series.items():
            operation, model = key
            subject = f"{operation} {model}"
            if model not in self._gateway.snapshot.models:  # gone from the settings: nobody will ever see it mended
                self._paces[key] = Pace(list(histogram.counts))
                findings.clear(CODE, subject)
                continue
            pace = self._paces.setdefault(key, Pace([0] * len(histogram.counts)))
            now = pace.look(histogram)
            if now is None:
                continue
            if pace.slow:
                findings.open(
                    CODE, subject,
                    what=f"The first token of {operation} by {model} takes {now:.2g} s (p95 of the last ten seconds); "
                    f"it used to take {pace.usual:.2g} s.",
                    todo=f"Look at GET /api/latency and at the calls of {model}: which lane answers, and since when.",
                )  # fmt: skip
            else:
                findings.clear(CODE, subject)
