"""A secret prints masked wherever it ends up: logs, errors, reprs, the settings page."""

import hashlib


class Secret:
    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def fingerprint(secret: str) -> bytes:
    """What is stored of an API key. A plain SHA-256 is enough for 256 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def masked(secret: str) -> str:
    """Enough of a key to recognise it: `hf-1a2b…9f`."""
    return secret[:7] + "…" + secret[-2:] if len(secret) > 16 else "…"
