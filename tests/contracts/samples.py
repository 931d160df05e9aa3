"""Facts to store: calls, ends, attempts, balances, keys. Ids are new each time, so that examples never meet."""

from dataclasses import replace
from typing import Any

from holdfast.kernel.ids import make_id
from holdfast.kernel.tenant import Role
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, Window
from holdfast.ports.directory import Audited, Key
from holdfast.ports.money import Balance, Settled

NOON = 1_700_049_600.0  # 2023-11-15T12:00:00Z
DAY = 86_400.0
ALWAYS = Window(0.0, 10_000_000_000.0)


def call_opened(**changed: Any) -> CallOpened:
    opened = CallOpened(
        id=make_id("call"),
        request_id="req_1",
        organisation="acme",
        team="search",
        key_id="key_1",
        end_user="ann",
        operation="chat.completions",
        route="default",
        model="gpt-5-mini",
        lane="openai/gpt-5-mini",
        node="node-0",
        opened_at=NOON,
        stream=True,
        reserved_nanodollars=500,
        estimated_input_tokens=20,
        estimated_output_tokens=30,
    )
    return opened._replace(**changed)


def call_closed(call_id: str, **changed: Any) -> CallClosed:
    closed = CallClosed(
        id=call_id,
        closed_at=NOON + 2.5,
        status="complete",
        http_status=200,
        lane="openai/gpt-5-mini",
        finish_reason="stop",
        usage=Usage(input_tokens=20, output_tokens=10, cached_read_tokens=5),
        cost_nanodollars=300,
        price_version="2023-11-01",
        answered_model="gpt-5-mini-2023-11-01",
        first_token_seconds=0.25,
    )
    return closed._replace(**changed)


def attempted(call_id: str, number: int = 2, **changed: Any) -> Attempted:
    attempt = Attempted(
        call_id=call_id,
        number=number,
        kind="failover",
        lane="azure/gpt-5-mini",
        sent_at=NOON + 1.0,
        ended_at=NOON + 2.0,
        status="complete",
        http_status=200,
        error_code=None,
        usage=Usage(input_tokens=7, output_tokens=3),
        cost_nanodollars=70,
        price_version="2023-11-01",
    )
    return attempt._replace(**changed)


def balance(scope: str, limit_nanodollars: int = 1_000_000, period: str = "month:2023-11:UTC") -> Balance:
    """A budget for the 30 days from NOON - 15 days on."""
    return Balance(scope, period, NOON - 15 * DAY, NOON + 15 * DAY, limit_nanodollars)


def settled(call_id: str, reserved: int, spent: int, *balances: Balance) -> Settled:
    return Settled(call_id, tuple((one.scope, one.period) for one in balances), reserved, spent)


def key(**changed: Any) -> Key:
    made = Key(
        id=make_id("key"),
        name="search in production",
        organisation="acme",
        team="search",
        hashes=(("ab" * 32, None), ("cd" * 32, NOON + DAY)),
        hint="hf-1a2b…9f",
        role=Role.OPERATOR,
        may_call=False,
        models=("gpt-5-mini",),
        tags=("prod", "eu"),
        limits={"requests_per_minute": 60, "budgets": [{"limit_usd": "250", "period": "month"}]},
        expires_at=NOON + 30 * DAY,
        created_at=NOON,
    )
    return replace(made, **changed)


def audit_row(**changed: Any) -> Audited:
    row = Audited(
        id=make_id("aud"),
        at=NOON,
        actor="key_admin",
        action="key.create",
        subject="key_1",
        request_id="req_1",
        before=None,
        after={"name": "search in production"},
    )
    return replace(row, **changed)
