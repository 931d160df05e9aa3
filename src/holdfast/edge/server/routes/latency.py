"""/api/latency."""

from pydantic import Field

from holdfast.edge.server.control import Asking, Deps, Endpoint, NoQuery
from holdfast.edge.server.fields import View
from holdfast.edge.server.latency import spreads
from holdfast.features.tenancy.sight import need_everywhere
from holdfast.kernel.measure import Histograms
from holdfast.kernel.tenant import Role


class SpreadView(View):
    """Percentiles, estimated by bucket; what is above the last bucket (120 s) is said as its bound."""

    count: int = Field(description="How often it was observed since this process started.")
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


class StageLatencyView(SpreadView):
    """What a stage of the path took."""

    stage: str
    model: str


class CallLatencyView(SpreadView):
    """What calls of an operation took."""

    operation: str
    model: str


class LatencyView(View):
    """Of this process, since it started."""

    stages: list[StageLatencyView]
    first_token: list[CallLatencyView] = Field(description="From a call received to the first bytes of its answer.")
    total: list[CallLatencyView] = Field(description="From a call received to its end.")


async def read_latency(asker: Asking, deps: Deps, _: NoQuery) -> LatencyView:
    """How long calls and their stages take: percentiles of this process since it started."""
    need_everywhere(asker, Role.VIEWER)
    measures = deps.measures
    return LatencyView(
        stages=[
            StageLatencyView(stage=spread.labels[0], model=spread.labels[1], **spread.figures())
            for spread in spreads(measures.stages.series)
        ],
        first_token=_of_calls(measures.first_token),
        total=_of_calls(measures.total),
    )


def _of_calls(kept: Histograms) -> list[CallLatencyView]:
    return [
        CallLatencyView(operation=spread.labels[0], model=spread.labels[1], **spread.figures())
        for spread in spreads(kept.series)
    ]


TABLE = (Endpoint("GET", "/api/latency", read_latency),)
