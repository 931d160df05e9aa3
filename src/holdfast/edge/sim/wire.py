"""HTTP/1.1 as bytes: heads, chunks, and what is refused."""

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

from holdfast.dialects.openai.answer import error

JSON_HEADERS = ((b"content-type", b"application/json"),)
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

Headers = Sequence[tuple[bytes, bytes]]


class Request:
    """A request as it was read. `refusal`: an error's status, message and headers, where it could not be read."""

    __slots__ = (
        "body",
        "fault_header",
        "has_host",
        "http10",
        "keep_alive",
        "method",
        "refusal",
        "sim_header",
        "target",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.body = b""
        self.sim_header: bytes | None = None
        self.fault_header: bytes | None = None
        self.has_host = False
        self.http10 = False
        self.keep_alive = False
        self.refusal: tuple[int, str] | None = None


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Scripted\r\n" % status


def head(status: int, headers: Headers, id: str, framing: bytes, request: Request, date: bytes) -> bytes:
    """`framing`: the line that says where the body ends; `date`: the line of the second this is."""
    parts = [status_line(status)]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    if id:
        parts += (b"x-request-id: ", id.encode(), b"\r\n")
    if not request.keep_alive:
        parts.append(b"connection: close\r\n")
    elif request.http10:
        parts.append(b"connection: keep-alive\r\n")
    parts += (date, framing, b"\r\n")
    return b"".join(parts)


def length(size: int) -> bytes:
    return b"content-length: %d\r\n" % size


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def broken_chunk(data: bytes) -> bytes:
    """A chunk that promises more than comes."""
    return b"%x\r\n%b" % (2 * len(data) + 1, data)


def date_line() -> bytes:
    return b"date: " + formatdate(usegmt=True).encode() + b"\r\n"


def error_body(status: int, message: str) -> bytes:
    """OpenAI's envelope for what is wrong with the request as HTTP."""
    codes = {
        404: "not_found",
        405: "method_not_allowed",
        408: "request_timeout",
        413: "body_too_large",
        431: "headers_too_large",
    }
    return error(message, "invalid_request_error", codes.get(status))
