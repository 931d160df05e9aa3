"""DATA/holdfast.sock: the door for whoever owns the data. No key is asked for, because whoever may open the socket may read
the data folder anyway; it stands there with the owner's rights alone.

Behind it stands everything the main port answers beside models, asked by Holdfast itself, and verbs that exist only here:
a backup, recomputing budgets, and the state of this process.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from holdfast.edge.server.operations import Operations
from holdfast.edge.server.problems import problem
from holdfast.features.tenancy.model import OWNER
from holdfast.kernel.doorway import SOCKET, reachable
from holdfast.kernel.errors import HoldfastError, InvalidRequestError, NotFoundError, StoreUnavailableError
from holdfast.kernel.ids import make_id
from holdfast.ports.money import Difference

CLOSE_SECONDS = 5.0

Backup = Callable[[Path], Awaitable[None]]
Recompute = Callable[[bool], Awaitable[Sequence[Difference]]]


class LocalApp:
    """The ASGI application behind the socket. `backup` is None where the store has tools of its own."""

    def __init__(
        self, front: ASGIApp, operations: Operations, url: str, *, backup: Backup | None, recompute: Recompute
    ) -> None:
        self._front = front
        self._operations = operations
        self._url = url
        self._backup = backup
        self._recompute = recompute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if not scope["path"].startswith("/local/"):
            scope.setdefault("state", {})["principal"] = OWNER
            await self._front(scope, receive, send)
            return
        try:
            response = await self._answer(Request(scope, receive))
        except HoldfastError as error:
            response = problem(error, make_id("req"))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        verb = TABLE.get((request.method, request.url.path))
        if verb is None:
            raise NotFoundError(f"There is no {request.method} {request.url.path[:200]} here.")
        said = await _said(request) if request.method == "POST" else {}
        return Response(json.dumps(await verb(self, said)).encode(), media_type="application/json")

    async def status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        record = self._operations.gateway.record
        return {
            **self._operations.detail(),
            "url": self._url,
            "pid": os.getpid(),
            "incarnation": record.incarnation,
        }

    async def back_up(self, said: Mapping[str, Any]) -> dict[str, Any]:
        if self._backup is None:
            raise InvalidRequestError(
                "The record is in PostgreSQL: back it up with its own tools (pg_dump, or snapshots)."
            )
        target = said.get("target")
        if not isinstance(target, str) or not Path(target).is_absolute():
            raise InvalidRequestError("`target` is missing: an absolute path.", param="target")
        await self._operations.gateway.record.flush()
        await self._backup(Path(target))
        return {"target": target, "incarnation": self._operations.gateway.record.incarnation}

    async def recompute(self, said: Mapping[str, Any]) -> dict[str, Any]:
        repair = said.get("repair", False)
        if not isinstance(repair, bool):
            raise InvalidRequestError("`repair` is true or false.", param="repair")
        differences = await self._recompute(repair)
        return {"repaired": repair, "differences": [asdict(difference) for difference in differences]}


TABLE: Mapping[tuple[str, str], Callable[[LocalApp, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
    ("GET", "/local/status"): LocalApp.status,
    ("POST", "/local/backup"): LocalApp.back_up,
    ("POST", "/local/money/recompute"): LocalApp.recompute,
}


async def _said(request: Request) -> Mapping[str, Any]:
    try:
        said = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise InvalidRequestError("The body is no JSON.") from error
    if not isinstance(said, dict):
        raise InvalidRequestError("The body is no JSON object.")
    return said


class LocalDoor:
    """While entered, the application is served on the folder's socket; a socket that nobody listens on is replaced."""

    def __init__(self, folder: Path, app: ASGIApp) -> None:
        self._folder = folder
        self._config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none"
        )
        self._state = ServerState()
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> "LocalDoor":
        """StoreUnavailableError: another process listens there, or the folder does not take a socket."""
        self._config.load()
        listener = bound(self._folder)
        self._server = await asyncio.get_running_loop().create_unix_server(self._protocol, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        with suppress(OSError):
            (self._folder / SOCKET).unlink()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})


def bound(folder: Path) -> socket.socket:
    """A socket in the folder that only the folder's owner may open."""
    with ExitStack() as on_failure:
        listener = on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with reachable(folder) as path:
                _remove_stale(Path(path))
                os.fchmod(listener.fileno(), 0o600)  # Linux makes the name with this mode; elsewhere it follows
                listener.bind(path)
                Path(path).chmod(0o600)
        except OSError as error:
            raise StoreUnavailableError(f"{folder / SOCKET} cannot be made: {error.strerror}.") from error
        listener.setblocking(False)
        on_failure.pop_all()
    return listener


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise StoreUnavailableError(f"{path} is there and is no socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StoreUnavailableError(
        "Another Holdfast listens on the data folder's socket. Stop it, or name another folder."
    )
