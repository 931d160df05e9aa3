"""The floors hold: the tree keeps every contract, and a planted violation of each contract fails naming it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import floors
from tests.house.tree import ROOT

PYPROJECT = ROOT / "pyproject.toml"
SRC = ROOT / "src"

# Who, and what it must not import: the "never" column of the table in CONTRIBUTING.md, and a neighbour of each room.
PLANTS = {
    "face": [("__init__", "holdfast.app")],
    "doors": [
        ("features.__init__", "holdfast.features.gateway"),
        ("engines.__init__", "apsw"),
        ("edge.__init__", "holdfast.edge.server"),
    ],
    "kernel": [("kernel.planted", "holdfast.ports"), ("kernel.planted", "msgspec")],
    "ports": [
        ("ports.planted", "holdfast.features.gateway"),
        ("ports.planted", "holdfast.engines.embedded"),
        ("ports.planted", "holdfast.dialects"),
        ("ports.planted", "msgspec"),
        ("ports.planted", "pydantic"),
    ],
    "dialects": [
        ("dialects.planted", "holdfast.ports"),
        ("dialects.planted", "holdfast.upstreams"),
        ("dialects.planted", "httptools"),
        ("dialects.planted", "pydantic"),
    ],
    "features": [
        ("features.gateway.planted", "holdfast.features.tenancy"),
        ("features.tenancy.planted", "holdfast.features.gateway"),
        ("features.gateway.planted", "holdfast.engines.embedded"),
        ("features.gateway.planted", "holdfast.engines.settings"),
        ("features.gateway.planted", "holdfast.upstreams"),
        ("features.gateway.planted", "holdfast.edge.server"),
        ("features.gateway.planted", "holdfast.settings"),
        ("features.gateway.planted", "apsw"),
        ("features.gateway.planted", "psycopg"),
        ("features.gateway.planted", "redis"),
        ("features.gateway.planted", "httptools"),
        ("features.gateway.planted", "fastapi"),
        ("features.gateway.planted", "starlette"),
        ("features.gateway.planted", "uvicorn"),
    ],
    "engine-settings": [("engines.settings", "holdfast.engines.embedded"), ("engines.settings", "apsw")],
    "embedded": [
        ("engines.embedded.planted", "holdfast.features.gateway"),
        ("engines.embedded.planted", "holdfast.engines.postgres"),
        ("engines.embedded.planted", "psycopg"),
        ("engines.embedded.planted", "redis"),
    ],
    "postgres": [
        ("engines.postgres.planted", "holdfast.features.gateway"),
        ("engines.postgres.planted", "holdfast.engines.redis"),
        ("engines.postgres.planted", "apsw"),
    ],
    "redis": [
        ("engines.redis.planted", "holdfast.features.gateway"),
        ("engines.redis.planted", "holdfast.engines.embedded"),
        ("engines.redis.planted", "psycopg"),
    ],
    "upstreams": [
        ("upstreams.planted", "holdfast.features.gateway"),
        ("upstreams.planted", "holdfast.engines.embedded"),
        ("upstreams.planted", "fastapi"),
    ],
    "testing": [("testing.planted", "holdfast.features.gateway"), ("testing.planted", "holdfast.engines.embedded")],
    "server": [
        ("edge.server.planted", "holdfast.engines.embedded"),
        ("edge.server.planted", "holdfast.upstreams"),
        ("edge.server.planted", "holdfast.edge.worker"),
        ("edge.server.planted", "holdfast.testing"),
        ("edge.server.planted", "apsw"),
    ],
    "worker": [
        ("edge.worker.planted", "holdfast.engines.embedded"),
        ("edge.worker.planted", "holdfast.upstreams"),
        ("edge.worker.planted", "holdfast.edge.server"),
    ],
    "sim": [
        ("edge.sim.planted", "holdfast.features.gateway"),
        ("edge.sim.planted", "holdfast.engines.embedded"),
        ("edge.sim.planted", "holdfast.upstreams.settings"),
        ("edge.sim.planted", "holdfast.edge.server"),
    ],
    "console": [("edge.console.planted", "holdfast.features.gateway"), ("edge.console.planted", "holdfast.ports")],
    "tools": [
        ("tools.planted", "holdfast.features.gateway"),
        ("tools.planted", "holdfast.engines.embedded"),
        ("tools.planted", "holdfast.edge.server"),
        ("tools.planted", "holdfast.app"),
    ],
    "settings": [("settings", "holdfast.ports"), ("settings", "holdfast.features.gateway"), ("settings", "msgspec")],
    "app": [("app", "holdfast.cli"), ("app", "holdfast.testing"), ("app", "apsw")],
    "cli": [
        ("cli", "holdfast.features.gateway"),
        ("cli", "holdfast.engines.embedded"),
        ("cli", "holdfast.edge.server"),
        ("cli", "holdfast.upstreams"),
        ("cli", "fastapi"),
    ],
    "main": [("__main__", "holdfast.app")],
}
TABLE = floors.rows(PYPROJECT)
NAMES = {row.id: row.name for row in TABLE}
PLANTED = [(contract, module, target) for contract, plants in PLANTS.items() for module, target in plants]


def lint(folder: Path) -> tuple[int, str]:
    """import-linter as `./dev check` runs it, but on the tree that stands in `folder`."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", PYPROJECT, "--no-cache", "--no-logo"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout + found.stderr


