"""Reading an OpenAI answer after it was forwarded: how it finished, whether it said anything, what it used."""

import re
from collections.abc import Sequence

import msgspec

from holdfast.kernel.tokens import Usage

DONE = b"[DONE]"
_NOTHING = (b"", b"null", b'""', b"[]")
_SAID = re.compile(rb'"(?:content|arguments|refusal|reasoning_content|text)"\s*:\s*"[^"]')


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"null")
    refusal: msgspec.Raw = msgspec.Raw(b"null")
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")
    function_call: msgspec.Raw = msgspec.Raw(b"null")
    audio: msgspec.Raw = msgspec.Raw(b"null")

    def says_nothing(self) -> bool:
        if bytes(self.content) not in _NOTHING:
            return False
        return all(bytes(part) in _NOTHING for part in (self.refusal, self.tool_calls, self.function_call, self.audio))


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None


class _Answer(msgspec.Struct):
    model: str | None = None
    system_fingerprint: str | None = None
    choices: list[_Choice] | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class Reading(msgspec.Struct):
    """What an answer says of itself. `usage` is None where the provider reported none; `broken`: a stream said that it
    failed, or stopped without a finish reason or its last event."""

    model: str | None = None
    fingerprint: str | None = None
    finish_reason: str | None = None
    empty: bool = False
    usage: Usage | None = None
    readable: bool = True
    broken: bool = False


_ANSWER = msgspec.json.Decoder(_Answer)
UNREADABLE = Reading(readable=False, empty=True)


def read_whole(body: bytes) -> Reading:
    """A non-streaming answer of chat completions or embeddings."""
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return UNREADABLE
    choices = answer.choices
    if choices:
        finish = choices[0].finish_reason
        message = choices[0].message
        empty = (message is None or message.says_nothing()) and all(
            choice.message is None or choice.message.says_nothing() for choice in choices
        )
    else:
        finish = None
        empty = bytes(answer.data) in _NOTHING
    return Reading(answer.model, answer.system_fingerprint, finish, empty, _usage(answer.usage))


def says_something(frame: bytes) -> bool:
    """Whether an event carries content: text, a refusal, reasoning, or part of a tool call."""
    return _SAID.search(frame) is not None or b'"tool_calls"' in frame


def may_hold_usage(frame: bytes) -> bool:
    """A cheap test that is never wrong when it says no; most events stop here."""
    return b'"usage"' in frame and b'"usage":null' not in frame


def read_usage(frame: bytes) -> tuple[Usage | None, bool]:
    """The usage in an event, and whether the event carries nothing else (the chunk that `include_usage` asks for)."""
    answer = _event(frame)
    if answer is None or answer.usage is None:
        return None, False
    return _usage(answer.usage), not answer.choices


def read_tail(frames: Sequence[bytes]) -> Reading:
    """The last events of a stream: the newest finish reason, model and fingerprint among them."""
    reading = Reading(readable=False)
    for frame in frames:
        answer = _event(frame)
        if answer is None:
            continue
        reading.readable = True
        reading.model = answer.model or reading.model
        reading.fingerprint = answer.system_fingerprint or reading.fingerprint
        for choice in answer.choices or ():
            reading.finish_reason = choice.finish_reason or reading.finish_reason
        reading.broken |= bytes(answer.error) != b"null"
    ended = reading.finish_reason is not None or any(frame.rstrip().endswith(DONE) for frame in frames)
    reading.broken |= not ended
    return reading


def _event(frame: bytes) -> _Answer | None:
    start = frame.find(b"data:")
    if start < 0:
        return None
    try:
        return _ANSWER.decode(frame[start + 5 :].strip())
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _usage(raw: _Usage | None) -> Usage | None:
    if raw is None or raw.prompt_tokens is None:
        return None
    before, after = raw.prompt_tokens_details, raw.completion_tokens_details
    if before is None and after is None:
        return Usage(_count(raw.prompt_tokens), max(0, raw.completion_tokens or 0))
    before = before or _InputDetails()
    after = after or _OutputDetails()
    return Usage(
        input_tokens=_count(raw.prompt_tokens),
        output_tokens=_count(raw.completion_tokens),
        cached_read_tokens=_count(before.cached_tokens),
        cached_write_tokens=_count(before.cache_write_tokens),
        reasoning_tokens=_count(after.reasoning_tokens),
        audio_input_tokens=_count(before.audio_tokens),
        audio_output_tokens=_count(after.audio_tokens),
        image_input_tokens=_count(before.image_tokens),
    )


def _count(reported: int | None) -> int:
    """A provider may report anything; nothing below zero or beyond what a store can hold is believed."""
    return min(max(0, reported or 0), 1_000_000_000)
