"""Which HTTP proxy stands between us and an upstream: its own setting, else the environment, else none.

NO_PROXY is a list parted by commas or spaces. An entry is `*` (no proxy at all), an address, a range (`10.0.0.0/8`), a name
(itself and everything below it) or a name with a leading dot (only what is below it); each but a range may end in `:port`.
A proxy that the settings name for one upstream is used whatever NO_PROXY says.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.address import Address, ascii_host

DIRECT = "none"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `shown` is its URL without the credential; `authorization` is the whole header value."""

    host: str
    port: int
    shown: str
    authorization: bytes | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.shown!r})"


def choose_proxy(upstream: str, setting: str | None, address: Address, environ: Mapping[str, str]) -> Proxy | None:
    """Raises SettingsError naming the setting or variable that holds no usable proxy."""
    if setting == DIRECT:
        return None
    if setting:
        return _parse(setting, f"upstreams.{upstream}.proxy")
    variable, url = _from_environment("HTTPS_PROXY" if address.tls else "HTTP_PROXY", environ)
    if not url or bypasses(_from_environment("NO_PROXY", environ)[1], address.host, address.port):
        return None
    return _parse(url, f"{variable} (for upstream '{upstream}'; upstreams.{upstream}.proxy = \"none\" ignores it)")


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Whether NO_PROXY exempts a target."""
    host = host.lower().rstrip(".")
    try:
        literal: IPv4Address | IPv6Address | None = ip_address(host)
    except ValueError:
        literal = None
    return any(_matches(entry.lower(), host, literal, port) for entry in no_proxy.replace(",", " ").split())


def _from_environment(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for variable in (name.lower(), name):
        if environ.get(variable):
            return variable, environ[variable].strip()
    return name, ""


def _matches(entry: str, host: str, literal: IPv4Address | IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return literal is not None and literal in ip_network(entry, strict=False)
        except ValueError:
            return False
    name, entry_port = _part_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if literal is not None:
        try:
            return ip_address(name) == literal
        except ValueError:
            return False
    name = name.removeprefix("*").rstrip(".")
    if name.startswith("."):
        return host.endswith(name)
    return bool(name) and (host == name or host.endswith("." + name))


def _part_port(entry: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]`, `[v6]:port`, or a bare v6 address, which has no port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdecimal() else None
    if entry.count(":") == 1:
        name, _, digits = entry.partition(":")
        return name, int(digits) if digits.isdecimal() else None
    return entry, None


def _parse(url: str, where: str) -> Proxy:
    if "://" not in url:
        url = "http://" + url
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        host = ascii_host(parts.hostname or "")
    except ValueError:
        raise SettingsError(f"{where} is no URL") from None
    if parts.scheme != "http" or not host:
        raise SettingsError(
            f"{where} must be http://host:port; the proxy itself is spoken to in plain HTTP, TLS goes through it"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    shown = f"[{host}]" if ":" in host else host
    return Proxy(host, port, f"http://{shown}:{port}", authorization)
