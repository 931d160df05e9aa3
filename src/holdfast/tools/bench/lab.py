"""What the sections of one run share: the options, the processes, the systems, and what went wrong."""

import sys
from collections.abc import Iterator

from holdfast.tools.bench import nginx
from holdfast.tools.bench.children import Children
from holdfast.tools.bench.options import BenchOptions
from holdfast.tools.bench.systems import (
    STREAM_MODEL,
    Gateway,
    System,
    competitor,
    start_floor,
    start_gateway,
    start_upstreams,
)


class Lab:
    """`problems` are wrong answers, and make the run fail; `notes` are what a reader has to know."""

    def __init__(self, children: Children, options: BenchOptions) -> None:
        self.children = children
        self.options = options
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.upstreams = start_upstreams(children, options)
        self._gateway: Gateway | None = None
        self._floors: dict[str, System] = {}
        if self.upstreams.nginx is None:
            self.note(
                f"nginx is not installed: there is no baseline, and the pacer answers in its place; {nginx.INSTALL}"
            )

    @property
    def gateway(self) -> Gateway:
        """The one the sections drive in turns; started when first asked for."""
        if self._gateway is None:
            self._gateway = start_gateway(self.children, self.upstreams)
        return self._gateway

    def callers(self) -> list[System]:
        """What takes calls, in the order of a round."""
        found = [self.upstreams.mock]
        found += [self.upstreams.nginx] if self.upstreams.nginx else []
        return found + list(self._behind(self.upstreams.mock, self.options.against_model))

    def streamers(self) -> list[System]:
        """What takes streams, in the order of a round."""
        return [self.upstreams.pacer, *self._behind(self.upstreams.pacer, self.options.against_stream_model)]

    def _behind(self, upstream: System, against_model: str) -> Iterator[System]:
        model = upstream.address.model
        if self.options.floor:
            if model not in self._floors:
                self._floors[model] = start_floor(self.children, upstream)
            yield self._floors[model]
        if self.options.gateway:
            yield self.gateway.streams if model == STREAM_MODEL else self.gateway.calls
        against = competitor(self.options, against_model)
        if against is not None:
            yield against

    def say(self, text: str) -> None:
        """Progress, for whoever waits."""
        sys.stderr.write(f"bench: {text}\n")
        sys.stderr.flush()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.say(text)

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"WRONG: {text}")
