"""Identifiers carry 128 random bits and a prefix that says what they name."""

import os

SECRET_PREFIX = "hf-"
DIGITS = 32
POOL_BYTES = 4_096


def make_id(prefix: str) -> str:
    """`key_3f…`: 128 random bits in hexadecimal."""
    return prefix + "_" + os.urandom(16).hex()


def make_secret() -> str:
    """An API key: 256 random bits; shown once, stored only as SHA-256."""
    return SECRET_PREFIX + os.urandom(32).hex()


class Ids:
    """Identifiers by the thousand: the same random bits, fetched from the system 256 at a time."""

    __slots__ = ("_at", "_pool", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "_"
        self._pool = ""
        self._at = 0

    def make(self) -> str:
        at = self._at
        if at >= len(self._pool):
            self._pool = os.urandom(POOL_BYTES).hex()
            at = 0
        self._at = at + DIGITS
        return self._prefix + self._pool[at : at + DIGITS]
