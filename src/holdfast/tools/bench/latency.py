"""What a system adds to one call when nothing queues: one connection to each, single calls in turns."""

import os

from holdfast.tools.bench.children import Child, Children, python
from holdfast.tools.bench.figures import Figure, added, noise
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.probe import ProbePlan, ProbeResult

SECTION = "latency"
GOALS = {"gateway": "<= 100"}


def keep_awake(children: Children) -> list[Child]:
    """As many spinners of idle priority as cores; pinned to them they would only draw calls from core to core."""
    spinners = []
    for core in sorted(os.sched_getaffinity(0)):
        spinner = children.start(f"awake-{core}", python("holdfast.tools.bench.awake"))
        spinner.first_line()
        spinners.append(spinner)
    return spinners


def measure(lab: Lab) -> list[Figure]:
    systems = {system.name: system.address for system in lab.callers()}
    results = []
    spinners = keep_awake(lab.children) if lab.options.awake else []
    for turn in range(lab.options.rounds):
        result = lab.children.measure("probe", ProbePlan(systems, lab.options.latency_calls), ProbeResult, 300.0)
        results.append(result)
        told = ", ".join(f"{name} {taken:,.0f} µs" for name, taken in result.p50_us.items())
        lab.say(f"{SECTION}, round {turn + 1}: {told}")
    for spinner in spinners:
        lab.children.end(spinner)
    medians = {name: [result.p50_us[name] for result in results] for name in systems}
    found = []
    for name in systems:
        found += [
            Figure(SECTION, name, "p50", "µs", tuple(medians[name])),
            Figure(SECTION, name, "p99", "µs", tuple(result.p99_us[name] for result in results)),
        ]
    for name in systems:
        if name != "direct":
            found += added(SECTION, "added p50", "µs", medians, name, goal=GOALS.get(name, ""))
    return found + noise(Figure(SECTION, "direct", "p50", "µs", tuple(medians["direct"])))
