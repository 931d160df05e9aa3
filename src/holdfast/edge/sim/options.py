"""How `holdfast sim` is started."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.scripted import DEFAULTS, Personality, read_header, with_options


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """`port` 0 takes a free one. `json`: the ready line is `{"url": ..., "pid": ...}`; `quiet`: there is none.

    `tls_refuse` closes every connection in the TLS handshake: a port that answers nothing, also none of `/sim`.
    """

    host: str = "127.0.0.1"
    port: int = 9100
    seed: int = 0
    defaults: Personality = DEFAULTS
    schedule: Path | None = None
    models: tuple[str, ...] = ("scripted", "scripted-embedding")
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_refuse: bool = False
    allow_remote: bool = False
    json: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if not self.allow_remote and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host} is not this machine's loopback. The simulator asks for no key; say --allow-remote if that is meant."
            )
        if self.tls_key is not None and self.tls_certificate is None:
            raise SettingsError("a TLS key needs its certificate: say --tls-certificate too.")


def personality(text: str) -> Personality:
    """How calls that say nothing are answered, as the header X-Sim says it: `ttft_ms=200; itl_ms=20`."""
    try:
        return with_options(DEFAULTS, read_header(text))
    except ValueError as error:
        raise SettingsError(f"defaults: {error}") from error


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
