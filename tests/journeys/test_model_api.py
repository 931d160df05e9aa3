"""The model API before a real provider (the simulator): what streams, what is paid for, and what the SDK sees of it."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionToolParam

from tests.edge.house import Answer, answers, read_all, read_until, request, reset
from tests.journeys.launcher import Running, launching
from tests.journeys.simulator import Simulator, simulator

pytestmark = pytest.mark.xdist_group("model_api")

CONFIG = """
[defaults]
first_token_seconds = 1.0

[routes.careful]
header = "careful"
on_disconnect = "cancel"

[organisations.acme.teams.search]

[keys.ops]
secret = "env:OPS_KEY"
team = "acme/search"
may_call = false
role = "viewer"

[keys.tight]
secret = "env:TIGHT_KEY"
team = "acme/search"
requests_per_minute = 1

[upstreams.sim]
dialect = "openai"
base_url = "URL/v1"
key = "none"

[upstreams.away]
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"
key = "none"
"""
MODELS = {
    "scripted": "sim/scripted",
    "long": "sim/scripted?tokens=100000&itl_ms=5",
    "paced": "sim/scripted?tokens=30&itl_ms=3",
    "tools": "sim/scripted?calls=3",
    "hangs": "sim/scripted?fault=hang",
    "gone": "away/scripted",
    "too-long": "sim/scripted?fault=context_length_exceeded",
    "cut": "sim/scripted?tokens=20&fault=cut&after=5",
    "embedding": "sim/scripted-embedding",
    **{f"says-{status}": f"sim/scripted?fault={status}" for status in (401, 403, 404, 409, 422, 429, 500, 503, 529)},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]
OWN = re.compile(rb'"created":\d+|"(?:id|tool_call_id)":"[^"]*"')


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture(scope="module")
def running(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = "".join(f'[models."{name}"]\nlanes = ["{lane}"]\n' for name, lane in MODELS.items())
    with launching(tmp_path_factory.mktemp("model-api")) as launcher:
        yield launcher(CONFIG.replace("URL", sim.url) + models, {"OPS_KEY": "hf-ops", "TIGHT_KEY": "hf-tight"})


@pytest.fixture
def client(running: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=20) as made:
        yield made


def talk(url: str, sent: bytes) -> Answer:
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30) as sock:
        sock.sendall(sent)
        (answer,) = answers(read_all(sock))
        return answer


def body(model: str, prompt: str = "Hello", **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}], **members}).encode()


def test_two_hundred_streams_at_once_are_the_providers_own_bytes(running: Running, sim: Simulator) -> None:
    sents = [
        body("scripted", f"Tell me of {number}", stream=True, stream_options={"include_usage": True})
        for number in range(200)
    ]
    with ThreadPoolExecutor(64) as pool:
        sim.reset()
        direct = list(pool.map(lambda sent: talk(sim.url, request(sent, close=True)), sents))
        sim.reset()
        through = list(pool.map(lambda sent: talk(running.url, request(sent, key=running.key, close=True)), sents))
    for ours, theirs in zip(through, direct, strict=True):
        assert ours.status == 200
        assert ours.headers[b"content-type"] == theirs.headers[b"content-type"]
        assert OWN.sub(b"", ours.body) == OWN.sub(b"", theirs.body)
    counted = sim.calls()
    assert (counted["total"], counted["open"]) == (200, 0)


def test_a_whole_answer_is_the_providers_own_bytes(running: Running, sim: Simulator) -> None:
    for sent, target in (
        (body("scripted", "x", tools=[tool("look")], tool_choice="required"), b"/v1/chat/completions"),
        (
            body("scripted", "x", response_format={"type": "json_object"}, new_field=[1, {"a": None}]),
            b"/v1/chat/completions",
        ),
        (json.dumps({"model": "embedding", "input": ["a", "b"]}).encode(), b"/v1/embeddings"),
    ):
        sim.reset()
        direct = talk(
            sim.url, request(sent.replace(b'"embedding"', b'"scripted-embedding"'), target=target, close=True)
        )
        sim.reset()
        through = talk(running.url, request(sent, target=target, key=running.key, close=True))
        assert OWN.sub(b"", through.body) == OWN.sub(b"", direct.body)


def test_the_usage_of_a_stream_is_billed_and_shown_only_where_it_was_asked_for(running: Running) -> None:
    for options, shown in ((None, 0), ({"include_usage": False}, 0), ({"include_usage": True}, 1)):
        members: dict[str, Any] = {} if options is None else {"stream_options": options}
        answer = talk(running.url, request(body("scripted", stream=True, **members), key=running.key, close=True))
        assert answer.body.count(b'"usage":{') == shown
        assert answer.body.endswith(b"data: [DONE]\n\n")
        call = when_closed(running, answer)
        assert call["usage"]["estimated"] is False
        assert call["usage"]["output_tokens"] == 32


def when_closed(running: Running, answer: Answer) -> dict[str, Any]:
    """The row of the call that was answered, once it is written."""
    path = f"/api/calls/{answer.headers[b'holdfast-call'].decode()}"
    assert running.when(lambda: running.ask(path).status == 200 and running.ask(path).json()["status"] != "open")
    found: dict[str, Any] = running.ask(path).json()
    return found


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_a_client_that_leaves_a_stream_stops_the_spending_where_its_route_says_so(
    running: Running, sim: Simulator, leave: Any
) -> None:
    sim.reset()
    parts = urlsplit(running.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as sock:
        sock.sendall(request(body("long", stream=True), key=running.key, headers=b"X-Holdfast-Route: careful\r\n"))
        head = read_until(sock, b"data: ", 10)
        leave(sock)
    counted = sim.calls_when(lambda counts: counts["open"] == 0)
    assert (counted["open"], counted["hung_up"]) == (0, 1)
    assert 9 <= counted["completion_tokens"] < 1_000
    (found,) = re.findall(rb"holdfast-call: (\S+)", head)
    call = when_closed(running, Answer(200, {b"holdfast-call": found}, b""))
    assert call["status"] == "cancelled"
    assert call["usage"]["estimated"] is True
    assert 9 <= call["usage"]["output_tokens"] <= counted["completion_tokens"] + 2, "billed for what was generated"


def test_a_stream_the_provider_breaks_off_says_so_at_its_end(running: Running) -> None:
    answer = talk(running.url, request(body("cut", stream=True), key=running.key, close=True))
    *_, last = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_interrupted"
    assert when_closed(running, answer)["status"] == "error"


def test_a_stream_that_is_broken_off_is_an_error_of_the_sdk(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as broken:
        for _ in client.chat.completions.create(model="cut", messages=HELLO, stream=True):
            pass
    assert broken.value.code == "stream_interrupted"


def tool(name: str) -> ChatCompletionToolParam:
    parameters: dict[str, object] = {"type": "object", "properties": {"place": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_parallel_tool_calls_arrive_whole_either_way(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tools",
        "messages": HELLO,
        "tools": [tool(name) for name in ("look", "go", "say")],
    }
    asked["tool_choice"] = "required"
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    assert whole is not None
    assert len(whole) == 3
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed is not None
    assert [json.loads(call.function.arguments) for call in streamed]
    assert len(streamed) == 3
    one = client.chat.completions.create(**asked, parallel_tool_calls=False).choices[0].message.tool_calls
    assert one is not None
    assert len(one) == 1


def test_embeddings_in_either_encoding(client: OpenAI) -> None:
    numbers = client.embeddings.create(model="embedding", input="one", encoding_format="float", dimensions=16)
    packed = client.embeddings.create(model="embedding", input="one", dimensions=16)
    assert numbers.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert numbers.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
def test_a_providers_refusal_is_what_the_sdk_would_have_raised_without_us(
    client: OpenAI, sim: Simulator, status: int, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as through:
        client.chat.completions.create(model=f"says-{status}", messages=HELLO)
    with OpenAI(base_url=f"{sim.url}/v1", api_key="none", max_retries=0) as straight, pytest.raises(kind) as direct:
        straight.chat.completions.create(model=f"scripted?fault={status}", messages=HELLO)
    assert (through.value.status_code, through.value.body) == (direct.value.status_code, direct.value.body)
    assert through.value.request_id
    assert through.value.response.headers.get("retry-after") == direct.value.response.headers.get("retry-after")


def test_our_own_refusals_are_the_sdks_classes_and_say_what_to_do(client: OpenAI, running: Running) -> None:
    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        client.with_options(api_key="hf-ops").chat.completions.create(model="scripted", messages=HELLO)
    assert forbidden.value.code == "permission_denied"
    tight = client.with_options(api_key="hf-tight")
    tight.chat.completions.create(model="scripted", messages=HELLO)
    with pytest.raises(openai.RateLimitError) as limited:
        tight.chat.completions.create(model="scripted", messages=HELLO)
    assert limited.value.code == "rate_limited"
    assert 50 < float(limited.value.response.headers["retry-after"]) <= 60
    with pytest.raises(openai.InternalServerError) as late:
        client.chat.completions.create(model="hangs", messages=HELLO)
    assert (late.value.status_code, late.value.code) == (504, "upstream_timeout")
    with pytest.raises(openai.InternalServerError) as away:
        client.chat.completions.create(model="gone", messages=HELLO)
    assert (away.value.status_code, away.value.code) == (502, "upstream_unreachable")
    with pytest.raises(openai.BadRequestError) as large:
        client.chat.completions.create(model="too-long", messages=HELLO)
    assert large.value.code == "context_length_exceeded"


def test_what_cannot_succeed_is_not_asked_again(running: Running) -> None:
    """The SDK retries 429 unless it is told not to; a request larger than its whole limit will never fit."""
    small = running.ask("/api/keys", {"name": "small", "limits": {"tokens_per_minute": 5}}).json()["secret"]
    with OpenAI(base_url=f"{running.url}/v1", api_key=small, max_retries=5, timeout=20) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="scripted", messages=HELLO)
        assert refused.value.code == "request_exceeds_limit"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_many_clients_at_once_each_get_their_own_answer(client: OpenAI, sim: Simulator) -> None:
    def ask(number: int) -> str:
        prompt: Any = [{"role": "user", "content": f"number {number}"}]
        if number % 2:
            return client.chat.completions.create(model="paced", messages=prompt).choices[0].message.content or ""
        return "".join(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model="paced", messages=prompt, stream=True)
        )

    with ThreadPoolExecutor(32) as pool:
        first = list(pool.map(ask, range(100)))
        again = list(pool.map(ask, range(100)))
    assert len(set(first)) == 100
    assert first == again
    assert sim.calls_when(lambda counts: counts["open"] == 0)["open"] == 0
