"""Reading what was asked: the call's fields, its fingerprint and its prompt's tokens.

The fingerprint is the SHA-256, in hexadecimal, of a JSON array without spaces and with keys in order, null where a member is missing:

    chat completions   ["chat", model, messages, tools, tool_choice, response_format, seed, temperature, top_p]
    embeddings         ["embeddings", model, input]

So it names what is asked, not how it is delivered or cut: stream, stream_options, n, stop, max_tokens, max_completion_tokens,
parallel_tool_calls, dimensions, encoding_format, user, metadata and fields this model does not know have no part in it.

Prompt tokens: 3, and for each message 4, its text's tokens, 85 for each part that is not text, and the tokens of its tool
calls as JSON; and the tokens of `tools` as JSON. Embeddings: the tokens of each text, or the length of each token array.
"""

import hashlib
from collections import OrderedDict
from typing import Any

import msgspec

from holdfast.kernel.errors import InvalidRequestError
from holdfast.upstreams.script.text import count_tokens

_REPLY_TOKENS = 3
_MESSAGE_TOKENS = 4
_PART_TOKENS = 85
_MOST_CHOICES = 128
_MOST_STOPS = 16
_MOST_INPUTS = 2048
_PREFIX_LIMIT = 50_000


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Chat(msgspec.Struct):
    """The members of a chat completion request that this model reads."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None


class Embeddings(msgspec.Struct):
    """The members of an embeddings request that this model reads."""

    model: str
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = None


_CHAT = msgspec.json.Decoder(Chat)
_EMBEDDINGS = msgspec.json.Decoder(Embeddings)
canonical = msgspec.json.Encoder(order="sorted").encode


def read_chat(body: bytes) -> Chat:
    """Raises InvalidRequestError naming the member that is wrong."""
    chat: Chat = _decode(_CHAT, body)
    if not chat.messages:
        raise InvalidRequestError("messages must hold at least one message.", param="messages")
    for index, message in enumerate(chat.messages):
        if type(message.get("role")) is not str:
            raise InvalidRequestError(f"messages[{index}] has no role.", param="messages")
    if chat.n is not None and not 1 <= chat.n <= _MOST_CHOICES:
        raise InvalidRequestError(f"n must be from 1 to {_MOST_CHOICES}.", param="n")
    for name in ("max_tokens", "max_completion_tokens"):
        limit = getattr(chat, name)
        if limit is not None and limit < 1:
            raise InvalidRequestError(f"{name} must be at least 1.", param=name)
    if isinstance(chat.stop, list) and len(chat.stop) > _MOST_STOPS:
        raise InvalidRequestError(f"stop must hold at most {_MOST_STOPS} texts.", param="stop")
    return chat


def read_embeddings(body: bytes) -> tuple[Embeddings, list[str | list[int]]]:
    """The request and its inputs, one an embedding."""
    asked: Embeddings = _decode(_EMBEDDINGS, body)
    inputs: list[str | list[int]] = []
    if isinstance(asked.input, str):
        inputs.append(asked.input)
    elif all(type(item) is int for item in asked.input):
        inputs.append([item for item in asked.input if isinstance(item, int)])
    else:
        inputs += [item for item in asked.input if not isinstance(item, int)]
    if any(len(item) == 0 for item in inputs) or len(inputs) < (
        1 if isinstance(asked.input, str) else min(1, len(asked.input))
    ):
        raise InvalidRequestError(
            "input must be a text, texts, a token array or token arrays, none of them empty.", param="input"
        )
    if not inputs or len(inputs) > _MOST_INPUTS:
        raise InvalidRequestError(f"input must hold from 1 to {_MOST_INPUTS} items.", param="input")
    return asked, inputs


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        param = path.strip("`.[]").partition("[")[0].partition(".")[0] or None
        if param is None and "required field" in message:
            param = message.rpartition(" ")[2].strip("`")
        raise InvalidRequestError(message + (f" at {param}." if param else "."), param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError("The body of the request is not JSON in UTF-8.") from error
    except RecursionError as error:
        raise InvalidRequestError("The body of the request is nested too deep.") from error


def chat_digest(chat: Chat) -> bytes:
    return hashlib.sha256(
        canonical(
            (
                "chat",
                chat.model,
                chat.messages,
                chat.tools,
                chat.tool_choice,
                chat.response_format,
                chat.seed,
                chat.temperature,
                chat.top_p,
            )
        )
    ).digest()


def embeddings_digest(asked: Embeddings) -> bytes:
    return hashlib.sha256(canonical(("embeddings", asked.model, asked.input))).digest()


def chat_tokens(chat: Chat) -> int:
    tokens = _REPLY_TOKENS + _tools_tokens(chat)
    for message in chat.messages:
        tokens += _message_tokens(message)
    return tokens


def _tools_tokens(chat: Chat) -> int:
    return count_tokens(canonical(chat.tools).decode()) if chat.tools else 0


def _message_tokens(message: dict[str, Any]) -> int:
    content = message.get("content")
    tokens = _MESSAGE_TOKENS
    if type(content) is str:
        tokens += count_tokens(content)
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            tokens += count_tokens(text) if isinstance(text, str) else _PART_TOKENS
    if message.get("tool_calls"):
        tokens += count_tokens(canonical(message["tool_calls"]).decode())
    return tokens


class SeenPrefixes:
    """Which beginnings of prompts were seen, the latest 50,000: what a provider's prompt cache would hold."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def clear(self) -> None:
        self._seen.clear()

    def cached_tokens(self, chat: Chat) -> int:
        """The tokens of the longest known beginning, whole messages of it; remembers this prompt."""
        seen = self._seen
        running = hashlib.sha256(canonical((chat.model.partition("?")[0], chat.tools)))
        tokens, cached = _tools_tokens(chat), 0
        for message in chat.messages:
            running.update(canonical(message))
            tokens += _message_tokens(message)
            prefix = running.digest()
            if prefix in seen:
                cached = tokens
                seen.move_to_end(prefix)
            else:
                seen[prefix] = None
        while len(seen) > _PREFIX_LIMIT:
            seen.popitem(last=False)
        return cached
