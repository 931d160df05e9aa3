"""A running Holdfast as the command line meets it: through the socket in its data folder, or by URL and key."""

import json
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from holdfast.kernel.doorway import reachable

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 600.0


class RemoteError(Exception):
    """What went wrong, in a sentence. `status`: what was answered, 0 where nothing was."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NobodyError(RemoteError):
    """Nobody listens there."""


class SocketConnection(HTTPConnection):
    """HTTP over the socket in a data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("localhost")
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_SECONDS)
        with reachable(self._folder) as path:
            self.sock.connect(path)


class Remote:
    """Asks one Holdfast, one connection a question."""

    def __init__(self, *, folder: Path | None = None, url: str | None = None, key: str | None = None) -> None:
        self._folder = folder
        self._url = url
        self._key = key

    @property
    def place(self) -> str:
        return self._url if self._url is not None else f"the data folder {self._folder}"

    def get(self, path: str, query: Mapping[str, str | None] | None = None, *, accept: tuple[int, ...] = ()) -> Any:
        """The JSON of the answer. `accept` names statuses that are answers too. RemoteError says what was refused, and why."""
        said = {name: value for name, value in (query or {}).items() if value is not None}
        return self.ask("GET", path + (f"?{urlencode(said)}" if said else ""), accept=accept)

    def ask(self, method: str, path: str, body: Any = None, *, accept: tuple[int, ...] = ()) -> Any:
        """As `get`, with any method; `body` is sent as JSON."""
        headers = {"accept": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            with closing(self._connection()) as connection:
                connection.connect()
                connection.sock.settimeout(ANSWER_SECONDS)
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                status, data = answer.status, answer.read()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NobodyError(f"No Holdfast runs at {self.place}.") from error
        except (OSError, HTTPException) as error:
            raise RemoteError(f"{self.place} does not answer: {error}.") from error
        try:
            content = json.loads(data) if data else None
        except ValueError as error:
            raise RemoteError(f"{self.place} answered {status}, and no JSON: is it a Holdfast?", status) from error
        if status >= 400 and status not in accept:
            raise RemoteError(_sentence(content, status), status)
        return content

    def _connection(self) -> HTTPConnection:
        if self._url is None:
            return SocketConnection(self._folder if self._folder is not None else Path())
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise RemoteError(f"{self._url} is no URL such as http://127.0.0.1:8080.")
        if parts.scheme == "http":
            return HTTPConnection(parts.hostname, parts.port, timeout=CONNECT_SECONDS)
        context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
        return HTTPSConnection(parts.hostname, parts.port, timeout=CONNECT_SECONDS, context=context)


def _sentence(content: Any, status: int) -> str:
    if isinstance(content, dict) and isinstance(content.get("detail"), str):
        return str(content["detail"])
    return f"It answered {status}."
