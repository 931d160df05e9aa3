"""The first minute: start, read, paste, get an answer; and what is said when that cannot be."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.journeys.launcher import KEY, Launcher, clean_environment, holdfast


def read_until_quiet(process: subprocess.Popen[bytes], mark: bytes) -> str:
    """What a process prints up to `mark`."""
    assert process.stdout is not None
    read, ends = b"", time.monotonic() + 30
    while mark not in read:
        ready, _, _ = select.select([process.stdout], [], [], ends - time.monotonic())
        part = os.read(process.stdout.fileno(), 65536) if ready else b""
        assert part, read
        read += part
    return read.decode()


def start_for_people(folder: Path, **env: str) -> tuple[subprocess.Popen[bytes], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "up", "--port", "0"],
        cwd=folder,
        env=clean_environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process, read_until_quiet(process, b"Ctrl-C stops it.\n")
    except AssertionError:
        stop(process)
        raise


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(20)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def pasted(text: str, folder: Path, **env: str) -> dict[str, object]:
    """The curl of the ready text, run by a shell as a newcomer does."""
    curl = text[text.index("  curl ") : text.index("Ctrl-C")]
    found = subprocess.run(
        ["sh", "-c", curl],
        cwd=folder,
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer: dict[str, object] = json.loads(found.stdout)
    return answer


def test_the_ready_line_is_the_only_one_and_says_where_who_and_which_process(launch_up: Launcher) -> None:
    running = launch_up(key=None)
    assert set(running.extra) == {"url", "key", "pid"}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", running.url)
    assert re.fullmatch(r"hf-[0-9a-f]{64}", running.key)
    answer = running.chat()
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["holdfast-scripted"] == "1"
    assert answer.headers["holdfast-lane"] == "scripted/scripted"
    assert answer.headers["x-request-id"].startswith("call_")
    assert running.stop() == 0
    assert running.process.stdout is not None
    assert running.process.stdout.read() == b""


def test_the_bootstrap_key_of_the_environment_is_the_key(launch_up: Launcher) -> None:
    running = launch_up(key=KEY)
    assert running.extra["key"] == KEY
    assert running.chat().status == 200
    who = running.ask("/api/whoami").json()
    assert (who["role"], who["may_call"]) == ("admin", True)


def test_the_curl_of_the_ready_text_works_as_pasted_and_the_key_is_shown_once(tmp_path: Path) -> None:
    process, text = start_for_people(tmp_path)
    try:
        assert "choices" in pasted(text, tmp_path)
        keys = re.findall(r"hf-[0-9a-f]{64}", text)
        assert keys
        assert "scripted model answers" in text
    finally:
        assert stop(process) == 0
    again, second = start_for_people(tmp_path)
    try:
        assert "hf-" not in second
        assert "choices" in pasted(second, tmp_path, HOLDFAST_KEY=keys[0])
    finally:
        assert stop(again) == 0


def test_a_second_start_does_not_know_the_key(launch_up: Launcher) -> None:
    first = launch_up(key=None)
    assert first.stop() == 0
    second = launch_up(key=None, data=first.data)
    assert second.extra["key"] is None
    second.key = first.key
    assert second.chat().status == 200


def test_a_data_folder_belongs_to_one_process_and_the_refusal_names_it(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    found = holdfast("up", "--json", "--port", "0", "--data", str(running.data), cwd=tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    assert f"in use by process {running.process.pid}" in found.stderr
    assert running.chat().status == 200


def test_a_taken_port_is_said(launch_up: Launcher, tmp_path: Path) -> None:
    port = launch_up().url.rpartition(":")[2]
    found = holdfast("up", "--json", "--port", port, "--data", str(tmp_path / "other"), cwd=tmp_path)
    assert found.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["up", "serve", "check"])
def test_settings_that_cannot_be_used_are_said_with_line_and_nearest_name(tmp_path: Path, verb: str) -> None:
    (tmp_path / "holdfast.toml").write_text(
        '[upstreams.mock]\ndialect = "openai"\nbase_url = "http://127.0.0.1:9100/v1"\n\n[models.mock]\nlanse = ["mock/mock"]\n'
    )
    found = holdfast(verb, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert 'holdfast.toml:6: [models.mock] unknown key "lanse"; did you mean "lanes"?' in found.stderr
    assert "Traceback" not in found.stderr


def test_flags_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    found = holdfast("up", "--set", "server.prot=1", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr == 'flag server.prot: unknown setting; did you mean "server.port"?\n'
    assert holdfast("up", "--set", "server", cwd=tmp_path).returncode == 2
    assert holdfast("upp", cwd=tmp_path).returncode == 2


def test_the_scripted_model_is_for_this_machine_alone(tmp_path: Path) -> None:
    found = holdfast("up", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)  # noqa: S104
    assert found.returncode == 2
    assert "loopback" in found.stderr


def test_serve_wants_a_store_that_nodes_can_share(tmp_path: Path) -> None:
    found = holdfast("serve", "--port", "0", cwd=tmp_path)
    assert found.returncode == 2
    assert "store.postgres" in found.stderr


def test_help_and_version(tmp_path: Path) -> None:
    said = holdfast("--help", cwd=tmp_path)
    assert said.returncode == 0
    for verb in ("up", "serve", "check", "status", "sim", "bench", "keys", "backup", "restore"):
        assert verb in said.stdout
        assert holdfast(verb, "--help", cwd=tmp_path).returncode == 0
    assert holdfast("version", cwd=tmp_path).stdout == f"holdfast {version('holdfast')}\n"


def test_help_loads_neither_the_server_nor_an_engine(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "holdfast", "--help"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    for heavy in ("fastapi", "uvicorn", "apsw", "pydantic", "holdfast.app"):
        assert not re.search(rf"\| +{re.escape(heavy)}$", found.stderr, re.MULTILINE), heavy
