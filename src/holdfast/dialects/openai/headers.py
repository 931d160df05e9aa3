"""Which headers cross, by name: what is not in a table stays on its side.

A client's credentials, organisation, project, cookies, host, forwarding headers and SDK fingerprints never reach a provider; a
provider's cookies, framing and connection headers never reach a client.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

Headers = Sequence[tuple[bytes, bytes]]

REQUEST_HEADERS: frozenset[bytes] = frozenset({b"accept", b"openai-beta"})

# Lower-case name at the provider -> name towards the client. Framing (length, encoding, connection) is each side's own.
RESPONSE_HEADERS: Mapping[bytes, bytes] = MappingProxyType(
    {
        b"content-type": b"content-type",
        b"retry-after": b"retry-after",
        b"retry-after-ms": b"retry-after-ms",
        b"openai-processing-ms": b"openai-processing-ms",
        b"openai-version": b"openai-version",
        b"x-request-id": b"x-upstream-request-id",
        b"x-should-retry": b"x-should-retry",
        b"x-upstream-request-id": b"x-upstream-request-id",
    }
)
RESPONSE_PREFIXES: tuple[bytes, ...] = (b"x-ratelimit-",)


def request_headers(client_headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What of a client's headers, named in lower case, may go to the provider."""
    return [header for header in client_headers if header[0] in REQUEST_HEADERS]


def response_name(name: bytes) -> bytes | None:
    """What a provider's header is called towards the client, or None where it stops here; applied twice it changes nothing more."""
    lower = name.lower()
    forwarded = RESPONSE_HEADERS.get(lower)
    if forwarded is None and lower.startswith(RESPONSE_PREFIXES):
        return lower
    return forwarded
