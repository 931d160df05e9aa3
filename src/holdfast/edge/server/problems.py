"""Errors of the control API, RFC 9457: the one place where an error becomes an answer."""

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from holdfast.kernel.errors import (
    AuthenticationError,
    HoldfastError,
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
)

MEDIA_TYPE = "application/problem+json"
SHOWN_FAULTS = 20
DOCUMENTED: dict[int, str] = {
    400: "The request cannot be read, or a field of it is wrong.",
    401: "No key, or none that opens anything.",
    403: "The key may not do this.",
    404: "No such thing, or none that this key may see.",
    405: "The path exists, the method does not.",
    408: "The request arrived too slowly.",
    409: "Somebody else's change came first, the name is taken, or the settings file owns the object.",
    413: "The body is too large.",
    429: "Too much was asked.",
    431: "The headers are too large.",
    500: "A defect of Holdfast; the request id finds it in the log.",
    503: "A store this needs does not answer, or this process is full or about to stop.",
}


class Fault(BaseModel):
    """A field that is wrong."""

    field: str = Field(description="Where: `body.limits.concurrent`, `query.limit`.")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="`urn:holdfast:error:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What went wrong, and what to do.")
    code: str = Field(description="Stable; docs/reference lists them.")
    request_id: str
    param: str | None = Field(default=None, description="The one field that is wrong.")
    errors: list[Fault] | None = Field(default=None, description="All fields that are wrong.")


def request_id_of(request: Request) -> str:
    return cast(str, getattr(request.state, "request_id", ""))


def problem(
    error: HoldfastError, request_id: str, faults: Sequence[Fault] = (), extra: Mapping[str, str] | None = None
) -> Response:
    """The answer to an error. Its headers say when to ask again, and how to authenticate."""
    content: dict[str, Any] = {
        "type": f"urn:holdfast:error:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.param is not None:
        content["param"] = error.param
    if faults:
        content["errors"] = [fault.model_dump() for fault in faults]
    headers = {"cache-control": "no-store", "x-request-id": request_id, **(extra or {})}
    if isinstance(error, AuthenticationError):
        headers["www-authenticate"] = 'Bearer realm="holdfast", error="invalid_token"'
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    elif error.status == 503:
        headers["retry-after"] = "1"
    body = json.dumps(content).encode()  # ASCII, so that no string, however broken, stops an error from being said
    return Response(body, error.status, headers, MEDIA_TYPE)


async def on_holdfast_error(request: Request, error: Exception) -> Response:
    return problem(cast(HoldfastError, error), request_id_of(request))


async def on_validation_error(request: Request, error: Exception) -> Response:
    faults = [_fault(found) for found in cast(RequestValidationError, error).errors()[:SHOWN_FAULTS]]
    sentence = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:3])
    refused = InvalidRequestError(
        f"The request cannot be taken. {sentence}.", param=faults[0].field if faults else None
    )
    return problem(refused, request_id_of(request), faults)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework itself refuses."""
    status = cast(HTTPException, error).status_code
    request_id = request_id_of(request)
    if status == 404:
        return problem(
            NotFoundError(f"There is no {request.url.path[:200]} here; GET /api/openapi.json lists what is."),
            request_id,
        )
    if status == 405:
        allowed = ", ".join(sorted(_methods(request)))
        refused = MethodNotAllowedError(f"{request.url.path[:200]} takes {allowed}.")
        return problem(refused, request_id, extra={"allow": allowed})
    if status == 400:
        return problem(InvalidRequestError("The body cannot be read as JSON."), request_id)
    return problem(InternalError(f"The framework answered {status}."), request_id)


async def on_defect(request: Request, error: Exception) -> Response:
    """A defect: the server logs the trace, the client gets the id that finds it."""
    request_id = request_id_of(request)
    return problem(InternalError(f"Holdfast failed; the log says why under {request_id}."), request_id)


def _methods(request: Request) -> set[str]:
    return {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in getattr(route, "methods", None) or ()
    }


def _fault(found: Mapping[str, Any]) -> Fault:
    """Without the value: it may be a secret, or no text at all."""
    place = ".".join(str(part) for part in found["loc"])
    return Fault(field=place[:200] or "body", message=str(found["msg"])[:300])
