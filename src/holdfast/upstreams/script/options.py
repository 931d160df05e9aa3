"""How a call is steered: options in the model's name, in headers, in a schedule's window or in the server's defaults.

    scripted?ttft_ms=lognormal:200:2000&itl_ms=20&tokens=50&fault=stall&after=10         the model's name
    X-Sim: ttft_ms=200; itl_ms=20                                                         a header
    X-Sim-Fault: 429; retry_after=2                                                       a header, the fault first

The name is `NAME` or `NAME?OPTION=VALUE&OPTION=VALUE`; a value may be percent-encoded. The nearest wins: X-Sim-Fault, X-Sim,
the model's name, the schedule's window, the server's defaults.
A gateway in between passes the name on, not the headers. Unknown options and values are refused with status 400 and the nearest name.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from holdfast.upstreams.script.distributions import THIRTY_TWO, ZERO, Distribution, parse_distribution
from holdfast.upstreams.script.faults import FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """How one call is answered. Every field is an option of the same name."""

    ttft_ms: Distribution = ZERO
    itl_ms: Distribution = ZERO
    tokens: Distribution = THIRTY_TWO
    reasoning: int = 0
    text: str | None = None
    calls: int = 1
    cache: int = 0
    fault: str = "none"
    after: int | None = None
    status: int = 500
    retry_after: float | None = None
    share: float = 1.0
    times: int | None = None
    drip_ms: float = 50.0
    drip_bytes: int = 1

    @property
    def after_tokens(self) -> int:
        """Where the fault strikes; -1: before the answer begins."""
        return FAULTS[self.fault].after_tokens if self.after is None else self.after


DEFAULTS = Personality()


class Option(NamedTuple):
    value: str
    help: str
    read: Callable[[str], Any]


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not text.isascii() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _real(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return number

    return read


def _fault(text: str) -> str:
    if text not in FAULTS:
        near = difflib.get_close_matches(text, FAULTS, 1)
        raise ValueError(
            f"is no fault{f'; did you mean {near[0]}?' if near else ''} Faults: {', '.join(FAULTS)}, or a status"
        )
    return text


_many = _whole(0, 1_000_000)

OPTIONS: Mapping[str, Option] = MappingProxyType(
    {
        "ttft_ms": Option("DISTRIBUTION", "Milliseconds to the first token.", parse_distribution),
        "itl_ms": Option("DISTRIBUTION", "Milliseconds between two tokens.", parse_distribution),
        "tokens": Option("DISTRIBUTION", "Length of the answer, at most 1,000,000; 32 where it is not said.", parse_distribution),
        "reasoning": Option("N", "Reasoning tokens before the answer: they take time and count, and are not shown.", _many),
        "text": Option("TEXT", "Answers exactly this text, percent-encoded.", str),
        "calls": Option("N", "How many tools a required tool call calls at once, if parallel calls are allowed.", _whole(1, 128)),
        "cache": Option("0|1", "1: messages this server has seen at the start of an earlier prompt count as cached tokens.", _whole(0, 1)),
        "fault": Option("FAULT", "What goes wrong: a name from the table of faults, or an error status.", _fault),
        "after": Option("N", "Tokens (of each choice) before the fault strikes.", _many),
        "status": Option("STATUS", "The status of fault=status.", _whole(400, 599)),
        "retry_after": Option("SECONDS", "The header Retry-After of an error status.", _real(0, 1e6)),
        "share": Option("0..1", "The fault strikes this share of the calls, drawn from the seed.", _real(0, 1)),
        "times": Option("N", "The fault strikes the first N calls of each fingerprint, so that a retry succeeds.", _many),
        "drip_ms": Option("MS", "The pause between two pieces of fault=drip.", _real(0, 1e6)),
        "drip_bytes": Option("N", "The size of a piece of fault=drip.", _whole(1, 1_000_000)),
    }
)  # fmt: skip

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def read_option(name: str, text: str) -> dict[str, Any]:
    """Raises ValueError with a sentence that names the option."""
    option = OPTIONS.get(name)
    if option is None:
        near = difflib.get_close_matches(name, OPTIONS, 1)
        raise ValueError(
            f"unknown option {name!r}{f'; did you mean {near[0]}?' if near else ''} Options: {', '.join(OPTIONS)}"
        )
    if name == "fault" and len(text) == 3 and text.isdecimal():
        return {"fault": "status", **read_option("status", text)}
    try:
        return {name: option.read(text)}
    except ValueError as error:
        raise ValueError(f"option {name}={text}: {error}") from error


def read_model_name(name: str) -> Mapping[str, Any]:
    """The options in a model's name."""
    _, mark, query = name.partition("?")
    return _read_pairs(query, "&") if mark else NO_OPTIONS


def read_header(value: str) -> Mapping[str, Any]:
    """X-Sim: options divided by semicolons."""
    return _read_pairs(value, ";")


def read_fault_header(value: str) -> Mapping[str, Any]:
    """X-Sim-Fault: the fault, then its options, divided by semicolons."""
    fault, _, rest = value.partition(";")
    return {**read_option("fault", fault.strip()), **_read_pairs(rest, ";")}


def _read_pairs(text: str, divider: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(divider):
        pair = part.strip()
        if not pair:
            continue
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not OPTION=VALUE")
        found |= read_option(name.strip(), unquote(value.strip(), errors="strict"))
    return found


def with_options(base: Personality, *layers: Mapping[str, Any]) -> Personality:
    """`base` with each layer over it, the last on top."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= layer
    return replace(base, **merged) if merged else base
