"""The part of the assembly that takes changed settings: read again, checked whole, then swapped, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from holdfast.edge.server.control import SettingsShown
from holdfast.edge.server.logs import Logs
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


def tune(logs: Logs, traces: Traces | None, settings: Settings) -> None:
    """What a reload changes outside the gateway."""
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
        self._watch = watch
        self._mode = mode
        self._tenancy = tenancy
        self._gateway = gateway
        self._lanes = lanes
        self._tune = tune
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
            loaded = usable(found, self._mode)
            settings = loaded.settings
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
        self._tune(settings)
        LOG.info("settings reloaded from %s", loaded.source)

    def _say_restart(self, names: list[str]) -> None:
        for name in names:
            self._gateway.findings.open(
                "restart_needed",
                name,
                what=f"{name} changed in the file; the running process keeps the former value.",
                todo="Restart it.",
            )
