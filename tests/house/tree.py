"""How a house rule reads the tree: every rule is a function of a root folder, so that it also runs on a planted one."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("src/holdfast")


@dataclass(frozen=True)
class Module:
    """One Python file; `path` is relative to the root, with slashes."""

    root: Path
    path: str

    @cached_property
    def text(self) -> str:
        return (self.root / self.path).read_text()

    @cached_property
    def lines(self) -> int:
        return self.text.count("\n")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @property
    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))


def modules(root: Path, *folders: str | Path) -> list[Module]:
    """The Python files under the folders, the package alone when none is named."""
    return [
        Module(root, path.relative_to(root).as_posix())
        for folder in folders or [PACKAGE]
        for path in sorted((root / folder).rglob("*.py"))
    ]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def tracked(root: Path) -> list[Path]:
    """What git would ship; every file where there is no repository, as in a planted tree."""
    if (root / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
        paths = [root / name for name in listed.split("\0") if name]
    else:
        paths = list(root.rglob("*"))
    return sorted(path for path in paths if path.is_file())


def text_of(path: Path) -> str | None:
    """The text of a file, or None of a binary one."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write a small tree for a rule to fail on; paths are relative to the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def exceptions(rule: str) -> dict[str, int]:
    """Today's exceptions of a rule."""
    table: dict[str, dict[str, int]] = tomllib.loads((ROOT / "tests/house/exceptions.toml").read_text())
    return table[rule]
