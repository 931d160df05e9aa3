"""What the docs owe: every error code and every setting. They are owed from the day the command line can write them."""

import ast
import re
from pathlib import Path

from tests.house.tree import PACKAGE, Module, modules

ERRORS = PACKAGE / "kernel/errors.py"
STATED = ("code", "status", "retry")
INHERITED = ("fault", "log_level")
RETRY = ("never", "later", "elsewhere")
FAULT = ("caller", "us", "upstream")
CODE_SPAN = re.compile(r"`([^`\n]+)`")


def _assigned(found: ast.ClassDef) -> dict[str, ast.expr]:
    stated: dict[str, ast.expr] = {}
    for node in found.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            stated[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            stated[node.target.id] = node.value
    return stated


def _value(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _tree(root: Path) -> tuple[str, dict[str, ast.ClassDef], dict[str, list[str]]]:
    """The docstring, the classes of the one tree of errors, and each one's ancestors, nearest first."""
    module = Module(root, ERRORS.as_posix())
    classes = {found.name: found for found in module.classes if found.name.endswith("Error")}
    parents = {
        name: next((base.id for base in found.bases if isinstance(base, ast.Name)), "")
        for name, found in classes.items()
    }
    lines = {}
    for name in classes:
        line = [parents[name]]
        while line[-1] in parents:
            line.append(parents[line[-1]])
        lines[name] = [ancestor for ancestor in line if ancestor in classes]
    return ast.get_docstring(module.tree) or "", classes, lines


def error_classes(root: Path) -> list[str]:
    """Each class states what a client and an operator need; a fault and a level may be its branch's; the drawing is whole."""
    drawing, classes, lines = _tree(root)
    said = []
    codes: dict[object, str] = {}
    branches = {ancestor for line in lines.values() for ancestor in line}
    for name, found in classes.items():
        own = _assigned(found)
        said += [f"{name} states no {what}" for what in STATED if what not in own]
        branch = [_assigned(classes[ancestor]) for ancestor in lines[name] if lines[ancestor]]
        said += [f"{name} has no {what}" for what in INHERITED if not any(what in stated for stated in [own, *branch])]
        code, status, retry, fault = (_value(own.get(what)) for what in ("code", "status", "retry", "fault"))
        if retry not in (None, *RETRY) or fault not in (None, *FAULT):
            said.append(f"{name}: retry {retry}, fault {fault}")
        if status is not None and not (isinstance(status, int) and 400 <= status <= 599):
            said.append(f"{name}: status {status}")
        line = next((line for line in drawing.splitlines() if re.search(rf"\b{name}\b", line)), None)
        if line is None:
            said.append(f"{name} is missing in the drawing")
        elif name not in branches:
            if str(code) not in line.split():
                said.append(f"{name}: the drawing does not say {code}")
            if str(status) not in line.split() and "status" not in line:
                said.append(f"{name}: the drawing does not say {status}")
            if code in codes:
                said.append(f"{name}: {codes[code]} has the code {code} already")
            codes[code] = name
    return said


def _spans(path: Path) -> set[str]:
    """The words inside `code` of a page."""
    return {word for span in CODE_SPAN.findall(path.read_text()) for word in re.split(r"[^\w-]+", span)}


def _missing(root: Path, page: str, names: set[str]) -> list[str]:
    if not (root / PACKAGE / "cli.py").exists():
        return []
    if not (root / page).exists():
        return [f"{page}: missing; ./dev docs writes it"]
    return [f"{page}: {name} is missing" for name in sorted(names - _spans(root / page))]


def error_reference(root: Path) -> list[str]:
    _, classes, _ = _tree(root)
    codes = {str(_value(_assigned(found).get("code"))) for found in classes.values()}
    return _missing(root, "docs/reference/errors.md", codes - {"None"})


def settings_reference(root: Path) -> list[str]:
    """A setting is a field declared with `setting(...)` in some package's settings.py."""
    names = {
        name
        for module in modules(root)
        if module.path.endswith("/settings.py")
        for found in module.classes
        for name, value in _assigned(found).items()
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "setting"
    }
    return _missing(root, "docs/reference/settings.md", names)
