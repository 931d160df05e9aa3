"""What code may not do, wherever it stands."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.house.tree import PACKAGE, Module, modules, text_of, tracked

BROAD = ("Exception", "BaseException")
# How many broad excepts a folder of the package may hold: the two outer loops and the fault wrapper.
OUTER = {"edge": 2, "testing": 1}
CONTAINERS = (
    "list",
    "dict",
    "set",
    "bytearray",
    "defaultdict",
    "deque",
    "Counter",
    "OrderedDict",
    "WeakKeyDictionary",
    "WeakValueDictionary",
)
CHANGES = (
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft",
    "remove", "setdefault", "update",
)  # fmt: skip
LAZY = (f"{PACKAGE}/engines/", f"{PACKAGE}/app.py", f"{PACKAGE}/cli.py")
# Spelt so that this file does not hold what it looks for.
NOTES = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")


def _names(node: ast.expr | None) -> Iterator[str]:
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr


def _broad(module: Module) -> Iterator[int]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or set(_names(node.type)) & set(BROAD)):
            yield node.lineno
        if (
            isinstance(node, ast.Call)
            and "suppress" in _names(node.func)
            and {n for a in node.args for n in _names(a)} & set(BROAD)
        ):
            yield node.lineno


def broad_excepts(root: Path, excepted: Mapping[str, int]) -> list[str]:
    """`except Exception` is for the outermost loops alone, each listed with how many it has."""
    said = []
    found: Counter[str] = Counter()
    for module in modules(root, PACKAGE, "tests"):
        for line in _broad(module):
            found[module.path] += 1
            if module.path not in excepted:
                said.append(f"{module.path}:{line}: broad except")
    said += [
        f"{path}: {found[path]} broad excepts (its exception says {allowed})"
        for path, allowed in excepted.items()
        if found[path] != allowed
    ]
    held = Counter[str]()
    for path, allowed in excepted.items():
        folder = path.removeprefix(f"{PACKAGE}/").partition("/")[0]
        held[folder] += allowed
    said += [
        f"{folder}: {count} broad excepts listed (at most {OUTER.get(folder, 0)})"
        for folder, count in held.items()
        if count > OUTER.get(folder, 0)
    ]
    return said


def globals_rebound(root: Path) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: global {', '.join(node.names)}"
        for module in modules(root, PACKAGE, "tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]


def _is_container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return next(_names(called), None) in CONTAINERS
    return False


def _changed(module: Module) -> Iterator[str]:
    """The names whose contents some line of the module changes."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            changed: ast.expr = node.func.value
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            changed = node.value
        else:
            continue
        if isinstance(changed, ast.Name):
            yield changed.id


def mutable_state(root: Path) -> list[str]:
    """A module keeps no state: no container under a lower-case name, none under a constant's name that a line changes."""
    said = []
    for module in modules(root):
        changed = set(_changed(module))
        for node in module.tree.body:
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets, value = [node.target], node.value
            else:
                continue
            said += [
                f"{module.path}:{node.lineno}: {target.id} is state of a module"
                for target in targets
                if isinstance(target, ast.Name)
                and _is_container(value)
                and not target.id.startswith("__")
                and (target.id != target.id.upper() or target.id in changed)
            ]
    return said


def late_imports(root: Path) -> list[str]:
    """An import inside a function is for an engine's optional driver, the assembly and the command line."""
    return [
        f"{module.path}:{node.lineno}: import inside {function.name}"
        for module in modules(root)
        if not module.path.startswith(LAZY)
        for function in module.functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def notes_to_self(root: Path) -> list[str]:
    """What is left to do stands in an issue."""
    said = []
    for path in tracked(root):
        if path.suffix in (".lock", ".svg") or path.name == "package-lock.json":
            continue
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            said += [f"{path.relative_to(root)}:{number}: {note}" for note in NOTES.findall(line)]
    return said
