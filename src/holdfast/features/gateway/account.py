"""Stage 6: what did it use and cost? The end of the call, its attempts and its money are handed over as one unit."""

import logging
from bisect import bisect_left

from holdfast.dialects.openai.reading import Reading
from holdfast.features.gateway.attempt import opened_row
from holdfast.features.gateway.model import STAGES, Call, Gateway
from holdfast.features.gateway.relay import Relay, cost_of, usage_of
from holdfast.features.gateway.reservation import Reservation
from holdfast.features.gateway.reuse import Flight
from holdfast.kernel.errors import HoldfastError, InternalError, StreamInterruptedError
from holdfast.kernel.measure import SECONDS_BOUNDS
from holdfast.kernel.tokens import NO_USAGE, Usage
from holdfast.ports.calls import Attempted, CallClosed, CallStatus
from holdfast.ports.record import Change

LOG = logging.getLogger("holdfast.calls")
REFUSED_ROWS_A_SECOND = 100
NO_READING = Reading()


def account(
    gateway: Gateway, call: Call, held: Reservation, reading: Reading | None, error: HoldfastError | None
) -> CallClosed | None:
    """Close the call: plain calls only, nothing here waits. None: it was refused before anybody knew whose it was."""
    if not call.identified:
        code = error.code if error is not None else InternalError.code
        gateway.measures.calls.add((call.request.operation.name, "unknown", "refused", code))
        return None
    usages = [usage_of(call, relay) for relay in call.tries]
    costs = [cost_of(relay, usage) for relay, usage in zip(call.tries, usages, strict=True)]
    spent = sum([cost or 0 for cost in costs])
    total = usages[0] if len(usages) == 1 else summed(usages)
    closed = closing(gateway, call, reading or NO_READING, error, usages, costs)
    if len(usages) > 1:
        held.leave_lane(usages[-1])
    settled = held.settle(total, spent)
    if closed.status != "refused" or settled is not None or refused_row_allowed(gateway):
        changes: list[Change] = [closed]
        if len(costs) > 1:
            changes.extend(further(gateway, call, usages, costs))
        if settled is not None:
            changes.append(settled)
        gateway.record.hand(*changes)
    land(gateway, call, error, spent)
    measure(gateway, call, closed, total, spent)
    return closed


def closing(
    gateway: Gateway,
    call: Call,
    reading: Reading,
    error: HoldfastError | None,
    usages: list[Usage],
    costs: list[int | None],
) -> CallClosed:
    relay = call.tries[-1] if call.tries else None
    flight = call.served_from
    first_token = relay.first_at - call.request.received if relay is not None and relay.first_at is not None else None
    status, code = outcome(call, relay, error)
    return CallClosed(  # by place, in the port's order: by name it takes five times as long
        call.id,
        gateway.clock.now(),
        status,
        error.status if error is not None else answered_status(relay, flight),
        relay.lane.name if relay is not None else call.plan.model.lanes[0].name,
        code,
        reading.finish_reason,
        reading.empty,
        usages[0] if usages else NO_USAGE,
        costs[0] if costs else 0,
        price_version(call.tries[0]) if call.tries else None,
        reading.model,
        reading.fingerprint,
        first_token,
        len(costs),
        flight.call_id if flight is not None else None,
        flight.nanodollars if flight is not None else 0,
        opened_row(gateway, call, call.plan.model.lanes[0], None) if call.opened is None else None,
        call.upstream_bytes,
        call.answer_bytes,
    )


def answered_status(relay: Relay | None, flight: Flight | None) -> int:
    """What the client saw where no error of ours ended the call; an answer that was shared has its leader's."""
    if relay is not None:
        return relay.status
    return flight.answer[0] if flight is not None and isinstance(flight.answer, tuple) else InternalError.status


def outcome(call: Call, relay: Relay | None, error: HoldfastError | None) -> tuple[CallStatus, str | None]:
    """The end's name, and the code of what went wrong."""
    if relay is None:
        if error is None and call.served_from is None:
            return "refused", InternalError.code
        return (call.status, None) if error is None else ("refused", error.code)
    ended = relay.ended
    if ended is None:
        return "lost", InternalError.code
    if ended.outcome == "complete":
        if relay.broken:
            return "error", StreamInterruptedError.code
        return ("complete", None) if relay.status < 300 else ("error", "upstream_status")
    if ended.outcome == "cancelled":
        return "cancelled", None
    code = ended.error.code if ended.error is not None else None
    if relay.forwarded or not ended.sent:
        return "error", code
    return "unknown", code


def price_version(relay: Relay) -> str | None:
    return relay.lane.price.version if relay.lane.price is not None else None


