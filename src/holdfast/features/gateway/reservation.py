"""Reserve, settle and release: the only file where what a call may use is taken and given back.

Money first, then tokens and slots; what was taken is given back when a later part refuses. Each part is settled exactly once:
settling again does nothing, so no order of errors, disconnects and timeouts can give back twice or leak.
"""

from holdfast.features.gateway.model import NO_LIMITS, Call, Gateway, Lane, LimitSet, Plan
from holdfast.kernel.errors import (
    BudgetExceededError,
    HoldfastError,
    LimitTooSmallError,
    RateLimitedError,
    UnpricedModelError,
)
from holdfast.kernel.money import usd_from_nanodollars
from holdfast.kernel.tokens import Usage
from holdfast.ports.money import Balance, Refused, Settled
from holdfast.ports.rates import Short

SLACK_SECONDS = 60.0


class Reservation:
    """What one call holds: money on balances, amounts of its caller's limits and of one lane's."""

    __slots__ = ("_amounts", "_call", "_gateway", "_lane_amounts", "_lane_limits", "_limits", "balances", "nanodollars")

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self._call = call
        self._limits = self._lane_limits = NO_LIMITS
        self._amounts: tuple[int, ...] = ()
        self._lane_amounts: tuple[int, ...] = ()
        self.balances: tuple[Balance, ...] = ()
        self.nanodollars = 0

    async def take(self, lane: Lane) -> None:
        """Everything the call needs for its first attempt, on this lane; or nothing, and the reason is raised."""
        plan = self._call.plan
        if plan.budgeted:
            await self._take_money(lane)
        try:
            if plan.caller_limits.limits:
                self._amounts = await self._reserve(plan.caller_limits)
                self._limits = plan.caller_limits
            await self._take_lane(lane)
        except HoldfastError:
            self._give_back()
            raise

    async def take_further(self, lane: Lane, spent_nanodollars: int) -> None:
        """What another attempt needs, on this lane: money beside what the attempts before may have spent, and the lane's
        own limits. Raises, and then holds nothing more than before, where they do not reach."""
        if self.balances:
            await self._take_more_money(lane, spent_nanodollars)
        await self._take_lane(lane)

    async def _take_lane(self, lane: Lane) -> None:
        if lane.limits.limits:
            self._lane_amounts = await self._reserve(lane.limits)
            self._lane_limits = lane.limits

    def leave_lane(self, usage: Usage) -> None:
        """The attempt is over and used this much of its lane."""
        if self._lane_limits is not NO_LIMITS:
            limits, self._lane_limits = self._lane_limits, NO_LIMITS
            self._settle(limits, self._lane_amounts, usage)

    def settle(self, usage: Usage, spent_nanodollars: int) -> Settled | None:
        """The call is over. Returns the change that books its money, to be handed over together with the call's end."""
        self.leave_lane(usage)
        if self._limits is not NO_LIMITS:
            limits, self._limits = self._limits, NO_LIMITS
            self._settle(limits, self._amounts, usage)
        if not self.balances:
            return None
        balances, self.balances = self.balances, ()
        names = tuple([(balance.scope, balance.period) for balance in balances])
        return Settled(self._call.id, names, self.nanodollars, spent_nanodollars)

    def _give_back(self) -> None:
        settled = self.settle(Usage(), 0)
        if settled is not None:
            self._gateway.record.hand(settled)

    async def _take_money(self, lane: Lane) -> None:
        call, plan = self._call, self._call.plan
        balances = self._gateway.tenancy.balances_for(plan.principal, call.opened_at)
        if not balances:
            return
        nanodollars = cost_ahead(plan, lane, call.input_tokens, call.output_tokens)
        held = await self._gateway.money.reserve(call.id, nanodollars, balances)
        if isinstance(held, Refused):
            self._gateway.tenancy.refused(held)
            raise budget_refusal(held, nanodollars)
        self.balances = balances
        self.nanodollars = nanodollars
        self._gateway.tenancy.noticed(balances, held)

    async def _take_more_money(self, lane: Lane, spent_nanodollars: int) -> None:
        call = self._call
        ahead = cost_ahead(call.plan, lane, call.input_tokens, call.output_tokens)
        lacking = spent_nanodollars + ahead - self.nanodollars
        if lacking <= 0:
            return
        held = await self._gateway.money.reserve(call.id, lacking, self.balances)
        if isinstance(held, Refused):
            raise budget_refusal(held, lacking)
        self.nanodollars += lacking

    async def _reserve(self, wanted: LimitSet) -> tuple[int, ...]:
        call = self._call
        amounts = wanted.amounts(call.input_tokens, call.output_tokens)
        expires = call.plan.policy.job_seconds + SLACK_SECONDS
        short = await self._gateway.rates.reserve(wanted.limits, amounts, call.id, expires)
        if short is not None:
            raise rate_refusal(short)
        return amounts

    def _settle(self, limits: LimitSet, reserved: tuple[int, ...], usage: Usage) -> None:
        used = limits.amounts(usage.input_tokens, usage.output_tokens)
        self._gateway.rates.settle(limits.limits, reserved, used, self._call.id)


async def take_request(gateway: Gateway, call: Call) -> None:
    """One of the requests a minute that the caller's limits allow; it is not given back."""
    limits = call.plan.request_limits.limits
    if limits:
        short = await gateway.rates.reserve(limits, (1,) * len(limits), call.id, SLACK_SECONDS)
        if short is not None:
            raise rate_refusal(short)


def cost_ahead(plan: Plan, lane: Lane, input_tokens: int, output_tokens: int) -> int:
    """What to reserve: strict budgets the most the call can cost, expected ones what such calls usually cost."""
    if lane.price is None:
        raise UnpricedModelError(
            f"A budget applies to this key and {lane.name} has no price, so this call could cost anything. "
            f'Declare [prices."{lane.model}"] with what it costs, or with free = true.'
        )
    if plan.strict:
        return lane.price.ceiling(input_tokens, output_tokens)
    return lane.price.cost(Usage(input_tokens, output_tokens))


def rate_refusal(short: Short) -> HoldfastError:
    what, _, whom = short.limit.key.partition(":")
    name = what.replace("_", " ")
    if short.never:
        return LimitTooSmallError(
            f"This request needs more than the whole limit of {short.limit.capacity} {name} of {whom}: "
            "make it smaller, lower its maximum of output tokens, or raise the limit."
        )
    rest = f"{short.limit.capacity} {name}" + (" a minute" if short.limit.kind == "bucket" else " at once")
    return RateLimitedError(
        f"The limit of {whom} ({rest}) is used up; try again in {max(short.wait_seconds, 0.0):.1f} s.",
        retry_after_seconds=max(short.wait_seconds, 0.05),
    )


def budget_refusal(refused: Refused, nanodollars: int) -> BudgetExceededError:
    balance, held = refused.balance, refused.held
    limit, spent, reserved, wanted = map(
        usd_from_nanodollars,
        (balance.limit_nanodollars, held.spent_nanodollars, held.reserved_nanodollars, nanodollars),
    )
    return BudgetExceededError(
        f"The budget of {balance.scope} for {balance.period} has too little left for this call: ${spent} spent and "
        f"${reserved} reserved of ${limit}, and the call may cost ${wanted}."
    )
