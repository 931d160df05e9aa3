"""Numbered schema files, each applied once in one transaction; see schema/README.md for what a file may do."""

import re
from dataclasses import dataclass
from importlib import resources

import apsw

from holdfast.kernel.errors import SchemaMismatchError

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at REAL    NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def known_migrations() -> tuple[Migration, ...]:
    """What this release can apply, in order."""
    found = []
    for file in resources.files(__package__).joinpath("schema").iterdir():
        matched = _FILE.fullmatch(file.name)
        if matched is not None:
            found.append(Migration(int(matched[1]), matched[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


def schema_version(connection: apsw.Connection) -> int:
    """0: nothing was applied yet."""
    if not connection.table_exists(None, "migrations"):
        return 0
    found = connection.execute("SELECT max(version) FROM migrations").get
    return int(found or 0)


def check_schema(connection: apsw.Connection, migrations: tuple[Migration, ...]) -> int:
    """The store's version; SchemaMismatchError where it is more than one schema ahead of this release."""
    stored, ours = schema_version(connection), migrations[-1].version
    if stored > ours + 1:
        raise SchemaMismatchError(
            f"The store is at schema {stored}; this release knows schema {ours} and can run on {ours + 1} at most. "
            "Start the newer release, or restore a backup made by this one."
        )
    return stored


def migrate(connection: apsw.Connection, now: float, migrations: tuple[Migration, ...] | None = None) -> int:
    """Bring the store to this release's schema and return the version it is at, which may be one ahead."""
    known = known_migrations() if migrations is None else migrations
    stored = check_schema(connection, known)
    for migration in known:
        if migration.version > stored:
            with connection:  # a savepoint: the file and its row, or neither
                connection.execute(_TABLE)
                connection.execute(migration.sql)
                connection.execute(
                    "INSERT INTO migrations (version, name, applied_at) VALUES (?, ?, ?)",
                    (migration.version, migration.name, now),
                )
    return schema_version(connection)
