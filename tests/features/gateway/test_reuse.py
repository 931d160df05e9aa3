"""reuse: one answer for identical calls in flight, and only where nobody samples."""

import asyncio
from typing import Any

import pytest

from holdfast.features.gateway.jobs import sweep_running
from holdfast.features.gateway.model import EMBEDDINGS
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.kernel.errors import UpstreamConnectError
from holdfast.kernel.tenant import Principal, Role, Tenant
from tests.features.gateway.rig import KEY, Asked, Rig, chat, completion

COST = 10 * 1_000_000 + 5 * 2_000_000


async def asked_twice(rig: Rig, **members: Any) -> tuple[Asked, Asked]:
    first, second = rig.ask(chat(**members)), rig.ask(chat(**members))
    await rig.settle()
    return first, second


@pytest.mark.parametrize(
    "members", [{"temperature": 0}, {"temperature": 0.0}, {"seed": 7}, {"seed": 0, "temperature": 1}]
)
async def test_identical_calls_that_nobody_samples_share_one_answer(members: dict[str, Any]) -> None:
    rig = Rig()
    first, second = await asked_twice(rig, **members)
    assert len(rig.one.sent) == 1
    rig.one.sent[0].whole(200, completion())
    readers = [await first.done(), await second.done()]
    assert [(reader.status, reader.headers, reader.body) for reader in readers] == 2 * [
        (200, readers[0].headers, completion())
    ]
    leader, follower = rig.ledger.closed[first.id], rig.ledger.closed[second.id]
    assert (leader.served_from, leader.cost_nanodollars, leader.attempts) == (None, COST, 1)
    assert (follower.served_from, follower.cost_nanodollars, follower.saved_nanodollars) == (first.id, 0, COST)
    assert (follower.status, follower.attempts, follower.http_status) == ("complete", 0, 200)
    assert follower.usage.output_tokens == 0
    assert not rig.gateway.flights


@pytest.mark.parametrize("members", [{}, {"temperature": 1}, {"seed": None}, {"temperature": 0, "stream": True}])
async def test_calls_that_somebody_may_sample_are_asked_each(members: dict[str, Any]) -> None:
    rig = Rig()
    await asked_twice(rig, **members)
    assert len(rig.one.sent) == 2
    for sent in rig.one.sent:
        sent.whole(200, completion())
    await rig.settle()


async def test_a_route_may_opt_in() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), share_sampled=True)
    first, second = await asked_twice(rig)
    assert len(rig.one.sent) == 1
    rig.one.sent[0].whole(200, completion())
    await first.done()
    await second.done()


async def test_embeddings_share() -> None:
    rig = Rig()
    body = {"model": "gpt", "input": "Hello"}
    asked = [rig.ask(body, operation=EMBEDDINGS) for _ in range(3)]
    await rig.settle()
    assert len(rig.one.sent) == 1
    rig.one.sent[0].whole(200, b'{"data":[1],"usage":{"prompt_tokens":2}}')
    for one in asked:
        assert (await one.done()).status == 200


async def test_another_body_or_another_tenant_is_another_call() -> None:
    rig = Rig()
    rig.keys.known["else"] = Principal("key_2", "else", Tenant("acme", "ads"), Role.NONE, may_call=True)
    rig.ask(chat(temperature=0))
    rig.ask(chat(temperature=0, user="u"))
    rig.ask(chat(temperature=0), key="else")
    await rig.settle()
    assert len(rig.one.sent) == 3
    for sent in rig.one.sent:
        sent.whole(200, completion())
    await rig.settle()


async def test_the_call_after_the_answer_is_asked_again() -> None:
    rig = Rig()
    for count in (1, 2):
        one = rig.ask(chat(temperature=0))
        await rig.settle()
        assert len(rig.one.sent) == count
        rig.one.sent[-1].whole(200, completion())
        await one.done()


async def test_an_upstreams_error_is_everybodys() -> None:
    rig = Rig()
    body = b'{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}}'
    first, second = await asked_twice(rig, temperature=0)
    rig.one.sent[0].whole(400, body)
    for asked in (first, second):
        reader = await asked.done()
        assert (reader.status, reader.body) == (400, body)
        assert (rig.ledger.closed[asked.id].status, rig.ledger.closed[asked.id].http_status) == ("error", 400)


