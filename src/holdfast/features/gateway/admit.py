"""Stage 3: may it start now? Estimate its tokens, then reserve money, tokens and slots; refuse before anything is spent."""

import asyncio

from holdfast.dialects.openai.request import ChatFields, EmbeddingFields, most_input_tokens
from holdfast.features.gateway.model import Call, Estimate, Gateway
from holdfast.features.gateway.reservation import Reservation
from holdfast.kernel.errors import OverloadedError

UNSAID_OUTPUT_TOKENS = 4_096
LARGE_BODY_BYTES = 256 * 1024
MAX_BACKLOG_BYTES = 64 * 1024 * 1024
MAX_BACKLOG_SECONDS = 5.0


async def admit(gateway: Gateway, call: Call, held: Reservation) -> None:
    """Everything the first attempt needs is reserved when this returns; nothing is when it raises."""
    if len(gateway.running) >= gateway.max_inflight:
        raise OverloadedError(f"{gateway.max_inflight} calls are in flight already.", retry_after_seconds=1.0)
    if gateway.record.backlog_bytes > MAX_BACKLOG_BYTES or gateway.record.backlog_seconds > MAX_BACKLOG_SECONDS:
        raise OverloadedError("Records cannot be written as fast as calls arrive.", retry_after_seconds=2.0)
    estimate = call.plan.estimate
    if call.plan.strict:
        call.input_tokens = await bounded_input(call.request.body)
        call.output_tokens = strict_output(call)
    else:
        call.input_tokens = int(len(call.request.body) / estimate.bytes_per_token) + 1
        call.output_tokens = usual_output(call, estimate)
    await held.take(call.plan.model.lanes[0])


async def bounded_input(body: bytes) -> int:
    """The most input tokens; a large body is counted aside, so that nobody waits for it."""
    if len(body) <= LARGE_BODY_BYTES:
        return most_input_tokens(body)
    return await asyncio.get_running_loop().run_in_executor(None, most_input_tokens, body)


def usual_output(call: Call, estimate: Estimate) -> int:
    if isinstance(call.fields, EmbeddingFields):
        return 0
    usual = int(estimate.output_tokens)
    most_output = call.fields.most_output_tokens()
    return usual if most_output is None else min(most_output, usual)


def strict_output(call: Call) -> int:
    """The most output tokens: what the client allows, else what the model can, which is then also asked for."""
    fields = call.fields
    if not isinstance(fields, ChatFields):
        return 0
    allowed = fields.most_output_tokens()
    if allowed is not None:
        return allowed
    price = call.plan.model.lanes[0].price
    return (price.max_output_tokens if price is not None and price.max_output_tokens else UNSAID_OUTPUT_TOKENS) * (
        fields.n or 1
    )
