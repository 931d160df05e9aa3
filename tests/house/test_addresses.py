"""No tracked file says where packages come from."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.house import addresses
from tests.house.tree import ROOT, plant, tracked

HOST = "py" + "pi.org"


def test_no_index_address() -> None:
    assert addresses.index_addresses(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("requirements/dev.txt", "--index" + "-url https://example.com\n"),
        ("requirements/dev.txt", "redis @ https://example.com/redis.whl\n"),
        ("requirements/dev.txt", "--find" + "-links wheels\n"),
        ("Dockerfile", "RUN pip install --extra-index" + "-url=https://example.com holdfast"),
        (".npmrc", "registry" + "=https://example.com"),
        ("docs/install.md", f"from https://{HOST}/project/holdfast"),
        ("pyproject.toml", f'url = "https://{HOST.upper()}/simple"'),
        ("package-lock.json", json.dumps({"packages": {"node_modules/a": {"resolved": "https://example.com/a.tgz"}}})),
    ],
)
def test_an_address_is_found(tmp_path: Path, path: str, text: str) -> None:
    found = addresses.index_addresses(plant(tmp_path, {path: text}))
    assert found
    assert all(said.startswith(f"{path}: ") for said in found)


def test_saying_no_index_is_fine(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "dev": "uv pip compile --no-emit-index" + "-url --no-emit-find" + "-links",
            "requirements/dev.txt": "redis==8.1.0\n",
        },
    )
    assert addresses.index_addresses(tmp_path) == []


def test_only_what_git_tracks_is_read(tmp_path: Path) -> None:
    plant(tmp_path, {"a.md": "a", "b.md": "b"})
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "a.md"], cwd=tmp_path, check=True)
    assert tracked(tmp_path) == [tmp_path / "a.md"]
