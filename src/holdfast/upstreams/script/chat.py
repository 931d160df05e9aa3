"""The answer to a chat completion: what each choice says, how long it may be, and the frames or the body that carry it."""

import hashlib
from dataclasses import dataclass

import msgspec

from holdfast.dialects.openai.answer import (
    DONE,
    ROLE_DELTA,
    STREAM_TYPE,
    TOOL_ROLE_DELTA,
    ChunkSpelling,
    ToolCall,
    chat_completion,
    choice,
    error,
    error_event,
    text_message,
    tool_arguments_delta,
    tool_call_delta,
    tool_message,
)
from holdfast.kernel.errors import InvalidRequestError
from holdfast.kernel.tokens import Usage
from holdfast.upstreams.script.asked import Chat
from holdfast.upstreams.script.distributions import seeded
from holdfast.upstreams.script.options import Personality
from holdfast.upstreams.script.plan import ListedVoice, Pace, Plan, Telling, TextVoice, Voice
from holdfast.upstreams.script.schema import value_for
from holdfast.upstreams.script.text import TOKEN_CHARACTERS, Teller, count_tokens
from holdfast.upstreams.script.tools import tool_calls

UNLIMITED_TOKENS = 1_000_000
STREAM_HEADERS = ((b"content-type", STREAM_TYPE), (b"cache-control", b"no-cache"))
JSON_HEADERS = ((b"content-type", b"application/json"),)
_JUNK = b'data: {"id":"chatcmpl-junk","choices":[{"index":0,"delta":{"content":\n\n'


@dataclass(slots=True)
class Said:
    """What one choice says: a text or tool calls, and `tokens` of it that are shown."""

    text: str
    calls: list[ToolCall]
    tokens: int
    finish_reason: str | None


@dataclass(slots=True)
class Call:
    """One chat completion as it is about to be answered. `fault` is "none" where the personality's does not strike."""

    id: str
    digest: bytes
    created: int
    chat: Chat
    personality: Personality
    fault: str
    own_tokens: int
    prompt_tokens: int
    cached_tokens: int
    pace: Pace


def answer_chat(call: Call, teller: Teller) -> Plan:
    personality, chat = call.personality, call.chat
    limit = chat.max_completion_tokens or chat.max_tokens or UNLIMITED_TOKENS
    silent = min(personality.reasoning, limit)
    if call.fault == "empty":
        silent = 0
    said = [_say(call, index, limit - silent, teller) for index in range(chat.n or 1)]
    usage = Usage(
        input_tokens=call.prompt_tokens,
        output_tokens=sum(silent + one.tokens for one in said),
        cached_read_tokens=call.cached_tokens,
        reasoning_tokens=silent * len(said),
    )
    model = "another-model" if call.fault == "wrong_model" else chat.model
    plan = _stream(call, said, silent, usage, model) if chat.stream else _whole(call, said, usage, model)
    if call.fault == "drip":
        plan.drip = (personality.drip_bytes, personality.drip_ms / 1000)
    return plan


def _say(call: Call, index: int, most: int, teller: Teller) -> Said:
    """`most` tokens may be shown; the fault content_filter lowers it."""
    if call.fault == "empty":
        return Said("", [], 0, "stop")
    digest = (
        hashlib.blake2b(call.digest, digest_size=32, person=b"choice %d" % index).digest() if index else call.digest
    )
    filtered = call.fault == "content_filter"
    shown = min(most, call.personality.after_tokens) if filtered else most
    calls = tool_calls(call.chat, seeded(digest), call.personality.calls) if call.chat.tools else []
    if calls:
        said = _cut_calls(calls, shown)
    else:
        text, tokens = _text(call, digest, shown, teller)
        said = Said(text, [], min(tokens, shown), "stop" if tokens <= shown else "length")
    if filtered:
        said.finish_reason = "content_filter"
    return said


def _text(call: Call, digest: bytes, shown: int, teller: Teller) -> tuple[str, int]:
    """The text cut to `shown` tokens, and how many tokens it has uncut."""
    chat, own = call.chat, call.personality.text
    if own is None and chat.response_format is not None:
        own = _formatted(chat.response_format, digest)
    if own is None:
        text, tokens = teller.tell(digest, call.own_tokens, shown), call.own_tokens
    else:
        text, tokens = own[: shown * TOKEN_CHARACTERS], count_tokens(own)
    stops = [chat.stop] if isinstance(chat.stop, str) else chat.stop or ()
    ends = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    if ends:
        text = text[: min(ends)]
        tokens = count_tokens(text)
    return text, tokens


