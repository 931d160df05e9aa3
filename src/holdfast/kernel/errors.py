"""One tree of errors. Whatever goes wrong between a client and a model has a place here.

HoldfastError
├── CallerError                     fault = caller: the request has to change
│   ├── InvalidRequestError         400 invalid_request
│   ├── BodyTooLargeError           413 body_too_large
│   ├── HeadersTooLargeError        431 headers_too_large
│   ├── RequestTimeoutError         408 request_timeout
│   ├── MethodNotAllowedError       405 method_not_allowed
│   ├── AuthenticationError         401 invalid_api_key
│   ├── PermissionDeniedError       403 permission_denied
│   ├── NotFoundError               404 not_found
│   ├── UnknownModelError           404 model_not_found
│   ├── ConflictError               409 conflict
│   ├── DeclaredInFileError         409 declared_in_file
│   ├── RateLimitedError            429 rate_limited
│   ├── LimitTooSmallError          429 request_exceeds_limit
│   ├── BudgetExceededError         429 budget_exceeded
│   └── UnpricedModelError          403 unpriced_model
├── UpstreamError                   fault = upstream: the provider, or the way to it
│   ├── UpstreamConnectError        502 upstream_unreachable
│   ├── UpstreamStatusError         the provider's own status, upstream_status
│   ├── UpstreamProtocolError       502 upstream_protocol
│   ├── UpstreamTimeoutError        504 upstream_timeout
│   ├── UpstreamUnavailableError    503 upstream_unavailable
│   └── StreamInterruptedError      502 stream_interrupted
└── OwnError                        fault = us: Holdfast or a store it needs
    ├── SettingsError               500 invalid_settings
    ├── StoreUnavailableError       503 store_unavailable
    ├── SchemaMismatchError         500 schema_mismatch
    ├── OverloadedError             503 overloaded
    ├── DrainingError               503 draining
    └── InternalError               500 internal_error

`retry` says what a client gains by asking again: never, later (the same place, after a wait) or elsewhere (another node).
"""

from typing import ClassVar, Literal

Retry = Literal["never", "later", "elsewhere"]
Fault = Literal["caller", "us", "upstream"]


class HoldfastError(Exception):
    """What went wrong in `message`, and in it what to do; never a secret, never a stack trace."""

    code: ClassVar[str] = "internal_error"
    status: int = 500
    retry: Retry = "never"
    fault: ClassVar[Fault] = "us"
    log_level: ClassVar[str] = "error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class CallerError(HoldfastError):
    """The request has to change before it can succeed."""

    code = "invalid_request"
    status = 400
    retry: Retry = "never"
    fault = "caller"
    log_level = "info"


class InvalidRequestError(CallerError):
    """The request cannot be read, or a field of it is wrong; `param` names the field."""

    code = "invalid_request"
    status = 400
    retry = "never"


class BodyTooLargeError(CallerError):
    """The body is larger than `server.max_body_bytes`."""

    code = "body_too_large"
    status = 413
    retry = "never"


class HeadersTooLargeError(CallerError):
    """More than 64 KiB or 100 lines of headers."""

    code = "headers_too_large"
    status = 431
    retry = "never"


class RequestTimeoutError(CallerError):
    """The request arrived too slowly."""

    code = "request_timeout"
    status = 408
    retry = "later"


class MethodNotAllowedError(CallerError):
    """The path exists, the method does not; `allow` says which do."""

    code = "method_not_allowed"
    status = 405
    retry = "never"

    def __init__(self, message: str, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


class AuthenticationError(CallerError):
    """No key, an unknown key, or one that expired or was revoked."""

    code = "invalid_api_key"
    status = 401
    retry = "never"


class PermissionDeniedError(CallerError):
    """The key is good, but may not do this."""

    code = "permission_denied"
    status = 403
    retry = "never"


class NotFoundError(CallerError):
    """No such thing, or none that this key may see."""

    code = "not_found"
    status = 404
    retry = "never"


class UnknownModelError(CallerError):
    """No such model, or none that this key may use."""

    code = "model_not_found"
    status = 404
    retry = "never"


class ConflictError(CallerError):
    """Somebody else's change came first, or the name is taken."""

    code = "conflict"
    status = 409
    retry = "never"


class DeclaredInFileError(CallerError):
    """The object is declared in the settings file, which owns it; the message names file and line."""

    code = "declared_in_file"
    status = 409
    retry = "never"


class RateLimitedError(CallerError):
    """A limit of the organisation, team, key or lane is used up for now."""

    code = "rate_limited"
    status = 429
    retry = "later"


class LimitTooSmallError(CallerError):
    """The request is larger than a whole limit: waiting cannot help."""

    code = "request_exceeds_limit"
    status = 429
    retry = "never"


class BudgetExceededError(CallerError):
    """The money of this period is spent or reserved."""

    code = "budget_exceeded"
    status = 429
    retry = "never"


class UnpricedModelError(CallerError):
    """A spend cap applies and the model has no price: declare one, or declare it free."""

    code = "unpriced_model"
    status = 403
    retry = "never"


class UpstreamError(HoldfastError):
    """The provider, or the way to it."""

    code = "upstream_unavailable"
    status = 502
    retry = "later"
    fault = "upstream"
    log_level = "warning"


class UpstreamConnectError(UpstreamError):
    """No connection: name, TCP, proxy or TLS failed before a byte of the request was sent."""

    code = "upstream_unreachable"
    status = 502
    retry = "later"


class UpstreamStatusError(UpstreamError):
    """The provider answered with an error of its own; status and body reach the client as they came."""

    code = "upstream_status"
    status = 502
    retry = "later"


class UpstreamProtocolError(UpstreamError):
    """The provider's answer cannot be read as HTTP, or not as its dialect."""

    code = "upstream_protocol"
    status = 502
    retry = "later"


class UpstreamTimeoutError(UpstreamError):
    """One of the limits connect, first token, idle, total or job passed; the message names it."""

    code = "upstream_timeout"
    status = 504
    retry = "later"


class UpstreamUnavailableError(UpstreamError):
    """No lane of the model can take the call."""

    code = "upstream_unavailable"
    status = 503
    retry = "later"


class StreamInterruptedError(UpstreamError):
    """The provider's stream ended before its end; what arrived was forwarded."""

    code = "stream_interrupted"
    status = 502
    retry = "later"


class OwnError(HoldfastError):
    """Holdfast itself, or a store it needs."""

    code = "internal_error"
    status = 500
    retry: Retry = "later"
    fault = "us"
    log_level = "error"


class SettingsError(OwnError):
    """The settings cannot be used; the message names file, line, key and the nearest known name."""

    code = "invalid_settings"
    status = 500
    retry = "never"


class StoreUnavailableError(OwnError):
    """A store that this call needs does not answer."""

    code = "store_unavailable"
    status = 503
    retry = "later"


class SchemaMismatchError(OwnError):
    """The store was written by a release more than one schema ahead of this one."""

    code = "schema_mismatch"
    status = 500
    retry = "never"


class OverloadedError(OwnError):
    """This process holds all it may hold."""

    code = "overloaded"
    status = 503
    retry = "later"


class DrainingError(OwnError):
    """This process is about to stop; another one answers."""

    code = "draining"
    status = 503
    retry = "elsewhere"


class InternalError(OwnError):
    """A defect of Holdfast; the request id finds it in the log."""

    code = "internal_error"
    status = 500
    retry = "later"
