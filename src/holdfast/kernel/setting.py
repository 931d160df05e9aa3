"""How a setting is declared: its default and one line of help stand where it is; loader and docs read them from there."""

from collections.abc import Callable
from dataclasses import MISSING, field
from typing import Any


def setting(default: Any = MISSING, *, help: str, factory: Callable[[], Any] | Any = MISSING, check: Callable[[Any], None] | None = None) -> Any:
    """A dataclass field with its line of help. `check` raises ValueError with a sentence that says what is wrong."""
    metadata = {"help": help, "check": check}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def at_least(minimum: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is not None and value < minimum:
            raise ValueError(f"must be at least {minimum}")

    return check


def one_of(*choices: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")

    return check
