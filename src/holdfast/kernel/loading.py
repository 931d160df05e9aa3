"""TOML text, environment and flags into a tree of frozen dataclasses; everything that is wrong is said, each with its place.

A flag goes before the environment, the environment before the file, the file before the default.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from holdfast.kernel.environment import Given, Unknown, given_by, given_in
from holdfast.kernel.places import KeyPath, key_lines
from holdfast.kernel.report import Report, nearest
from holdfast.kernel.secret import Secret
from holdfast.kernel.setting import Contradictable

T = TypeVar("T")
LARGEST = 2**63 - 1
SECRET_EXPECTED = '"env:NAME", "file:PATH", "none" or the secret itself'
_EXPECTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_DECODE_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read. `value` counts only while `report.error()` is None; what is wrong has its default in it.
    `secret_files` are all that the text names, also those that cannot be read."""

    value: T
    report: Report
    secret_files: tuple[Path, ...]


def read(
    kind: type[T], text: str, *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]
) -> Reading[T]:
    """Read a tree of `kind`. Never raises for what people wrote: the report says it."""
    raw, report = _parse(text, str(file) if file is not None else "settings")
    for source, said in (("environment", given_in(environ, kind, raw)), ("flag", given_by(flags, kind, raw))):
        for given in list(said):
            _put(raw, source, given, report)
    reader = _Reader(report, environ, file.parent if file is not None else Path())
    value: T = reader.table(kind, raw, ())
    return Reading(value, report, tuple(dict.fromkeys(reader.secret_files)))


def _parse(text: str, file: str) -> tuple[dict[str, Any], Report]:
    try:
        raw = tomllib.loads(text)
        return raw, Report(file, key_lines(text))
    except tomllib.TOMLDecodeError as error:
        found = _DECODE_ERROR.fullmatch(str(error))
        line = found.group(2) if found and found.group(2) else text.rstrip("\r\n").count("\n") + 1
        sentence = f"{file}:{line}: not TOML: {found.group(1) if found else error}"
    except RecursionError:
        sentence = f"{file}: nested too deeply"
    report = Report(file, {})
    report.unreadable(sentence)
    return {}, report


@dataclass(frozen=True, slots=True)
class _Said:
    """A value from outside the file: text in it is read as the setting's type."""

    value: Any


def _put(raw: dict[str, Any], source: str, given: Given | Unknown, report: Report) -> None:
    label = f"{source} {given.name}"
    if isinstance(given, Unknown):
        report.general(f"{label}: unknown setting" + (f'; did you mean "{given.nearest}"?' if given.nearest else ""))
        return
    table: Any = raw
    for length, part in enumerate(given.path[:-1], 1):
        if given.path[:length] not in report.lines:
            report.outside.setdefault(given.path[:length], label)
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return
    table[given.path[-1]] = _Said(given.value)
    report.overrule(given.path, label)


