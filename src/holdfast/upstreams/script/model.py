"""The scripted model: one request in, one plan out, everything counted."""

import hashlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from holdfast.dialects.openai.answer import CHAT_COMPLETIONS, EMBEDDINGS, error
from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import HoldfastError, InvalidRequestError, NotFoundError
from holdfast.upstreams.script.asked import (
    SeenPrefixes,
    chat_digest,
    chat_tokens,
    embeddings_digest,
    read_chat,
    read_embeddings,
)
from holdfast.upstreams.script.chat import JSON_HEADERS, UNLIMITED_TOKENS, Call, answer_chat
from holdfast.upstreams.script.counting import Counts
from holdfast.upstreams.script.distributions import Constant, Distribution
from holdfast.upstreams.script.embeddings import answer_embeddings, input_tokens
from holdfast.upstreams.script.options import (
    DEFAULTS,
    NO_OPTIONS,
    Personality,
    read_fault_header,
    read_header,
    read_model_name,
    with_options,
)
from holdfast.upstreams.script.plan import Pace, Plan
from holdfast.upstreams.script.schedule import Schedule
from holdfast.upstreams.script.text import Teller

_REMEMBERED_PERSONALITIES = 1000
_AT_ONCE = Pace(0.0, Constant(0.0), 0)
_ERROR_TYPES = {429: "requests"}
_ERROR_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 529: "overloaded"}


class ScriptedModel:
    """Deterministic from `seed` and what it is asked, in which order; `defaults` is how a call is answered that says nothing."""

    def __init__(self, clock: Clock, seed: int = 0, defaults: Personality = DEFAULTS, schedule: Schedule = ()) -> None:
        self.counts = Counts()
        self._clock = clock
        self._seed = seed
        self._defaults = defaults
        self._schedule = schedule
        self._teller = Teller(seed)
        self._prefixes = SeenPrefixes()
        self._personalities: dict[tuple[object, ...], Personality] = {}
        self._serial = 0
        self._started = clock.monotonic()

    def reset(self) -> None:
        """Counts, the schedule's time and call numbers, and the prompts that count as cached begin anew."""
        self.counts.reset()
        self._prefixes.clear()
        self._started = self._clock.monotonic()

    def ask(self, path: str, body: bytes, sim_header: str | None = None, fault_header: str | None = None) -> Plan:
        """The answer to a request on this path below the base URL; a request that cannot be read is answered and not counted."""
        try:
            if path == CHAT_COMPLETIONS:
                return self._chat(body, sim_header, fault_header)
            if path == EMBEDDINGS:
                return self._embeddings(body, sim_header, fault_header)
            raise NotFoundError(f"There is nothing at {path}.")
        except HoldfastError as refusal:
            return refused(refusal)

    def _chat(self, body: bytes, sim_header: str | None, fault_header: str | None) -> Plan:
        chat = read_chat(body)
        digest = chat_digest(chat)
        fingerprint = digest.hex()
        nth = self.counts.asked_before(fingerprint)
        personality = self._personality(chat.model, fingerprint, sim_header, fault_header)
        call = Call(
            id=self._make_id("chatcmpl", fingerprint),
            digest=digest,
            created=int(self._clock.now()),
            chat=chat,
            personality=personality,
            fault=self._fault(personality, fingerprint, nth),
            own_tokens=self._tokens(personality.tokens, fingerprint),
            prompt_tokens=chat_tokens(chat),
            cached_tokens=self._prefixes.cached_tokens(chat) if personality.cache else 0,
            pace=self._pace(personality, fingerprint, nth),
        )
        plan = _failed(call.fault, personality, call.pace, call.prompt_tokens) or answer_chat(call, self._teller)
        return self._counted(plan, fingerprint, call.id)

    def _embeddings(self, body: bytes, sim_header: str | None, fault_header: str | None) -> Plan:
        asked, inputs = read_embeddings(body)
        fingerprint = embeddings_digest(asked).hex()
        nth = self.counts.asked_before(fingerprint)
        personality = self._personality(asked.model, fingerprint, sim_header, fault_header)
        fault, pace = self._fault(personality, fingerprint, nth), self._pace(personality, fingerprint, nth)
        id = self._make_id("embd", fingerprint)
        plan = _failed(fault, personality, pace, input_tokens(inputs))
        if plan is None:
            plan = answer_embeddings(asked, inputs, personality, fault, pace, id)
        return self._counted(plan, fingerprint, id)

    def _counted(self, plan: Plan, fingerprint: str, id: str) -> Plan:
        self.counts.ask(fingerprint, plan.prompt_tokens, plan.refused)
        plan.id = id
        return plan

    def _make_id(self, prefix: str, fingerprint: str) -> str:
        """Names the question and the call, so that a replay can be told from a second answer."""
        self._serial += 1
        return f"{prefix}-{fingerprint[:16]}-{self._serial:x}"

    def _personality(self, model: str, fingerprint: str, sim: str | None, fault: str | None) -> Personality:
        windows = self._windows(model, fingerprint) if self._schedule else ()
        if not windows and sim is None and fault is None and "?" not in model:
            return self._defaults
        key = (model, windows, sim, fault)
        known = self._personalities.get(key)
        if known is None:
            known = _read_personality(
                self._defaults, [self._schedule[index].options for index in windows], model, sim, fault
            )
            if len(self._personalities) >= _REMEMBERED_PERSONALITIES:
                self._personalities.clear()
            self._personalities[key] = known
        return known

    def _windows(self, model: str, fingerprint: str) -> tuple[int, ...]:
        """The windows of the schedule that hold for this call."""
        seconds = self._clock.monotonic() - self._started
        number = self.counts.total + 1
        return tuple(
            index
            for index, window in enumerate(self._schedule)
            if window.holds(seconds, number, model)
            and (window.share >= 1 or self._draw(f"window {index} {number}", fingerprint) < window.share)
        )

    def _fault(self, personality: Personality, fingerprint: str, nth: int) -> str:
        """The fault that strikes the nth (from 0) call of this fingerprint."""
        if personality.times is not None and nth >= personality.times:
            return "none"
        if personality.share < 1 and self._draw(f"share {nth}", fingerprint) >= personality.share:
            return "none"
        return personality.fault

    def _tokens(self, tokens: Distribution, fingerprint: str) -> int:
        drawn = tokens.value if isinstance(tokens, Constant) else tokens.at(self._draw("tokens", fingerprint))
        return min(int(drawn), UNLIMITED_TOKENS)

    def _pace(self, personality: Personality, fingerprint: str, nth: int) -> Pace:
        """Drawn anew for each call of a fingerprint: a second try may be luckier than the first."""
        first, gaps = personality.ttft_ms, personality.itl_ms
        if isinstance(first, Constant) and isinstance(gaps, Constant):
            return Pace(first.value / 1000, gaps, 0)
        seed = self._seed_of(f"gaps {nth}", fingerprint)
        return Pace(first.at(self._draw(f"ttft {nth}", fingerprint)) / 1000, gaps, seed)

    def _draw(self, what: str, fingerprint: str) -> float:
        """A uniform number in [0, 1) that follows from the seed, the fingerprint and what it is for."""
        return (self._seed_of(what, fingerprint) >> 11) / (1 << 53)

    def _seed_of(self, what: str, fingerprint: str) -> int:
        return int.from_bytes(
            hashlib.blake2b(f"{self._seed} {what} {fingerprint}".encode(), digest_size=8).digest(), "big"
        )


