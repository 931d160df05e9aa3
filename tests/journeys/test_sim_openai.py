"""The official OpenAI SDK, as it is, against the simulator."""

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.journeys.simulator import Simulator, simulator

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Stage(BaseModel):
    name: str
    metres: float


class Tide(BaseModel):
    harbour: str
    state: Literal["ebb", "flood"]
    stages: list[Stage]
    neap: bool
    remark: str | None


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.fixture
def sim(shared: Simulator) -> Simulator:
    shared.reset()
    return shared


@pytest.fixture
def client(sim: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0, timeout=10) as made:
        yield made


def test_a_call(client: OpenAI, sim: Simulator) -> None:
    answer = client.chat.completions.create(model="scripted", messages=HELLO)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 32)
    assert answer._request_id == answer.id
    assert sim.calls()["completion_tokens"] == 32


def test_a_stream(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="scripted?itl_ms=1", messages=HELLO)
    stream = client.chat.completions.create(
        model="scripted?itl_ms=1", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    told = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert told == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * 33 + ["stop"]


async def test_async(sim: Simulator) -> None:
    async with AsyncOpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as client:
        whole = await client.chat.completions.create(model="scripted", messages=HELLO)
        stream = await client.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        told = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert told == whole.choices[0].message.content
        embedded = await client.embeddings.create(model="scripted-embedding", input="tide")
        assert len(embedded.data[0].embedding) == 1536


def test_tools(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=HELLO, tools=[WEATHER], tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    after: list[ChatCompletionMessageParam] = [
        *HELLO,
        {
            "role": "assistant",
            "tool_calls": [
                {"id": call.id, "type": "function", "function": call.function.model_dump()}  # type: ignore[typeddict-item, union-attr]
                for call in calls
            ],
        },
        {"role": "tool", "tool_call_id": calls[0].id, "content": "12 degrees"},
    ]
    said = client.chat.completions.create(model="scripted", messages=after, tools=[WEATHER])
    assert said.choices[0].finish_reason == "stop"
    assert said.choices[0].message.content


def test_streamed_tools(client: OpenAI) -> None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[call] and [call:get_weather]"}]
    with client.chat.completions.stream(model="scripted", messages=asked, tools=[WEATHER]) as stream:
        answer = stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather"] * 2
    for call in calls:
        parsed: Any = call.function.parsed_arguments
        assert parsed["unit"] in ("celsius", "kelvin")


def test_structured_outputs(client: OpenAI) -> None:
    for prompt in ("a", "b", "c"):
        answer = client.chat.completions.parse(
            model="scripted", messages=[{"role": "user", "content": prompt}], response_format=Tide
        )
        assert isinstance(answer.choices[0].message.parsed, Tide)
    with client.chat.completions.stream(model="scripted", messages=HELLO, response_format=Tide) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Tide)
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="scripted", messages=HELLO, response_format=Tide, max_completion_tokens=2)


def test_embeddings_and_models(client: OpenAI) -> None:
    packed = client.embeddings.create(model="scripted-embedding", input=["ebb", "flood"], dimensions=32)
    spelt = client.embeddings.create(
        model="scripted-embedding", input=["ebb", "flood"], dimensions=32, encoding_format="float"
    )
    assert packed.data[1].embedding == pytest.approx(spelt.data[1].embedding)
    assert packed.usage.prompt_tokens == 3
    tokens = client.embeddings.create(model="scripted-embedding", input=[[1, 2], [3]])
    assert len(tokens.data) == 2
    assert [model.id for model in client.models.list()] == ["scripted", "scripted-embedding"]
    assert client.models.retrieve("scripted").id == "scripted"


@pytest.mark.parametrize(
    ("fault", "raised", "stream"),
    [
        ("429", openai.RateLimitError, False),
        ("429", openai.RateLimitError, True),
        ("401", openai.AuthenticationError, False),
        ("403", openai.PermissionDeniedError, False),
        ("404", openai.NotFoundError, False),
        ("422", openai.UnprocessableEntityError, False),
        ("500", openai.InternalServerError, False),
        ("529", openai.InternalServerError, True),
        ("context_length_exceeded", openai.BadRequestError, False),
        ("reset", openai.APIConnectionError, False),
        ("error_event", openai.APIError, True),
    ],
)
def test_faults_become_the_sdk_s_errors(client: OpenAI, fault: str, raised: type[Exception], stream: bool) -> None:
    with pytest.raises(raised):
        list(
            client.chat.completions.create(model=f"scripted?fault={fault}", messages=HELLO, stream=True)
            if stream
            else [client.chat.completions.create(model=f"scripted?fault={fault}", messages=HELLO)]
        )


def test_a_hang_is_a_timeout_and_hangs_up(client: OpenAI, sim: Simulator) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(model="scripted?fault=hang", messages=HELLO)
    assert sim.calls_when(lambda calls: calls["open"] == 0)["hung_up"] == 1


def test_the_sdk_s_retries_get_through(client: OpenAI, sim: Simulator) -> None:
    answer = client.with_options(max_retries=3).chat.completions.create(
        model="scripted",
        messages=HELLO,
        extra_headers={"X-Sim-Fault": "429; retry_after=0.01; times=2"},
    )
    assert answer.choices[0].message.content
    counted = sim.calls()
    assert (counted["total"], counted["refused"], list(counted["by_fingerprint"].values())) == (3, 2, [3])


def test_leaving_a_stream_stops_it(client: OpenAI, sim: Simulator) -> None:
    stream = client.chat.completions.create(model="scripted?itl_ms=5&tokens=100000", messages=HELLO, stream=True)
    received = 0
    for chunk in stream:
        received += bool(chunk.choices[0].delta.content)
        if received == 5:
            break
    stream.close()
    counted = sim.calls_when(lambda calls: calls["open"] == 0)
    assert 5 <= counted["completion_tokens"] < 100_000
    assert (counted["open"], counted["hung_up"]) == (0, 1)
