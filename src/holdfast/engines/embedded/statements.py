"""SQL is kept as SQL: files of `-- name: x` blocks beside the engine, read once when a store is opened."""

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import chain

import apsw

Value = str | int | float | bytes | None
"""What a column holds."""

Row = tuple[Value, ...]

# A statement is prepared once for each of these numbers of rows; apsw keeps no statement longer than 16 KiB.
CHUNKS = (128, 32, 8, 1)
_NAME = re.compile(r"^-- name: (\w+)\n((?:--.*\n)*)", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """Statements by name, each without its description."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[0::3], parts[2::3], strict=True)}


class ManyRows:
    """A statement with `{rows}` in it, run with as many rows at once as are there.

    Measured against `executemany` and `json_each`: binding costs 1 µs a row under the interpreter's lock and the rest runs
    without it; `executemany` gives the lock away and takes it back for every row, `json_each` costs three times the CPU."""

    __slots__ = ("_by_size",)

    def __init__(self, template: str, width: int) -> None:
        row = "(" + ",".join("?" * width) + ")"
        self._by_size = {size: template.replace("{rows}", ",".join([row] * size)) for size in CHUNKS}

    def run(self, connection: apsw.Connection, rows: Sequence[Row]) -> int:
        """How many rows of the table changed."""
        before = connection.total_changes()
        for size, start in _cut(len(rows)):
            values = list(chain.from_iterable(rows[start : start + size]))
            connection.execute(self._by_size[size], values)
        return connection.total_changes() - before


def _cut(count: int) -> Iterator[tuple[int, int]]:
    start = 0
    for size in CHUNKS:
        while count - start >= size:
            yield size, start
            start += size
