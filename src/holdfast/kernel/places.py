"""On which line each key of a TOML text stands, so that an error can say where."""

import re
import tomllib
from bisect import bisect_left

KeyPath = tuple[str | int, ...]

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Key path -> line, the first being 1, of a text that `tomllib` accepts. A table stands at its header (one that is only
    implied, where it is first implied), an array's elements at their own lines, under their index."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._tables_in: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        text = self._text
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(text):
            if text.startswith("[[", self._at):
                table = self._header("]]", repeated=True)
            elif text[self._at] == "[":
                table = self._header("]", repeated=False)
            else:
                self._pair(table)
            self._skip(_GAP)
        return self._lines

    def _header(self, closing: str, *, repeated: bool) -> KeyPath:
        line = self._line()
        self._at += len(closing)
        names = self._names()
        self._at += len(closing)
        path: KeyPath = ()
        for index, name in enumerate(names):
            path += (name,)
            self._lines.setdefault(path, line)
            if repeated and index == len(names) - 1:
                self._tables_in[path] = self._tables_in.get(path, 0) + 1
            if path in self._tables_in:
                path += (self._tables_in[path] - 1,)
                self._lines.setdefault(path, line)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._names():
            path += (name,)
            self._lines.setdefault(path, line)
        self._at += 1
        self._skip(_BLANK)
        self._value(path)

    def _names(self) -> list[str]:
        """A dotted key, up to what follows it."""
        names = []
        while True:
            self._skip(_BLANK)
            bare = _BARE.match(self._text, self._at)
            if bare is not None:
                names.append(bare.group())
                self._at = bare.end()
            else:
                start = self._at
                self._skip(_STRING)
                names.append(tomllib.loads(f"name = {self._text[start : self._at]}")["name"])
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        self._skip(_GAP)
        while self._text[self._at] != "]":
            element = (*path, index)
            self._lines[element] = self._line()
            self._value(element)
            index += 1
            self._comma()
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_GAP)
        while self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip(_GAP)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_GAP)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _line(self) -> int:
        return bisect_left(self._line_ends, self._at) + 1
