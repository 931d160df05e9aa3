"""Stage 4: ask a model, and another where the first could not answer and the client has seen nothing yet."""

from collections import deque
from typing import Any

from holdfast.dialects.openai.errors import error_event, upstream_envelope
from holdfast.dialects.openai.headers import request_headers
from holdfast.dialects.openai.request import ABSENT, ChatFields, asks_for_usage, edited, options_with_usage
from holdfast.features.gateway.model import Call, Gateway, Lane
from holdfast.features.gateway.relay import Relay, cost_of, give_whole, reply_headers, usage_of
from holdfast.features.gateway.reservation import Reservation
from holdfast.kernel.errors import CallerError, HoldfastError, InternalError, StreamInterruptedError, UpstreamError
from holdfast.ports.calls import CallOpened
from holdfast.ports.upstream import Ended, Outgoing

MOVES_ON = frozenset({401, 403, 408, 429, 500, 502, 503, 504, 520, 529})


async def attempt(gateway: Gateway, call: Call, held: Reservation) -> None:
    """The last relay of `call.tries` is the one that answered. Raises what the client has to be told when none did."""
    lanes = deque(call.plan.model.lanes)
    relay = await tried(gateway, call, held, lanes.popleft())
    while may_move_on(call, relay):
        if stale_connection(relay):
            lanes.appendleft(relay.lane)
        lane = await further_lane(call, held, lanes)
        if lane is None:
            break
        relay = await tried(gateway, call, held, lane)
    deliver(call, relay)


async def further_lane(call: Call, held: Reservation, lanes: deque[Lane]) -> Lane | None:
    """The next lane that can take this call now, with what an attempt on it needs; a full one, or one that the caller's
    budget does not reach for, is passed over. None: what was answered last is what the client gets."""
    usages = [usage_of(call, relay) for relay in call.tries]
    held.leave_lane(usages[-1])
    spent = sum([cost_of(relay, usage) or 0 for relay, usage in zip(call.tries, usages, strict=True)])
    while lanes:
        lane = lanes.popleft()
        try:
            await held.take_further(lane, spent)
        except CallerError:
            continue
        return lane
    return None


async def tried(gateway: Gateway, call: Call, held: Reservation, lane: Lane) -> Relay:
    """One attempt on one lane, from its first byte to its end."""
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
        relay.end(Ended("broken", error, sent=False))
    finally:
        call.request.reader.watch(None)
        gateway.running.pop(call.id, None)
        if relay.ended is None and relay.exchange is not None:
            relay.exchange.cancel()
        if relay.exchange is not None and (relay.ended is None or relay.ended.sent):
            call.upstream_bytes += len(body)
        relay.exchange = None
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
        if call.stream and not asks_for_usage(fields):
            changes["stream_options"] = options_with_usage(fields)
            withholds_usage = True
        if call.plan.strict and fields.most_output_tokens() is None:
            changes["max_completion_tokens"] = call.output_tokens // (fields.n or 1)
    return (edited(fields, call.request.body, changes) if changes else call.request.body), withholds_usage


def may_move_on(call: Call, relay: Relay) -> bool:
    """Whether another lane may be asked: somebody waits, who has seen nothing, no limit of the whole call has passed, and
    this attempt cannot have been billed or the policy accepts that it may have been."""
    ended = relay.ended
    if ended is None or relay.forwarded or relay.cut_by is not None:
        return False
    if ended.outcome == "complete":
        unbilled = relay.status in MOVES_ON
    else:
        unbilled = not ended.sent or (ended.outcome != "cancelled" and on_unknown(call) == "retry")
    return unbilled and call.waited_for and len(call.tries) < call.plan.policy.max_attempts


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
            relay.give((error_event(StreamInterruptedError(interrupted(relay, error))),))
        reader.end()
    elif ended is not None and ended.outcome == "complete":
        status, body = relay.status, relay.body
        if status >= 400:
            body = upstream_envelope(status, body)
        headers = reply_headers(relay, rewritten=body is not relay.body)
        give_whole(call, status, headers, body)
        if call.flight is not None:
            call.flight.land((status, headers, body))
    elif error is not None:
        raise error
    elif call.waited_for:
        raise InternalError("The call was cancelled though its client waits; try again.")


def interrupted(relay: Relay, error: HoldfastError) -> str:
    return f"The stream of {relay.lane.name} ended after {relay.seen} events: {error.message}"


def opened_row(gateway: Gateway, call: Call, lane: Lane, held: Reservation | None) -> CallOpened:
    plan, fields, request = call.plan, call.fields, call.request
    principal = plan.principal
    return CallOpened(  # by place, in the port's order: by name it takes five times as long
        call.id,
        request.request_id,
        principal.tenant.organisation,
        principal.tenant.team,
        principal.key_id,
        None if fields.user is ABSENT else fields.user,
        plan.operation.name,
        plan.route,
        plan.model.name,
        lane.name,
        gateway.node,
        call.opened_at,
        call.stream,
        held.nanodollars if held is not None else 0,
        call.input_tokens,
        call.output_tokens,
    )
