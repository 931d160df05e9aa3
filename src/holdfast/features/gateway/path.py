"""The path of a call, read top to bottom: identify -> reuse -> admit -> attempt -> check -> account."""

from holdfast.dialects.openai.reading import Reading
from holdfast.features.gateway.account import account
from holdfast.features.gateway.admit import admit
from holdfast.features.gateway.attempt import attempt
from holdfast.features.gateway.check import check
from holdfast.features.gateway.identify import identify
from holdfast.features.gateway.model import Call, Gateway, Request
from holdfast.features.gateway.reservation import Reservation
from holdfast.features.gateway.reuse import follow, reuse
from holdfast.kernel.errors import HoldfastError


async def answer(gateway: Gateway, request: Request) -> None:
    """Answer one request to its reader. Whatever happens, the reader hears exactly one end and the call gets exactly one.
    At each of `turns` the calls of a busy moment wait for one another and pass the next stage together."""
    call = Call(request, gateway.clock.now())
    held = Reservation(gateway, call)
    mark, now = call.marks.append, gateway.clock.monotonic
    reading: Reading | None = None
    error: HoldfastError | None = None
    try:
        await identify(gateway, call)
        mark(now())
        flight = reuse(gateway, call)
        mark(now())
        if flight is not None:
            await follow(flight, call)
        else:
            await gateway.turns
            await admit(gateway, call, held)
            mark(now())
            await gateway.turns
            await attempt(gateway, call, held)
            mark(now())
            await gateway.turns
            reading = check(call)
            mark(now())
    except HoldfastError as raised:
        error = raised
        request.reader.refuse(raised)
    finally:
        account(gateway, call, held, reading, error)
        call.tries.clear()  # they point back at the call: let both die now, not when cycles are looked for
