"""Stage 1: who asks for what, and may they? Key -> tenant, body -> fields, route -> policy, a request of the minute."""

import asyncio

from holdfast.dialects.openai.request import ChatFields, Fields, edited, read
from holdfast.features.gateway.model import (
    REQUESTS,
    STAGES,
    USAGE,
    Call,
    Counts,
    Estimate,
    Gateway,
    Model,
    Plan,
    Request,
    Route,
    limits_in,
)
from holdfast.features.gateway.reservation import take_request
from holdfast.kernel.errors import PermissionDeniedError, UnknownModelError
from holdfast.kernel.tenant import Principal
from holdfast.ports.upstream import Limits

LARGE_BODY_BYTES = 256 * 1024
MAX_PLANS = 20_000


async def identify(gateway: Gateway, call: Call) -> None:
    """Fills in the call's plan and fields."""
    request = call.request
    principal = gateway.tenancy.authenticate(request.credential)
    if not principal.may_call:
        raise PermissionDeniedError("This key may not call models; use one that may (`may_call`).")
    if len(request.body) > LARGE_BODY_BYTES:
        fields = await asyncio.get_running_loop().run_in_executor(None, _read, request)
    else:
        fields = _read(request)
    call.fields = fields
    call.plan = plan_for(gateway, principal, request, fields.model)
    call.identified = True
    call.stream = isinstance(fields, ChatFields) and fields.stream is True
    await take_request(gateway, call)


def plan_for(gateway: Gateway, principal: Principal, request: Request, model_name: str) -> Plan:
    """The plan of this kind of call, from the cache while neither settings nor keys changed."""
    version = gateway.tenancy.version
    if gateway.plans_version != version:
        gateway.plans = {}
        gateway.plans_version = version
    key = (principal.key_id, model_name, request.operation.name, request.route)
    plan = gateway.plans.get(key)
    if plan is None:
        plan = _planned(gateway, principal, request, model_name)
        if len(gateway.plans) < MAX_PLANS:
            gateway.plans[key] = plan
    return plan


def _read(request: Request) -> Fields:
    fields = read(request.operation.kind, request.body)
    edited(fields, request.body, {})
    return fields


def _planned(gateway: Gateway, principal: Principal, request: Request, model_name: str) -> Plan:
    model = gateway.snapshot.models.get(model_name)
    if model is None or not principal.may_use(model_name):
        raise UnknownModelError(
            f"The model `{model_name}` does not exist or this key may not use it; GET /v1/models lists what it may.",
            param="model",
        )
    route = route_for(gateway, principal, request, model)
    policy, measures = route.policy, gateway.measures
    names = (request.operation.name, model.name)
    scopes = gateway.tenancy.limits_of(principal)
    tenant = (principal.tenant.organisation, principal.tenant.team)
    return Plan(
        principal=principal,
        operation=request.operation,
        model=model,
        route=route.name,
        policy=policy,
        strict=policy.budget_mode == "strict",
        request_limits=limits_in(scopes, REQUESTS),
        caller_limits=limits_in(scopes, USAGE),
        upstream_limits=Limits(
            policy.connect_seconds, policy.first_token_seconds, policy.idle_seconds, policy.total_seconds
        ),
        budgeted=bool(gateway.tenancy.balances_for(principal, gateway.clock.now())),
        estimate=estimate_for(gateway, principal, model),
        counts=Counts(
            stages=tuple([measures.stages.of((stage, model.name)) for stage in STAGES]),
            first_token=measures.first_token.of(names),
            total=measures.total.of(names),
            complete=measures.calls.of((*names, "complete", "")),
            input_tokens=measures.tokens.of((*names, "input")),
            output_tokens=measures.tokens.of((*names, "output")),
            tenant_calls=measures.tenant_calls.of(tenant),
            tenant_tokens=measures.tenant_tokens.of(tenant),
            tenant_nanodollars=measures.tenant_nanodollars.of(tenant),
            tenant_upstream_bytes=measures.tenant_upstream_bytes.of(tenant),
            tenant_answer_bytes=measures.tenant_answer_bytes.of(tenant),
            labels=names,
        ),
    )


def estimate_for(gateway: Gateway, principal: Principal, model: Model) -> Estimate:
    """What is known of such calls; it outlives the plan."""
    key = (str(principal.tenant), model.name)
    found = gateway.estimates.get(key)
    if found is None:
        found = Estimate()
        if len(gateway.estimates) < MAX_PLANS:
            gateway.estimates[key] = found
    return found


def route_for(gateway: Gateway, principal: Principal, request: Request, model: Model) -> Route:
    """The first route in file order whose conditions all hold; else the model's implicit one."""
    snapshot = gateway.snapshot
    for route in snapshot.routes:
        if route.matches(request.operation.path, model.name, principal.key_name, request.route):
            return route
    return Route(model.name, snapshot.defaults)


def offered(gateway: Gateway, credential: str | None) -> list[Model]:
    """The models this key may use, by name: what GET /v1/models shows."""
    principal = gateway.tenancy.authenticate(credential)
    models = gateway.snapshot.models
    return [models[name] for name in sorted(models) if principal.may_use(name)]
