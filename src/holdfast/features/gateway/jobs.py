"""What runs beside the path: limits on running calls, calls a crash left open, retention."""

from contextlib import suppress

from holdfast.features.gateway.model import Gateway
from holdfast.kernel.errors import StoreUnavailableError, UpstreamTimeoutError
from holdfast.kernel.tenant import Principal, Role, Tenant
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import CallClosed, CallOpened
from holdfast.ports.money import Settled

SWEEP_SECONDS = 0.25
RETENTION_SECONDS = 600.0
DAY_SECONDS = 86_400.0
ABANDONED_SECONDS = 60.0
ABANDONED_AT_ONCE = 500
JOB_MARGIN_SECONDS = 120.0


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


async def keep_closing_abandoned(gateway: Gateway) -> None:
    """Where nodes share a store, the crash of one is noticed by the others, by age: no call lasts longer than the longest
    job limit there was."""
    longest = 0.0
    while True:
        longest = max(longest, longest_job_seconds(gateway))
        await gateway.clock.sleep(ABANDONED_SECONDS)
        with suppress(StoreUnavailableError):
            await close_abandoned(gateway, gateway.clock.now() - longest - JOB_MARGIN_SECONDS)


def longest_job_seconds(gateway: Gateway) -> float:
    snapshot = gateway.snapshot
    return max([policy.job_seconds for policy in (snapshot.defaults, *[route.policy for route in snapshot.routes])])


async def close_abandoned(gateway: Gateway, opened_before: float) -> int:
    """End the calls a crash left open: each as `unknown`, charged what was reserved for it, since the provider may have
    been paid. What runs here is not abandoned. Returns how many."""
    count = 0
    while True:
        found = await gateway.calls.open_calls(limit=ABANDONED_AT_ONCE)
        left = [opened for opened in found if opened.opened_at < opened_before and opened.id not in gateway.running]
        if left:
            await gateway.record.commit(*[change for opened in left for change in abandoned(gateway, opened)])
        count += len(left)
        if len(left) < ABANDONED_AT_ONCE:
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
