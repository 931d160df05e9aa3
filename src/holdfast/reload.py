"""The part of the assembly that takes changed settings: read again, checked whole, then swapped, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from holdfast.edge.server.control import SettingsShown
from holdfast.edge.server.logs import Logs
from holdfast.edge.server.serve import Serving
from holdfast.features.gateway.model import Gateway
from holdfast.features.tenancy.tenancy import Tenancy
from holdfast.kernel.errors import SettingsError
from holdfast.lanes import Upstreams, with_demo
from holdfast.settings import Loaded, Settings, Watch, is_loopback, needs_loopback, restart_needed, shown

if TYPE_CHECKING:
    from holdfast.edge.server.traces import Traces

LOG = logging.getLogger("holdfast.app")
Mode = Literal["up", "serve"]


def usable(loaded: Loaded, mode: Mode) -> Loaded:
    """The settings a process of this mode runs with; SettingsError where it cannot."""
    loaded = for_mode(with_demo(loaded), mode)
    check(loaded.settings, mode)
    return loaded


def for_mode(loaded: Loaded, mode: Mode) -> Loaded:
    """Nobody balances over one machine's `up`: unless told otherwise it stops without a notice."""
    if mode != "up" or loaded.origin_of("server.drain_notice_seconds") != "default":
        return loaded
    server = replace(loaded.settings.server, drain_notice_seconds=0.0)
    return replace(loaded, settings=replace(loaded.settings, server=server))


def check(settings: Settings, mode: Mode) -> None:
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


def tune(logs: Logs, traces: Traces | None, gateway: Gateway, serving: Serving, settings: Settings) -> None:
    """What a reload changes beside keys and lanes."""
    serving.settings = settings.server
    gateway.max_inflight = settings.server.max_inflight
    logs.configure(settings.logs.level, settings.logs.format, settings.logs.calls)
    if traces is not None:
        traces.sample = settings.traces.sample


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
        mode: Mode,
        tenancy: Tenancy,
        gateway: Gateway,
        lanes: Upstreams,
        tune: Callable[[Settings], None],
    ) -> None:
        self._current = current
        self._started = current.loaded.settings
        self._turn = asyncio.Lock()
        self._watch = watch
        self._mode = mode
        self._tenancy = tenancy
        self._gateway = gateway
        self._lanes = lanes
        self._tune = tune
        self._rereading: set[asyncio.Task[None]] = set()

    def now(self) -> None:
        """What SIGHUP asks for. One that waits for its turn has not read yet and stands for those that come meanwhile."""
        if len(self._rereading) < 2:
            task = asyncio.get_running_loop().create_task(self._reread())
            self._rereading.add(task)
            task.add_done_callback(self._rereading.discard)

    async def follow(self) -> None:
        async for found in self._watch.changes():
            async with self._turn:
                await self._take(found)

    async def _reread(self) -> None:
        async with self._turn:
            await self._take(await asyncio.to_thread(self._watch.reload))

    async def _take(self, found: Loaded | SettingsError) -> None:
        findings = self._gateway.findings
        try:
            if isinstance(found, SettingsError):
                raise found
            loaded = usable(found, self._mode)
            settings = loaded.settings
            made = self._lanes.made_of(settings, self._gateway.measures.attempts)
            await self._tenancy.catalogue.apply_file(settings.organisations, settings.keys, loaded.origin)
        except SettingsError as error:
            what = f"The changed settings were refused and the former ones go on: {error.message}"
            findings.open(
                "settings_refused", "settings", what=what, todo="Mend the file: it is read again when it changes."
            )
            LOG.error("%s", what)
            return
        self._gateway.swap(made.snapshot)
        await self._lanes.use(made)
        findings.clear("settings_refused", "settings")
        self._say_restart(settings)
        self._current.loaded = loaded
        self._tune(settings)
        LOG.info("settings reloaded from %s", loaded.source)

    def _say_restart(self, settings: Settings) -> None:
        """What differs from what this process started with; what was put back needs nobody any more."""
        before = restart_needed(self._started, self._current.loaded.settings)
        wanted = restart_needed(self._started, settings)
        for name in set(before) - set(wanted):
            self._gateway.findings.clear("restart_needed", name)
        for name in wanted:
            self._gateway.findings.open(
                "restart_needed",
                name,
                what=f"{name} changed in the file; the running process keeps the former value.",
                todo="Restart it.",
            )
