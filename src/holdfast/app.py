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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from holdfast import __version__
from holdfast.edge.server.api import create_api
from holdfast.edge.server.control import ApiDeps, SettingsShown
from holdfast.edge.server.serve import Serving
from holdfast.engines.embedded import open_embedded
from holdfast.features.gateway.jobs import close_abandoned, keep_retention, watch_running
from holdfast.features.gateway.model import Gateway, Measures
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import SettingsError
from holdfast.kernel.findings import Findings
from holdfast.kernel.ids import make_id
from holdfast.kernel.secret import Secret
from holdfast.lanes import Upstreams, with_demo
from holdfast.ports.calls import Calls
from holdfast.ports.directory import Directory
from holdfast.ports.money import Money
from holdfast.ports.rates import Rates
from holdfast.ports.record import Record
from holdfast.settings import Loaded, Settings, Watch, is_loopback, load, needs_loopback, restart_needed, shown

LOG = logging.getLogger("holdfast.app")
JOB_MARGIN_SECONDS = 120.0
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


@dataclass(frozen=True, slots=True)
class Engines:
    """Where state lives, by port."""

    record: Record
    calls: Calls
    money: Money
    directory: Directory
    rates: Rates
    incarnation: str


async def run(options: Options, on_ready: Callable[[Ready], None]) -> None:
    """Start, serve until a signal, stop without losing what was handed over."""
    loaded = with_demo(load(options.config, options.environ, options.flags))
    settings = checked(loaded.settings, options.mode)
    clock = SystemClock()
    node = make_id("node")
    async with AsyncExitStack() as stack:
        listener = bound(settings.server.host, settings.server.port, settings.server.reuse_port)
        stack.callback(listener.close)
        findings = Findings(clock)
        engines = await open_engines(settings, clock, node, stack)
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
        await close_abandoned(gateway, None, abandoned_before(settings, clock))

        current = Current(loaded)
        api = create_api(ApiDeps(tenancy, current.shown, clock, __version__))
        serving = Serving(settings.server, gateway, api, engines.record.flush)
        reload = Reload(
            current, Watch(loaded, options.environ, options.flags, clock), options.mode, tenancy, gateway, lanes
        )
        for job in (
            tenancy.follow(),
            watch_running(gateway),
            keep_retention(gateway, settings.store.retention_days),
            keep_closing_abandoned(gateway, settings),
            reload.follow(),
        ):
            stack.push_async_callback(cancelled, asyncio.get_running_loop().create_task(job))
        await serving.listen(listener)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.now)
        gc.collect()
        gc.freeze()
        gc.set_threshold(
            *GC_THRESHOLDS
        )  # a call's objects die by reference count; looking for cycles among them is wasted
        on_ready(ready(settings, listener, bootstrapped.secret if bootstrapped is not None else None))
        await serving.until_stopped()


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


def bound(host: str, port: int, reuse_port: bool) -> socket.socket:
    """The listening socket, bound before anything else so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port or server.port."
        ) from error
    listener.setblocking(False)
    return listener


async def open_engines(settings: Settings, clock: Clock, node: str, stack: AsyncExitStack) -> Engines:
    """SQLite in the data folder, or PostgreSQL; this process's memory for rates, or Redis."""
    store = settings.store
    rates: Rates | None = None
    if store.redis is not None:
        from holdfast.engines.redis import open_redis

        redis = await open_redis(store.redis.reveal(), clock=clock, node=node)
        stack.push_async_callback(redis.close)
        rates = redis.rates
    if store.postgres is not None:
        from holdfast.engines.embedded.rates import EmbeddedRates
        from holdfast.engines.postgres import open_postgres

        postgres = await open_postgres(
            store.postgres.reveal(),
            clock=clock,
            node=node,
            connections=store.postgres_connections,
            commit_interval_seconds=store.commit_interval_seconds,
        )
        stack.push_async_callback(postgres.close)
        return Engines(
            postgres.record,
            postgres.calls,
            postgres.money,
            postgres.directory,
            rates or EmbeddedRates(clock),
            postgres.incarnation,
        )
    embedded = await open_embedded(Path(store.data), clock=clock, commit_interval_seconds=store.commit_interval_seconds)
    stack.push_async_callback(embedded.close)
    return Engines(
        embedded.record,
        embedded.calls,
        embedded.money,
        embedded.directory,
        rates or embedded.rates,
        embedded.incarnation,
    )


class Current:
    """The settings in force."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def shown(self) -> SettingsShown:
        return SettingsShown(shown(self.loaded.settings), self.loaded.origin)


class Reload:
    """A changed file, or SIGHUP: the new settings are checked whole and swapped; bad ones change nothing and are a finding."""

    def __init__(
        self, current: Current, watch: Watch, mode: str, tenancy: Tenancy, gateway: Gateway, lanes: Upstreams
    ) -> None:
        self._current = current
        self._watch = watch
        self._mode = mode
        self._tenancy = tenancy
        self._gateway = gateway
        self._lanes = lanes
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
            loaded = with_demo(found)
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
        LOG.info("settings reloaded from %s", loaded.source)

    def _say_restart(self, names: list[str]) -> None:
        for name in names:
            self._gateway.findings.open(
                "restart_needed",
                name,
                what=f"{name} changed in the file; the running process keeps the former value.",
                todo="Restart it.",
            )


async def keep_closing_abandoned(gateway: Gateway, settings: Settings) -> None:
    """Other nodes' crashes are noticed by age: no call lasts longer than the longest job limit."""
    while True:
        await gateway.clock.sleep(60.0)
        await close_abandoned(gateway, None, abandoned_before(settings, gateway.clock))


def abandoned_before(settings: Settings, clock: Clock) -> float:
    """Calls opened before this moment and still open belong to nobody: with files all of them, since this process holds the lock."""
    if settings.store.postgres is None:
        return clock.now()
    longest = max([policy.job_seconds for policy in (settings.defaults, *settings.routes.values())])
    return clock.now() - longest - JOB_MARGIN_SECONDS


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
