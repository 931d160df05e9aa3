"""OpenAI's error envelope, for our own errors and for providers that answer in another shape."""

import msgspec

from holdfast.kernel.errors import HoldfastError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
MAX_FOREIGN_TEXT = 2_000


class _Error(msgspec.Struct):
    message: str


class _Envelope(msgspec.Struct):
    error: _Error


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def error_body(error: HoldfastError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, as the official SDKs read it."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    if error.code == "budget_exceeded":
        kind = "insufficient_quota"
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    )


def error_event(error: HoldfastError) -> bytes:
    """After the first token a failure is an event of the stream."""
    return b"data: " + error_body(error) + b"\n\n"


def upstream_envelope(status: int, body: bytes) -> bytes:
    """A provider's error body as it came where it is an envelope already; anything else is quoted inside one."""
    try:
        _ENVELOPE.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        text = body[:MAX_FOREIGN_TEXT].decode("utf-8", "replace").strip() or "an empty body"
        message = f"The provider answered {status} with: {text}"
        return msgspec.json.encode(
            {"error": {"message": message, "type": "upstream_error", "param": None, "code": "upstream_status"}}
        )
    return body
