"""One thing has one name, wherever it stands."""

from pathlib import Path

import pytest

from tests.house import symmetry
from tests.house.tree import ROOT, plant

GATEWAY = "src/holdfast/features/gateway"
PAGE = "docs/request-path.md"
HOUSE = {
    f"{GATEWAY}/model.py": 'STAGES = ("identify", "admit")\n',
    f"{GATEWAY}/identify.py": "def identify() -> None: ...\n",
    f"{GATEWAY}/admit.py": "async def admit() -> None: ...\n",
    PAGE: "# The path\n\n## 1. identify\n\nWho asks.\n\n## 2. `admit`: when\n\n## After\n",
}
ENGINES = {
    "src/holdfast/ports/tail.py": "class Tail: ...\n",
    "src/holdfast/engines/redis/tail.py": "class RedisTail: ...\n",
    "tests/contracts/test_tail.py": "",
}


def test_stages() -> None:
    assert symmetry.stages(ROOT) == []
    assert symmetry.stage_labels(ROOT) == []


def test_ports() -> None:
    assert symmetry.ports(ROOT) == []


def test_face() -> None:
    assert symmetry.face(ROOT) == []


def test_matching_stages_are_fine(tmp_path: Path) -> None:
    assert symmetry.stages(plant(tmp_path, HOUSE)) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({f"{GATEWAY}/model.py": ""}, "STAGES, a tuple of stage names, is missing"),
        (
            {f"{GATEWAY}/model.py": 'STAGES = ("identify", "admit", "check")'},
            "check.py: missing, though STAGES names it",
        ),
        ({f"{GATEWAY}/admit.py": "def allow() -> None: ..."}, "admit.py: defines no admit()"),
        ({PAGE: "## identify"}, "headings ['identify'] are not"),
        ({PAGE: "## admit\n## identify"}, "headings ['admit', 'identify'] are not"),
    ],
)
def test_a_stage_that_does_not_match_is_found(tmp_path: Path, files: dict[str, str], said: str) -> None:
    found = symmetry.stages(plant(tmp_path, {**HOUSE, **files}))
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    "call", ['seen.stage("admission")', 'tracer.span("admission")', 'observe(1, stage="admission")']
)
def test_a_label_that_is_no_stage_is_found(tmp_path: Path, call: str) -> None:
    plant(tmp_path, {**HOUSE, f"{GATEWAY}/path.py": f'{call}\nseen.stage("admit")\n'})
    assert symmetry.stage_labels(tmp_path) == [f"{GATEWAY}/path.py:1: 'admission' is no stage"]


def test_matching_ports_are_fine(tmp_path: Path) -> None:
    assert symmetry.ports(plant(tmp_path, ENGINES)) == []


def test_a_port_without_its_suite_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {name: text for name, text in ENGINES.items() if not name.startswith("tests/")})
    assert symmetry.ports(tmp_path) == ["tests/contracts/test_tail.py: missing, though an engine has tail.py"]


def test_a_suite_without_its_port_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {**ENGINES, "tests/contracts/test_head.py": ""})
    assert symmetry.ports(tmp_path) == ["tests/contracts/test_head.py: no ports/head.py"]


def test_an_engine_answering_a_port_elsewhere_is_found(tmp_path: Path) -> None:
    path = "src/holdfast/engines/embedded/memory.py"
    plant(tmp_path, {**ENGINES, path: "class EmbeddedTail: ...\n"})
    assert symmetry.ports(tmp_path) == [f"{path}:EmbeddedTail: an engine's tail stands in tail.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no __all__"),
        ('from a import b, c\n__all__ = ["c", "b"]', "__all__ is not sorted"),
        ('from a import b\n__all__ = ["b", "c"]', "__all__ names c, which is not there"),
    ],
)
def test_a_crooked_face_is_found(tmp_path: Path, text: str, said: str) -> None:
    path = "src/holdfast/__init__.py"
    assert symmetry.face(plant(tmp_path, {path: text})) == [f"{path}: {said}"]
