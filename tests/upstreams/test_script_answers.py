"""What the scripted model says: exact lengths, stops, choices, tools, JSON that fits its schema, embeddings."""

import base64
import json
import math
import struct
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.kernel.clock import VirtualClock
from holdfast.upstreams.script.distributions import seeded
from holdfast.upstreams.script.schema import value_for
from holdfast.upstreams.script.text import WORDS, Teller, count_tokens
from holdfast.upstreams.scripted import ScriptedModel, ScriptedUpstream
from tests.upstreams.scripted import ask, chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Brest", "Ålesund"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
TIDE = {"type": "function", "function": {"name": "get_tide", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream("script")


async def whole(upstream: ScriptedUpstream, request: dict[str, Any]) -> dict[str, Any]:
    return (await ask(upstream, request)).body


def test_there_is_a_word_for_every_byte() -> None:
    assert len(set(WORDS)) == len(WORDS) == 256


@given(st.binary(min_size=32, max_size=32), st.integers(0, 9000), st.integers(0, 9000))
@settings(max_examples=60)
def test_a_text_has_the_length_asked_for_and_a_shorter_one_is_its_beginning(
    digest: bytes, tokens: int, most: int
) -> None:
    teller = Teller(0)
    text = teller.tell(digest, tokens, most)
    assert count_tokens(text) == min(tokens, most)
    assert len(text) == 4 * min(tokens, most)
    if most < tokens:
        assert teller.tell(digest, tokens, tokens).startswith(text)


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("limit", "reason"), [(1, "length"), (31, "length"), (32, "stop"), (33, "stop")])
async def test_a_maximum_is_obeyed(upstream: ScriptedUpstream, member: str, limit: int, reason: str) -> None:
    answer = await whole(upstream, chat() | {member: limit})
    stream = await ask(upstream, chat(stream=True, stream_options={"include_usage": True}) | {member: limit})
    assert answer["choices"][0]["finish_reason"] == reason
    assert (
        answer["usage"]["completion_tokens"]
        == min(limit, 32)
        == count_tokens(answer["choices"][0]["message"]["content"])
    )
    assert stream.chunks[-1]["usage"] == answer["usage"]
    assert stream.chunks[-2]["choices"][0]["finish_reason"] == reason
    assert all(chunk["usage"] is None for chunk in stream.chunks[:-1])
    assert len(stream.chunks) == 1 + min(limit, 32) + 1 + 1
    assert stream.text == answer["choices"][0]["message"]["content"]


async def test_a_maximum_holds_for_reasoning_and_answer_together(upstream: ScriptedUpstream) -> None:
    usage = (await whole(upstream, chat("scripted?reasoning=20", max_completion_tokens=25)))["usage"]
    assert usage["completion_tokens"] == 25
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 20


async def test_an_answer_stops_before_a_stop_text(upstream: ScriptedUpstream) -> None:
    text = (await whole(upstream, chat()))["choices"][0]["message"]["content"]
    word = text.split()[3]
    for stop in (word, ["never said", word]):
        answer = await whole(upstream, chat(stop=stop))
        said = answer["choices"][0]["message"]["content"]
        assert text.startswith(said)
        assert said == text[: text.find(word)]
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == count_tokens(said)


async def test_n_choices_differ_and_are_counted(upstream: ScriptedUpstream) -> None:
    answer = await whole(upstream, chat(n=3))
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    stream = await ask(upstream, chat(n=3, stream=True))
    told = ["", "", ""]
    for chunk in stream.chunks:
        told[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content") or ""
    assert len(set(texts)) == 3
    assert told == texts
    assert answer["usage"]["completion_tokens"] == 96
    assert upstream.counts.completion_tokens == 192


async def test_the_text_can_be_said_outright(upstream: ScriptedUpstream) -> None:
    stream = await ask(upstream, chat("scripted?text=Gr%C3%BC%C3%9Fe%20%26%20%22Segen%22%20%F0%9F%8C%8A", stream=True))
    assert stream.text == 'Grüße & "Segen" 🌊'


async def test_fingerprints_name_the_question_and_not_its_delivery(upstream: ScriptedUpstream) -> None:
    same = [
        chat(),
        chat(stream=True, stream_options={"include_usage": True}),
        chat(max_tokens=5, user="u", n=2, stop="x", metadata={"a": "b"}, unknown=1),
        {"messages": [{"content": "Hello", "role": "user"}], "model": "scripted"},
    ]
    for request in same:
        await ask(upstream, request)
    assert list(upstream.counts.by_fingerprint.values()) == [4]
    for request in (chat(prompt="x"), chat(temperature=0.5), chat(seed=1), chat(model="other"), chat(tools=[TIDE])):
        await ask(upstream, request)
    assert list(upstream.counts.by_fingerprint.values()) == [4, 1, 1, 1, 1, 1]


async def test_cached_tokens_are_a_beginning_that_was_seen(upstream: ScriptedUpstream) -> None:
    def asked(*prompts: str) -> dict[str, Any]:
        return {"model": "scripted?cache=1", "messages": [{"role": "user", "content": prompt} for prompt in prompts]}

    def cached(answer: dict[str, Any]) -> tuple[int, int]:
        return answer["usage"]["prompt_tokens"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached(await whole(upstream, asked("one" * 40))) == (3 + 4 + 30, 0)
    assert cached(await whole(upstream, asked("one" * 40, "two"))) == (3 + 34 + 5, 34)
    assert cached(await whole(upstream, asked("two", "one" * 40))) == (3 + 34 + 5, 0)
    assert cached(await whole(upstream, chat(prompt="one" * 40))) == (37, 0)
    upstream.reset()
    assert cached(await whole(upstream, asked("one" * 40))) == (37, 0)


@pytest.mark.parametrize(
    ("prompt", "members", "called"),
    [
        ("Hello", {"tool_choice": "required"}, ["get_weather"]),
        ("Hello", {"tool_choice": {"type": "function", "function": {"name": "get_tide"}}}, ["get_tide"]),
        ("Please [call]", {}, ["get_weather"]),
        ("Please [call:get_tide] and [call:get_weather]", {"tool_choice": "auto"}, ["get_tide", "get_weather"]),
        ("Please [call:get_tide] and [call]", {"parallel_tool_calls": False}, ["get_tide"]),
        ("Hello", {}, []),
        ("Please [call]", {"tool_choice": "none"}, []),
    ],
)
async def test_tools_are_called(
    upstream: ScriptedUpstream, prompt: str, members: dict[str, Any], called: list[str]
) -> None:
    request = chat(prompt=prompt, tools=[WEATHER, TIDE], **members)
    answer = await whole(upstream, request)
    message, reason = answer["choices"][0]["message"], answer["choices"][0]["finish_reason"]
    calls = message.get("tool_calls", [])
    assert [call["function"]["name"] for call in calls] == called
    assert reason == ("tool_calls" if called else "stop")
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "get_weather":
            jsonschema_rs.validate(WEATHER["function"]["parameters"], arguments)  # type: ignore[index]
    stream = await ask(upstream, request | {"stream": True})
    told: dict[int, dict[str, str]] = {}
    for chunk in stream.chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", []):
            entry = told.setdefault(delta["index"], {"id": delta.get("id", ""), "name": "", "arguments": ""})
            entry["name"] += delta["function"].get("name", "")
            entry["arguments"] += delta["function"]["arguments"]
    assert list(told.values()) == [
        {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in calls
    ]
    assert upstream.counts.completion_tokens == 2 * answer["usage"]["completion_tokens"]


async def test_parallel_required_calls_and_their_maximum(upstream: ScriptedUpstream) -> None:
    both = await whole(upstream, chat("scripted?calls=2", tools=[WEATHER, TIDE], tool_choice="required"))
    assert len(both["choices"][0]["message"]["tool_calls"]) == 2
    short = await whole(upstream, chat("scripted?calls=2", tools=[WEATHER, TIDE], tool_choice="required", max_tokens=3))
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 3
    assert len(short["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == 8


SCALARS = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-99, 99),
        st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "maximum": low + 3}, st.integers(-99, 99)),
    st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 9)),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 40),
        st.integers(0, 9),
    ),
    st.builds(
        lambda form: {"type": "string", "format": form},
        st.sampled_from(["date-time", "date", "email", "uuid", "uri", "ipv4"]),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.one_of(st.integers(), st.text()), min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, st.text()),
    st.just({"type": ["string", "null"]}),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def described(members: dict[str, dict[str, Any]], required: bool) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": members,
            "required": list(members) if required else [],
            "additionalProperties": False,
        }

    return st.one_of(
        st.builds(described, st.dictionaries(st.text(max_size=8), inner, max_size=4), st.booleans()),
        st.builds(
            lambda items, low: {"type": "array", "items": items, "minItems": low, "maxItems": low + 2},
            inner,
            st.integers(0, 3),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    )


@given(st.recursive(SCALARS, nested, max_leaves=12), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_json_satisfies_its_schema(schema: dict[str, Any], seed: int) -> None:
    made = value_for(schema, seeded(seed))
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(json.loads(json.dumps(made)))
    assert value_for(schema, seeded(seed)) == made


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["name", "next"],
            }
        },
        "allOf": [{"$ref": "#/$defs/node"}, {"properties": {"extra": {"type": "integer"}}, "required": ["extra"]}],
    }
    made = value_for(schema, seeded(1))
    jsonschema_rs.validate(schema, made)


