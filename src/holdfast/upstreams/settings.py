"""[upstreams.NAME]: a provider account."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import at_least, http_url, one_of, setting

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset({"connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"})


def _proxy(value: str | None) -> None:
    if value is None or value == "none":
        return
    http_url(value)
    if not value.startswith("http://"):
        raise ValueError('must be "http://host:port" or "none"')


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """A provider account: dialect, base URL, credentials."""

    dialect: str = setting(help="How this provider spells a call.", check=one_of("openai", "scripted"))
    base_url: str = setting(
        "",
        help="Where the dialect's paths begin, for example https://api.openai.com/v1; empty for `scripted`.",
        check=http_url,
    )
    key: Secret | None = setting(
        None, help='The credential: "env:NAME", "file:PATH", "none", or the secret itself (discouraged).'
    )
    region: str | None = setting(None, help="Where this account computes; shown, and used by route rules.")
    ca_bundle: str | None = setting(None, help="PEM file of the authorities to trust instead of the system's.")
    client_certificate: str | None = setting(None, help="PEM file with a client certificate for mutual TLS.")
    client_key: str | None = setting(
        None, help="PEM file with the client certificate's key, when it is not in the same file."
    )
    proxy: str | None = setting(
        None,
        help='HTTP proxy for this upstream, "http://host:port"; "none" ignores HTTPS_PROXY and HTTP_PROXY; unset obeys them and NO_PROXY.',
        check=_proxy,
    )
    max_connections: int = setting(1000, help="Connections open at once to this upstream.", check=at_least(1))
    max_idle_connections: int = setting(256, help="Idle connections kept for reuse.", check=at_least(0))
    idle_connection_seconds: float = setting(
        30.0, help="An idle connection is closed after this long.", check=at_least(0)
    )
    max_answer_bytes: int = setting(
        64 * 1024 * 1024, help="A non-streaming answer larger than this is refused.", check=at_least(1024)
    )
    headers: dict[str, Secret] = setting(
        factory=dict, help='Headers added to every request to this upstream; a value may be "env:NAME" or "file:PATH".'
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.dialect == "openai" and not self.base_url:
            yield "base_url", 'the dialect "openai" needs it, for example "https://api.openai.com/v1"'
        if self.dialect == "scripted" and self.base_url:
            yield "base_url", 'the dialect "scripted" answers in this process and has none'
        if self.client_key is not None and self.client_certificate is None:
            yield "client_key", "means nothing without client_certificate"
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                yield "headers", f'"{name}" is no header that can be added'
            elif not value.reveal().isascii():
                yield "headers", f'the value of "{name}" is not ASCII'
