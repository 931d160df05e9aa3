"""Where each setting was said, and what is wrong with it, in sentences that begin with the place."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches

from holdfast.kernel.errors import SettingsError
from holdfast.kernel.places import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing where no known name is near."""
    close = get_close_matches(name, list(known), 1, 0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def dotted(path: KeyPath) -> str:
    """`prices."gpt-4.1".input_usd`, `keys.app.budgets[0].limit_usd`: a path as TOML spells its keys."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False))
    return text


class Report:
    """`lines` says where the file says what, `outside` which environment variable or flag says it instead."""

    def __init__(self, file: str, lines: dict[KeyPath, int]) -> None:
        self.file = file
        self.lines = lines
        self.outside: dict[KeyPath, str] = {}
        self._unreadable: str | None = None
        self._general: list[str] = []
        self._problems: dict[KeyPath, tuple[int, str]] = {}

    def overrule(self, path: KeyPath, label: str) -> None:
        """What the file says at `path` and below it is not what counts."""
        self.outside[path] = label
        self.lines = {at: line for at, line in self.lines.items() if len(at) <= len(path) or at[: len(path)] != path}

    @property
    def count(self) -> int:
        return len(self._problems)

    def origin(self, path: KeyPath) -> str:
        """`holdfast.toml:12`, `environment`, `flag` or `default`."""
        if path in self.outside:
            return self.outside[path].partition(" ")[0]
        return f"{self.file}:{self.lines[path]}" if path in self.lines else "default"

    def said(self, path: KeyPath) -> bool:
        return path in self.lines or path in self.outside

    def origins(self) -> dict[str, str]:
        """The origin of everything that was said; the parts of a path are joined by dots."""
        return {".".join(map(str, path)): self.origin(path) for path in {**self.lines, **self.outside}}

    def unreadable(self, sentence: str) -> None:
        """The text is no text at all: nothing else that seems wrong counts."""
        self._unreadable = sentence

    def general(self, sentence: str) -> None:
        """Something is wrong with the whole."""
        self._general.append(sentence)

    def wrong(self, path: KeyPath, sentence: str, *, named: bool = False) -> None:
        """Something is wrong with what stands at `path`; the first word on it, or on what holds it, counts. `named`: the
        sentence names the key itself."""
        if any(path[:length] in self._problems for length in range(1, len(path) + 1)):
            return
        if path in self.outside:
            self._problems[path] = (0, f"{self.outside[path]}: {sentence}")
            return
        own = max(index for index, part in enumerate(path) if isinstance(part, str))
        key = "" if named else f"{dotted(path[own:])}: "
        where, line = self._where(path)
        self._problems[path] = (line, f"{where}: {_header(path[:own])}{key}{sentence}")

    def _where(self, path: KeyPath) -> tuple[str, int]:
        for length in range(len(path), 0, -1):
            if path[:length] in self.outside:
                return self.outside[path[:length]], 0
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}", self.lines[path[:length]]
        return self.file, 0

    def error(self) -> SettingsError | None:
        """All of it in one error, a line each, in the order of the file; None when nothing is wrong."""
        if self._unreadable is not None:
            return SettingsError(self._unreadable)
        said = [*self._general, *(text for _, text in sorted(self._problems.values()))]
        return SettingsError("\n".join(said)) if said else None


def _header(table: KeyPath) -> str:
    if not table:
        return ""
    return f"[[{dotted(table[:-1])}]] " if isinstance(table[-1], int) else f"[{dotted(table)}] "