async def test_response_formats(upstream: ScriptedUpstream) -> None:
    schema = WEATHER["function"]["parameters"]  # type: ignore[index]
    described = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": schema}}
    fits = json.loads((await whole(upstream, chat(response_format=described)))["choices"][0]["message"]["content"])
    jsonschema_rs.validate(schema, fits)
    anything = await ask(upstream, chat(response_format={"type": "json_object"}, stream=True))
    assert isinstance(json.loads(anything.text), dict)
    plain = await ask(upstream, chat(response_format={"type": "text"}))
    assert plain.text == plain.text.strip()
    assert not plain.text.startswith("{")


@pytest.mark.parametrize(
    ("request_members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/x"}}}}, "response_format"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "string", "minLength": 10**9}},
                }
            },
            "response_format",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"type": "array", "minItems": 10**9}},
                }
            },
            "response_format",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": []}}}},
            "response_format",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "response_format"),
        ({"tools": [{}], "tool_choice": "required"}, "tools"),
        ({"tools": [TIDE], "tool_choice": {"function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [TIDE], "tool_choice": 7}, "tool_choice"),
        ({"model": "scripted?falt=429"}, "model"),
        ({"model": None}, "model"),
    ],
)
async def test_a_wrong_request_is_told_where_and_not_counted(
    upstream: ScriptedUpstream, request_members: dict[str, Any], param: str
) -> None:
    sink = await ask(upstream, chat() | request_members)
    assert (sink.status, sink.body["error"]["type"], sink.body["error"]["param"]) == (
        400,
        "invalid_request_error",
        param,
    )
    assert (upstream.counts.total, upstream.counts.open) == (0, 0)


async def test_embeddings(upstream: ScriptedUpstream) -> None:
    async def embedded(**members: Any) -> dict[str, Any]:
        sink = await ask(upstream, {"model": "scripted-embedding", **members}, path="/embeddings")
        return sink.body

    near, far = "the harbour at low tide", "granite bridges carry trains"
    answer = await embedded(input=[near, "at low tide the harbour", far])
    vectors = [entry["embedding"] for entry in answer["data"]]
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {1536}
    assert all(math.isclose(math.dist(vector, [0.0] * 1536), 1, abs_tol=1e-5) for vector in vectors)
    closeness = [sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:]]
    assert closeness[0] > 0.99
    assert closeness[1] < 0.3
    packed = await embedded(input=near, encoding_format="base64", dimensions=64)
    spelt = await embedded(input=near, dimensions=64)
    assert (
        list(struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))) == spelt["data"][0]["embedding"]
    )
    tokens = await embedded(input=[[1, 2, 3], [4]], dimensions=8)
    single = await embedded(input=[1, 2, 3], dimensions=8)
    assert tokens["data"][0]["embedding"] == single["data"][0]["embedding"] != tokens["data"][1]["embedding"]
    assert tokens["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    before = upstream.counts.total
    wrong: list[dict[str, Any]] = [{"input": []}, {"input": ""}, {"input": [""]}, {"input": [[]]}, {"input": {}}, {}]
    for members in (*wrong, {"input": "x", "dimensions": 0}, {"input": "x", "encoding_format": "hex"}):
        assert (await embedded(**members))["error"]["type"] == "invalid_request_error"
    assert upstream.counts.total == before


MODEL = ScriptedModel(VirtualClock())
ANYTHING = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=8,
)
MEMBERS = (
    "messages",
    "stream",
    "stop",
    "n",
    "tools",
    "tool_choice",
    "response_format",
    "stream_options",
    "seed",
    "max_tokens",
)
KEYWORDS = [
    "type",
    "properties",
    "required",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "minItems",
    "maxItems",
    "minLength",
    "minimum",
    "maximum",
    "multipleOf",
    "format",
]
VALUES = st.one_of(ANYTHING, st.sampled_from(["object", "array", "string", "integer", "number"]))
SCHEMAS = st.dictionaries(st.sampled_from(KEYWORDS), VALUES)
MESSAGES = st.fixed_dictionaries({"role": st.text(), "content": ANYTHING, "tool_calls": ANYTHING})
FUNCTIONS = st.fixed_dictionaries({"name": st.text(), "parameters": SCHEMAS})
ALMOST: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda messages: {"messages": messages}, st.lists(MESSAGES, max_size=4)),
    st.builds(lambda function: {"tools": [{"function": function}], "tool_choice": "required"}, FUNCTIONS),
    st.builds(lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, SCHEMAS),
    st.dictionaries(st.sampled_from(MEMBERS), ANYTHING),
)


@given(ALMOST, st.sampled_from(["none", "empty", "junk", "content_filter", "truncate", "drip"]))
@settings(max_examples=400, deadline=None)
def test_nothing_that_is_asked_breaks_the_model(members: dict[str, Any], fault: str) -> None:
    plan = MODEL.ask("/chat/completions", json.dumps(chat(f"scripted?fault={fault}") | members).encode())
    assert plan.status in (200, 400)
    if plan.telling is not None:
        assert plan.telling.frames(0, plan.telling.beats) is not None
    MODEL.ask("/embeddings", json.dumps({"model": "m", "input": members.get("messages")}).encode())