def copy(folder: Path) -> Path:
    return shutil.copytree(SRC / "holdfast", folder / "holdfast", ignore=shutil.ignore_patterns("__pycache__"))


def write(package: Path, module: str, targets: list[str]) -> None:
    """Append imports to a module of the copy; a room that is not built yet gets its folder and doors."""
    path = package.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in [path.parent, *path.parent.parents]:
        if parent == package:
            break
        (parent / "__init__.py").touch()
    with path.open("a") as file:
        file.writelines(f"\nimport {target}" for target in targets)


def target_exists(package: Path, target: str) -> None:
    path = package.parent.joinpath(*target.split("."))
    if target.startswith("holdfast.") and not path.is_dir() and not path.with_suffix(".py").exists():
        write(package, f"{target}.__init__".removeprefix("holdfast."), [])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What import-linter says of each broken contract, by name, in a copy with every violation planted."""
    folder = tmp_path_factory.mktemp("planted")
    package = copy(folder)
    for _, module, target in PLANTED:
        target_exists(package, target)
        write(package, module, [target])
    code, said = lint(folder)
    assert code == 1, said
    sections: dict[str, str] = {}
    broken = said.partition("Broken contracts")[2]
    starts = sorted((broken.find(f"\n{name}\n"), name) for name in NAMES.values() if f"\n{name}\n" in broken)
    for (start, name), (end, _) in zip(starts, [*starts[1:], (len(broken), "")], strict=True):
        sections[name] = broken[start:end]
    return sections


def test_the_tree_keeps_every_contract(tmp_path: Path) -> None:
    copy(tmp_path)
    code, said = lint(tmp_path)
    assert code == 0, said


@pytest.mark.parametrize(("contract", "module", "target"), PLANTED)
def test_a_planted_import_breaks_its_contract(report: dict[str, str], contract: str, module: str, target: str) -> None:
    importer = f"holdfast.{module}".removesuffix(".__init__")
    assert f"- {importer} imports {target} (line" in report.get(NAMES[contract], ""), report.keys()


def test_every_contract_has_a_plant() -> None:
    assert set(PLANTS) == set(NAMES)


def test_every_module_stands_on_one_floor() -> None:
    assert floors.homeless(SRC, TABLE) == []


def test_a_module_on_no_floor_is_found(tmp_path: Path) -> None:
    (tmp_path / "holdfast" / "attic").mkdir(parents=True)
    (tmp_path / "holdfast" / "attic" / "__init__.py").touch()
    assert floors.homeless(tmp_path, TABLE) == [
        "holdfast.attic stands in no row of [tool.importlinter] in pyproject.toml"
    ]


@pytest.mark.parametrize(
    ("pattern", "module", "expected"),
    [
        ("holdfast.kernel", "holdfast.kernel", True),
        ("holdfast.kernel", "holdfast.kernels", False),
        ("holdfast.features.*", "holdfast.features.gateway", True),
        ("holdfast.features.*", "holdfast.features", False),
        ("holdfast.features.*", "holdfast.features.gateway.path", False),
        ("holdfast.**.settings", "holdfast.edge.server.settings", True),
        ("holdfast.**.settings", "holdfast.settings", False),
    ],
)
def test_patterns(pattern: str, module: str, *, expected: bool) -> None:
    assert floors.matches(pattern, module) is expected
