"""Dependencies that deptry is told to overlook, only for as long as that is true."""

import ast
import tomllib
from pathlib import Path

from tests.house.tree import modules


def overlooked(root: Path) -> list[str]:
    """An unused dependency that is used by now, or an undeclared one that nothing imports."""
    imported = {name for module in modules(root) for node in ast.walk(module.tree) for name in _imported(node)}
    ignores = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["deptry"]["per_rule_ignores"]
    said = [
        f"{name} is imported; deptry need not overlook it"
        for name in ignores.get("DEP002", ())
        if _used(name, imported)
    ]
    return said + [
        f"{name} is not imported; deptry need not overlook it"
        for name in ignores.get("DEP003", ())
        if name not in imported
    ]


def _imported(node: ast.AST) -> list[str]:
    """The dotted prefixes of what a statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        names = []
    return [".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)]


def _used(distribution: str, imported: set[str]) -> bool:
    """OpenTelemetry's distributions share the package `opentelemetry`: there the next part of the name decides."""
    name = distribution.replace("-", "_")
    if not distribution.startswith("opentelemetry-"):
        return name in imported
    parts = {"api": ("trace", "metrics", "context", "propagate"), "sdk": ("sdk",), "exporter": ("exporter",)}
    return any(f"opentelemetry.{part}" in imported for part in parts[distribution.split("-")[1]])
