"""Between an upstream and a reader: what arrives is passed on by plain calls; nothing is parsed that need not be."""

from collections import deque
from collections.abc import Sequence

from holdfast.dialects.openai.reading import may_hold_usage, read_usage, says_something
from holdfast.features.gateway.model import Call, Gateway, Lane
from holdfast.features.gateway.needs import Reader
from holdfast.kernel.drive import Signal
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.tokens import NO_USAGE, Usage
from holdfast.ports.upstream import Ended, Exchange, Headers

TAIL_FRAMES = 4


class Relay:
    """The sink of one attempt. A stream is forwarded from its first event on; anything else waits in `body` for `attempt`
    to decide. `left_at` is set while nobody reads."""

    __slots__ = (
        "body",
        "broken",
        "call",
        "cut_by",
        "done",
        "ended",
        "ended_at",
        "exchange",
        "first_at",
        "forwarded",
        "gateway",
        "headers",
        "lane",
        "left_at",
        "number",
        "said",
        "seen",
        "sent_at",
        "status",
        "streaming",
        "tail",
        "usage",
        "withholds_usage",
    )
    tail: deque[bytes]

    def __init__(self, gateway: Gateway, call: Call, lane: Lane, number: int, withholds_usage: bool) -> None:
        self.gateway = gateway
        self.call = call
        self.lane = lane
        self.number = number
        self.withholds_usage = withholds_usage
        self.done = Signal()
        self.sent_at = gateway.clock.monotonic()
        self.exchange: Exchange | None = None
        self.ended: Ended | None = None
        self.ended_at = 0.0
        self.cut_by: HoldfastError | None = None
        self.first_at: float | None = None
        self.left_at: float | None = None
        self.status = 0
        self.headers: Headers = ()
        self.body = b""
        self.streaming = False
        self.forwarded = False
        self.broken = False
        self.said = False
        self.seen = 0
        self.usage: Usage | None = None

    def head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        if self.call.stream and status == 200:
            self.streaming = any(b"event-stream" in value for name, value in headers if name == b"content-type")
            self.tail = deque(maxlen=TAIL_FRAMES)

    def frames(self, frames: Sequence[bytes]) -> None:
        if self.first_at is None:
            self.first_at = self.gateway.clock.monotonic()
        if not self.streaming:
            self.body = frames[0]
            return
        if not self.forwarded:
            self.forwarded = True
            self.call.request.reader.head(200, reply_headers(self))
        if not self.said and any(says_something(frame) for frame in frames):
            self.said = True
            self.first_at = self.gateway.clock.monotonic()
        self.seen += len(frames)
        self.tail.extend(frames)
        for frame in frames:
            if may_hold_usage(frame):
                frames = self._without_usage(frames)
                break
        if frames and not self.give(frames) and self.exchange is not None:
            self.exchange.pause()

    def give(self, frames: Sequence[bytes]) -> bool:
        """Events for the client; False when it wants no more for now. What nobody hears any more is not counted."""
        call = self.call
        if self.left_at is None:
            call.answer_bytes += sum(map(len, frames))
        return call.request.reader.frames(frames)

    def end(self, ended: Ended) -> None:
        self.ended = ended if self.cut_by is None else Ended("timeout", self.cut_by, ended.sent, ended.reused)
        self.ended_at = self.gateway.clock.monotonic()
        self.gateway.turns.take(self.done.set)

    def left(self, reader: Reader) -> None:
        """The client is gone: what the route says happens, and at once only under `cancel`."""
        self.left_at = self.gateway.clock.monotonic()
        if self.call.plan.policy.on_disconnect == "cancel":
            self.leave()
        self.ready(reader)  # nobody holds the upstream back any more

    def silent(self, reader: Reader) -> None:
        if self.call.plan.policy.on_disconnect == "cancel":
            self.leave()

    def ready(self, reader: Reader) -> None:
        if self.exchange is not None:
            self.exchange.resume()

    def leave(self) -> None:
        """Stop the upstream, unless somebody else waits for the same answer."""
        flight = self.call.flight
        if (flight is None or flight.waiting == 0) and self.exchange is not None:
            self.exchange.cancel()

    def cut(self, error: HoldfastError) -> None:
        """A limit that this side keeps has passed."""
        if self.cut_by is None and self.exchange is not None:
            self.cut_by = error
            self.exchange.cancel()

    def _without_usage(self, frames: Sequence[bytes]) -> Sequence[bytes]:
        """Note the usage; leave out the event that holds nothing else when the client did not ask for it."""
        kept = []
        for frame in frames:
            usage, alone = read_usage(frame) if may_hold_usage(frame) else (None, False)
            if usage is not None:
                self.usage = usage
            if not (alone and self.withholds_usage):
                kept.append(frame)
        return kept


def give_whole(call: Call, status: int, headers: bytes, body: bytes) -> None:
    """The answer in one piece; what nobody hears any more is not counted."""
    reader = call.request.reader
    if not reader.gone:
        call.answer_bytes += len(body)
    reader.whole(status, headers, body)


def reply_headers(relay: Relay, *, rewritten: bool = False) -> bytes:
    """What the client is told of the attempt that answers it: the lane, and the provider's headers that may pass. A body
    that was rewritten is JSON, whatever the provider's was."""
    lines = [relay.lane.label]
    if rewritten:
        lines.append(b"content-type: application/json\r\n")
        lines.extend([b"%b: %b\r\n" % header for header in relay.headers if header[0] != b"content-type"])
    else:
        lines.extend([b"%b: %b\r\n" % header for header in relay.headers])
    return b"".join(lines)


def usage_of(call: Call, relay: Relay) -> Usage:
    """What the provider reported; else an estimate, marked so: what was sent, and the events that came. An attempt whose
    outcome is unknown may have been billed and counts as estimated before it."""
    if relay.usage is not None:
        return relay.usage
    ended = relay.ended
    if relay.status >= 300 or (ended is not None and not ended.sent):
        return NO_USAGE
    if relay.streaming:
        output = relay.seen
    elif relay.body:
        output = len(relay.body) // 4 if call.output_tokens else 0
    else:
        output = call.output_tokens
    return Usage(call.input_tokens, output, estimated=True)


def cost_of(relay: Relay, usage: Usage) -> int | None:
    """Nanodollars; None where the lane has no price."""
    if usage is NO_USAGE:
        return 0
    price = relay.lane.price
    return price.cost(usage) if price is not None else None
