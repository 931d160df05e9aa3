"""Streams at a fixed pace: what a system adds to each chunk, what a chunk costs it, and whether every one arrives in order."""

import http.client
from collections.abc import Sequence
from typing import Protocol

import msgspec

from holdfast.tools.bench.figures import Figure, added, ratios
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.machine import OTHERS
from holdfast.tools.bench.readers import ReadersPlan, ReadersResult
from holdfast.tools.bench.systems import System

SECTION = "streams"
ADDED_MS = 30.0
GOALS_MS = {500: "<= 5", 1000: "<= 30"}
SEARCH_FROM, SEARCH_STEP, SEARCH_TO = 400, 200, 3000
SEARCH_SECONDS = 10.0
NUMBERS_A_RUN = 1_000_000
MEGABYTE = 1e6


class Told(msgspec.Struct):
    """What the pacer says of itself since it was last asked."""

    chunks: float
    late_p99_ms: float


class Plays(Protocol):
    """Runs so many streams through a system for so long."""

    def play(self, system: System, streams: int, seconds: float) -> tuple[ReadersResult, Told]: ...


class Player:
    """Numbers streams apart from run to run, so that nothing between can take one for another."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._runs = 0

    def play(self, system: System, streams: int, seconds: float) -> tuple[ReadersResult, Told]:
        lab = self.lab
        plan = ReadersPlan(
            system.address,
            streams=streams,
            seconds=seconds,
            chunks_per_second=lab.options.chunks_per_second,
            first_number=self._runs * NUMBERS_A_RUN,
            watch=system.pids,
        )
        self._runs += 1
        self._ask_pacer()
        result = lab.children.measure("readers", plan, ReadersResult, plan.chunks / plan.chunks_per_second + 120)
        told = self._ask_pacer()
        lab.say(
            f"{SECTION}: {streams} x {system.name}: p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms, "
            f"{result.chunks / result.seconds:,.0f} chunks/s, {result.cpu_us_per_chunk:.1f} µs CPU a chunk"
        )
        if result.broken:
            lab.problem(
                f"{streams} streams through {system.name}: of {result.expected} chunks {result.lost} lost, {result.duplicated} duplicated, "
                f"{result.reordered} out of order, {result.foreign} of another stream; {result.unended} streams without one [DONE], "
                f"{result.errors} failed{': ' + result.first_error if result.first_error else ''}"
            )
        return result, told

    def _ask_pacer(self) -> Told:
        address = self.lab.upstreams.pacer.address
        connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
        try:
            connection.request("GET", "/pacer")
            return msgspec.json.decode(connection.getresponse().read(), type=Told)
        finally:
            connection.close()


def measure(lab: Lab) -> list[Figure]:
    player = Player(lab)
    found = []
    for streams in lab.options.stream_counts:
        results: dict[str, list[ReadersResult]] = {}
        late = []
        for _ in range(lab.options.stream_rounds):
            for system in lab.streamers():
                result, told = player.play(system, streams, lab.options.stream_seconds)
                results.setdefault(system.name, []).append(result)
                late.append(told.late_p99_ms)
        found += figures(f"{SECTION} {streams}", results, GOALS_MS.get(streams, ""))
        found.append(
            Figure(f"{SECTION} {streams}", "machine", "lateness of the upstream itself, p99", "ms", tuple(late))
        )
    if lab.options.find_max:
        direct, *others = lab.streamers()
        found += find_max(player, direct, others)
    return found


def figures(section: str, results: dict[str, list[ReadersResult]], goal: str) -> list[Figure]:
    found = []
    for name, runs in results.items():
        found += [
            Figure(section, name, "chunks", "1/s", tuple(run.chunks / run.seconds for run in runs)),
            Figure(section, name, "delay p50", "ms", tuple(run.p50_ms for run in runs)),
            Figure(section, name, "delay p99", "ms", tuple(run.p99_ms for run in runs)),
            Figure(section, name, "delay max", "ms", tuple(run.max_ms for run in runs)),
            Figure(
                section,
                name,
                "lost, duplicated or out of order",
                "chunks",
                tuple(float(run.broken) for run in runs),
                "0",
            ),
            Figure(section, name, "machine idle", "%", tuple(run.machine_idle_share * 100 for run in runs)),
            Figure(section, name, OTHERS, "%", tuple(run.machine_others_share * 100 for run in runs)),
            Figure(
                section, name, "stream client's CPU", "% of a core", tuple(run.reader_cpu_share * 100 for run in runs)
            ),
        ]
        if any(run.watched_cpu_seconds for run in runs):
            found.append(Figure(section, name, "CPU per chunk", "µs", tuple(run.cpu_us_per_chunk for run in runs)))
        if name not in ("direct", "nginx"):
            found += _memory(section, name, runs)
    medians = {name: [run.p50_ms for run in runs] for name, runs in results.items()}
    tails = {name: [run.p99_ms for run in runs] for name, runs in results.items()}
    costs = {
        name: [run.cpu_us_per_chunk for run in runs]
        for name, runs in results.items()
        if any(run.watched_cpu_seconds for run in runs)
    }
    for name in results:
        if name != "direct":
            found += added(section, "added p50", "ms", medians, name)
            found += added(section, "added p99", "ms", tails, name, goal=goal if name == "gateway" else "")
    found += ratios(section, "CPU per chunk", costs, "gateway", "floor", goal="<= 1.5")
    return found + ratios(section, "CPU per chunk", costs, "against", "gateway")


def _memory(section: str, name: str, runs: list[ReadersResult]) -> list[Figure]:
    """Resident memory as the window began, in its middle and at its end."""
    samples = [run.rss_bytes for run in runs if run.rss_bytes and run.rss_bytes[0]]
    if not samples:
        return []
    places = {"RSS at the start": 0.0, "RSS in the middle": 0.5, "RSS at the end": 1.0}
    return [
        Figure(section, name, what, "MB", tuple(taken[int(share * (len(taken) - 1))] / MEGABYTE for taken in samples))
        for what, share in places.items()
    ]


def find_max(player: Plays, direct: System, systems: Sequence[System]) -> list[Figure]:
    """The most streams whose p99 stays within what may be added: steps upwards until one does not hold, then halfway back."""

    def holds(system: System, streams: int) -> bool:
        below, _ = player.play(direct, streams, SEARCH_SECONDS)
        through, _ = player.play(system, streams, SEARCH_SECONDS)
        return not through.broken and through.p99_ms - below.p99_ms <= ADDED_MS

    found = []
    for system in systems:
        best, streams = 0, SEARCH_FROM
        while streams <= SEARCH_TO and holds(system, streams):
            best, streams = streams, streams + SEARCH_STEP
        halfway = best + SEARCH_STEP // 2
        if best and streams <= SEARCH_TO and holds(system, halfway):
            best = halfway
        goal = ">= 800" if system.name == "gateway" else ""
        name = f"streams with added p99 <= {ADDED_MS:.0f} ms"
        found.append(Figure(f"{SECTION} max", system.name, name, "streams", (float(best),), goal))
    return found
