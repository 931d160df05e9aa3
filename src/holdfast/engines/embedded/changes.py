"""Changes become rows, inside the writer's transaction."""

import json
from collections.abc import Iterable

import apsw

from holdfast.engines.embedded.merge import Merged
from holdfast.engines.embedded.rows import (
    ATTEMPT_WIDTH,
    END_WIDTH,
    OPENED_WIDTH,
    audited_row,
    key_row,
    organisation_row,
    team_row,
)
from holdfast.engines.embedded.statements import ManyRows, Row, Value, load
from holdfast.engines.embedded.units import Unit
from holdfast.kernel.errors import ConflictError
from holdfast.ports.directory import Key, Organisation, Put, Team


class Changes:
    """`apply` either writes all units or raises; the caller's transaction or savepoint undoes the rest."""

    def __init__(self) -> None:
        calls, money = load("calls.sql"), load("money.sql")
        self._write_calls = ManyRows(calls["write_calls"], OPENED_WIDTH + END_WIDTH)
        self._close_calls = ManyRows(calls["close_calls"], 1 + END_WIDTH)
        self._write_attempts = ManyRows(calls["write_attempts"], ATTEMPT_WIDTH)
        self._spend = ManyRows(money["spend"], 3)
        self._unknown_calls = calls["unknown_calls"]
        self._complete_balance = money["complete_balance"]
        self._directory = load("directory.sql")

    def apply(self, connection: apsw.Connection, units: Iterable[Unit]) -> None:
        merged = Merged(units)
        if merged.calls:
            self._write_calls.run(connection, merged.calls)
        if merged.ends and self._close_calls.run(connection, merged.ends) < len(merged.ends):
            self._refuse_unknown(connection, [row[0] for row in merged.ends])
        if merged.attempts:
            self._write_attempts.run(connection, merged.attempts)
        if merged.spent:
            self._spend.run(connection, merged.spent)
        for counted in merged.counted:
            connection.execute(self._complete_balance, counted)
        for change in merged.directory:
            if isinstance(change, Put):
                self._put(connection, change)
            else:
                connection.execute(self._directory["add_audited"], audited_row(change))

    def _refuse_unknown(self, connection: apsw.Connection, ids: list[Value]) -> None:
        """Fewer rows changed than there were ends: calls that had one already, or that nobody opened."""
        unknown = connection.execute(self._unknown_calls, (json.dumps(ids),)).fetchall()
        if unknown:
            raise ConflictError(f"Call {unknown[0][0]} was never opened: its end has to carry `opened`.")

    def _put(self, connection: apsw.Connection, put: Put) -> None:
        kind, key = _named(put.row)
        if put.expect_version is not None:
            current = connection.execute(self._directory[f"{kind}_version"], key).get or 0
            if current != put.expect_version:
                raise ConflictError(_conflict(kind, "/".join(key), current, put.expect_version))
        version = int(connection.execute(self._directory["next_version"]).get)
        connection.execute(self._directory[f"put_{kind}"], _row(put.row, version))


def _named(row: Organisation | Team | Key) -> tuple[str, tuple[str, ...]]:
    if isinstance(row, Organisation):
        return "organisation", (row.name,)
    if isinstance(row, Team):
        return "team", (row.organisation, row.name)
    return "key", (row.id,)


def _row(row: Organisation | Team | Key, version: int) -> Row:
    if isinstance(row, Organisation):
        return organisation_row(row, version)
    if isinstance(row, Team):
        return team_row(row, version)
    return key_row(row, version)


def _conflict(kind: str, name: str, current: int, expected: int) -> str:
    if expected == 0:
        return f"The {kind} {name} exists already."
    if current == 0:
        return f"The {kind} {name} does not exist."
    return f"The {kind} {name} was changed by somebody else: it is at version {current}, not {expected}."
