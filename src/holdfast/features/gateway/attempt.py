"""Stage 4: ask a model, and another where the first could not answer and the client has seen nothing yet."""

from typing import Any

from holdfast.dialects.openai.errors import error_event, upstream_envelope
from holdfast.dialects.openai.headers import request_headers
from holdfast.dialects.openai.request import ABSENT, ChatFields, StreamOptions, edited
from holdfast.features.gateway.model import Call, Gateway, Lane
from holdfast.features.gateway.relay import Relay, reply_headers
from holdfast.features.gateway.reservation import Reservation
from holdfast.kernel.errors import HoldfastError, StreamInterruptedError, UpstreamError
from holdfast.ports.calls import CallOpened
from holdfast.ports.upstream import Ended, Outgoing

MOVES_ON = frozenset({401, 403, 408, 429, 500, 502, 503, 504, 520, 529})


async def attempt(gateway: Gateway, call: Call, held: Reservation) -> None:
    """The last relay of `call.tries` is the one that answered. Raises what the client has to be told when none did."""
    policy = call.plan.policy
    lanes = list(call.plan.model.lanes)
    while True:
        lane = lanes.pop(0)
        if call.tries:
            await held.take_lane(lane)
        relay = await tried(gateway, call, held, lane)
        if stale_connection(relay) and on_unknown(call) == "retry":
            lanes.insert(0, lane)
        more = lanes and len(call.tries) < policy.max_attempts and not call.request.reader.gone
        if not more or not may_move_on(call, relay):
            deliver(call, relay)
            return


async def tried(gateway: Gateway, call: Call, held: Reservation, lane: Lane) -> Relay:
    """One attempt on one lane, from its first byte to its end; its lane's limits are given back."""
    body, withholds_usage = spelt(call, lane)
    relay = Relay(gateway, call, lane, len(call.tries) + 1, withholds_usage)
    call.tries.append(relay)
    if call.opened is None:
        call.opened = opened_row(gateway, call, lane, held)
        gateway.record.hand(call.opened)
    outgoing = Outgoing(
        call.request.operation.upstream_path,
        lane.model,
        body,
        request_headers(call.request.headers),
        call.stream,
        call.plan.upstream_limits,
        call.id,
    )
    gateway.running[call.id] = relay
    try:
        relay.exchange = await lane.upstream.send(outgoing, relay)
        call.request.reader.watch(relay)
        await relay.done
    except UpstreamError as error:
        relay.ended = Ended("broken", error, sent=False)
    finally:
        call.request.reader.watch(None)
        gateway.running.pop(call.id, None)
        if relay.ended is None and relay.exchange is not None:
            relay.exchange.cancel()
    return relay


def spelt(call: Call, lane: Lane) -> tuple[bytes, bool]:
    """The bytes this lane is sent, and whether the usage event the client did not ask for is to be withheld. The edits:
    the model's name there; usage with a stream; an output maximum where a strict budget needs one and none is said."""
    fields = call.fields
    changes: dict[str, Any] = {}
    withholds_usage = False
    if lane.model != fields.model:
        changes["model"] = lane.model
    if isinstance(fields, ChatFields):
        options = fields.stream_options
        asks = isinstance(options, StreamOptions) and options.include_usage is True
        if call.stream and not asks:
            changes["stream_options"] = {"include_usage": True}
            withholds_usage = True
        if call.plan.strict and fields.most_output_tokens() is None:
            changes["max_completion_tokens"] = call.output_tokens // (fields.n or 1)
    return (edited(fields, call.request.body, changes) if changes else call.request.body), withholds_usage


def may_move_on(call: Call, relay: Relay) -> bool:
    """Whether another lane may be asked: the client has seen nothing, and this attempt cannot have been billed or the
    policy accepts that it may have been."""
    if relay.forwarded or relay.ended is None:
        return False
    if relay.ended.outcome == "complete":
        return relay.status in MOVES_ON
    if not relay.ended.sent:
        return True
    return relay.ended.outcome != "cancelled" and on_unknown(call) == "retry"


def stale_connection(relay: Relay) -> bool:
    """The provider closed an idle connection just as it was used again: most likely it never saw the request."""
    ended = relay.ended
    return ended is not None and ended.outcome == "broken" and ended.reused and relay.status == 0 and relay.number == 1


def on_unknown(call: Call) -> str:
    said = call.plan.policy.on_unknown
    return said if said is not None else ("fail" if call.plan.strict else "retry")


def deliver(call: Call, relay: Relay) -> None:
    """Give the client the end of what it is owed: the whole answer, the end of its stream, or the reason there is none."""
    reader, ended = call.request.reader, relay.ended
    error = ended.error if ended is not None else None
    if relay.forwarded:
        if error is not None:
            reader.frames((error_event(StreamInterruptedError(interrupted(relay, error))),))
        reader.end()
    elif ended is not None and ended.outcome == "complete":
        status, body = relay.status, relay.body
        if status >= 400:
            body = upstream_envelope(status, body)
        headers = reply_headers(relay)
        reader.whole(status, headers, body)
        if call.flight is not None:
            call.flight.land((status, headers, body))
    elif error is not None:
        raise error


def interrupted(relay: Relay, error: HoldfastError) -> str:
    return f"The stream of {relay.lane.name} ended after {relay.seen} events: {error.message}"


def opened_row(gateway: Gateway, call: Call, lane: Lane, held: Reservation | None) -> CallOpened:
    plan, fields = call.plan, call.fields
    tenant = plan.principal.tenant
    return CallOpened(
        id=call.id,
        request_id=call.request.request_id,
        organisation=tenant.organisation,
        team=tenant.team,
        key_id=plan.principal.key_id,
        end_user=None if fields.user is ABSENT else fields.user,
        operation=plan.operation.name,
        route=plan.route,
        model=plan.model.name,
        lane=lane.name,
        node=gateway.node,
        opened_at=call.opened_at,
        stream=call.stream,
        reserved_nanodollars=held.nanodollars if held is not None else 0,
        estimated_input_tokens=call.input_tokens,
        estimated_output_tokens=call.output_tokens,
    )
