"""OpenTelemetry traces, made when a call is over: one span a call and one a stage, named as the stages are.

Nothing is traced while a call runs, so an untraced call costs one comparison. A client's `traceparent` is the parent and says
whether to trace; without one `traces.sample` decides. Spans leave in batches from a thread, and are dropped when the
collector is away. Needs the extra `holdfast[otlp]`; the exporter obeys the standard `OTEL_EXPORTER_OTLP_HEADERS`.
"""

import asyncio
import random
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from holdfast.edge.server.samples import CONVENTIONAL
from holdfast.features.gateway.model import STAGES, Call
from holdfast.kernel.clock import Clock
from holdfast.ports.calls import CallClosed

EXPORT_SECONDS = 5.0
NANOSECONDS = 1_000_000_000


class Traces:
    """`on_closed` is the gateway's hook; `sample` may be changed at any time."""

    def __init__(self, endpoint: str, sample: float, *, version: str, clock: Clock) -> None:
        self.sample = sample
        self._clock = clock
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": "holdfast", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS)))
        self._tracer = self._provider.get_tracer("holdfast", version)

    def on_closed(self, call: Call, closed: CallClosed) -> None:
        """Trace a call that is over, if it is one of those to be traced."""
        parent = _header(call, b"traceparent")
        if parent is None and random.random() >= self.sample:
            return
        carrier = {"traceparent": parent or "", "tracestate": _header(call, b"tracestate") or ""}
        context = self._propagator.extract(carrier)
        remote = get_current_span(context).get_span_context()
        if remote.is_valid and not remote.trace_flags.sampled:
            return
        if not remote.is_valid and parent is not None and random.random() >= self.sample:
            return
        offset = self._clock.now() - self._clock.monotonic()
        moments = [int((offset + moment) * NANOSECONDS) for moment in (call.request.received, *call.marks)]
        ended = max(moments[-1], int(closed.closed_at * NANOSECONDS))
        name = f"{operation_of(call)} {call.plan.model.name}"
        span = self._tracer.start_span(
            name, context, SpanKind.SERVER, attributes_of(call, closed), start_time=moments[0]
        )
        if closed.status not in ("complete", "cancelled"):
            span.set_status(StatusCode.ERROR, closed.error_code)
        inside = set_span_in_context(span)
        for stage, began, over in zip(STAGES, moments, moments[1:], strict=False):
            self._tracer.start_span(stage, inside, start_time=began).end(over)
        if len(moments) == len(STAGES):
            self._tracer.start_span(STAGES[-1], inside, start_time=moments[-1]).end(ended)
        span.end(ended)

    async def close(self) -> None:
        """Sends what waits, for a few seconds at most."""
        await asyncio.to_thread(self._provider.shutdown)


def attributes_of(call: Call, closed: CallClosed) -> Mapping[str, AttributeValue]:
    """By the conventions for generative AI, and what is ours: ids and figures, never content."""
    usage, tenant = closed.usage, call.plan.principal.tenant
    found: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": operation_of(call),
        "gen_ai.request.model": call.plan.model.name,
        "gen_ai.request.stream": call.stream,
        "gen_ai.response.model": closed.answered_model,
        "gen_ai.response.finish_reasons": (closed.finish_reason,) if closed.finish_reason is not None else None,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_read_tokens or None,
        "http.response.status_code": closed.http_status,
        "error.type": closed.error_code,
        "holdfast.call_id": call.id,
        "holdfast.request_id": call.request.request_id,
        "holdfast.organisation": tenant.organisation,
        "holdfast.team": tenant.team,
        "holdfast.key_id": call.plan.principal.key_id,
        "holdfast.route": call.plan.route,
        "holdfast.lane": closed.lane,
        "holdfast.status": closed.status,
        "holdfast.attempts": closed.attempts,
        "holdfast.cost_nanodollars": closed.cost_nanodollars,
    }
    return {name: value for name, value in found.items() if value is not None}


def operation_of(call: Call) -> str:
    """As the conventions call it."""
    return CONVENTIONAL.get(call.plan.operation.name, call.plan.operation.name)


def _header(call: Call, name: bytes) -> str | None:
    for found, value in call.request.headers:
        if found == name:
            return value.decode("latin-1")
    return None
