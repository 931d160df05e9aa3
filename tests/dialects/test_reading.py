"""Reading OpenAI's answers: recorded ones say what they say, any other bytes are read as far as they can be."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.dialects.openai.errors import error_body, error_event, upstream_envelope
from holdfast.dialects.openai.headers import request_headers, response_name
from holdfast.dialects.openai.reading import may_hold_usage, read_tail, read_usage, read_whole, says_something
from holdfast.kernel import errors
from holdfast.kernel.tokens import Usage

USAGE = {
    "prompt_tokens": 1117,
    "completion_tokens": 46,
    "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 3},
    "completion_tokens_details": {
        "reasoning_tokens": 12,
        "audio_tokens": 5,
        "accepted_prediction_tokens": 1,
        "rejected_prediction_tokens": 2,
    },
}
READ = Usage(1117, 46, cached_read_tokens=1024, reasoning_tokens=12, audio_input_tokens=3, audio_output_tokens=5)


def recorded(message: dict[str, Any] | None, finish: str = "stop", **members: Any) -> bytes:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return json.dumps(
        {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
            "object": "chat.completion",
            "created": 1741570283,
            "model": "gpt-4o-2024-08-06",
            "choices": [choice],
            "usage": USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035",
            **members,
        },
        indent=2,
    ).encode()


TOOL = {"id": "call_abc", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"Boston"}'}}
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}], "refusal": None}
ANSWERS: dict[str, tuple[bytes, str | None, bool]] = {
    "a text": (recorded({"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}), "stop", False),
    "tool calls": (
        recorded({"role": "assistant", "content": None, "tool_calls": [TOOL]}, "tool_calls"),
        "tool_calls",
        False,
    ),
    "a function call": (
        recorded(
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"
        ),
        "function_call",
        False,
    ),
    "a refusal": (recorded({"role": "assistant", "content": None, "refusal": "I cannot."}), "stop", False),
    "audio": (
        recorded({"role": "assistant", "content": None, "audio": {"id": "a", "data": "UklGRg==", "transcript": "Hi"}}),
        "stop",
        False,
    ),
    "log probabilities": (
        recorded(
            None, choices=[{"index": 0, "message": {"content": "Hi"}, "logprobs": LOGPROBS, "finish_reason": "length"}]
        ),
        "length",
        False,
    ),
    "a filtered answer": (recorded({"role": "assistant", "content": None}, "content_filter"), "content_filter", True),
    "nothing": (recorded({"role": "assistant", "content": ""}), "stop", True),
    "no tool calls": (recorded({"role": "assistant", "content": None, "tool_calls": []}), "stop", True),
    "a second choice that speaks": (
        recorded(None, choices=[{"message": {"content": ""}, "finish_reason": "stop"}, {"message": {"content": "Hi"}}]),
        "stop",
        False,
    ),
    "no choices": (recorded(None, choices=[]), None, True),
    "choices of null": (recorded(None, choices=None), None, True),
}


@pytest.mark.parametrize(("body", "finish", "empty"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_recorded_answer(body: bytes, finish: str | None, empty: bool) -> None:
    reading = read_whole(body)
    assert (reading.finish_reason, reading.empty, reading.readable) == (finish, empty, True)
    assert (reading.model, reading.fingerprint) == ("gpt-4o-2024-08-06", "fp_fc9f1d7035")
    assert reading.usage == READ


def test_a_recorded_embedding() -> None:
    body = json.dumps(
        {
            "object": "list",
            "data": [{"object": "embedding", "embedding": [0.0023, -0.0093], "index": 0}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    ).encode()
    reading = read_whole(body)
    assert (reading.empty, reading.model, reading.usage) == (False, "text-embedding-3-small", Usage(8, 0))
    assert read_whole(b'{"data":[],"model":"m"}').empty


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"<html>", b'{"choices":7}', b"\xff", b"[" * 5_000])
def test_junk_is_unreadable_and_empty(body: bytes) -> None:
    reading = read_whole(body)
    assert (reading.readable, reading.empty, reading.usage) == (False, True, None)


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_as_far_as_they_can_be(junk: bytes) -> None:
    read_whole(junk)
    read_tail([junk, b"data: " + junk + b"\n\n", b"data: [DONE]\n\n"])
    says_something(junk)
    assert may_hold_usage(junk) or read_usage(junk)[0] is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
ODD_USAGE = st.dictionaries(
    st.sampled_from([*USAGE, "x"]),
    st.one_of(JSON, st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens"]), JSON)),
)


@given(ODD_USAGE, JSON)
@settings(max_examples=300, deadline=None)
def test_a_provider_may_report_anything_and_only_what_can_be_is_believed(usage: dict[str, Any], choices: Any) -> None:
    frame = b"data: " + json.dumps({"usage": usage, "choices": choices}).encode() + b"\n\n"
    found, _ = read_usage(frame)
    for reading in (found, read_whole(frame[6:]).usage):
        if reading is not None:
            assert all(0 <= count <= 1_000_000_000 for count in reading[:-1])


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_usage_is_found_however_it_is_spelt(before: int, after: int, separators: tuple[str, str], named: bool) -> None:
    usage = {"prompt_tokens": before, "completion_tokens": after}
    data = json.dumps({"choices": [], "usage": usage}, separators=separators).encode()
    frame = (b"event: x\nid: 1\n" if named else b"") + b"data:" + (b" " if named else b"") + data + b"\r\n\r\n"
    assert may_hold_usage(frame)
    assert read_usage(frame) == (Usage(before, after), True)


def test_usage_of_null_is_none_and_a_text_that_says_usage_is_a_text() -> None:
    for frame in (b'data: {"choices":[],"usage":null}\n\n', b'data: {"choices":[],"usage": null}\n\n'):
        assert read_usage(frame) == (None, False)
    said = b'data: {"choices":[{"delta":{"content":"\\"usage\\": {\\"prompt_tokens\\": 5}"}}]}\n\n'
    assert read_usage(said) == (None, False)


def test_usage_beside_choices_is_not_alone() -> None:
    frame = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    assert read_usage(frame) == (Usage(1, 2), False)


@pytest.mark.parametrize(
    ("delta", "says"),
    [
        ({"content": "x"}, True),
        ({"content": " "}, True),
        ({"content": "\n"}, True),
        ({"refusal": "no"}, True),
        ({"reasoning_content": "hm"}, True),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, True),
        ({"role": "assistant", "content": "", "refusal": None}, False),
        ({"role": "assistant", "content": None}, False),
        ({}, False),
    ],
)
def test_what_says_something(delta: dict[str, Any], says: bool) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        frame = b"data: " + json.dumps({"choices": [{"delta": delta}]}, separators=separators).encode() + b"\n\n"
        assert says_something(frame) is says


def test_the_tail_of_a_stream() -> None:
    frames = [
        b'data: {"model":"m1","choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n',
        b'data: {"model":"m1","system_fingerprint":"fp","choices":[{"delta":{},"finish_reason":"length"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b": keep-alive\n\n",
        b"data: [DONE]\n\n",
    ]
    reading = read_tail(frames)
    assert (reading.finish_reason, reading.model, reading.fingerprint, reading.readable) == ("length", "m1", "fp", True)
    assert read_tail([b"data: [DONE]\n\n", b"junk"]).readable is False


OURS = [
    errors.InvalidRequestError("bad", param="n"),
    errors.AuthenticationError("who"),
    errors.PermissionDeniedError("no"),
    errors.UnknownModelError("none", param="model"),
    errors.RateLimitedError("later", retry_after_seconds=1.0),
    errors.BudgetExceededError("spent"),
    errors.UpstreamTimeoutError("slow"),
    errors.OverloadedError("full"),
    errors.InternalError("broken"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: error.code)
def test_our_errors_are_envelopes_of_the_kind_the_sdks_know(error: errors.HoldfastError) -> None:
    found = json.loads(error_body(error))["error"]
    assert (found["message"], found["code"], found["param"]) == (error.message, error.code, error.param)
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    expected = "insufficient_quota" if error.code == "budget_exceeded" else kinds.get(error.status, "server_error")
    assert found["type"] == expected
    assert json.loads(error_event(error).removeprefix(b"data: ")) == {"error": found}


@given(
    st.one_of(st.binary(max_size=50), JSON.map(lambda value: json.dumps({"error": value}).encode())),
    st.integers(400, 599),
)
@settings(max_examples=200, deadline=None)
def test_a_providers_error_is_an_envelope_in_the_end(body: bytes, status: int) -> None:
    found = upstream_envelope(status, body)
    error = json.loads(found)["error"]
    assert isinstance(error["message"], str)
    if found is not body:
        assert str(status) in error["message"]
        assert len(found) < 20_000


def test_a_providers_envelope_passes_as_it_came() -> None:
    body = b'{ "error" : {"message":"no","type":"x","param":null,"code":"y","inner":{"a":1}}, "more": 1 }'
    assert upstream_envelope(400, body) is body


def test_headers_cross_by_name_alone() -> None:
    sent = [
        (b"authorization", b"Bearer x"),
        (b"openai-organization", b"o"),
        (b"cookie", b"c"),
        (b"host", b"h"),
        (b"accept", b"a"),
    ]
    assert request_headers(sent) == [(b"accept", b"a")]
    named = {
        name: response_name(name)
        for name in (b"X-Request-Id", b"Set-Cookie", b"X-RateLimit-Remaining", b"Date", b"Server")
    }
    assert named == {
        b"X-Request-Id": b"x-upstream-request-id",
        b"Set-Cookie": None,
        b"X-RateLimit-Remaining": b"x-ratelimit-remaining",
        b"Date": None,
        b"Server": None,
    }
    for name in (
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"content-encoding",
        b"location",
        b"holdfast-call",
    ):
        assert response_name(name) is None
