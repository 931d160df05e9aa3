"""Throughput: many connections, unique bodies, every system behind the same load and in front of the same upstream."""

from collections.abc import Sequence

from holdfast.tools.bench.figures import Figure, noise, ratios
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.load import LoadPlan, LoadResult
from holdfast.tools.bench.machine import OTHERS
from holdfast.tools.bench.systems import System

Results = dict[str, list[LoadResult]]
SECTION = "requests"


def measure(lab: Lab) -> list[Figure]:
    return figures(SECTION, play(lab, SECTION, lab.callers()))


def play(lab: Lab, section: str, systems: Sequence[System]) -> Results:
    """Round after round, each system once a round."""
    results: Results = {system.name: [] for system in systems}
    for turn in range(lab.options.rounds):
        for system in systems:
            result = drive(lab, system)
            results[system.name].append(result)
            lab.say(f"{section}, round {turn + 1}: {system.name} {result.per_second:,.0f} requests/s")
    return results


def drive(lab: Lab, system: System, *, calls: int = 0) -> LoadResult:
    """One run of the load generator; what was answered wrongly becomes a problem of the run."""
    options = lab.options
    plan = LoadPlan(
        system.address,
        connections=options.connections,
        seconds=options.seconds,
        calls=calls,
        warm_seconds=0.0 if calls else min(1.0, options.seconds),
        watch=system.pids,
    )
    patience = max(options.seconds, calls / 50) + 120
    result = lab.children.measure("load", plan, LoadResult, patience)
    if result.errors:
        lab.problem(
            f"{system.name}: {result.errors} calls of {result.calls} were answered wrongly, the first: {result.first_error}"
        )
    if result.reconnects:
        lab.note(f"{system.name} closed {result.reconnects} connections between calls")
    return result


def figures(section: str, results: Results) -> list[Figure]:
    found = []
    for name, runs in results.items():
        found += [
            Figure(section, name, "throughput", "requests/s", tuple(run.per_second for run in runs)),
            Figure(section, name, "p50", "µs", tuple(run.p50_us for run in runs)),
            Figure(section, name, "p99", "µs", tuple(run.p99_us for run in runs)),
        ]
        if any(run.watched_cpu_seconds for run in runs):
            cost = "CPU per request" if name != "nginx" else "CPU per request, upstream and proxy"
            found.append(Figure(section, name, cost, "µs", tuple(run.cpu_us_per_call for run in runs)))
        found += [
            Figure(
                section,
                name,
                "load generator's CPU",
                "% of a core",
                tuple(run.generator_cpu_share * 100 for run in runs),
            ),
            Figure(section, name, "machine idle", "%", tuple(run.machine_idle_share * 100 for run in runs)),
            Figure(section, name, OTHERS, "%", tuple(run.machine_others_share * 100 for run in runs)),
        ]
    return found + _ratios(section, results)


def _ratios(section: str, results: Results) -> list[Figure]:
    rates = {name: [run.per_second for run in runs] for name, runs in results.items()}
    costs = {
        name: [run.cpu_us_per_call for run in runs]
        for name, runs in results.items()
        if any(run.watched_cpu_seconds for run in runs)
    }
    found = [
        *ratios(section, "throughput", rates, "gateway", "nginx", goal=">= 0.40"),
        *ratios(section, "throughput", rates, "gateway", "floor"),
        *ratios(section, "CPU per request", costs, "gateway", "floor", goal="<= 2.0"),
        *ratios(section, "throughput", rates, "against", "nginx"),
        *ratios(section, "throughput", rates, "gateway", "against"),
        *ratios(section, "CPU per request", costs, "against", "gateway"),
    ]
    baseline = "nginx" if "nginx" in rates else "direct"
    if baseline in rates:
        found += noise(Figure(section, baseline, "throughput", "requests/s", tuple(rates[baseline])))
    return found
