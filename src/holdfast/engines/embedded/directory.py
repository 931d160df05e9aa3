"""EmbeddedDirectory: organisations, teams, keys and their audit, read on reader threads; changes come through the record."""

from collections.abc import Sequence
from typing import Any

import apsw

from holdfast.engines.embedded.connections import fetch
from holdfast.engines.embedded.readers import Readers
from holdfast.engines.embedded.rows import read_audited, read_key, read_organisation, read_team
from holdfast.engines.embedded.statements import load
from holdfast.ports.directory import Audited, Changes


class EmbeddedDirectory:
    """Promises of `ports.directory.Directory`."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._sql = load("directory.sql")

    async def changes_since(self, version: int) -> Changes:
        return await self._readers.read(lambda connection: self._changes(connection, version))

    async def audit(
        self, *, limit: int = 100, before: tuple[float, str] | None = None, subject: str | None = None
    ) -> Sequence[Audited]:
        conditions = ["TRUE"]
        values: dict[str, Any] = {"limit": limit}
        if before is not None:
            conditions.append("(at, id) < (:before_at, :before_id)")
            values |= {"before_at": before[0], "before_id": before[1]}
        if subject is not None:
            conditions.append("subject = :subject")
            values["subject"] = subject
        sql = self._sql["audit_page"].replace("{conditions}", " AND ".join(conditions))
        return await self._readers.read(
            lambda connection: [read_audited(row) for row in fetch(connection, sql, values)]
        )

    def _changes(self, connection: apsw.Connection, version: int) -> Changes:
        connection.execute("BEGIN")  # one snapshot for the version and the rows
        try:
            now = int(connection.execute(self._sql["version"]).get)
            organisations, teams, keys = (
                fetch(connection, self._sql[name], (version,)) if now > version else []
                for name in ("organisations_since", "teams_since", "keys_since")
            )
        finally:
            connection.execute("COMMIT")
        return Changes(
            now,
            tuple(read_organisation(row) for row in organisations),
            tuple(read_team(row) for row in teams),
            tuple(read_key(row) for row in keys),
        )
