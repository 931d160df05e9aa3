"""Reading an OpenAI request: only the fields a stage needs, and the few edits that are allowed on the bytes.

A body is *plain* when none of the fields we read is there twice or spelt with escapes. A plain body is edited by splicing
bytes; any other is decoded whole and encoded anew, or refused where a field is there twice.
"""

import json
import re
from typing import Annotated, Any, Literal

import msgspec

from holdfast.kernel.errors import InvalidRequestError

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]


Absent = msgspec.UnsetType
ABSENT = msgspec.UNSET


class ChatFields(msgspec.Struct):
    """The fields of a chat completion request that Holdfast reads; every other field passes untouched."""

    model: Name
    messages: msgspec.Raw
    stream: bool | Absent | None = ABSENT
    stream_options: dict[str, msgspec.Raw] | Absent | None = ABSENT
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | Absent | None = ABSENT
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | Absent | None = ABSENT
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | Absent | None = ABSENT
    max_tokens: Tokens | Absent | None = ABSENT
    max_completion_tokens: Tokens | Absent | None = ABSENT
    user: Annotated[str, msgspec.Meta(max_length=512)] | Absent | None = ABSENT

    def most_output_tokens(self) -> int | None:
        """What the client allows for all choices together; of two maxima the larger, for a server may know one of them only."""
        most = max(self.max_completion_tokens or 0, self.max_tokens or 0)
        return most * (self.n or 1) if most else None


class EmbeddingFields(msgspec.Struct):
    """The fields of an embeddings request that Holdfast reads."""

    model: Name
    input: msgspec.Raw
    user: Annotated[str, msgspec.Meta(max_length=512)] | Absent | None = ABSENT


class _CountedFields(msgspec.Struct):
    """The fields that become input tokens."""

    messages: msgspec.Raw | Absent = ABSENT
    input: msgspec.Raw | Absent = ABSENT
    tools: msgspec.Raw | Absent = ABSENT
    functions: msgspec.Raw | Absent = ABSENT
    response_format: msgspec.Raw | Absent = ABSENT
    prediction: msgspec.Raw | Absent = ABSENT


Fields = ChatFields | EmbeddingFields
Kind = Literal["chat", "embeddings"]

_CHAT = msgspec.json.Decoder(ChatFields)
_EMBEDDINGS = msgspec.json.Decoder(EmbeddingFields)
_COUNTED = msgspec.json.Decoder(_CountedFields)
_READ = {
    struct: tuple(
        (name, b'"%b"' % name.encode(), re.compile(rb'"%b"\s*:' % name.encode())) for name in struct.__struct_fields__
    )
    for struct in (ChatFields, EmbeddingFields, _CountedFields)
}
_ESCAPED_LETTER = re.compile(rb"\\u00(?:5f|6[1-9a-f]|7[0-9a])", re.IGNORECASE)  # of those our names are made of
IMAGE_TOKENS = 3_000
OPENING_BRACKET = ord("[")
SHORT = 64
_SIMPLE_VALUE = re.compile(rb'"[^"\\]*"|[-+.\w]+')
_AT = re.compile(r"at `\$\.?([^`]*)`")


def read(kind: Kind, body: bytes) -> Fields:
    """The fields, typed and bounded; InvalidRequestError names the field that is wrong."""
    if not body.isascii():
        _refuse_bad_utf8(body)
    try:
        fields: Fields = _CHAT.decode(body) if kind == "chat" else _EMBEDDINGS.decode(body)
    except msgspec.ValidationError as error:
        raise _field_error(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}. Send one JSON object.") from None
    if kind == "chat":
        messages = memoryview(fields.messages)  # type: ignore[union-attr]
        if messages[0] != OPENING_BRACKET or (len(messages) < SHORT and not bytes(messages[1:-1]).strip()):
            raise InvalidRequestError("`messages` must be a list with at least one message.", param="messages")
    elif bytes(memoryview(fields.input)[:1]) not in (b"[", b'"'):  # type: ignore[union-attr]
        raise InvalidRequestError("`input` must be a text, a list of texts, or tokens.", param="input")
    return fields


def is_plain(fields: Fields | _CountedFields, body: bytes) -> bool:
    """Whether every field we read is there once at most and spelt without escapes, anywhere in the body."""
    for name, literal, key in _READ[type(fields)]:
        if getattr(fields, name) is not ABSENT and body.count(literal) != 1 and len(key.findall(body)) != 1:
            return False
    return b"\\" not in body or b"\\u00" not in body or _ESCAPED_LETTER.search(body) is None


