"""The part of the assembly that makes lanes: upstreams, models, prices and limits of the settings become what the gateway
chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from holdfast.features.gateway.model import REQUESTS, USAGE, Lane, Model, Route, Snapshot, limits_in
from holdfast.features.gateway.prices import PriceBook
from holdfast.features.gateway.settings import ModelSettings, PriceSettings
from holdfast.kernel.clock import Clock
from holdfast.kernel.measure import Counters
from holdfast.ports.upstream import Upstream
from holdfast.settings import Loaded, Settings
from holdfast.upstreams.openai import OpenAIUpstream
from holdfast.upstreams.scripted import ScriptedUpstream
from holdfast.upstreams.settings import UpstreamSettings


def with_demo(loaded: Loaded) -> Loaded:
    """Where no upstream is declared, the scripted model answers, so that a first call needs no provider's key."""
    settings = loaded.settings
    if settings.upstreams or settings.models:
        return loaded
    demo = replace(
        settings,
        upstreams={"scripted": UpstreamSettings(dialect="scripted")},
        models={"scripted": ModelSettings(lanes=("scripted/scripted",))},
        prices={**settings.prices, "scripted": PriceSettings(free=True)},
    )
    return replace(loaded, settings=demo)


@dataclass(frozen=True, slots=True)
class Made:
    """A snapshot for the gateway, and the provider accounts its lanes stand on."""

    snapshot: Snapshot
    upstreams: Mapping[str, tuple[UpstreamSettings, Upstream]]


class Upstreams:
    """The provider accounts in use. A reload keeps those whose settings stayed, so that no connection, count or wait is lost;
    one that left the settings takes no new calls and closes when its last one ends."""

    def __init__(self, clock: Clock, environ: Mapping[str, str]) -> None:
        self._clock = clock
        self._environ = environ
        self._open: Mapping[str, tuple[UpstreamSettings, Upstream]] = {}

    def made_of(self, settings: Settings, attempts: Counters) -> Made:
        """What the settings say to the gateway. SettingsError where it cannot work; nothing changes before `use`."""
        prices = PriceBook(settings.prices)
        wanted = {name: self._one(name, said) for name, said in settings.upstreams.items()}
        models = {
            name: Model(
                name,
                tuple([lane(wanted, spelt, said, prices, attempts) for spelt in said.lanes]),
                int(self._clock.now()),
            )
            for name, said in settings.models.items()
        }
        routes = [
            Route(name, said, said.path, said.model, said.key, said.header) for name, said in settings.routes.items()
        ]
        return Made(Snapshot(models, tuple(routes), settings.defaults), wanted)

    async def use(self, made: Made) -> None:
        """These are the upstreams from now on; what they no longer name is closed."""
        former, self._open = self._open, made.upstreams
        for name, (_, upstream) in former.items():
            if name not in made.upstreams or made.upstreams[name][1] is not upstream:
                await upstream.close()

    async def close(self) -> None:
        for _, upstream in self._open.values():
            await upstream.close()

    def _one(self, name: str, said: UpstreamSettings) -> tuple[UpstreamSettings, Upstream]:
        known = self._open.get(name)
        if known is not None and known[0] == said:
            return known
        if said.dialect == "scripted":
            return said, ScriptedUpstream(name, self._clock)
        return said, OpenAIUpstream(name, said, clock=self._clock, environ=self._environ)


def lane(
    wanted: Mapping[str, tuple[UpstreamSettings, Upstream]],
    spelt: str,
    said: ModelSettings,
    prices: PriceBook,
    attempts: Counters,
) -> Lane:
    upstream_name, _, model = spelt.partition("/")
    settings, upstream = wanted[upstream_name]
    answered = attempts.of((spelt, "complete", ""))
    price = prices.price_of(upstream_name, model)
    return Lane(
        spelt,
        upstream,
        model,
        price,
        limits_in([(f"lane:{spelt}", said)], REQUESTS + USAGE),
        settings.dialect == "scripted",
        answered,
    )
