"""How an OpenAI server spells answers: chat completions, chunks, tool calls, usage, embeddings, models and errors.

Pure functions from values to the bytes of the wire. A chunk is one join of parts spelt once for its stream, because a
server writes tens of thousands of them a second.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.kernel.tokens import Usage

CHAT_COMPLETIONS = "/chat/completions"
EMBEDDINGS = "/embeddings"
MODELS = "/models"

JSON_TYPE = b"application/json"
STREAM_TYPE = b"text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
ROLE_DELTA = b'{"role":"assistant","content":"","refusal":null}'
TOOL_ROLE_DELTA = b'{"role":"assistant","content":null,"refusal":null}'

ToolCall = tuple[str, str, str]
"""Id, function name, arguments as the JSON text the model wrote."""

quote = msgspec.json.Encoder().encode
"""Any string as a JSON string, as bytes."""


def content_delta(piece: str) -> bytes:
    return b'{"content":' + quote(piece) + b"}"


def tool_call_delta(index: int, call: ToolCall) -> bytes:
    """The chunk that opens a tool call: its id and name, before any of its arguments."""
    id, name, arguments = call
    return b'{"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}]}' % (
        index,
        quote(id),
        quote(name),
        quote(arguments),
    )


def tool_arguments_delta(index: int, piece: str) -> bytes:
    return b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, quote(piece))


def usage_object(usage: Usage) -> bytes:
    """The `usage` member of a chat completion."""
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":%d},'
        b'"completion_tokens_details":{"reasoning_tokens":%d,"audio_tokens":%d,'
        b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    ) % (
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens + usage.output_tokens,
        usage.cached_read_tokens,
        usage.audio_input_tokens,
        usage.reasoning_tokens,
        usage.audio_output_tokens,
    )


def text_message(content: str) -> bytes:
    return b'{"role":"assistant","content":' + quote(content) + b',"refusal":null,"annotations":[]}'


def tool_message(calls: Sequence[ToolCall]) -> bytes:
    spelt = [
        b'{"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}'
        % (quote(id), quote(name), quote(arguments))
        for id, name, arguments in calls
    ]
    return (
        b'{"role":"assistant","content":null,"tool_calls":[' + b",".join(spelt) + b'],"refusal":null,"annotations":[]}'
    )


def choice(index: int, message: bytes, finish_reason: str | None) -> bytes:
    """`message` is text_message's or tool_message's."""
    reason = b"null" if finish_reason is None else quote(finish_reason)
    return b'{"index":%d,"message":%b,"logprobs":null,"finish_reason":%b}' % (index, message, reason)


def chat_completion(id: str, created: int, model: str, choices: Sequence[bytes], usage: Usage | None) -> bytes:
    """A whole answer; without usage, as some providers send it, where `usage` is None."""
    return b"".join(
        (
            b'{"id":"',
            id.encode(),
            b'","object":"chat.completion","created":',
            str(created).encode(),
            b',"model":',
            quote(model),
            b',"choices":[',
            b",".join(choices),
            b"]",
            b"" if usage is None else b',"usage":' + usage_object(usage),
            b',"service_tier":"default","system_fingerprint":null}',
        )
    )


class ChunkSpelling:
    """The chunks of one stream. `usage_asked`: the client sent `stream_options.include_usage`."""

    __slots__ = ("_head", "_tail", "_usage_asked")

    def __init__(self, id: str, created: int, model: str, usage_asked: bool) -> None:
        self._head = (
            b'data: {"id":"%b","object":"chat.completion.chunk","created":%d,"model":%b,'
            b'"service_tier":"default","system_fingerprint":null,"choices":['
        ) % (id.encode(), created, quote(model))
        self._tail = b',"usage":null}\n\n' if usage_asked else b"}\n\n"
        self._usage_asked = usage_asked

    def around(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the delta in every chunk of this choice."""
        return (
            b'%b{"index":%d,"delta":' % (self._head, index),
            b',"logprobs":null,"finish_reason":null}]' + self._tail,
        )

    def delta(self, index: int, delta: bytes) -> bytes:
        before, after = self.around(index)
        return before + delta + after

    def finish(self, index: int, reason: str) -> bytes:
        return b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b' % (
            self._head,
            index,
            reason.encode(),
            self._tail,
        )

    def usage(self, usage: Usage) -> bytes:
        return self._head + b'],"usage":' + usage_object(usage) + b"}\n\n"


def error(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error envelope."""
    return msgspec.json.encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def error_event(message: str, type: str, code: str | None) -> bytes:
    """An error after the first token: an event of the stream, which then ends."""
    return b"data: " + error(message, type, code) + b"\n\n"


def embeddings(model: str, vectors: Sequence[str | Sequence[float]], prompt_tokens: int) -> bytes:
    """A vector is a list of numbers, or a string: its float32s, little-endian, in base64."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        }
    )


def model(id: str, created: int, owned_by: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owned_by}


def models(listed: Sequence[dict[str, Any]]) -> bytes:
    """The models list, from what `model` returned for each."""
    return msgspec.json.encode({"object": "list", "data": list(listed)})