def further(gateway: Gateway, call: Call, usages: list[Usage], costs: list[int | None]) -> list[Attempted]:
    """Rows of the second and later attempts."""
    rows = []
    offset = gateway.clock.now() - gateway.clock.monotonic()
    for relay, usage, cost in list(zip(call.tries, usages, costs, strict=True))[1:]:
        status, code = outcome(call, relay, None)
        rows.append(
            Attempted(
                call_id=call.id,
                number=relay.number,
                kind="failover",
                lane=relay.lane.name,
                sent_at=offset + relay.sent_at,
                ended_at=offset + relay.ended_at,
                status=status,
                http_status=relay.status or None,
                error_code=code,
                usage=usage,
                cost_nanodollars=cost,
                price_version=price_version(relay),
            )
        )
    return rows


def summed(usages: list[Usage]) -> Usage:
    """What limits are settled by: all attempts together."""
    return Usage(sum([usage.input_tokens for usage in usages]), sum([usage.output_tokens for usage in usages]))


def refused_row_allowed(gateway: Gateway) -> bool:
    """A flood of refusals is counted in full, but only so many a second become rows: refusing must stay cheaper than answering."""
    second = int(gateway.clock.monotonic())
    if second != gateway.refused_second:
        gateway.refused_second, gateway.refused_rows = second, 0
    gateway.refused_rows += 1
    return gateway.refused_rows <= REFUSED_ROWS_A_SECOND


def land(gateway: Gateway, call: Call, error: HoldfastError | None, spent: int) -> None:
    """Whoever follows this call gets its end, whatever it was."""
    flight = call.flight
    if flight is None:
        return
    flight.nanodollars = spent
    gateway.flights.pop(flight.key, None)
    if flight.answer is None:
        flight.land(
            error
            if error is not None
            else InternalError("The call this one shared its answer with ended without one; try again.")
        )


def measure(gateway: Gateway, call: Call, closed: CallClosed, usage: Usage, spent: int) -> None:
    plan, counts = call.plan, call.plan.counts
    before = call.request.received
    for histogram, mark in zip(counts.stages, call.marks, strict=False):
        seconds = mark - before
        histogram.counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        histogram.total += seconds
        before = mark
    counts.total.observe(before - call.request.received)
    if closed.first_token_seconds is not None:
        counts.first_token.observe(closed.first_token_seconds)
    counts.tenant_calls.value += 1
    counts.tenant_upstream_bytes.value += closed.upstream_bytes
    counts.tenant_answer_bytes.value += closed.answer_bytes
    if usage is not NO_USAGE:
        counts.input_tokens.value += usage.input_tokens
        counts.output_tokens.value += usage.output_tokens
        counts.tenant_tokens.value += usage.input_tokens + usage.output_tokens
        counts.tenant_nanodollars.value += spent
    plain = closed.status == "complete" and len(call.tries) == 1
    if plain:
        counts.complete.value += 1
        call.tries[0].lane.answered.value += 1
        if not usage.estimated:
            plan.estimate.learn(len(call.request.body), usage)
    else:
        count_oddities(gateway, call, closed)
    failed = closed.status not in ("complete", "refused", "cancelled")
    if failed or LOG.isEnabledFor(logging.INFO):
        LOG.log(logging.WARNING if failed else logging.INFO, "call", extra={"fields": logged(call, closed)})
    if gateway.on_closed is not None:
        gateway.on_closed(call, closed)


def count_oddities(gateway: Gateway, call: Call, closed: CallClosed) -> None:
    """What is not one good attempt: refusals, failures, failovers, shared answers."""
    measures = gateway.measures
    measures.calls.add((*call.plan.counts.labels, closed.status, closed.error_code or ""))
    if closed.served_from is not None:
        measures.shared.add(call.plan.counts.labels)
    for relay in call.tries:
        status, code = outcome(call, relay, None)
        if status == "complete":
            relay.lane.answered.value += 1
        else:
            measures.attempts.add((relay.lane.name, status, code or ""))


def logged(call: Call, closed: CallClosed) -> dict[str, object]:
    """A line for the log: ids and figures, never content."""
    begins = [call.request.received, *call.marks]
    return {
        "request_id": call.request.request_id,
        "call_id": call.id,
        "tenant": str(call.plan.principal.tenant),
        "key_id": call.plan.principal.key_id,
        "operation": call.plan.operation.name,
        "model": call.plan.model.name,
        "lane": closed.lane,
        "status": closed.status,
        "http_status": closed.http_status,
        "error_code": closed.error_code,
        "attempts": closed.attempts,
        "stage_seconds": {
            stage: round(end - begin, 6) for stage, begin, end in zip(STAGES, begins, call.marks, strict=False)
        },
    }
