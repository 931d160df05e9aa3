"""Whether this process may get traffic, and why not. The three questions an orchestrator asks differ:

| path | question | answers 503 |
|---|---|---|
| /healthz | does the process live? restart it if not | never: that it answers is the answer |
| /readyz | may it get traffic? take it out of the balancer if not | while it starts, drains, is overloaded or lacks a store |
| /startupz | has it started? leave it alone until then | until it has, and never again |
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from holdfast.kernel.measure import Histogram

Code = Literal["starting", "draining", "store_unavailable", "rates_unavailable", "loop_lag", "calls_in_flight"]
LAG_SECONDS = 0.25
CALM_SECONDS = 0.1
LAG_WINDOW_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Reason:
    """Why traffic should go elsewhere."""

    code: Code
    what: str


class LagWindow:
    """The event loop's lag over the last ten seconds, from a histogram that only grows."""

    def __init__(self) -> None:
        self._seen: deque[list[int]] = deque(maxlen=LAG_WINDOW_SECONDS)
        self.lagging = False

    def look(self, lag: Histogram) -> None:
        """Once a second. It lags from the moment more than one in a hundred beats of the window was later than 0.25 s (and
        more than one, which a single pause of the machine makes), until no more than that are later than 0.1 s."""
        now = list(lag.counts)
        if self._seen:
            recent = [after - before for before, after in zip(self._seen[0], now, strict=True)]
            limit = CALM_SECONDS if self.lagging else LAG_SECONDS
            late = sum(recent[lag.bounds.index(limit) + 1 :])
            self.lagging = late > max(1.0, sum(recent) / 100)
        self._seen.append(now)


def reasons(
    *,
    started: bool,
    draining: bool,
    store: str | None,
    rates: str | None,
    lagging: bool,
    running_calls: int,
    max_inflight: int,
) -> list[Reason]:
    """Empty: send traffic. `store` and `rates` say what is wrong with them, or None."""
    found: list[Reason] = []
    if not started:
        found.append(Reason("starting", "It has not started yet."))
    if draining:
        found.append(Reason("draining", "It stops; calls in flight go on for a while."))
    if store is not None:
        found.append(Reason("store_unavailable", store))
    if rates is not None:
        found.append(Reason("rates_unavailable", rates))
    if lagging:
        found.append(Reason("loop_lag", f"The event loop runs more than {LAG_SECONDS:g} s late."))
    if running_calls >= max_inflight:
        found.append(
            Reason("calls_in_flight", f"{running_calls} calls are in flight, as many as server.max_inflight lets in.")
        )
    return found