class _Reader:
    def __init__(self, report: Report, environ: Mapping[str, str], folder: Path) -> None:
        self._report = report
        self._environ = environ
        self._folder = folder
        self._hints: dict[type, dict[str, Any]] = {}
        self.secret_files: list[Path] = []

    def table(self, kind: Any, raw: Mapping[str, Any], path: KeyPath) -> Any:
        """A dataclass of `kind`; a field that is wrong gets its default, or the empty value of its type, and then nothing
        is said of what that would contradict."""
        if kind not in self._hints:
            self._hints[kind] = get_type_hints(kind)
        declared = {field.name: field for field in fields(kind)}
        for name in raw:
            if name not in declared:
                what = "table" if isinstance(raw[name], dict) else "key"
                self._report.wrong((*path, name), f'unknown {what} "{name}"{nearest(name, declared)}', named=True)
        values = {}
        wrong_before = self._report.count
        for name, field in declared.items():
            if name in raw:
                values[name] = self._field(field, self._hints[kind][name], raw[name], (*path, name))
            elif _required(field):
                self._report.wrong((*path, name), f'"{name}" is missing: {field.metadata["help"]}', named=True)
                values[name] = _empty(self._hints[kind][name])
        made = kind(**values)
        if isinstance(made, Contradictable) and self._report.count == wrong_before:
            for name, sentence in made.contradictions():
                self._report.wrong((*path, name), sentence)
        return made

    def _field(self, field: Field[Any], hint: Any, raw: Any, path: KeyPath) -> Any:
        raw = _plain(hint, raw)
        convert, check = field.metadata["convert"], field.metadata["check"]
        try:
            value = self._value(hint, raw if convert is None else convert(raw), path)
            if check is not None:
                check(value)
        except ValueError as error:
            self._report.wrong(path, str(error))
        else:
            return value
        if field.default_factory is not MISSING:
            return field.default_factory()
        return field.default if field.default is not MISSING else _empty(hint)

    def _value(self, hint: Any, raw: Any, path: KeyPath) -> Any:
        """Raises ValueError for what is wrong at `path`; what is wrong below it is reported."""
        inner = _unwrapped(hint)
        raw = _plain(inner, raw)
        if inner is Secret:
            return self._secret(raw, optional=inner is not hint)
        if inner in _EXPECTED:
            return _scalar(inner, raw)
        if is_dataclass(inner):
            return self.table(inner, _expect(dict, "a table", raw), path)
        if get_origin(inner) is dict:
            below, given = get_args(inner)[1], _expect(dict, "a table", raw)
            return {name: self._below(below, each, (*path, name)) for name, each in given.items()}
        item = get_args(inner)[0]
        listed = _expect(list, "a list of tables" if is_dataclass(item) else "a list of text", raw)
        return tuple(self._below(item, each, (*path, index)) for index, each in enumerate(listed))

    def _below(self, hint: Any, raw: Any, path: KeyPath) -> Any:
        try:
            return self._value(hint, raw, path)
        except ValueError as error:
            self._report.wrong(path, str(error))
            return self.table(hint, {}, path) if is_dataclass(hint) else _empty(hint)

    def _secret(self, raw: Any, *, optional: bool) -> Secret | None:
        if isinstance(raw, Secret):
            return raw
        if not isinstance(raw, str):
            raise ValueError(f"expected text: {SECRET_EXPECTED}; found {_kind_of(raw)}")
        if raw == "none" and optional:
            return None
        value = raw
        if raw.startswith("env:"):
            name = raw.removeprefix("env:")
            value = self._environ.get(name, "").strip()
            if not value:
                raise ValueError(
                    f"the environment variable {name} is {'empty' if name in self._environ else 'not set'}"
                )
        elif raw.startswith("file:"):
            value = self._secret_file(raw.removeprefix("file:"))
        if not value:
            raise ValueError(f"expected {SECRET_EXPECTED}; found empty text")
        if not value.isprintable():
            raise ValueError("the secret holds a line break or another character that cannot be printed")
        return Secret(value)

    def _secret_file(self, name: str) -> str:
        file = self._folder / name
        self.secret_files.append(file)
        try:
            value = file.read_text("utf-8").strip()
        except OSError as error:
            raise ValueError(f"the secret file {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"the secret file {file} is not UTF-8 text") from error
        if not value:
            raise ValueError(f"the secret file {file} is empty")
        return value


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unwrapped(hint: Any) -> Any:
    """The type beside None."""
    if get_origin(hint) is UnionType:
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def _empty(hint: Any) -> Any:
    """What stands for a value that is missing or wrong, so that reading can go on and find the rest."""
    inner = _unwrapped(hint)
    if inner is not hint:
        return None
    return Secret("") if inner is Secret else (get_origin(inner) or inner)()


def _plain(hint: Any, raw: Any) -> Any:
    """What was said outside the file, as TOML would have said it; text that does not fit stays for the type check."""
    if not isinstance(raw, _Said):
        return raw
    value, inner = raw.value, _unwrapped(hint)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, str) or inner in {str, Secret}:
        return value
    if inner is bool:
        return _WORDS.get(value.lower(), value)
    if get_origin(inner) is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    if inner in {int, float}:
        try:
            return inner(value)
        except ValueError:
            return value
    return value


def _scalar(kind: Any, raw: Any) -> Any:
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) <= LARGEST:
        return float(raw)
    if not isinstance(raw, kind) or (kind is not bool and isinstance(raw, bool)):
        raise ValueError(f"expected {_EXPECTED[kind]}, found {_found(raw)}")
    if kind is float and not math.isfinite(raw):
        raise ValueError(f"expected a finite number, found {raw}")
    if kind is int and abs(raw) > LARGEST:
        raise ValueError("is too large a number")
    if kind is str and "\0" in raw:
        raise ValueError("holds a character that cannot be used: U+0000")
    return raw


def _expect(kind: type, name: str, raw: Any) -> Any:
    if not isinstance(raw, kind):
        raise ValueError(f"expected {name}, found {_found(raw)}")
    return raw


def _found(raw: Any) -> str:
    """What was found, short; never called for a secret."""
    if isinstance(raw, str):
        return json.dumps(raw if len(raw) <= 60 else raw[:59] + "…", ensure_ascii=False)
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return str(raw)
    return _kind_of(raw)


def _kind_of(raw: Any) -> str:
    kinds = ((bool, "true or false"), (int | float, "a number"), (dict, "a table"), (list, "a list"))
    return next((name for kind, name in kinds if isinstance(raw, kind)), "a date or time")
