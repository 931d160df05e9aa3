"""Identifiers carry 128 random bits and a prefix that says what they name."""

import os

SECRET_PREFIX = "hf-"


def make_id(prefix: str) -> str:
    """`call_3f…`: 128 random bits in hexadecimal."""
    return prefix + "_" + os.urandom(16).hex()


def make_secret() -> str:
    """An API key: 256 random bits; shown once, stored only as SHA-256."""
    return SECRET_PREFIX + os.urandom(32).hex()
