"""How a setting is declared: its default and one line of help stand where it is; loader and docs read them from there.

A settings class is a frozen dataclass of `setting` fields. What contradicts itself inside one object, it says in a method
`contradictions(self) -> Iterator[tuple[str, str]]`: the field, and a sentence that follows its name.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit


def setting(
    default: Any = MISSING,
    *,
    help: str,
    factory: Callable[[], Any] | Any = MISSING,
    check: Callable[[Any], None] | None = None,
    convert: Callable[[Any], Any] | None = None,
    restart: bool = False,
) -> Any:
    """A dataclass field with its line of help. `check` raises ValueError with a sentence that says what is wrong;
    `convert` makes the declared type of what people may write instead, and raises likewise; `restart` marks what a
    running process cannot change."""
    metadata = {"help": help, "check": check, "convert": convert, "restart": restart}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@runtime_checkable
class Contradictable(Protocol):
    """A settings object with a word on its own contradictions."""

    def contradictions(self) -> Iterator[tuple[str, str]]: ...


def at_least(minimum: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is not None and value < minimum:
            raise ValueError(f"must be at least {minimum}")

    return check


def between(minimum: float, maximum: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is not None and not minimum <= value <= maximum:
            raise ValueError(f"must be from {minimum} to {maximum}")

    return check


@dataclass(frozen=True, slots=True)
class OneOf:
    """A check whose choices the docs can read."""

    choices: tuple[str, ...]

    def __call__(self, value: Any) -> None:
        if value not in self.choices:
            near = get_close_matches(str(value), self.choices, 1, 0.6)
            said = ", ".join(f'"{choice}"' for choice in self.choices)
            raise ValueError(f"must be one of {said}" + (f'; did you mean "{near[0]}"?' if near else ""))


def one_of(*choices: str) -> OneOf:
    return OneOf(choices)


def http_url(value: Any) -> None:
    """A check: an http or https address that holds no credentials, for a URL is shown wherever it is used."""
    if not value:
        return
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in {"http", "https"} or not host or port == 0 or any(char.isspace() for char in value):
        raise ValueError("must be a URL that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or password: a URL is shown in logs and on the settings page")


def usd(value: Any) -> Any:
    """A convert: an amount of dollars as text or number, to plain decimal text; other types pass for the loader to refuse."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation as error:
        raise ValueError('is not an amount of dollars, such as "2.50"') from error
    if not amount.is_finite():
        raise ValueError('is not an amount of dollars, such as "2.50"')
    if not 0 <= amount <= 1_000_000_000:
        raise ValueError("must be from 0 to 1000000000 dollars")
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -9:
        raise ValueError("may have nine decimals at most: a billionth of a dollar is the smallest amount")
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
