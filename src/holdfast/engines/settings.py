"""[store]: where state lives."""

from dataclasses import dataclass

from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import at_least, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The engines: SQLite in the data folder until `postgres` is said, this process's memory until `redis` is said."""

    data: str = setting("holdfast-data", help="The data folder of the embedded engines.", restart=True)
    postgres: Secret | None = setting(
        None, help='PostgreSQL instead of SQLite: a connection URL, better "env:NAME" or "file:PATH".', restart=True
    )
    redis: Secret | None = setting(
        None,
        help='Redis for rates instead of this process\'s memory: a URL, better "env:NAME" or "file:PATH".',
        restart=True,
    )
    commit_interval_seconds: float = setting(
        0.01,
        help="Records are committed at most this long after they were handed over.",
        check=at_least(0),
        restart=True,
    )
    postgres_connections: int = setting(
        8, help="Connections to PostgreSQL from one process.", check=at_least(2), restart=True
    )
    retention_days: float = setting(
        90.0, help="Call rows older than this are deleted.", check=at_least(1), restart=True
    )
