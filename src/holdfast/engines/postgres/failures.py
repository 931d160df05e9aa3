"""What the driver raises, said in our words: never with the password, always with what does not work."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.kernel.errors import SettingsError, StoreUnavailableError

APPLIED = "HF001"  # raised by advance_1: this batch was committed before
UNKNOWN_WRITER = "HF002"
# Data the store cannot hold, constraints, and values beyond its limits: sending the same again changes nothing.
_HOPELESS_CLASSES = ("22", "23", "54")
UNKNOWN_CALL = "HF003"  # raised by refuse_1: an end of no call
_AGAIN = ("40001", "40P01")  # another transaction was in the way
CONNECT_SECONDS = 5


class Address:
    """A connection URL that can be shown: everything but the password, and safe defaults where the URL says nothing."""

    def __init__(self, url: str, node: str) -> None:
        try:
            said = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise SettingsError(
                "store.postgres is not a connection URL: postgresql://user:password@host:5432/database"
            ) from None
        host = str(said.get("host") or said.get("hostaddr") or "the local socket")
        if "@" in host:
            raise SettingsError("store.postgres: a password with @ in it has to be percent-encoded (%40)")
        self._password = str(said["password"]) if said.get("password") else None
        self.shown = f"PostgreSQL at {host}:{said.get('port', 5432)}/{said.get('dbname', '')}"
        defaults: dict[str, str | int | None] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": f"holdfast {node}",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "client_encoding": "utf8",
        }
        self.conninfo = make_conninfo(url, **{name: value for name, value in defaults.items() if name not in said})

    def unavailable(self, error: psycopg.Error | OSError) -> StoreUnavailableError:
        text = " ".join(str(error).split()) or type(error).__name__
        if self._password is not None:
            text = text.replace(self._password, "***")
        text = re.sub(r"password=\S+", "password=***", text)
        verb = "refused" if isinstance(error, psycopg.Error) and answered(error) else "does not answer"
        return StoreUnavailableError(f"{self.shown} {verb}: {text[:500]}", retry_after_seconds=1.0)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Whatever the driver raises inside is StoreUnavailableError outside."""
        try:
            yield
        except (psycopg.Error, OSError) as error:
            raise self.unavailable(error) from error


def hopeless(error: psycopg.Error) -> bool:
    return (error.sqlstate or "")[:2] in _HOPELESS_CLASSES or error.sqlstate == UNKNOWN_CALL


def in_the_way(error: psycopg.Error) -> bool:
    return error.sqlstate in _AGAIN


def answered(error: psycopg.Error) -> bool:
    """The server itself refused, so its transaction is rolled back. Without this the outcome may be unknown."""
    return error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P"))
