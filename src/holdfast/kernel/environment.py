"""Settings from the environment: HOLDFAST_SERVER__PORT is server.port. Two underscores part the levels, case says nothing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

PREFIX = "HOLDFAST_"

# The one list of names under the prefix that are not settings.
RESERVED: Mapping[str, str] = MappingProxyType(
    {
        "HOLDFAST_CONFIG": "The settings file, where no --config says it.",
        "HOLDFAST_DATA": "The data folder, where no --data says it.",
        "HOLDFAST_URL": "Where the command line finds a Holdfast, where no --url says it.",
        "HOLDFAST_KEY": "The key the command line and the examples in these pages present.",
        "HOLDFAST_BOOTSTRAP_KEY": "A key that may call models and administer, for scripts that start Holdfast.",
        "HOLDFAST_PYTHON": "Development: the Python that ./dev builds its environment with.",
        "HOLDFAST_TEST_DATA": "Development: where tests find recorded traces.",
        "HOLDFAST_TEST_WORKERS": "Development: how many tests run at once.",
    }
)

# Kubernetes sets these in every pod beside a Service whose name begins with "holdfast".
_SERVICE_LINK = re.compile(
    r"HOLDFAST_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody said outside the file. `value` is text still to be read as the setting's type."""

    name: str
    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that is no setting, and the nearest that is."""

    name: str
    nearest: str | None


def environment_name(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()


def given_in(environ: Mapping[str, str], kind: type, raw: Mapping[str, Any]) -> Iterator[Given | Unknown]:
    """Every setting that `environ` says of a tree of `kind`; `raw` is the file's tree, whose names of objects count as known."""
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in RESERVED or _is_service_link(upper, environ[name]):
            continue
        parts = tuple(upper[len(PREFIX) :].lower().split("__"))
        path = path_of(parts, kind, raw)
        if path is not None:
            yield Given(name, path, environ[name])
        else:
            known = {"_".join(path): environment_name(path) for path in _leaves(kind, parts, ())}
            yield Unknown(name, _nearest("_".join(parts), known))


def given_by(flags: Mapping[str, Any], kind: type, raw: Mapping[str, Any]) -> Iterator[Given | Unknown]:
    """The same of flags, by dotted path; None is a flag nobody said."""
    for name, value in flags.items():
        if value is None:
            continue
        parts = tuple(name.split("."))
        path = path_of(parts, kind, raw)
        if path is not None:
            yield Given(name, path, value)
        else:
            known = {".".join(path): ".".join(path) for path in _leaves(kind, parts, ())}
            yield Unknown(name, _nearest(name, known))


def path_of(parts: tuple[str, ...], kind: Any, raw: Any) -> tuple[str, ...] | None:
    """Where in a tree of `kind` these parts lead; an object's name takes the spelling it has in `raw`."""
    if not parts:
        return ()
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        name, below = parts[0], hints.get(parts[0])
    elif get_origin(kind) is dict:
        name, below = _spelling(parts[0], raw), get_args(kind)[1]
    else:
        return None
    if below is None or not name:
        return None
    rest = path_of(parts[1:], below, raw.get(name) if isinstance(raw, Mapping) else None)
    return None if rest is None else (name, *rest)


def _spelling(part: str, raw: Any) -> str:
    """An environment variable cannot hold every character of a name: `MY_APP` is also `my-app`, if the file has that."""
    if isinstance(raw, Mapping) and part not in raw:
        alike = [name for name in raw if re.sub(r"\W", "_", name).lower() == part.lower()]
        if len(alike) == 1:
            return str(alike[0])
    return part


def _leaves(kind: Any, parts: tuple[str, ...], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every setting's path; where a name is free, the one in `parts`."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        for field in fields(kind):
            yield from _leaves(hints[field.name], parts, (*path, field.name))
    elif get_origin(kind) is dict:
        if len(parts) > len(path) and parts[len(path)]:
            yield from _leaves(get_args(kind)[1], parts, (*path, parts[len(path)]))
    else:
        yield path


def _nearest(name: str, known: Mapping[str, str]) -> str | None:
    close = get_close_matches(name, known, 1, 0.6)
    return known[close[0]] if close else None


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("_PORT") and "__" not in name and _SERVICE_ADDRESS.match(value) is not None
