"""Between the ports' values and rows of the database."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from psycopg.types.json import Jsonb

from holdfast.kernel.tenant import Role
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow
from holdfast.ports.directory import Audited, Key, Organisation, Team

Row = tuple[Any, ...]

_USED = tuple(f"usage.{name}" for name in Usage._fields)
_BYTES = ("upstream_bytes", "answer_bytes")
_OPENED = CallOpened._fields
_END = tuple(name for name in CallClosed._fields if name not in {"id", "usage", "opened", *_BYTES})
_ATTEMPT = tuple(name for name in Attempted._fields if name != "usage")

# Columns stand in the order of the ports' fields, then usage, then bytes.
opened_row: Callable[[CallOpened], Row] = tuple  # it is one
end_row: Callable[[CallClosed], Row] = attrgetter(*_END, *_USED, *_BYTES)
closed_row: Callable[[CallClosed], Row] = attrgetter("id", *_END, *_USED, *_BYTES)
attempt_row: Callable[[Attempted], Row] = attrgetter(*_ATTEMPT, *_USED)

_REPLACEMENT = "\ufffd"


def encode(rows: Sequence[Any]) -> str:
    """Rows as one JSON value. PostgreSQL's text holds no NUL and no half of a surrogate pair: they become U+FFFD."""
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    if "\\u0000" in text:
        text = json.dumps(_without_nul(rows), ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", _REPLACEMENT)
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def document(value: Any) -> Jsonb:
    return Jsonb(value, dumps=encode)


def read_opened(row: Sequence[Any]) -> CallOpened:
    return CallOpened(*row[: len(_OPENED)])


def read_attempt(row: Sequence[Any]) -> Attempted:
    named = dict(zip(_ATTEMPT, row, strict=False))
    return Attempted(usage=Usage(*row[len(_ATTEMPT) : len(_ATTEMPT) + len(_USED)]), **named)


def read_call(row: Sequence[Any], further: Sequence[Attempted]) -> CallRow:
    opened = read_opened(row)
    end = row[len(_OPENED) : len(_OPENED) + len(_END)]
    if end[0] is None:
        return CallRow(opened, None, tuple(further))
    used = len(_OPENED) + len(_END)
    sent = used + len(_USED)
    ended = dict(zip((*_END, *_BYTES), (*end, *row[sent : sent + len(_BYTES)]), strict=True))
    closed = CallClosed(id=opened.id, usage=Usage(*row[used:sent]), **ended)
    costs = [closed.cost_nanodollars, *(attempt.cost_nanodollars for attempt in further)]
    known = [cost for cost in costs if cost is not None]
    return CallRow(opened, closed, tuple(further), sum(known) if len(known) == len(costs) else None)


def put_parameters(row: Organisation | Team | Key, version: int) -> dict[str, Any]:
    """Named as the columns are; what has parts is stored as JSON."""
    parameters = asdict(row) | {"version": version}
    for name in ("limits", "hashes", "models", "tags"):
        if name in parameters:
            parameters[name] = document(parameters[name])
    if isinstance(row, Key):
        parameters["role"] = str(row.role)
    return parameters


def audited_parameters(row: Audited) -> dict[str, Any]:
    before, after = row.before, row.after
    return asdict(row) | {
        "before": None if before is None else document(before),
        "after": None if after is None else document(after),
    }


def read_key(row: dict[str, Any]) -> Key:
    hashes = tuple((digest, until) for digest, until in row["hashes"])
    parts = {"hashes": hashes, "role": Role(row["role"]), "models": tuple(row["models"]), "tags": tuple(row["tags"])}
    return Key(**(row | parts))
