"""docs/operations.md names every metric and every finding, and no other."""

import ast
import re

from tests.house.tree import ROOT, Module, modules

PAGE = ROOT / "docs/operations.md"
METRIC = re.compile(r"(?:holdfast|gen_ai|process)_[a-z_]+")
LABELS = {"gen_ai_operation_name", "gen_ai_request_model", "gen_ai_token_type"}


def section(heading: str) -> str:
    return PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def strings(module: Module) -> set[str]:
    return {
        node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_metrics() -> None:
    samples = Module(ROOT, "src/holdfast/edge/server/samples.py")
    made = {text for text in strings(samples) if METRIC.fullmatch(text)} - LABELS
    table = "\n".join(line for line in section("Metrics").splitlines() if line.startswith("|"))
    assert made == set(METRIC.findall(table)) - LABELS


def findings_made() -> set[str]:
    """The first argument of every `findings.open(...)` and `_judge(...)`; a name stands for its module's constant."""
    found = set()
    for module in modules(ROOT):
        constants = {
            target.id: node.value.value
            for node in module.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr in ("_judge", "_open") or (node.func.attr == "open" and owner.endswith("findings")):
                code = node.args[0]
                value = code.value if isinstance(code, ast.Constant) else constants.get(ast.unparse(code))
                if isinstance(value, str):
                    found.add(value)
    return found


def test_findings() -> None:
    table = set(re.findall(r"^\| `([a-z_]+)` \|", section("What needs a person"), re.MULTILINE))
    made = findings_made()
    assert {"budget_soft", "store_unavailable", "settings_refused"} <= made
    assert made == table
