"""identify: who asks for what, and may they?"""

import asyncio

import pytest

from holdfast.features.gateway.identify import offered
from holdfast.features.gateway.model import CHAT, EMBEDDINGS, Operation, Route
from holdfast.features.tenancy.settings import LimitSettings
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.tenant import Principal, Role, Tenant
from tests.features.gateway.rig import KEY, Rig, chat, completion, play_completion, policy


def refusal(error: HoldfastError | None) -> tuple[int, str, str | None]:
    assert error is not None
    assert error.message
    return error.status, error.code, error.param


async def refused(rig: Rig, body: object, **asked: object) -> tuple[int, str, str | None]:
    reader = await rig.ask(body, **asked).done()  # type: ignore[arg-type]
    return refusal(reader.error)


async def test_a_key_that_is_missing_or_unknown_is_refused_and_leaves_no_row() -> None:
    rig = Rig()
    for key in (None, "", "hf-other"):
        assert await refused(rig, chat(), key=key) == (401, "invalid_api_key", None)
    assert not rig.ledger.units
    assert rig.gateway.measures.calls.values() == {("chat.completions", "unknown", "refused", "invalid_api_key"): 3}


async def test_a_key_that_may_not_call_is_refused_before_its_body_is_read() -> None:
    rig = Rig()
    rig.keys.known["admin"] = Principal("key_2", "admin", Tenant("acme", "search"), Role.ADMIN, may_call=False)
    assert await refused(rig, b"{", key="admin") == (403, "permission_denied", None)


async def test_a_model_that_is_not_there_and_one_that_may_not_be_used_look_the_same() -> None:
    rig = Rig()
    rig.keys.known["narrow"] = Principal(
        "key_2", "n", Tenant("acme", "search"), Role.NONE, may_call=True, models=("other",)
    )
    missing = await rig.ask(chat(model="none")).done()
    hidden = await rig.ask(chat(), key="narrow").done()
    assert refusal(missing.error) == refusal(hidden.error) == (404, "model_not_found", "model")
    assert missing.error is not None
    assert hidden.error is not None
    assert missing.error.message.replace("none", "gpt") == hidden.error.message
    assert [model.name for model in offered(rig.gateway, "narrow")] == ["other"]
    assert [model.name for model in offered(rig.gateway, KEY)] == ["gpt", "other"]


async def test_requests_a_minute_are_taken_of_every_scope_and_not_given_back() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    rig.keys.limit("org:acme", requests_per_minute=5)
    rig.keys.limit("key:key_1", requests_per_minute=2)
    assert (await rig.ask(chat()).done()).status == 200
    assert refusal((await rig.ask(b"{").done()).error)[0] == 400, "what cannot be read takes none"
    assert (await rig.ask(chat()).done()).status == 200
    reader = await rig.ask(chat()).done()
    assert refusal(reader.error) == (429, "rate_limited", None)
    assert reader.error is not None
    assert reader.error.retry_after_seconds == pytest.approx(30.0)
    assert "key:key_1" in reader.error.message
    await rig.clock.advance(30.0)
    assert (await rig.ask(chat()).done()).status == 200


async def test_a_refused_call_has_a_row_that_says_why() -> None:
    rig = Rig()
    rig.keys.limit("team:acme/search", requests_per_minute=1)
    rig.one.play = play_completion()
    await rig.ask(chat()).done()
    asked = rig.ask(chat(user="u1", stream=True))
    await asked.done()
    closed = rig.ledger.closed[asked.id]
    assert (closed.status, closed.http_status, closed.error_code, closed.attempts) == (
        "refused",
        429,
        "rate_limited",
        0,
    )
    assert closed.cost_nanodollars == 0
    assert closed.opened is not None
    assert (closed.opened.key_id, closed.opened.end_user, closed.opened.stream) == ("key_1", "u1", True)


async def test_a_flood_of_refusals_is_counted_but_not_all_of_it_recorded() -> None:
    rig = Rig()
    rig.keys.limit("team:acme/search", requests_per_minute=1)
    rig.one.play = play_completion()
    await rig.ask(chat()).done()
    await asyncio.gather(*[rig.ask(chat()).done() for _ in range(250)])
    labels = ("chat.completions", "gpt", "refused", "rate_limited")
    assert rig.gateway.measures.calls.values()[labels] == 250
    assert len(rig.ledger.ends) == 1 + 100
    await rig.clock.advance(1.0)
    await rig.ask(chat()).done()
    assert len(rig.ledger.ends) == 1 + 101


async def test_the_first_route_in_order_whose_conditions_all_hold_is_taken() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    rig.use(
        rig.lane(rig.one),
        routes=(
            Route("embed", policy(), path="/v1/embeddings"),
            Route("by-header", policy(), header="careful"),
            Route("by-key", policy(), key="app", model="other"),
            Route("by-model", policy(), model="gpt", header="x"),
        ),
    )
    taken: list[str] = []
    asks: list[tuple[dict[str, object], Operation, str | None]] = [
        ({"model": "gpt", "input": "x"}, EMBEDDINGS, "careful"),
        (chat(), CHAT, "careful"),
        (chat(model="other"), CHAT, None),
        (chat(), CHAT, "x"),
        (chat(), CHAT, None),
    ]
    for body, operation, header in asks:
        asked = rig.ask(body, operation=operation, route=header)
        await asked.done()
        taken.append(rig.ledger.opened[asked.id].route)
    assert taken == ["embed", "by-header", "by-key", "by-model", "gpt"]


async def test_changed_keys_and_settings_hold_from_the_next_call_on_and_not_for_running_ones() -> None:
    rig = Rig()
    running = rig.ask(chat())
    await rig.settle()
    rig.use(rig.lane(rig.two))
    rig.keys.limit("team:acme/search", requests_per_minute=1)
    rig.two.play = play_completion()
    assert (await rig.ask(chat()).done()).status == 200
    assert refusal((await rig.ask(chat()).done()).error)[0] == 429
    rig.keys.limits = [("team:acme/search", LimitSettings(requests_per_minute=1_000))]
    rig.keys.version += 1
    await rig.clock.advance(1.0)
    assert (await rig.ask(chat()).done()).status == 200
    rig.one.sent[0].whole(200, completion())
    assert (await running.done()).status == 200


async def test_a_large_body_is_read_aside_and_as_well() -> None:
    rig = Rig()
    rig.one.play = play_completion()
    large = chat()
    large["messages"] = [{"role": "user", "content": "é" * 200_000}]
    assert (await rig.ask(large).done()).status == 200
    assert rig.one.sent[0].json["messages"] == large["messages"]
    assert await refused(rig, b'{"model":"gpt","messages":[' + b'"x",' * 100_000 + b"]}") == (
        400,
        "invalid_request",
        None,
    )
    twice = b'{"model":"gpt","model":"other","messages":[' + b'"x",' * 100_000 + b'"x"]}'
    assert await refused(rig, twice) == (400, "invalid_request", "model")
