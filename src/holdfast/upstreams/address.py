"""Where an upstream stands: a base URL, read once and refused whole when it is half said."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from holdfast.kernel.errors import SettingsError

DEFAULT_PORTS = {"http": 80, "https": 443}
PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port to connect to, the authority to put into `host`, and the path every request begins with."""

    tls: bool
    host: str
    port: int
    authority: str
    path: str

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def parse_base_url(upstream: str, url: str) -> Address:
    """Raises SettingsError naming the setting and what is wrong with it."""
    where = f"upstreams.{upstream}.base_url"
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts.hostname or "")
    except ValueError as error:
        raise SettingsError(f"{where} is no URL: {error}") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise SettingsError(f"{where} must be http:// or https:// with a host, for example https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"{where} must not hold a user or password; the credential belongs into upstreams.{upstream}.key"
        )
    if parts.query or parts.fragment:
        raise SettingsError(f"{where} must not hold a query or fragment; paths of the dialect are added at its end")
    path = parts.path.rstrip("/")
    if path and not PRINTABLE.fullmatch(path):
        raise SettingsError(f"{where} has a path with characters that must be percent-encoded")
    default = DEFAULT_PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    return Address(
        tls=parts.scheme == "https",
        host=host,
        port=port or default,
        authority=shown if port in {None, default} else f"{shown}:{port}",
        path=path,
    )


def ascii_host(host: str) -> str:
    """A host name as the wire spells it; an IPv6 address as it is. Raises ValueError."""
    return host.encode("ascii" if ":" in host else "idna").decode("ascii")
