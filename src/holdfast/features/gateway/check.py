"""Stage 5: what was answered? Finish reason and emptiness are read from what was already forwarded, and recorded."""

from holdfast.dialects.openai.reading import Reading, read_tail, read_whole
from holdfast.features.gateway.model import Call
from holdfast.features.gateway.relay import Relay


def check(call: Call) -> Reading | None:
    """What the answer says of itself; None where there is none (an error, a client that left before)."""
    relay = call.tries[-1]
    if not answered(relay):
        return None
    if not relay.streaming:
        reading = read_whole(relay.body)
        relay.usage = reading.usage
        return reading
    reading = read_tail(list(relay.tail))
    reading.empty = not relay.said
    reading.usage = relay.usage
    relay.broken = reading.broken
    return reading


def answered(relay: Relay) -> bool:
    ended = relay.ended
    return ended is not None and relay.status == 200 and (relay.forwarded or ended.outcome == "complete")