def _formatted(response_format: dict[str, object], digest: bytes) -> str | None:
    """The text that `response_format` demands; None where any will do."""
    kind = response_format.get("type")
    schema: object = {"type": "object", "properties": {"answer": {"type": "string"}}}
    if kind == "text":
        return None
    if kind == "json_schema":
        described = response_format.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        if schema is None:
            raise InvalidRequestError("response_format holds no json_schema.schema.", param="response_format")
    elif kind != "json_object":
        raise InvalidRequestError("response_format.type is text, json_object or json_schema.", param="response_format")
    return msgspec.json.encode(value_for(schema, seeded(digest))).decode()


def _cut_calls(calls: list[ToolCall], most: int) -> Said:
    """A call is one token for its name and the tokens of its arguments; what does not fit is cut off."""
    kept: list[ToolCall] = []
    spent = 0
    for id, name, arguments in calls:
        if spent >= most:
            break
        shown = arguments[: (most - spent - 1) * TOKEN_CHARACTERS]
        kept.append((id, name, shown))
        spent += 1 + count_tokens(shown)
    whole = sum(1 + count_tokens(arguments) for _, _, arguments in calls) == spent
    return Said("", kept, spent, "tool_calls" if whole else "length")


def _deltas(calls: list[ToolCall]) -> list[bytes]:
    deltas: list[bytes] = []
    for index, (id, name, arguments) in enumerate(calls):
        deltas.append(tool_call_delta(index, (id, name, "")))
        for at in range(0, len(arguments), TOKEN_CHARACTERS):
            deltas.append(tool_arguments_delta(index, arguments[at : at + TOKEN_CHARACTERS]))
    return deltas


def _stream(call: Call, said: list[Said], silent: int, usage: Usage, model: str) -> Plan:
    options = call.chat.stream_options
    usage_asked = options is not None and options.include_usage is True
    spelling = ChunkSpelling(call.id, call.created, model, usage_asked)
    voices: list[Voice] = []
    for index, one in enumerate(said):
        if one.calls:
            voices.append(ListedVoice(spelling, index, _deltas(one.calls), silent))
        else:
            voices.append(TextVoice(spelling, index, one.text, one.tokens, silent))
    opening = [spelling.delta(index, TOOL_ROLE_DELTA if one.calls else ROLE_DELTA) for index, one in enumerate(said)]
    closing = [spelling.finish(index, one.finish_reason or "stop") for index, one in enumerate(said)]
    if usage_asked and call.fault != "no_usage":
        closing.append(spelling.usage(usage))
    closing.append(DONE)
    telling = Telling(voices, opening, closing, max(voice.tokens for voice in voices))
    plan = Plan(200, STREAM_HEADERS, call.pace, id=call.id, telling=telling, prompt_tokens=call.prompt_tokens)
    _break_stream(call, plan, telling)
    return plan


def _break_stream(call: Call, plan: Plan, telling: Telling) -> None:
    fault, after = call.fault, call.personality.after_tokens
    match fault:
        case "duplicate":
            telling.twice = after
        case "blank":
            plan.telling, plan.body = None, b""
        case "junk":
            telling.closing = (_JUNK, DONE)
            telling.beats = min(after, telling.beats)
        case "error_event":
            telling.closing = (error_event("The scripted model failed.", "server_error", "scripted_error"),)
            telling.beats = min(after, telling.beats)
        case "stall" | "cut" | "reset" | "truncate":
            telling.beats = min(after, telling.beats)
            if fault == "cut":
                frame = telling.closing[0]
                telling.torn = frame[: len(frame) // 2]
            telling.closing = ()
            plan.ending = "complete" if fault == "truncate" else fault


def _whole(call: Call, said: list[Said], usage: Usage, model: str) -> Plan:
    fault, after = call.fault, call.personality.after_tokens
    headers, status, tokens = JSON_HEADERS, 200, usage.output_tokens
    if fault == "truncate":
        said = [Said(one.text[: after * TOKEN_CHARACTERS], one.calls, one.tokens, None) for one in said]
    choices = [
        choice(index, tool_message(one.calls) if one.calls else text_message(one.text), one.finish_reason)
        for index, one in enumerate(said)
    ]
    body = chat_completion(call.id, call.created, model, choices, None if fault == "no_usage" else usage)
    if fault == "error_event":
        status, body = 500, error("The scripted model failed.", "server_error", "scripted_error")
    plan = Plan(status, headers, call.pace, id=call.id, body=body, tokens=tokens, prompt_tokens=call.prompt_tokens)
    if fault in ("error_event", "truncate", "stall", "cut", "reset"):
        plan.tokens = min(tokens, after * len(said))
    break_body(fault, plan)
    return plan


def break_body(fault: str, plan: Plan) -> None:
    """What a fault does to an answer that is one body, whatever it holds."""
    body = plan.body or b""
    match fault:
        case "stall" | "cut" | "reset":
            plan.sent_bytes = len(body) // 2
            plan.ending = fault
        case "junk":
            plan.body = body[: len(body) // 2]
        case "blank":
            plan.body = b""
