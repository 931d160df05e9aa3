"""What the pages tell a newcomer to paste works as it stands; only the port is another."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.journeys.launcher import Running, clean_environment, holdfast
from tests.journeys.simulator import simulator

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / page).read_text("utf-8")) if found == kind]


def run(command: list[str], folder: Path, **env: str) -> str:
    found = subprocess.run(
        command, cwd=folder, env=clean_environment(**env), capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_first_call_of_the_readme_with_curl(demo: Running, tmp_path: Path) -> None:
    (call,) = blocks("README.md", "sh")
    curl = call[call.index("curl") :].replace("http://127.0.0.1:8080", demo.url)
    assert "choices" in json.loads(run(["sh", "-c", curl], tmp_path, HOLDFAST_KEY=demo.key))


def test_the_first_call_of_the_readme_with_the_sdk(demo: Running, tmp_path: Path) -> None:
    (program,) = blocks("README.md", "python")
    (tmp_path / "first.py").write_text(program.replace("http://127.0.0.1:8080", demo.url))
    assert len(run([sys.executable, "first.py"], tmp_path, HOLDFAST_KEY=demo.key).split()) > 5


def test_the_settings_file_of_the_readme_is_one(tmp_path: Path) -> None:
    (text,) = blocks("README.md", "toml")
    (tmp_path / "holdfast.toml").write_text(text)
    found = holdfast("check", "--set", "upstreams.openai.base_url=http://127.0.0.1:9/v1", cwd=tmp_path)
    assert found.returncode == 2
    assert "OPENAI_API_KEY is not set" in found.stderr
    env = clean_environment(OPENAI_API_KEY="sk-of-a-test")
    found = holdfast("check", "--set", "upstreams.openai.base_url=http://127.0.0.1:9/v1", cwd=tmp_path, env=env)
    assert found.returncode == 1
    assert "settings are fine" in found.stdout


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    text = (ROOT / page).read_text("utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in target]
    assert [target for target in targets if not (folder / target).exists()] == []


def test_the_calls_of_the_page_on_the_simulator(tmp_path: Path) -> None:
    with simulator() as running:
        (_, curl) = [text for text in blocks("docs/sim.md", "") if "holdfast sim\n" in text or "curl" in text][:2]
        answer = run(["sh", "-c", curl.replace("http://127.0.0.1:9100", running.url)], tmp_path)
        assert "choices" in json.loads(answer)
        assert running.calls()["total"] == 1


def test_every_command_the_pages_show_is_one(tmp_path: Path) -> None:
    """`holdfast VERB` of every code block and code span; a flag that is not there would be an invention."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    shown = {
        (verb, frozenset(re.findall(r"(?<![\w-])--[a-z-]+", rest)))
        for page in pages
        for verb, rest in re.findall(r"holdfast ((?:keys )?[a-z]+)([^`\n|#(]*)", "\n".join(code(page)))
    }
    assert len(shown) > 15
    helps: dict[str, str] = {}
    for verb, flags in sorted(shown, key=str):
        if verb not in helps:
            env = {**clean_environment(), "COLUMNS": "250"}
            found = holdfast(*verb.split(), "--help", cwd=tmp_path, env=env)
            assert found.returncode == 0, verb
            helps[verb] = found.stdout
        assert [flag for flag in flags if flag not in helps[verb]] == [], verb


def code(page: Path) -> list[str]:
    text = page.read_text("utf-8")
    return [body for _, body in BLOCK.findall(text)] + re.findall(r"`(holdfast [^`\n]+)`", text)


def test_nothing_of_this_machine_stands_in_the_pages() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        assert os.fspath(ROOT) not in page.read_text("utf-8")
