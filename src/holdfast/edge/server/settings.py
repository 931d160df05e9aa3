"""[server]: sockets and their limits."""

from dataclasses import dataclass

from holdfast.kernel.setting import at_least, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where Holdfast listens, and what it takes from a socket."""

    host: str = setting("127.0.0.1", help="The address to listen on.")
    port: int = setting(8080, help="The port to listen on; 0 takes a free one.", check=at_least(0))
    api_host: str | None = setting(None, help="Listen for /api here instead of beside the model API.")
    api_port: int | None = setting(None, help="The port for /api when it is apart.", check=at_least(0))
    tls_certificate: str | None = setting(None, help="PEM file: serve HTTPS with this certificate.")
    tls_key: str | None = setting(None, help="PEM file with its key.")
    max_body_bytes: int = setting(32 * 1024 * 1024, help="A larger request body is refused.", check=at_least(1024))
    headers_seconds: float = setting(10.0, help="A request's headers must have arrived within this.", check=at_least(0.1))
    body_min_bytes_per_second: int = setting(1024, help="A body that arrives slower, after the first ten seconds, is refused.", check=at_least(0))
    keep_alive_seconds: float = setting(75.0, help="An idle connection is closed after this long.", check=at_least(1))
    max_connections: int = setting(10_000, help="Connections open at once; more are answered 503.", check=at_least(1))
    max_inflight: int = setting(5_000, help="Calls in flight at once; more are answered 503.", check=at_least(1))
    drain_notice_seconds: float = setting(5.0, help="`serve`: how long /readyz says 503 before the listener closes (`up`: 0).", check=at_least(0))
    grace_seconds: float = setting(30.0, help="How long calls in flight may go on after SIGTERM.", check=at_least(0))
    reuse_port: bool = setting(False, help="Let several processes listen on the same port.")
