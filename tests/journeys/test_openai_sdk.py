"""The official `openai` SDK against `holdfast up`, unchanged: what it sends, what it reads, what it raises, when it retries."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.journeys.launcher import Running, launching

pytestmark = pytest.mark.xdist_group("openai_sdk")

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
MODELS = {
    "chat": "scripted",
    "slow": "scripted?itl_ms=40&tokens=200",
    "busy": "scripted?fault=429&retry_after=0.01",
    "recovers": "scripted?fault=503&times=1",
    "broken": "scripted?fault=500",
    "embedding": "scripted-embedding",
}
CONFIG = '[upstreams.s]\ndialect = "scripted"\n' + "".join(
    f'[models.{name}]\nlanes = ["s/{model}"]\n' for name, model in MODELS.items()
)


class Place(BaseModel):
    city: str
    people: int


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with launching(tmp_path_factory.mktemp("sdk")) as launcher:
        yield launcher(CONFIG)


@pytest.fixture
def client(running: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
async def waiting(running: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=20) as made:
        yield made


def test_a_chat_answer_has_content_usage_and_the_ids_support_asks_for(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id == raw.headers["x-request-id"]
    assert raw.headers["holdfast-call"].startswith("call_")


def test_a_stream_ends_and_holds_usage_only_when_it_was_asked_for(client: OpenAI) -> None:
    plain = list(client.chat.completions.create(model="chat", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain if chunk.choices)
    assert plain[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in plain)
    asked = list(
        client.chat.completions.create(
            model="chat", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.completion_tokens > 0


def test_tools_and_structured_outputs_are_parsed_by_the_sdk(client: OpenAI) -> None:
    called = client.chat.completions.create(model="chat", messages=HELLO, tools=[WEATHER], tool_choice="required")
    calls = called.choices[0].message.tool_calls
    assert calls
    assert called.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(
        model="chat", messages=HELLO, tools=[WEATHER], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls
    parsed = client.chat.completions.parse(model="chat", messages=HELLO, response_format=Place)
    assert isinstance(parsed.choices[0].message.parsed, Place)
    with client.chat.completions.stream(model="chat", messages=HELLO, response_format=Place) as structured:
        assert isinstance(structured.get_final_completion().choices[0].message.parsed, Place)


def test_models_and_embeddings(client: OpenAI) -> None:
    assert sorted(model.id for model in client.models.list()) == sorted(MODELS)
    assert client.models.retrieve("chat").owned_by == "holdfast"
    found = client.embeddings.create(model="embedding", input=["one", "two"])
    assert len(found.data) == 2
    assert len(found.data[0].embedding) > 8


async def test_the_asynchronous_client_streams_and_answers_at_once(waiting: AsyncOpenAI) -> None:
    answer = await waiting.chat.completions.create(model="chat", messages=HELLO)
    assert answer.choices[0].message.content
    text = ""
    async with await waiting.chat.completions.create(model="chat", messages=HELLO, stream=True) as stream:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert text


def test_errors_arrive_as_the_sdks_own_classes(client: OpenAI) -> None:
    stranger = client.with_options(api_key="hf-wrong")
    with pytest.raises(openai.AuthenticationError) as unknown:
        stranger.chat.completions.create(model="chat", messages=HELLO)
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nothing", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError):
        client.post("/chat/completions", body={"model": "chat", "messages": "no list"}, cast_to=object)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="busy", messages=HELLO)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="broken", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.post("/nowhere", cast_to=object)


def test_the_sdk_retries_what_can_pass_and_gives_up_at_once_on_what_cannot(client: OpenAI, running: Running) -> None:
    def sent(call: str) -> int:
        counts = running.ask("/metrics").body.decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in counts
            if line.startswith("holdfast_calls_total") and call in line
        )

    patient = client.with_options(max_retries=2)
    assert patient.chat.completions.create(model="recovers", messages=HELLO).choices[0].message.content
    assert sent('model="recovers"') == 2
    with pytest.raises(openai.NotFoundError):
        patient.chat.completions.create(model="nothing", messages=HELLO)
    assert sent('code="model_not_found"') <= 2


def test_a_timeout_of_the_client_is_its_timeout_error(client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model="slow", messages=HELLO)


def test_a_client_that_leaves_a_stream_early_leaves_nothing_behind(client: OpenAI, running: Running) -> None:
    with client.chat.completions.create(model="slow", messages=HELLO, stream=True) as stream:
        for _ in stream:
            break
    assert running.chat(model="chat").status == 200
