"""The same load on one gateway process over PostgreSQL and Redis."""

from holdfast.tools.bench import servers
from holdfast.tools.bench.figures import Figure
from holdfast.tools.bench.lab import Lab
from holdfast.tools.bench.requests import figures, play
from holdfast.tools.bench.systems import start_gateway

SECTION = "engines"
GOAL = ">= 4,000"


def measure(lab: Lab) -> list[Figure]:
    running = servers.start(lab.children, lab.options.postgres, lab.options.redis)
    gateway = start_gateway(lab.children, lab.upstreams, name="gateway-engines", servers=running)
    results = play(lab, SECTION, [gateway.calls])
    rates = tuple(run.per_second for run in results[gateway.calls.name])
    lab.children.end(gateway.child)
    return [
        Figure(SECTION, gateway.calls.name, "requests on PostgreSQL + Redis", "requests/s", rates, GOAL),
        *(figure for figure in figures(SECTION, results) if figure.name != "throughput"),
    ]
