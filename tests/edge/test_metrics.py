"""The page of metrics: bounded whatever clients send, never stepping back, and rendered without holding the loop."""

import asyncio
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from holdfast.edge.server.metrics import MOST_LINES, SLICE_LINES, exposition, folded, lines_of
from holdfast.edge.server.samples import Moment, Process, samples
from holdfast.features.gateway.model import STAGES, Gateway, Measures, Snapshot
from holdfast.features.gateway.settings import PolicySettings
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.findings import Finding, Findings
from holdfast.kernel.measure import OTHER, Histogram, Sample
from holdfast.testing.memory import MemoryStore

PROCESS = Process(1, 1.0, 1, 1, 1.0)


def gateway_of(measures: Measures) -> Gateway:
    clock = VirtualClock()
    store = MemoryStore(clock)
    return Gateway(
        Snapshot({}, (), PolicySettings()), cast(Any, None), store.record, store.calls, store.money, store.rates, clock,
        Findings(clock), "node", measures=measures,
    )  # fmt: skip


def moment(findings: list[Finding] | None = None) -> Moment:
    return Moment("0.0.0", True, Histogram(), 0, 0, findings or [], PROCESS)


def flooded(count: int) -> Measures:
    """As if clients had made up `count` models, tenants, lanes and codes."""
    measures = Measures()
    for number in range(count):
        name = f"m{number}"
        measures.total.of(("chat.completions", name)).observe(0.2)
        measures.first_token.of(("chat.completions", name)).observe(0.1)
        for stage in STAGES:
            measures.stages.of((stage, name)).observe(0.01)
        for kind in ("input", "output"):
            measures.tokens.add(("chat.completions", name, kind), 7)
        measures.calls.add(("chat.completions", name, "complete", ""))
        measures.attempts.add((f"lane/{name}", "complete", ""))
        measures.shared.add(("chat.completions", name))
        measures.tenant_calls.add(("acme", name))
        measures.tenant_tokens.add(("acme", name), 3)
        measures.tenant_nanodollars.add(("acme", name), 5)
    return measures


def values(page: bytes) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    ]


async def test_a_flood_of_names_stays_under_the_bound_and_loses_no_count() -> None:
    count = 3000
    findings = [Finding(f"code{number}", "s", "w", "t", 0.0) for number in range(500)]
    page = await exposition(samples(gateway_of(flooded(count)), moment(findings)))
    found = values(page)
    assert 3_000 < len(found) <= MOST_LINES
    for name, each in (
        ("holdfast_calls_total", 1),
        ("holdfast_attempts_total", 1),
        ("holdfast_shared_calls_total", 1),
        ("holdfast_tenant_calls_total", 1),
        ("holdfast_tenant_tokens_total", 3),
        ("gen_ai_client_token_usage_total", 14),
        ("gen_ai_client_operation_duration_seconds_count", 1),
        ("holdfast_stage_seconds_count", len(STAGES)),
    ):
        assert sum(value for sample, _, value in found if sample == name) == each * count, name


async def test_every_metric_is_there_before_anything_happened() -> None:
    page = (await exposition(samples(gateway_of(Measures()), moment()))).decode()
    for name in ("holdfast_calls_total", "holdfast_stage_seconds", "holdfast_loop_lag_seconds", "holdfast_findings"):
        assert f"# TYPE {name} " in page


def test_what_was_named_once_stays_named_and_the_sum_never_steps_back() -> None:
    series: dict[tuple[str, ...], float | Histogram] = {(str(number),): 1.0 for number in range(5)}
    first = folded(series, 3)
    series[("0",)] = 9.0
    series[("9",)] = 4.0
    second = folded(series, 3)
    assert list(first) == list(second) == [("0",), ("1",), ("2",), (OTHER,)]
    assert (first[(OTHER,)], second[(OTHER,)]) == (2.0, 6.0)


def test_a_histogram_is_cumulative_at_the_bounds_it_is_shown_at() -> None:
    histogram = Histogram()
    for value in (0.0002, 0.02, 0.02, 7.0, 500.0):
        histogram.observe(value)
    sample = Sample("h", "histogram", "Help.", ("a",), {("x",): histogram})
    lines = [line for line in lines_of(sample, (0.001, 0.1, 10.0)) if not line.startswith("#")]
    assert lines == [
        'h_bucket{a="x",le="0.001"} 1',
        'h_bucket{a="x",le="0.1"} 3',
        'h_bucket{a="x",le="10"} 4',
        'h_bucket{a="x",le="+Inf"} 5',
        'h_sum{a="x"} 507.0402',
        'h_count{a="x"} 5',
    ]


async def test_labels_may_hold_anything() -> None:
    name = 'a"b\\c\nd{}'
    sample = Sample("c_total", "counter", "Help.", ("model",), {(name,): 3.0})
    assert values(await exposition([(sample, ())])) == [("c_total", {"model": name}, 3.0)]


async def test_the_loop_turns_between_two_slices() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    page = await exposition(samples(gateway_of(flooded(300)), moment()))
    other.cancel()
    assert turns >= page.count(b"\n") / (2 * SLICE_LINES)
