"""Between the ports' values and rows of the database."""

import json
from collections.abc import Sequence
from typing import Any

from holdfast.engines.embedded.statements import Row
from holdfast.kernel.tenant import Role
from holdfast.kernel.tokens import Usage
from holdfast.ports.calls import Attempted, CallClosed, CallOpened, CallRow
from holdfast.ports.directory import Audited, Key, Organisation, Team

# The rows of the hot path are tuples, cut and joined here in the order of their columns: the end's usage goes last,
# and behind it the bytes.
_USAGE = CallClosed._fields.index("usage")
_OPENED = CallClosed._fields.index("opened")
_ATTEMPT_USAGE = Attempted._fields.index("usage")
_STREAM = CallOpened._fields.index("stream")
_EMPTY = CallClosed._fields.index("empty")

OPENED_WIDTH = len(CallOpened._fields)
END_WIDTH = len(CallClosed._fields) - 3 + len(Usage._fields)
ATTEMPT_WIDTH = len(Attempted._fields) - 1 + len(Usage._fields)
BYTES_WIDTH = len(CallClosed._fields) - _OPENED - 1
NO_END: Row = (None,) * (END_WIDTH - BYTES_WIDTH) + (0,) * BYTES_WIDTH


def end_row(closed: CallClosed) -> tuple[Any, ...]:
    return closed[1:_USAGE] + closed[_USAGE + 1 : _OPENED] + closed.usage + closed[_OPENED + 1 :]


def closed_row(closed: CallClosed) -> tuple[Any, ...]:
    return closed[:_USAGE] + closed[_USAGE + 1 : _OPENED] + closed.usage + closed[_OPENED + 1 :]


def attempt_row(attempt: Attempted) -> tuple[Any, ...]:
    return attempt[:_ATTEMPT_USAGE] + attempt[_ATTEMPT_USAGE + 1 :] + attempt.usage


def read_opened(row: Sequence[Any]) -> CallOpened:
    return CallOpened._make((*row[:_STREAM], bool(row[_STREAM]), *row[_STREAM + 1 : OPENED_WIDTH]))


def read_attempt(row: Sequence[Any]) -> Attempted:
    bare = len(Attempted._fields) - 1
    usage = _read_usage(row[bare:ATTEMPT_WIDTH])
    return Attempted._make((*row[:_ATTEMPT_USAGE], usage, *row[_ATTEMPT_USAGE:bare]))


def read_call(row: Sequence[Any], further: Sequence[Attempted]) -> CallRow:
    opened = read_opened(row)
    end = row[OPENED_WIDTH : OPENED_WIDTH + END_WIDTH]
    if end[0] is None:
        return CallRow(opened, None, tuple(further))
    used = END_WIDTH - BYTES_WIDTH
    bare = used - len(Usage._fields)
    before_usage, after_usage = end[: _EMPTY - 1], end[_EMPTY:bare]
    usage = _read_usage(end[bare:used])
    empty = bool(end[_EMPTY - 1])
    closed = CallClosed._make((opened.id, *before_usage, empty, usage, *after_usage, None, *end[used:]))
    costs = [closed.cost_nanodollars, *(attempt.cost_nanodollars for attempt in further)]
    known = [cost for cost in costs if cost is not None]
    return CallRow(opened, closed, tuple(further), sum(known) if len(known) == len(costs) else None)


def _read_usage(row: Sequence[Any]) -> Usage:
    return Usage._make((*row[:-1], bool(row[-1])))


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
