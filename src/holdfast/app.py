"""THE ASSEMBLY: settings in, a running system out. Read it top to bottom to learn what Holdfast is made of and in which order
it starts; only this file and settings.py name an engine and a feature together."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.edge.server.api import create_api
from holdfast.edge.server.control import ApiDeps
from holdfast.edge.server.first_token import FirstTokens
from holdfast.edge.server.local import LocalApp, LocalDoor
from holdfast.edge.server.logs import Logs, log_finding
from holdfast.edge.server.operations import Operations
from holdfast.edge.server.routes.health import Front
from holdfast.edge.server.serve import Serving
from holdfast.edge.server.sockets import listening
from holdfast.features.gateway.jobs import (
    JOB_MARGIN_SECONDS,
    close_abandoned,
    keep_closing_abandoned,
    keep_retention,
    longest_job_seconds,
    watch_running,
)
from holdfast.features.gateway.model import Gateway, Measures
from holdfast.features.gateway.prices import PriceBook, stale
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.findings import Findings
from holdfast.kernel.ids import make_id
from holdfast.kernel.secret import Secret
from holdfast.kernel.version import __version__
from holdfast.lanes import Upstreams
from holdfast.reload import Current, Mode, Reload, tune, usable
from holdfast.settings import Settings, Watch, is_loopback, load, needs_loopback
from holdfast.stores import join_fleet, keep_place, open_engines

if TYPE_CHECKING:
    from holdfast.edge.server.traces import Traces

LOG = logging.getLogger("holdfast.app")
GC_THRESHOLDS = (20_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Options:
    """How a process is started: `up` for one machine, `serve` for one node of several over PostgreSQL."""

    mode: Mode
    config: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a starter wants to know. `key` is there where this start made or installed it, and never again."""

    url: str
    key: str | None
    scripted: bool
    first_model: str | None


async def run(options: Options, on_ready: Callable[[Ready], None]) -> None:
    """Start, serve until a signal, stop without losing what was handed over."""
    loaded = usable(load(options.config, options.environ, options.flags), options.mode)
    settings = loaded.settings
    clock = SystemClock()
    node = make_id("node")
    async with AsyncExitStack() as stack:
        logs = Logs()
        stack.callback(logs.close)
        logs.configure(settings.logs.level, settings.logs.format, settings.logs.calls)
        listeners = listening(settings.server, stack)
        findings = Findings(clock, on_change=log_finding)
        fleet = await join_fleet(settings.store, node, stack)
        engines = await open_engines(settings.store, clock, node, stack)
        tenancy = Tenancy(
            settings.tenancy,
            directory=engines.directory,
            record=engines.record,
            calls=engines.calls,
            money=engines.money,
            findings=findings,
            clock=clock,
        )
        await tenancy.catalogue.refresh()
        await tenancy.catalogue.apply_file(settings.organisations, settings.keys, loaded.origin)
        said = options.environ.get("HOLDFAST_BOOTSTRAP_KEY")
        bootstrapped = await tenancy.bootstrap.ensure(Secret(said) if said else None)

        lanes = Upstreams(clock, options.environ)
        stack.push_async_callback(lanes.close)
        measures = Measures()
        made = lanes.made_of(settings, measures.attempts)
        await lanes.use(made)
        gateway = Gateway(
            snapshot=made.snapshot,
            measures=measures,
            tenancy=tenancy,
            record=engines.record,
            calls=engines.calls,
            money=engines.money,
            rates=engines.rates,
            clock=clock,
            findings=findings,
            node=node,
            max_inflight=settings.server.max_inflight,
        )
        alone = settings.store.postgres is None  # every open call is a dead process's: this one holds the lock
        margin_seconds = 0 if alone else longest_job_seconds(gateway) + JOB_MARGIN_SECONDS
        await close_abandoned(gateway, clock.now() - margin_seconds)

        current = Current(loaded)
        operations = Operations(
            gateway,
            version=__version__,
            data=engines.data,
            stale_prices=partial(stale, PriceBook({})),
            dropped_lines=lambda: logs.dropped,
        )
        front = Front(
            operations,
            create_api(ApiDeps(tenancy, current.shown, clock, __version__, measures)),
            guarded=not all(is_loopback(host) for host in (settings.server.host, settings.server.api_host) if host),
            api_port=listeners[-1].getsockname()[1] if len(listeners) > 1 else None,
        )
        serving = Serving(settings.server, gateway, front, engines.record.flush)
        reload = Reload(
            current,
            Watch(loaded, options.environ, options.flags, clock),
            options.mode,
            tenancy,
            gateway,
            lanes,
            partial(tune, logs, open_traces(settings, gateway, stack), gateway, serving),
        )
        for job in (
            tenancy.follow(),
            watch_running(gateway),
            keep_retention(gateway, settings.store.retention_days),
            *(() if alone else (keep_closing_abandoned(gateway),)),
            *(() if fleet is None else (keep_place(fleet, findings, clock),)),
            operations.follow(),
            FirstTokens(gateway).follow(),
            reload.follow(),
        ):
            stack.push_async_callback(cancelled, supervised(job, findings))
        at = ready(settings, listeners[0], bootstrapped.secret if bootstrapped is not None else None)
        if options.mode == "up":
            local = LocalApp(
                front, operations, at.url, backup=engines.backup, recompute=lambda r: engines.money.recompute(repair=r)
            )
            await stack.enter_async_context(LocalDoor(Path(settings.store.data), local))
        await serving.listen(*listeners)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.now)
        look_less_for_cycles()
        operations.started(serving)
        LOG.info("ready", extra={"fields": {"url": at.url, "version": __version__, "node": node}})
        on_ready(at)
        await serving.until_stopped()


def look_less_for_cycles() -> None:
    """A call's objects die by reference count: looking for cycles among them is wasted."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def open_traces(settings: Settings, gateway: Gateway, stack: AsyncExitStack) -> Traces | None:
    """Where spans go, if they are to go anywhere."""
    endpoint = settings.traces.otlp_endpoint
    if endpoint is None:
        return None
    try:
        from holdfast.edge.server.traces import Traces
    except ImportError as error:
        raise SettingsError(f"traces.otlp_endpoint needs an extra: pip install 'holdfast[otlp]' ({error})") from error
    traces = Traces(endpoint, settings.traces.sample, version=__version__, clock=gateway.clock)
    stack.push_async_callback(traces.close)
    gateway.on_closed = traces.on_closed
    return traces


def supervised(job: Coroutine[Any, Any, None], findings: Findings) -> asyncio.Task[None]:
    """A job that lasts as long as the process. One that ends by a defect is missed by nobody: it is a finding."""
    task = asyncio.get_running_loop().create_task(job)
    name = getattr(job, "__qualname__", "a job")

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        LOG.error("a background job ended", exc_info=task.exception())
        what = f"{name} ended: {task.exception()}. What it kept up is no longer kept up."
        findings.open("job_ended", name, what=what, todo="Restart the process, and report the error in the log.")

    task.add_done_callback(ended)
    return task


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def ready(settings: Settings, listener: socket.socket, secret: str | None) -> Ready:
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.server.tls_certificate else "http"
    shown_host = f"[{host}]" if ":" in host else host
    return Ready(
        f"{scheme}://{shown_host}:{port}", secret, bool(needs_loopback(settings)), next(iter(settings.models), None)
    )
