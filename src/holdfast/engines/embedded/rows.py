"""Between the ports' values and rows of the database."""

import json
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from holdfast.engines.embedded.statements import Row
from holdfast.kernel.tenant import Role
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow
from holdfast.ports.directory import Audited, Key, Organisation, Team

_USAGE = Usage._fields
_OPENED = CallOpened._fields
_END = tuple(name for name in CallClosed._fields if name not in {"id", "usage", "opened"})
_ATTEMPT = tuple(name for name in Attempted._fields if name != "usage")
_USED = tuple(f"usage.{name}" for name in _USAGE)

opened_row: Callable[[CallOpened], Row] = attrgetter(*_OPENED)
end_row: Callable[[CallClosed], Row] = attrgetter(*_END, *_USED)
closed_row: Callable[[CallClosed], Row] = attrgetter("id", *_END, *_USED)
attempt_row: Callable[[Attempted], Row] = attrgetter(*_ATTEMPT, *_USED)

OPENED_WIDTH = len(_OPENED)
END_WIDTH = len(_END) + len(_USAGE)
ATTEMPT_WIDTH = len(_ATTEMPT) + len(_USAGE)
NO_END: Row = (None,) * END_WIDTH

_STREAM = _OPENED.index("stream")
_EMPTY = _END.index("empty")


def _read_usage(row: Sequence[Any]) -> Usage:
    return Usage(**dict(zip(_USAGE, (*row[:-1], bool(row[-1])), strict=True)))


def read_opened(row: Sequence[Any]) -> CallOpened:
    values = list(row[:OPENED_WIDTH])
    values[_STREAM] = bool(values[_STREAM])
    return CallOpened(*values)


def read_attempt(row: Sequence[Any]) -> Attempted:
    named = dict(zip(_ATTEMPT, row[: len(_ATTEMPT)], strict=True))
    return Attempted(usage=_read_usage(row[len(_ATTEMPT) : ATTEMPT_WIDTH]), **named)


def read_call(row: Sequence[Any], further: Sequence[Attempted]) -> CallRow:
    opened = read_opened(row)
    end = list(row[OPENED_WIDTH : OPENED_WIDTH + len(_END)])
    if end[0] is None:
        return CallRow(opened, None, tuple(further))
    end[_EMPTY] = bool(end[_EMPTY])
    usage = _read_usage(row[OPENED_WIDTH + len(_END) : OPENED_WIDTH + END_WIDTH])
    closed = CallClosed(id=opened.id, usage=usage, **dict(zip(_END, end, strict=True)))
    costs = [closed.cost_nanodollars, *(attempt.cost_nanodollars for attempt in further)]
    known = [cost for cost in costs if cost is not None]
    return CallRow(opened, closed, tuple(further), sum(known) if len(known) == len(costs) else None)


def organisation_row(row: Organisation, version: int) -> Row:
    return (row.name, json.dumps(row.limits), row.created_at, row.deleted_at, version)


def team_row(row: Team, version: int) -> Row:
    return (row.organisation, row.name, json.dumps(row.limits), row.created_at, row.deleted_at, version)


def key_row(row: Key, version: int) -> Row:
    return (
        row.id, row.name, row.organisation, row.team, json.dumps(row.hashes), row.hint, str(row.role), row.may_call,
        json.dumps(row.models), json.dumps(row.tags), json.dumps(row.limits), row.expires_at, row.created_at,
        row.revoked_at, version,
    )  # fmt: skip


def audited_row(row: Audited) -> Row:
    return (row.at, row.id, row.actor, row.action, row.subject, row.request_id, _json(row.before), _json(row.after))


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def read_organisation(row: Sequence[Any]) -> Organisation:
    name, limits, *rest = row
    return Organisation(name, json.loads(limits), *rest)


def read_team(row: Sequence[Any]) -> Team:
    organisation, name, limits, *rest = row
    return Team(organisation, name, json.loads(limits), *rest)


def read_key(row: Sequence[Any]) -> Key:
    identity, name, organisation, team, hashes, hint, role, may_call, models, tags, limits, *rest = row
    fingerprints = tuple((digest, until) for digest, until in json.loads(hashes))
    return Key(
        identity, name, organisation, team, fingerprints, hint, Role(role), bool(may_call),
        tuple(json.loads(models)), tuple(json.loads(tags)), json.loads(limits), *rest,
    )  # fmt: skip


def read_audited(row: Sequence[Any]) -> Audited:
    identity, at, actor, action, subject, request_id, before, after = row
    return Audited(identity, at, actor, action, subject, request_id, _read_json(before), _read_json(after))


def _read_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
