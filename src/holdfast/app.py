"""THE ASSEMBLY: settings in, a running system out. Read it top to bottom to learn what Holdfast is made of and in which order
it starts; only this file and settings.py name an engine and a feature together."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from holdfast.edge.server.api import create_api
from holdfast.edge.server.control import ApiDeps, SettingsShown
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
from holdfast.kernel.version import VERSION
from holdfast.lanes import Upstreams, with_demo
from holdfast.settings import Loaded, Settings, Watch, is_loopback, load, needs_loopback, restart_needed, shown
from holdfast.stores import open_engines

LOG = logging.getLogger("holdfast.app")
GC_THRESHOLDS = (20_000, 20, 100)


@dataclass(frozen=True, slots=True)
class Options:
    """How a process is started: `up` for one machine, `serve` for one node of several over PostgreSQL."""

    mode: Literal["up", "serve"]
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
    loaded = for_mode(with_demo(load(options.config, options.environ, options.flags)), options.mode)
    settings = checked(loaded.settings, options.mode)
    clock = SystemClock()
    node = make_id("node")
    async with AsyncExitStack() as stack:
        logs = Logs()
        stack.callback(logs.close)
        logs.configure(settings.logs.level, settings.logs.format, settings.logs.calls)
        listeners = listening(settings.server, stack)
        findings = Findings(clock, on_change=log_finding)
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
        gateway = Gateway(
            snapshot=await lanes.snapshot(settings, measures.attempts),
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
        alone = (
            settings.store.postgres is None
        )  # with files every open call is a dead process's: this one holds the lock
        await close_abandoned(
            gateway, clock.now() - (0 if alone else longest_job_seconds(gateway) + JOB_MARGIN_SECONDS)
        )

        current = Current(loaded)
        operations = Operations(
            gateway,
            version=VERSION,
            max_inflight=settings.server.max_inflight,
            data=engines.data,
            stale_prices=partial(stale, PriceBook({})),
            dropped_lines=lambda: logs.dropped,
        )
        front = Front(
            operations,
            create_api(ApiDeps(tenancy, current.shown, clock, VERSION)),
            guarded=not all(is_loopback(host) for host in (settings.server.host, settings.server.api_host) if host),
            api_port=listeners[-1].getsockname()[1] if len(listeners) > 1 else None,
        )
        serving = Serving(settings.server, gateway, front, engines.record.flush)
        reload = Reload(
            current, Watch(loaded, options.environ, options.flags, clock), options.mode, tenancy, gateway, lanes, logs
        )
        for job in (
            tenancy.follow(),
            watch_running(gateway),
            keep_retention(gateway, settings.store.retention_days),
            *(() if alone else (keep_closing_abandoned(gateway),)),
            operations.follow(),
            reload.follow(),
        ):
            stack.push_async_callback(cancelled, asyncio.get_running_loop().create_task(job))
        at = ready(settings, listeners[0], bootstrapped.secret if bootstrapped is not None else None)
        if options.mode == "up":
            local = LocalApp(
                front, operations, at.url, backup=engines.backup, recompute=lambda r: engines.money.recompute(repair=r)
            )
            await stack.enter_async_context(LocalDoor(Path(settings.store.data), local))
        await serving.listen(*listeners)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.now)
        gc.collect()
        gc.freeze()
        gc.set_threshold(
            *GC_THRESHOLDS
        )  # a call's objects die by reference count; looking for cycles among them is wasted
        operations.started(serving)
        on_ready(at)
        await serving.until_stopped()


def for_mode(loaded: Loaded, mode: str) -> Loaded:
    """Nobody balances over one machine's `up`: unless told otherwise it stops without a notice."""
    if mode != "up" or loaded.origin_of("server.drain_notice_seconds") != "default":
        return loaded
    server = replace(loaded.settings.server, drain_notice_seconds=0.0)
    return replace(loaded, settings=replace(loaded.settings, server=server))


def checked(settings: Settings, mode: str) -> Settings:
    """What only a start can judge."""
    scripted = needs_loopback(settings)
    if scripted and not is_loopback(settings.server.host):
        raise SettingsError(
            f"The scripted upstream ({', '.join(scripted)}) answers anybody with made-up text and is served on a loopback address "
            f"only: set server.host to 127.0.0.1, or declare a real upstream. It is {settings.server.host!r}."
        )
    if mode == "serve" and settings.store.postgres is None:
        raise SettingsError(
            "`serve` runs one node of several and keeps nothing in files: say store.postgres, or start `holdfast up` for one machine."
        )
    return settings


class Current:
    """The settings in force."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def shown(self) -> SettingsShown:
        return SettingsShown(shown(self.loaded.settings), self.loaded.origin)


class Reload:
    """A changed file, or SIGHUP: the new settings are checked whole and swapped; bad ones change nothing and are a finding."""

    def __init__(
        self,
        current: Current,
        watch: Watch,
        mode: str,
        tenancy: Tenancy,
        gateway: Gateway,
        lanes: Upstreams,
        logs: Logs,
    ) -> None:
        self._current = current
        self._watch = watch
        self._mode = mode
        self._tenancy = tenancy
        self._gateway = gateway
        self._lanes = lanes
        self._logs = logs
        self._rereading: asyncio.Task[None] | None = None

    def now(self) -> None:
        """What SIGHUP asks for."""
        self._rereading = asyncio.get_running_loop().create_task(self._reread())

    async def follow(self) -> None:
        async for found in self._watch.changes():
            await self._take(found)

    async def _reread(self) -> None:
        await self._take(await asyncio.to_thread(self._watch.reload))

    async def _take(self, found: Loaded | SettingsError) -> None:
        findings = self._gateway.findings
        try:
            if isinstance(found, SettingsError):
                raise found
            loaded = for_mode(with_demo(found), self._mode)
            settings = checked(loaded.settings, self._mode)
            await self._tenancy.catalogue.apply_file(settings.organisations, settings.keys, loaded.origin)
            self._gateway.swap(await self._lanes.snapshot(settings, self._gateway.measures.attempts))
        except SettingsError as error:
            what = f"The changed settings were refused and the former ones go on: {error.message}"
            findings.open(
                "settings_refused", "settings", what=what, todo="Mend the file: it is read again when it changes."
            )
            LOG.error("%s", what)
            return
        findings.clear("settings_refused", "settings")
        self._say_restart(restart_needed(self._current.loaded.settings, settings))
        self._current.loaded = loaded
        self._logs.configure(settings.logs.level, settings.logs.format, settings.logs.calls)
        LOG.info("settings reloaded from %s", loaded.source)

    def _say_restart(self, names: list[str]) -> None:
        for name in names:
            self._gateway.findings.open(
                "restart_needed",
                name,
                what=f"{name} changed in the file; the running process keeps the former value.",
                todo="Restart it.",
            )


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
