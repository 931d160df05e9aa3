"""SQL is kept as SQL: files of `-- name: x` blocks beside the engine, read once when a store is opened."""

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n((?:--.*\n)*)", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """Statements by name, each without its description."""
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[0::3], parts[2::3], strict=True)}
