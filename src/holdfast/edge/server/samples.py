"""What /metrics shows, and at which width: the names are a contract with people's dashboards (docs/operations.md lists them).

Names of calls and tokens follow the OpenTelemetry conventions for generative AI, spelt as Prometheus spells them.
"""

import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from holdfast.edge.server.metrics import CALL_BOUNDS, STAGE_BOUNDS, folded
from holdfast.features.gateway.model import Gateway, Measures
from holdfast.kernel.findings import Finding
from holdfast.kernel.measure import SECONDS_BOUNDS, Histogram, Sample
from holdfast.kernel.money import NANODOLLARS

# Operations as the conventions call them.
CONVENTIONAL = {"chat.completions": "chat"}
CALL_LABELS = ("gen_ai_operation_name", "gen_ai_request_model")
TENANT = ("organisation", "team")
Shown = tuple[Sample, tuple[float, ...]]
Series = Mapping[tuple[str, ...], float | Histogram]


@dataclass(frozen=True, slots=True)
class Process:
    """What the operating system says of this process."""

    resident_bytes: int
    cpu_seconds: float
    open_files: int
    most_files: int
    started_at: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything beside the gateway's own measures that one page of metrics shows."""

    version: str
    ready: bool
    lag: Histogram
    open_connections: int
    dropped_lines: int
    findings: list[Finding]
    process: Process


def process_now(started_at: float) -> Process:
    """To be called in a thread: counting open files takes milliseconds when there are thousands."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    scale = 1 if sys.platform == "darwin" else 1024
    resident, files = used.ru_maxrss * scale, 0
    with suppress(OSError):
        resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    with suppress(OSError):
        files = sum(1 for _ in Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd").iterdir())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Process(resident, used.ru_utime + used.ru_stime, files, most, started_at)


def process_start() -> float:
    """When this process began, in epoch seconds."""
    with suppress(OSError):
        ticks = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[19])
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    return time.time()


def samples(gateway: Gateway, moment: Moment) -> Iterator[Shown]:
    """Every metric there is, in the order of the page."""
    yield from _of_calls(gateway.measures)
    yield from _of_tenants(gateway.measures)
    yield from _of_the_process(gateway, moment)


def _of_calls(measures: Measures) -> Iterator[Shown]:
    yield _histogram(
        "gen_ai_client_operation_duration_seconds", "A call from its last byte received to its end.", CALL_LABELS,
        _renamed(measures.total.series), 50, CALL_BOUNDS,
    )  # fmt: skip
    yield _histogram(
        "gen_ai_server_time_to_first_token_seconds", "From a call received to the first bytes of its answer.",
        CALL_LABELS, _renamed(measures.first_token.series), 50, CALL_BOUNDS,
    )  # fmt: skip
    yield _counter(
        "gen_ai_client_token_usage_total", "Tokens of all attempts, by type.", (*CALL_LABELS, "gen_ai_token_type"),
        _renamed(measures.tokens.values()), 200,
    )  # fmt: skip
    yield _counter(
        "holdfast_calls_total", "Calls by how they ended; code says why where that was no good end.",
        ("operation", "model", "status", "code"), measures.calls.values(), 300,
    )  # fmt: skip
    yield _counter(
        "holdfast_attempts_total", "What providers were asked, by lane and end.", ("lane", "status", "code"),
        measures.attempts.values(), 250,
    )  # fmt: skip
    yield _counter(
        "holdfast_shared_calls_total", "Calls answered from the answer to an identical one in flight.",
        ("operation", "model"), measures.shared.values(), 50,
    )  # fmt: skip
    yield _histogram(
        "holdfast_stage_seconds", "What a stage of the path took.", ("stage", "model"), measures.stages.series, 180,
        STAGE_BOUNDS,
    )  # fmt: skip


def _of_tenants(measures: Measures) -> Iterator[Shown]:
    yield _counter("holdfast_tenant_calls_total", "Calls of a team.", TENANT, measures.tenant_calls.values(), 200)
    yield _counter("holdfast_tenant_tokens_total", "Tokens of a team.", TENANT, measures.tenant_tokens.values(), 200)
    dollars = {key: value / NANODOLLARS for key, value in measures.tenant_nanodollars.values().items()}
    yield _counter("holdfast_tenant_cost_usd_total", "What a team's calls cost, where priced.", TENANT, dollars, 200)
    yield _counter(
        "holdfast_tenant_upstream_bytes_total", "Bytes of request bodies sent to providers for a team.", TENANT,
        measures.tenant_upstream_bytes.values(), 200,
    )  # fmt: skip
    yield _counter(
        "holdfast_tenant_answer_bytes_total", "Bytes of answers forwarded to a team's clients.", TENANT,
        measures.tenant_answer_bytes.values(), 200,
    )  # fmt: skip


def _of_the_process(gateway: Gateway, moment: Moment) -> Iterator[Shown]:
    record, process = gateway.record, moment.process
    open_findings: dict[tuple[str, ...], float | Histogram] = dict(
        Counter((finding.code, finding.severity) for finding in moment.findings)
    )
    yield (
        Sample("holdfast_loop_lag_seconds", "histogram", "How late the event loop was.", (), {(): moment.lag}),
        SECONDS_BOUNDS,
    )
    yield _gauge("holdfast_ready", "1 while this process may get traffic.", float(moment.ready))
    yield _gauge("holdfast_running_calls", "Calls whose answer is not whole yet.", len(gateway.running))
    yield _gauge("holdfast_open_connections", "Connections clients have open.", moment.open_connections)
    yield _gauge("holdfast_record_backlog_bytes", "Records not yet written.", record.backlog_bytes)
    yield _gauge("holdfast_record_backlog_seconds", "Age of the oldest record not yet written.", record.backlog_seconds)
    yield _one("holdfast_record_rejected_total", "counter", "Records no store will ever take.", record.rejected)
    yield _one("holdfast_log_lines_dropped_total", "counter", "Log lines nobody read in time.", moment.dropped_lines)
    yield (
        Sample(
            "holdfast_findings", "gauge", "Open states that need a person.", ("code", "severity"),
            folded(open_findings, 60),
        ),
        (),
    )  # fmt: skip
    yield (
        Sample(
            "holdfast_build_info", "gauge", "Always 1; the labels say what runs.", ("version", "python"),
            {(moment.version, ".".join(map(str, sys.version_info[:3]))): 1.0},
        ),
        (),
    )  # fmt: skip
    yield _gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes)
    yield _one("process_cpu_seconds_total", "counter", "CPU time, user and system.", process.cpu_seconds)
    yield _gauge("process_open_fds", "Open file descriptors.", process.open_files)
    yield _gauge("process_max_fds", "The most there may be.", process.most_files)
    yield _gauge("process_start_time_seconds", "When the process began, in epoch seconds.", process.started_at)


def _renamed(series: Series) -> Series:
    return {(CONVENTIONAL.get(key[0], key[0]), *key[1:]): value for key, value in series.items()}


def _counter(name: str, help: str, labels: tuple[str, ...], series: Series, most: int) -> Shown:
    return Sample(name, "counter", help, labels, folded(series, most)), ()


def _histogram(
    name: str, help: str, labels: tuple[str, ...], series: Series, most: int, bounds: tuple[float, ...]
) -> Shown:
    return Sample(name, "histogram", help, labels, folded(series, most)), bounds


def _gauge(name: str, help: str, value: float) -> Shown:
    return _one(name, "gauge", help, value)


def _one(name: str, kind: str, help: str, value: float) -> Shown:
    return Sample(name, "counter" if kind == "counter" else "gauge", help, (), {(): value}), ()
