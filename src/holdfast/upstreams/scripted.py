"""The scripted model in process: an Upstream that needs no key, no network and no money.

It answers OpenAI's dialect deterministically, at the pace and with the faults that the model's name, the headers X-Sim and
X-Sim-Fault, or its defaults ask for (`script/options.py`, `script/faults.py`), and marks every answer `x-holdfast-scripted: 1`.
It keeps the promises of `ports/upstream.py` like one that speaks HTTP: the same limits, pause and cancel, the same errors.
This is also the door through which `holdfast sim` takes the model it serves.
"""

import asyncio
from collections.abc import Callable

from holdfast.dialects.openai.answer import STREAM_TYPE
from holdfast.dialects.openai.headers import response_name
from holdfast.kernel.clock import Clock, SystemClock
from holdfast.kernel.errors import (
    StreamInterruptedError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from holdfast.ports.upstream import Ended, Limits, Outcome, Outgoing, Sink
from holdfast.upstreams.script.counting import Counts
from holdfast.upstreams.script.faults import FAULTS, Fault
from holdfast.upstreams.script.model import ScriptedModel, refused
from holdfast.upstreams.script.options import DEFAULTS, OPTIONS, Option, Personality, read_header, with_options
from holdfast.upstreams.script.plan import Ending, Plan
from holdfast.upstreams.script.player import Output, Player
from holdfast.upstreams.script.schedule import Schedule, load_schedule, parse_schedule
from holdfast.upstreams.script.timers import ClockTimers, LoopTimers, Timers

__all__ = [
    "DEFAULTS",
    "FAULTS",
    "OPTIONS",
    "Counts",
    "Ending",
    "Fault",
    "LoopTimers",
    "Option",
    "Output",
    "Personality",
    "Plan",
    "Player",
    "Schedule",
    "ScriptedModel",
    "ScriptedUpstream",
    "Timers",
    "load_schedule",
    "parse_schedule",
    "read_header",
    "refused",
    "with_options",
]

MARK = (b"x-holdfast-scripted", b"1")
_FRAME_END = b"\n\n"


class ScriptedUpstream:
    """One provider account that is a script. `counts` says what it was asked."""

    dialect = "openai"

    def __init__(
        self,
        name: str,
        clock: Clock | None = None,
        *,
        seed: int = 0,
        defaults: Personality = DEFAULTS,
        schedule: Schedule = (),
    ) -> None:
        self.name = name
        self._clock = SystemClock() if clock is None else clock
        self._model = ScriptedModel(self._clock, seed, defaults, schedule)
        self._timers: Timers | None = None

    @property
    def counts(self) -> Counts:
        return self._model.counts

    def reset(self) -> None:
        self._model.reset()

    async def send(self, call: Outgoing, sink: Sink) -> "ScriptedExchange":
        sim = _header(call, b"x-sim")
        fault = _header(call, b"x-sim-fault")
        plan = self._model.ask(call.path, call.body, sim, fault)
        if plan.unreachable:
            raise UpstreamConnectError(f"upstream '{self.name}' refused the TLS handshake")
        if self._timers is None:
            loop = asyncio.get_running_loop()
            self._timers = LoopTimers(loop) if isinstance(self._clock, SystemClock) else ClockTimers(self._clock)
        return ScriptedExchange(self.name, plan, call.limits, sink, self._timers, self._model.counts)

    async def probe(self) -> None:
        """There is no way to a script that could fail."""

    async def close(self) -> None:
        """Nothing is pooled; exchanges in progress play to their end."""


def _header(call: Outgoing, wanted: bytes) -> str | None:
    for name, value in call.headers:
        if name.lower() == wanted:
            return value.decode("latin-1")
    return None


class _Alarm:
    """Wakes its owner's method at one moment."""

    __slots__ = ("wake",)

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake


class ScriptedExchange:
    """One answer on its way to a sink. Nothing reaches the sink before `send` has returned."""

    __slots__ = (
        "_alarm",
        "_armed",
        "_begun",
        "_framed",
        "_heard",
        "_held",
        "_limits",
        "_name",
        "_paused",
        "_player",
        "_sent",
        "_sink",
        "_stream",
        "_timers",
        "over",
    )

    def __init__(self, name: str, plan: Plan, limits: Limits, sink: Sink, timers: Timers, counts: Counts) -> None:
        self._name = name
        self._limits = limits
        self._sink = sink
        self._timers = timers
        self._player = Player(plan, self, timers, counts)
        self._alarm = _Alarm(self._within_limits)
        self._held = b""
        self._stream = False
        self._armed = False  # an answer that needs no time needs no alarm
        self._begun = False
        self._framed = False
        self._paused = False
        self.over = False
        self._sent = self._heard = timers.now()
        asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        if self.over:
            return
        self._player.start()
        if not self.over:
            self._armed = True
            self._within_limits()

    def pause(self) -> None:
        self._paused = True
        self._player.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._heard = self._timers.now()
            self._player.resume()

    def cancel(self) -> None:
        if not self.over:
            self._player.cancel()
            self._end("cancelled", None)

    def begin(self, plan: Plan) -> None:
        spelt = (*plan.headers, (b"x-request-id", plan.id.encode())) if plan.id else plan.headers
        named = ((response_name(name), value) for name, value in spelt)
        headers = [*((name, value) for name, value in named if name is not None), MARK]
        self._stream = (b"content-type", STREAM_TYPE) in plan.headers
        self._sink.head(plan.status, headers)

    def send(self, parts: list[bytes], whole: bool) -> None:
        if self.over:
            return
        self._heard = self._timers.now()
        if not self._begun:
            self._begun = True
            if self._armed and not self._within_limits():
                return
        if self._stream and whole:
            self._framed = True
            self._sink.frames(parts)
            return
        self._held += b"".join(parts)
        if self._stream:
            *frames, self._held = self._held.split(_FRAME_END)
            if frames:
                self._framed = True
                self._sink.frames([frame + _FRAME_END for frame in frames])

    def finish(self, ending: Ending) -> None:
        if self.over:
            return
        if ending == "complete":
            if self._held or not self._stream:
                self._sink.frames([self._held])
            self._end("complete", None)
        elif self._framed:
            what = f"upstream '{self._name}' broke off in the middle of an answer; what had come of the stream was passed on"
            self._end("broken", StreamInterruptedError(what))
        else:
            self._end("broken", UpstreamProtocolError(f"upstream '{self._name}' broke off before its answer was whole"))

    def _within_limits(self) -> bool:
        """Ends the exchange when a limit has passed, or looks again when the next one may have."""
        if self.over:
            return False
        now, limits = self._timers.now(), self._limits
        total = self._sent + limits.total_seconds
        if self._begun:
            name, due = "idle", (now if self._paused else self._heard) + limits.idle_seconds
        else:
            name, due = "first token", self._sent + limits.first_token_seconds
        if total <= due:
            name, due = "total", total
        if now < due:
            self._timers.wake(self._alarm, due)
            return True
        self._player.cancel()
        self._end(
            "timeout",
            UpstreamTimeoutError(f"upstream '{self._name}': the {name} limit passed; it is too slow for this route"),
        )
        return False

    def _end(self, outcome: Outcome, error: UpstreamError | None) -> None:
        if self.over:
            return
        self.over = True
        self._timers.forget(self._alarm)
        self._sink.end(Ended(outcome, error))
