"""Things that have to bear the same name: stages, ports with their engines and suites, the public face."""

import ast
import re
from pathlib import Path, PurePosixPath

from tests.house.tree import PACKAGE, Module, modules

GATEWAY = PACKAGE / "features/gateway"
HEADING = re.compile(r"^#+\s+[\d.`]*\s*`?(\w+)", re.MULTILINE)


def literal(root: Path, path: Path, name: str) -> list[str] | None:
    """The strings of a tuple or list at the top of a module, or None."""
    for node in Module(root, path.as_posix()).tree.body:
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign)
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == name and isinstance(value, ast.Tuple | ast.List):
            return [item.value for item in value.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return None


def headings(path: Path) -> list[str]:
    """The first word of each heading, after its number."""
    return [found.lower() for found in HEADING.findall(path.read_text())] if path.exists() else []


def stages(root: Path) -> list[str]:
    """Each stage of the gateway is a file, the verb in it, and a heading of docs/request-path.md, in the same order."""
    model = GATEWAY / "model.py"
    if not (root / model).exists():
        return []
    names = literal(root, model, "STAGES")
    if not names:
        return [f"{model}: STAGES, a tuple of stage names, is missing"]
    said = []
    for name in names:
        path = GATEWAY / f"{name}.py"
        if not (root / path).exists():
            said.append(f"{path}: missing, though STAGES names it")
        elif name not in {function.name for function in Module(root, path.as_posix()).functions}:
            said.append(f"{path}: defines no {name}()")
    written = headings(root / "docs/request-path.md")
    found = [heading for heading in written if heading in names]
    if found != names:
        said.append(f"docs/request-path.md: headings {found} are not the stages {names}")
    return said


def stage_labels(root: Path) -> list[str]:
    """A span or a `stage` label is named by STAGES, or spelt as it spells it."""
    model = GATEWAY / "model.py"
    if not (root / model).exists():
        return []
    names = literal(root, model, "STAGES") or []
    said = []
    for module in modules(root):
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            called = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            spelt = [
                argument.value
                for argument in node.args[:1]
                if called in ("stage", "span") and isinstance(argument, ast.Constant)
            ]
            spelt += [
                keyword.value.value
                for keyword in node.keywords
                if keyword.arg == "stage" and isinstance(keyword.value, ast.Constant)
            ]
            said += [f"{module.path}:{node.lineno}: {name!r} is no stage" for name in spelt if name not in names]
    return said


def ports(root: Path) -> list[str]:
    """ports/x.py, engines/*/x.py and tests/contracts/test_x.py share a name."""
    known = {PurePosixPath(module.path).stem for module in modules(root, PACKAGE / "ports")} - {"__init__"}
    said = []
    answered = set()
    for module in modules(root, PACKAGE / "engines"):
        stem = PurePosixPath(module.path).stem
        if stem in known:
            answered.add(stem)
        for found in module.classes:
            port = next(
                (port for port in known if found.name.endswith(port.capitalize()) and not found.name.startswith("_")),
                None,
            )
            if port is not None and port != stem and found in module.tree.body:
                said.append(f"{module.path}:{found.name}: an engine's {port} stands in {port}.py")
    said += [
        f"tests/contracts/test_{port}.py: missing, though an engine has {port}.py"
        for port in sorted(answered)
        if not (root / f"tests/contracts/test_{port}.py").exists()
    ]
    said += [
        f"{path.relative_to(root)}: no ports/{path.stem.removeprefix('test_')}.py"
        for path in sorted((root / "tests/contracts").glob("test_*.py"))
        if path.stem.removeprefix("test_") not in known
    ]
    return said


def face(root: Path) -> list[str]:
    """`__all__` of the public face is sorted, and what it names is there."""
    path = PACKAGE / "__init__.py"
    names = literal(root, path, "__all__")
    if names is None:
        return [f"{path}: no __all__"]
    said = [] if names == sorted(set(names)) else [f"{path}: __all__ is not sorted"]
    bound = {
        alias.asname or alias.name
        for node in Module(root, path.as_posix()).tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return said + [f"{path}: __all__ names {name}, which is not there" for name in names if name not in bound]
