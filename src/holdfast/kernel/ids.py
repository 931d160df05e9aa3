"""Identifiers carry 128 random bits and a prefix that says what they name."""

import os

SECRET_PREFIX = "hf-"
POOL = 256
HEAD_BYTES = 6
TAIL_BYTES = 10


def make_id(prefix: str) -> str:
    """`key_3f…`: 128 random bits in hexadecimal."""
    return prefix + "_" + os.urandom(16).hex()


def make_secret() -> str:
    """An API key: 256 random bits; shown once, stored only as SHA-256."""
    return SECRET_PREFIX + os.urandom(32).hex()


class Ids:
    """Identifiers by the thousand: 128 random bits, of which 48 are shared by the 256 that are made together. An index of
    them then grows in one place at a time instead of everywhere at once, which a store's writer pays for four times over."""

    __slots__ = ("_at", "_head", "_prefix", "_tails")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "_"
        self._head = ""
        self._tails = ""
        self._at = 0

    def make(self) -> str:
        at = self._at
        if at >= len(self._tails):
            self._head = self._prefix + os.urandom(HEAD_BYTES).hex()
            self._tails = os.urandom(POOL * TAIL_BYTES).hex()
            at = 0
        self._at = end = at + 2 * TAIL_BYTES
        return self._head + self._tails[at:end]
