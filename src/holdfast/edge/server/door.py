"""What holds for every request of the control API, before a route sees it."""

import asyncio
import re

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.edge.server.control import ApiDeps
from holdfast.edge.server.problems import problem
from holdfast.features.tenancy.model import Asker
from holdfast.kernel.errors import AuthenticationError, BodyTooLargeError, OverloadedError
from holdfast.kernel.ids import make_id

MAX_BODY_BYTES = 256 * 1024
READ_SECONDS = 15.0
OWN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Door:
    """Outermost: a request id, the key, the body's size, a time limit on reads, and answers that nobody may store. The body
    is taken whole before the route begins; a request without a key is refused before its body is looked at."""

    def __init__(self, app: ASGIApp, deps: ApiDeps, public: frozenset[str]) -> None:
        self._app = app
        self._deps = deps
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if OWN_ID.fullmatch(given) else make_id("req")
        try:
            refusal = await self._enter(request, request_id, scope, receive, send)
        except ClientDisconnect:
            return  # nobody waits, and half a body is none
        if refusal is not None:
            await refusal(scope, receive, send)

    async def _enter(
        self, request: Request, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> Response | None:
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        if scope["path"] not in self._public:
            principal = state.get("principal")  # there where the door was the data folder's socket
            try:
                principal = principal or self._deps.tenancy.authenticate(_credential(request))
            except AuthenticationError as error:
                return problem(error, request_id)
            state["asker"] = Asker(principal, request_id)
        marked = _Marked(send, request_id)
        if scope["method"] != "GET":
            body = await _whole(request, receive)
            if body is None:
                return problem(
                    BodyTooLargeError(f"The control API takes bodies up to {MAX_BODY_BYTES} bytes."), request_id
                )
            await self._app(scope, _Replayed(body, receive), marked)
            return None
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._app(scope, receive, marked)
        except TimeoutError:
            if marked.started:
                raise
            return problem(
                OverloadedError("The query took too long and was stopped. Ask for less at once."), request_id
            )
        return None


class _Marked:
    """Sends on, with the headers every answer has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["cache-control"] = "no-store"
            headers["x-request-id"] = self._request_id
        await self._send(message)


class _Replayed:
    """The body in one message, then what the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _whole(request: Request, receive: Receive) -> bytes | None:
    """The body, or None where it is too large. ClientDisconnect: the rest of it will never come."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _credential(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None
