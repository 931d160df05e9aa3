"""The reference pages, written from what the code declares, so that they cannot say anything else."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from holdfast.kernel.environment import RESERVED
from holdfast.kernel.errors import HoldfastError
from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import OneOf, usd

WRITTEN = "<!-- Written by `holdfast docs` from the code. Change the code, then run `./dev docs`. -->"
SMALLEST = """\
```toml
[upstreams.mock]
dialect = "openai"
base_url = "http://127.0.0.1:9100/v1"
key = "none"                      # or "env:NAME", "file:PATH"

[models.mock]
lanes = ["mock/mock"]             # upstream/model, in order of preference
```"""
_TYPES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", Secret: "secret"}


@dataclass(frozen=True, slots=True)
class _Table:
    """One heading of the page. `path` has NAME where people choose a name."""

    path: tuple[str, ...]
    kind: Any
    repeated: bool

    @property
    def header(self) -> str:
        return f"[[{'.'.join(self.path)}]]" if self.repeated else f"[{'.'.join(self.path)}]"


def settings_page(tree_type: type) -> str:
    """Every key of the tree: type, default and the line of help that stands where it is declared."""
    parts = [WRITTEN, "# Settings", _INTRODUCTION, "The smallest useful file:", SMALLEST]
    written: dict[Any, str] = {}
    for table in _tables(tree_type, ()):
        known = written.setdefault(table.kind, table.header)
        body = _rows(table, written) if known == table.header else f"The same keys as `{known}`."
        parts += [f"## `{table.header}`", _sentence(table.kind), body]
    parts += ["## Other environment variables", "These begin with `HOLDFAST_` and are not settings."]
    parts.append(_grid(("name", "what"), [(f"`{name}`", what) for name, what in RESERVED.items()]))
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
`holdfast.toml` says what Holdfast does. Any single value can also come from the environment or a flag; a flag goes before the
environment, the environment before the file, the file before the default. `holdfast check` reads a file and says everything
that is wrong with it, with line and nearest known name.

In the environment two underscores part the levels, and case does not matter: `server.port` is `HOLDFAST_SERVER__PORT`,
`upstreams.openai.key` is `HOLDFAST_UPSTREAMS__OPENAI__KEY`. A list is written with commas.

A secret is `"env:NAME"` (an environment variable), `"file:PATH"` (a file, relative to the settings file's folder), `"none"`, or
the secret itself. It is never shown again.

Changes of the file, and of every file a secret stands in, take effect within seconds, without a restart; keys marked *restart*
are the exception."""


def errors_page(root_error_type: type[HoldfastError]) -> str:
    """Every error of the tree: code, status, retry, fault and its docstring."""
    parts = [WRITTEN, "# Errors", _ERRORS_INTRODUCTION]
    for group in _own_subclasses(root_error_type):
        parts += [f"## {_fault(group)}", _sentence(group)]
        leaves = [leaf for leaf in _below(group) if not _own_subclasses(leaf)]
        rows: list[tuple[str, ...]] = [
            (f"`{leaf.code}`", str(leaf.status), leaf.retry, _sentence(leaf)) for leaf in leaves
        ]
        parts.append(_grid(("code", "status", "retry", "what it means"), rows))
    return "\n\n".join(parts) + "\n"


_ERRORS_INTRODUCTION = """\
On the model API an error has the shape OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`. Elsewhere it is
a problem document (RFC 9457). `code` never changes its meaning; `message` says what to do and may change.

*retry* says what asking again gains: `never` (the request, or something here, has to change first), `later` (the same request
can succeed after a wait; `Retry-After` says how long where it is known), `elsewhere` (another node answers)."""


def _tables(kind: Any, path: tuple[str, ...]) -> Iterator[_Table]:
    """Tables in the order of declaration, each before those inside it."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = _without_none(hints[field.name])
        if is_dataclass(inner):
            found = _Table((*path, field.name), inner, repeated=False)
        elif get_origin(inner) is dict and is_dataclass(get_args(inner)[1]):
            found = _Table((*path, field.name, "NAME"), get_args(inner)[1], repeated=False)
        elif get_origin(inner) is tuple and is_dataclass(get_args(inner)[0]):
            found = _Table((*path, field.name), get_args(inner)[0], repeated=True)
        else:
            continue
        yield found
        yield from _tables(found.kind, found.path)


def _rows(table: _Table, written: Mapping[Any, str]) -> str:
    """A key that is inherited from a table of its own has that table's value where it is not said."""
    hints = get_type_hints(table.kind)
    parent = next((base for base in table.kind.__mro__[1:] if base in written), None)
    inherited = {field.name for field in fields(parent)} if parent is not None else set()
    rows: list[tuple[str, ...]] = []
    for field in sorted(fields(table.kind), key=lambda field: field.name in inherited):
        default = f"as `{written[parent]}`" if field.name in inherited else _default(field, hints[field.name])
        what = field.metadata["help"] + (" *restart*" if field.metadata["restart"] else "")
        rows.append((f"`{field.name}`", _type_name(field, hints[field.name]), default, what))
    return _grid(("key", "type", "default", "what"), rows)


def _type_name(field: Field[Any], hint: Any) -> str:
    inner, check = _without_none(hint), field.metadata["check"]
    if isinstance(check, OneOf):
        return ", ".join(f"`{choice}`" for choice in check.choices)
    if field.metadata["convert"] is usd:
        return "dollars"
    if inner in _TYPES:
        return _TYPES[inner]
    if is_dataclass(inner):
        return "table"
    below = get_args(inner)[1] if get_origin(inner) is dict else get_args(inner)[0]
    named = "tables" if is_dataclass(below) else {Secret: "secrets", str: "text"}.get(below, "values")
    return f"{named}, by name" if get_origin(inner) is dict else f"list of {named}"


def _default(field: Field[Any], hint: Any) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "**required**"
    if field.default is MISSING or field.default is None or field.default == ():
        return "" if _without_none(hint) is not bool else "`false`"
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


def _without_none(hint: Any) -> Any:
    if get_origin(hint) is UnionType:
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def _own_subclasses(kind: type[HoldfastError]) -> list[type[HoldfastError]]:
    """Those of the tree itself, whatever else a process has imported."""
    return [each for each in kind.__subclasses__() if each.__module__ == kind.__module__]


def _below(kind: type[HoldfastError]) -> Iterator[type[HoldfastError]]:
    for each in _own_subclasses(kind):
        yield each
        yield from _below(each)


def _fault(group: type[HoldfastError]) -> str:
    return {"caller": "The caller's", "upstream": "The provider's", "us": "Ours"}[group.fault]


def _sentence(kind: type) -> str:
    return re.sub(r"\s*\n\s*", " ", (kind.__doc__ or "").strip())


def _grid(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
