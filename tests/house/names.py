"""Names that say nothing."""

import re
from pathlib import Path, PurePosixPath

from tests.house.tree import PACKAGE, modules

FORBIDDEN = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core", "new", "v2"})
WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name."""
    return {word.lower() for word in WORDS.findall(name)}


def empty_names(root: Path) -> list[str]:
    """Files, folders and classes. A class may be a `NewKey` and a function `new_id`: there the word tells something."""
    said = []
    for module in modules(root, PACKAGE, "tests"):
        path = PurePosixPath(module.path)
        for part in path.with_suffix("").parts:
            said += [f"{module.path}: {word} says nothing" for word in sorted(words(part) & FORBIDDEN)]
        for found in module.classes:
            said += [
                f"{module.path}:{found.name}: {word} says nothing"
                for word in sorted(words(found.name) & FORBIDDEN - {"new"})
            ]
    return said


def doors(root: Path) -> list[str]:
    """A package says in its `__init__.py` what it is for."""
    said = []
    for folder in sorted({(root / module.path).parent for module in modules(root)}):
        door = folder / "__init__.py"
        place = door.relative_to(root).as_posix()
        if not door.exists():
            said.append(f"{place}: missing")
        elif not door.read_text().startswith('"""'):
            said.append(f"{place}: begins with no docstring")
    return said
