"""[server]: sockets and their limits."""

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.kernel.setting import at_least, between, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where Holdfast listens, and what it takes from a socket."""

    host: str = setting("127.0.0.1", help="The address to listen on.", restart=True)
    port: int = setting(8080, help="The port to listen on; 0 takes a free one.", check=between(0, 65535), restart=True)
    api_host: str | None = setting(None, help="Listen for /api here instead of beside the model API.", restart=True)
    api_port: int | None = setting(
        None, help="The port for /api when it is apart.", check=between(0, 65535), restart=True
    )
    tls_certificate: str | None = setting(None, help="PEM file: serve HTTPS with this certificate.", restart=True)
    tls_key: str | None = setting(None, help="PEM file with its key.", restart=True)
    max_body_bytes: int = setting(32 * 1024 * 1024, help="A larger request body is refused.", check=at_least(1024))
    headers_seconds: float = setting(
        10.0, help="A request's headers must have arrived within this.", check=at_least(0.1)
    )
    body_min_bytes_per_second: int = setting(
        1024, help="A body that arrives slower, after the first ten seconds, is refused.", check=at_least(0)
    )
    keep_alive_seconds: float = setting(75.0, help="An idle connection is closed after this long.", check=at_least(1))
    max_connections: int = setting(10_000, help="Connections open at once; more are answered 503.", check=at_least(1))
    max_inflight: int = setting(5_000, help="Calls in flight at once; more are answered 503.", check=at_least(1))
    drain_notice_seconds: float = setting(
        5.0, help="`serve`: how long /readyz says 503 before the listener closes (`up`: 0).", check=at_least(0)
    )
    grace_seconds: float = setting(30.0, help="How long calls in flight may go on after SIGTERM.", check=at_least(0))
    reuse_port: bool = setting(False, help="Let several processes listen on the same port.", restart=True)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if not self.host:
            yield "host", "is empty"
        if self.tls_certificate is not None and self.tls_key is None:
            yield "tls_certificate", "needs tls_key beside it"
        if self.tls_key is not None and self.tls_certificate is None:
            yield "tls_key", "needs tls_certificate beside it"
        if self.api_host is not None and self.api_port is None:
            yield "api_host", "needs api_port beside it"