def edited(fields: Fields, body: bytes, changes: dict[str, Any]) -> bytes:
    """The body with some top-level fields set; a plain body keeps every other byte. Without changes it only refuses a
    field that is there twice: two readers could take different ones."""
    if is_plain(fields, body):
        for name, value in changes.items():
            present = getattr(fields, name, ABSENT) is not ABSENT
            body = _spliced(body, name, msgspec.json.encode(value), present)
        return body
    decoded = _whole(fields, body)
    if not changes:
        return body
    decoded.update({name: json.loads(msgspec.json.encode(value)) for name, value in changes.items()})
    try:
        return json.dumps(decoded, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body holds a number that JSON cannot carry.") from None


def _whole(fields: Fields, body: bytes) -> dict[str, Any]:
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found
        return dict(found)

    try:
        value: dict[str, Any] = json.loads(body, object_pairs_hook=keep, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}. Send one JSON object.") from None
    names = [name for name, _ in pairs]
    for name in fields.__struct_fields__:
        if names.count(name) > 1:
            raise InvalidRequestError(f"`{name}` is there {names.count(name)} times; say it once.", param=name)
    return value


def asks_for_usage(fields: ChatFields) -> bool:
    """Whether the client itself wants the usage of its stream."""
    options = fields.stream_options
    return isinstance(options, dict) and bytes(options.get("include_usage", b"")) == b"true"


def options_with_usage(fields: ChatFields) -> dict[str, msgspec.Raw]:
    """The client's stream options, and the wish for usage."""
    options = fields.stream_options
    return {**(options if isinstance(options, dict) else {}), "include_usage": msgspec.Raw(b"true")}


def most_input_tokens(body: bytes) -> int:
    """An upper bound for the input tokens of a request that `read` took: no tokenizer makes more tokens than there are bytes of
    text; a few more for every object and text cover roles and separators, tool definitions count as they are spelt, images
    as the largest in use. Where a reader could take another member of a name than this one does, the whole body counts."""
    asked = _COUNTED.decode(body)
    if not is_plain(asked, body):
        return len(body)
    total = sum(
        [len(memoryview(raw)) for raw in (asked.tools, asked.functions, asked.response_format, asked.prediction) if raw]
    )
    stack = [_decoded(asked.messages), _decoded(asked.input)]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            total += len(value.encode("utf-8", "surrogatepass")) + 4
        elif isinstance(value, dict):
            total += 8
            if "image_url" in value:
                total += IMAGE_TOKENS
                value = {name: each for name, each in value.items() if name != "image_url"}
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value is not None:
            total += 1
    return total


def _decoded(raw: msgspec.Raw | Absent) -> Any:
    """What a part of the body says; of a number only that it is one, since other readers take larger ones than this."""
    if raw is ABSENT:
        return None
    try:
        return json.loads(bytes(raw), parse_int=len, parse_float=len)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}. Send one JSON object.") from None


def _spliced(body: bytes, name: str, value: bytes, present: bool) -> bytes:
    key = b'"%b"' % name.encode()
    if not present:
        end = body.rindex(b"}")
        return b"".join((body[:end].rstrip(), b",", key, b":", value, body[end:]))
    found = re.search(key + rb"\s*:\s*", body)
    if found is None:
        raise InvalidRequestError(f"`{name}` cannot be read.", param=name)
    start = found.end()
    return b"".join((body[:start], value, body[_value_end(body, start) :]))


def _value_end(body: bytes, start: int) -> int:
    """Where the JSON value that begins at `start` ends."""
    simple = _SIMPLE_VALUE.match(body, start)
    if simple is not None:
        return simple.end()
    rest = body[start:].decode("utf-8")
    _, length = json.JSONDecoder().raw_decode(rest)
    return start + len(rest[:length].encode())


def _refuse_bad_utf8(body: bytes) -> None:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"The body is not valid UTF-8 (byte {error.start}).") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _field_error(error: msgspec.ValidationError) -> InvalidRequestError:
    text = str(error)
    found = _AT.search(text)
    name = found.group(1) if found else None
    if name is None and "missing required field" in text:
        name = text.split("`")[1]
        return InvalidRequestError(f"`{name}` is missing.", param=name)
    if not name:
        return InvalidRequestError(f"The body is not a request: {text}.")
    return InvalidRequestError(f"`{name}` is wrong: {text.split(' - at', maxsplit=1)[0]}.", param=name)