async def test_a_failure_is_everybodys() -> None:
    rig = Rig()
    rig.one.refuse = UpstreamConnectError("no route")
    first, second = await asked_twice(rig, temperature=0)
    for asked in (first, second):
        reader = await asked.done()
        assert reader.error is not None
        assert reader.error.code == "upstream_unreachable"
    assert not rig.gateway.flights


async def test_a_refusal_of_the_leader_is_everybodys() -> None:
    rig = Rig()
    rig.keys.budget(1)
    first, second = await asked_twice(rig, temperature=0)
    for asked in (first, second):
        reader = await asked.done()
        assert reader.error is not None
        assert reader.error.code == "budget_exceeded"
    assert not rig.gateway.flights
    assert not rig.one.sent


async def test_a_defect_in_the_leader_leaves_nobody_waiting() -> None:
    rig = Rig()
    first, second = await asked_twice(rig, temperature=0)
    first.task.cancel()
    reader = await second.done()
    assert reader.error is not None
    assert reader.error.code == "internal_error"
    assert not rig.gateway.flights
    assert not rig.gateway.running
    assert rig.one.sent[0].state == "cancelled"


async def test_a_follower_that_leaves_changes_nothing_for_the_others() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect="cancel")
    first, second = await asked_twice(rig, temperature=0)
    second.reader.leave()
    assert rig.one.sent[0].state != "cancelled"
    rig.one.sent[0].whole(200, completion())
    assert (await first.done()).status == 200
    await second.done()


async def test_a_leader_that_leaves_is_finished_for_those_who_wait() -> None:
    for policy in ("cancel", "linger"):
        rig = Rig()
        rig.use(rig.lane(rig.one), on_disconnect=policy)
        first, second = await asked_twice(rig, temperature=0)
        first.reader.leave()
        await rig.clock.advance(60.0)
        sweep_running(rig.gateway)
        assert rig.one.sent[0].state != "cancelled"
        rig.one.sent[0].whole(200, completion())
        assert (await second.done()).body == completion()
        await first.done()
        assert rig.ledger.closed[first.id].cost_nanodollars == COST


@pytest.mark.parametrize("policy", ["cancel", "linger"])
async def test_when_the_last_of_all_has_left_the_route_decides(policy: str) -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), on_disconnect=policy, linger_seconds=10.0)
    first, second = await asked_twice(rig, temperature=0)
    first.reader.leave()
    await rig.clock.advance(20.0)
    second.reader.leave()
    sweep_running(rig.gateway)
    assert rig.one.sent[0].state == "cancelled"
    await asyncio.gather(first.task, second.task)
    assert not rig.gateway.flights


async def test_a_leader_that_left_is_still_tried_elsewhere_for_its_followers() -> None:
    rig = Rig()
    rig.use(rig.lane(rig.one), rig.lane(rig.two), on_disconnect="finish")
    first, second = await asked_twice(rig, temperature=0)
    first.reader.leave()
    rig.one.sent[0].whole(500, b"{}")
    await rig.settle()
    rig.two.sent[0].whole(200, completion())
    assert (await second.done()).status == 200
    await first.done()


async def test_a_follower_takes_its_request_of_the_minute_but_no_slot_and_no_tokens() -> None:
    rig = Rig()
    rig.keys.limits = [("team:acme/search", LimitSettings(requests_per_minute=3, concurrent=1, tokens_per_minute=500))]
    rig.keys.budget(10**12)
    first, second = await asked_twice(rig, temperature=0)
    third, fourth = await asked_twice(rig, temperature=0)
    assert fourth.task.done()
    assert fourth.reader.error is not None
    assert fourth.reader.error.code == "rate_limited"
    rig.one.sent[0].whole(200, completion())
    for asked in (first, second, third):
        assert (await asked.done()).status == 200
    plan = rig.calls[0].plan
    assert await rig.rates.levels(plan.caller_limits.limits) == [500 - 15, 1]
    assert list(rig.ledger.balances.values()) == [[COST, 0]]


async def test_a_follower_is_refused_by_what_its_own_key_may_not() -> None:
    rig = Rig()
    rig.keys.known["narrow"] = Principal(
        "key_2", "n", Tenant("acme", "search"), Role.NONE, may_call=True, models=("x",)
    )
    rig.ask(chat(temperature=0), key=KEY)
    second = rig.ask(chat(temperature=0), key="narrow")
    await rig.settle()
    assert second.reader.error is not None
    assert second.reader.error.code == "model_not_found"
    rig.one.sent[0].whole(200, completion())
    await rig.settle()