def refused(refusal: HoldfastError) -> Plan:
    """An error of the caller's making, in OpenAI's envelope."""
    code = None if type(refusal) is InvalidRequestError else refusal.code
    body = error(refusal.message, "invalid_request_error", code, refusal.param)
    return Plan(refusal.status, JSON_HEADERS, _AT_ONCE, body=body, refused=True)


def _read_personality(
    defaults: Personality, windows: Sequence[Mapping[str, Any]], model: str, sim: str | None, fault: str | None
) -> Personality:
    try:
        return with_options(
            defaults,
            *windows,
            read_model_name(model),
            NO_OPTIONS if sim is None else read_header(sim),
            NO_OPTIONS if fault is None else read_fault_header(fault),
        )
    except ValueError as error:
        raise InvalidRequestError(f"{str(error)[:1].upper()}{str(error)[1:]}", param="model") from error


def _failed(fault: str, personality: Personality, pace: Pace, prompt_tokens: int) -> Plan | None:
    """The faults that come instead of an answer."""
    match fault:
        case "status":
            return _error_status(personality, pace)
        case "context_length_exceeded":
            message = "This model's maximum context length is exceeded. Please reduce the length of the messages."
            body = error(message, "invalid_request_error", "context_length_exceeded", "messages")
            return Plan(400, JSON_HEADERS, pace, body=body, refused=True)
        case "tls_refused":
            message = "The fault tls_refused belongs to a whole port: start it with --tls-refuse."
            body = error(message, "invalid_request_error", None, "model")
            return Plan(400, JSON_HEADERS, pace, body=body, refused=True, unreachable=True)
        case "hang":
            return Plan(0, (), pace, ending="stall", prompt_tokens=prompt_tokens)
        case "reset" if personality.after_tokens < 0:
            return Plan(0, (), pace, ending="reset", prompt_tokens=prompt_tokens)
    return None


def _error_status(personality: Personality, pace: Pace) -> Plan:
    status, wait = personality.status, personality.retry_after
    if status == HTTPStatus.TOO_MANY_REQUESTS and wait is None:
        wait = 1.0
    headers = JSON_HEADERS if wait is None else (*JSON_HEADERS, (b"retry-after", f"{wait:g}".encode()))
    kind = _ERROR_TYPES.get(
        status, "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    )
    body = error(f"The scripted model was told to answer {status}.", kind, _ERROR_CODES.get(status))
    return Plan(status, headers, pace, body=body, refused=True)
