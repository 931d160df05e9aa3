"""What deptry overlooks is still worth overlooking."""

from pathlib import Path

import pytest

from tests.house import dependencies
from tests.house.tree import ROOT, plant

PYPROJECT = (
    '[tool.deptry.per_rule_ignores]\nDEP002 = ["opentelemetry-api", "prometheus-client"]\nDEP003 = ["starlette"]\n'
)


def test_overlooked_dependencies() -> None:
    assert dependencies.overlooked(ROOT) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import starlette", []),
        ("from starlette.routing import Route", []),
        ("", ["starlette is not imported; deptry need not overlook it"]),
        ("import starlette, prometheus_client", ["prometheus-client is imported; deptry need not overlook it"]),
        (
            "import starlette\nfrom opentelemetry import trace",
            ["opentelemetry-api is imported; deptry need not overlook it"],
        ),
        ("import starlette\nimport opentelemetry.sdk.trace", []),
    ],
)
def test_an_overlooked_dependency_goes_with_its_reason(tmp_path: Path, text: str, said: list[str]) -> None:
    plant(tmp_path, {"pyproject.toml": PYPROJECT, "src/holdfast/a.py": text})
    assert dependencies.overlooked(tmp_path) == said
