"""How large things may be."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from statistics import median

from tests.house.tree import PACKAGE, length, modules

MODULE_MEDIAN_LINES = 150
MODULE_USUAL_LINES = 400
MODULE_USUAL_SHARE = 0.9
MODULE_LINES = 600
FUNCTION_USUAL_LINES = 60
FUNCTION_LONG_SHARE = 0.02
FUNCTION_LINES = 100
APP_LINES = 300
PATH_LINES = 150
FEATURE_FILES = 15


def over(found: Mapping[str, int], limit: int, excepted: Mapping[str, int], what: str) -> list[str]:
    """What is over its limit and not excepted; an exception that has shrunk, or is no longer needed, has to follow."""
    said = []
    for place in sorted({*found, *excepted}):
        now, allowed = found.get(place, 0), excepted.get(place)
        if allowed is None:
            if now > limit:
                said.append(f"{place}: {now} {what} (at most {limit})")
        elif now > allowed:
            said.append(f"{place}: {now} {what} (its exception says {allowed})")
        elif now <= limit:
            said.append(f"{place}: {now} {what}; its exception is no longer needed")
        elif now < allowed:
            said.append(f"{place}: {now} {what}; lower its exception from {allowed}")
    return said


def module_lines(root: Path, excepted: Mapping[str, int]) -> list[str]:
    return over(
        {module.path: module.lines for module in modules(root, PACKAGE, "tests")}, MODULE_LINES, excepted, "lines"
    )


def module_spread(root: Path) -> list[str]:
    counts = [module.lines for module in modules(root)]
    said = []
    if median(counts) > MODULE_MEDIAN_LINES:
        said.append(f"the median module has {median(counts)} lines (at most {MODULE_MEDIAN_LINES})")
    usual = sum(count <= MODULE_USUAL_LINES for count in counts) / len(counts)
    if usual < MODULE_USUAL_SHARE:
        said.append(
            f"{usual:.0%} of modules have {MODULE_USUAL_LINES} lines or fewer (at least {MODULE_USUAL_SHARE:.0%})"
        )
    return said


def function_lines(root: Path, excepted: Mapping[str, int]) -> list[str]:
    found: dict[str, int] = {}
    for module in modules(root, PACKAGE, "tests"):
        for function in module.functions:
            place = f"{module.path}:{function.name}"
            found[place] = max(found.get(place, 0), length(function))
    return over(found, FUNCTION_LINES, excepted, "lines")


def function_spread(root: Path) -> list[str]:
    counts = [length(function) for module in modules(root) for function in module.functions]
    long = sum(count > FUNCTION_USUAL_LINES for count in counts) / max(len(counts), 1)
    if long > FUNCTION_LONG_SHARE:
        return [f"{long:.1%} of functions have over {FUNCTION_USUAL_LINES} lines (at most {FUNCTION_LONG_SHARE:.0%})"]
    return []


def pages(root: Path) -> list[str]:
    """The assembly and each feature's path are pages, not chapters."""
    said = []
    for module in modules(root):
        name = PurePosixPath(module.path).name
        limit = APP_LINES if module.path == f"{PACKAGE}/app.py" else PATH_LINES if name == "path.py" else None
        if limit is not None and module.lines > limit:
            said.append(f"{module.path}: {module.lines} lines (at most {limit})")
    return said


def feature_files(root: Path, excepted: Mapping[str, int]) -> list[str]:
    features = f"{PACKAGE}/features/"
    found = Counter(
        features + module.path.removeprefix(features).partition("/")[0]
        for module in modules(root)
        if module.path.startswith(features) and "/" in module.path.removeprefix(features)
    )
    return over(found, FEATURE_FILES, excepted, "files")
