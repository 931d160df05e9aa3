"""A fresh gateway: how soon it is ready, what it holds at rest, after a few calls and after many, and whether its loop kept up."""

import time

from holdfast.tools.bench.figures import Figure
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.machine import family, rss_bytes
from holdfast.tools.bench.metrics import fetch, histogram, quantile_between
from holdfast.tools.bench.requests import drive
from holdfast.tools.bench.systems import Gateway, start_gateway

SECTION = "memory"
FIRST_CALLS = 10_000
LONG_CALLS = 1_000_000
LEGS = 4
REST_SECONDS = 2.0
LAG = "holdfast_loop_lag_seconds"
MEGABYTE = 1e6


def measure(lab: Lab) -> list[Figure]:
    if not lab.options.gateway:
        return []
    gateway = start_gateway(lab.children, lab.upstreams, name="gateway-fresh")
    found = [Figure(SECTION, "gateway", "ready after", "s", (gateway.ready_seconds,), "<= 1")]
    time.sleep(REST_SECONDS)
    found.append(Figure(SECTION, "gateway", "idle RSS", "MB", (_rss(gateway),), "<= 100"))
    before = histogram(fetch(gateway.calls.address, gateway.admin_key), LAG)
    total = LONG_CALLS if lab.options.long else lab.options.memory_calls
    few = min(FIRST_CALLS, total)
    done, first, last = 0, 0.0, 0.0
    for calls in _legs(few, total):
        drive(lab, gateway.calls, calls=calls)
        done += calls
        last = _rss(gateway)
        first = first or last
        lab.say(f"{SECTION}: {last:.1f} MB after {done:,} calls")
        found.append(Figure(SECTION, "gateway", f"RSS after {done:,} calls", "MB", (last,)))
    found.append(
        Figure(SECTION, "gateway", f"RSS after {done:,} / after {few:,} calls", "x", (last / first,), "<= 1.10")
    )
    after = histogram(fetch(gateway.calls.address, gateway.admin_key), LAG)
    if after:
        lag_ms = quantile_between(before, after, 0.99) * 1e3
        found.append(Figure(SECTION, "gateway", "event-loop lag p99 under load, at most", "ms", (lag_ms,)))
    else:
        lab.note(f"the gateway's /metrics has no {LAG}")
    lab.children.end(gateway.child)
    return found


def _legs(first: int, total: int) -> list[int]:
    """The first calls apart, the rest in a few legs, so that growth is seen on the way."""
    rest = total - first
    legs = [rest // LEGS] * LEGS
    legs[-1] += rest - sum(legs)
    return [first, *(leg for leg in legs if leg)]


def _rss(gateway: Gateway) -> float:
    return rss_bytes(family((gateway.child.pid,))) / MEGABYTE
