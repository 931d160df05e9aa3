"""What runs beside the path: limits on running calls, calls a crash left open, retention."""

from holdfast.features.gateway.model import Gateway
from holdfast.kernel.errors import StoreUnavailableError, UpstreamTimeoutError
from holdfast.kernel.tenant import Principal, Role, Tenant
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import CallClosed, CallOpened
from holdfast.ports.money import Settled

SWEEP_SECONDS = 0.25
RETENTION_SECONDS = 600.0
DAY_SECONDS = 86_400.0


async def watch_running(gateway: Gateway) -> None:
    """Cut calls past their job limit, and those nobody has read for longer than their route lingers."""
    while True:
        await gateway.clock.sleep(SWEEP_SECONDS)
        sweep_running(gateway)


def sweep_running(gateway: Gateway) -> None:
    now = gateway.clock.monotonic()
    for relay in list(gateway.running.values()):
        policy = relay.call.plan.policy
        if now >= relay.call.request.received + policy.job_seconds:
            relay.cut(UpstreamTimeoutError(f"The limit job ({policy.job_seconds:g} s for the whole call) passed."))
        elif relay.left_at is not None and policy.on_disconnect != "finish":
            lingers = policy.linger_seconds if policy.on_disconnect == "linger" else 0.0
            if now >= relay.left_at + lingers:
                relay.leave()


async def close_abandoned(gateway: Gateway, node: str | None, opened_before: float) -> int:
    """End the calls a crash left open: each as `unknown`, charged what was reserved for it, since the provider may have
    been paid. Returns how many."""
    count = 0
    for opened in await gateway.calls.open_calls(node):
        if opened.opened_at < opened_before:
            await gateway.record.commit(*abandoned(gateway, opened))
            count += 1
    return count


def abandoned(gateway: Gateway, opened: CallOpened) -> tuple[CallClosed | Settled, ...]:
    usage = Usage(opened.estimated_input_tokens, opened.estimated_output_tokens, estimated=True)
    model = gateway.snapshot.models.get(opened.model)
    price = next((lane.price for lane in model.lanes if lane.name == opened.lane), None) if model is not None else None
    cost = opened.reserved_nanodollars or (price.cost(usage) if price is not None else None)
    closed = CallClosed(
        id=opened.id,
        closed_at=gateway.clock.now(),
        status="unknown",
        http_status=0,
        lane=opened.lane,
        error_code="outcome_unknown",
        usage=usage,
        cost_nanodollars=cost,
        price_version=price.version if price is not None else None,
    )
    tenant = Tenant(opened.organisation, opened.team)
    holder = Principal(opened.key_id, "", tenant, Role.NONE, may_call=True)
    balances = gateway.tenancy.balances_for(holder, opened.opened_at)
    if not balances:
        return (closed,)
    names = tuple([(balance.scope, balance.period) for balance in balances])
    return closed, Settled(opened.id, names, opened.reserved_nanodollars, cost or 0)


async def keep_retention(gateway: Gateway, days: float) -> None:
    """Delete call rows past their time, a little at a time."""
    while True:
        await gateway.clock.sleep(RETENTION_SECONDS)
        try:
            while await gateway.calls.prune(gateway.clock.now() - days * DAY_SECONDS):
                await gateway.clock.sleep(0.1)
        except StoreUnavailableError:
            continue
