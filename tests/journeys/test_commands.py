"""The commands beside `up`: keys, status, check, money, backup and restore, on a running process and without one."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.journeys.launcher import Launcher, Running, clean_environment, holdfast


def command(running: Running, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    found = holdfast(
        *arguments, cwd=running.data.parent, env=clean_environment(HOLDFAST_DATA=str(running.data), **(env or {}))
    )
    assert "Traceback" not in found.stderr
    return found.returncode, found.stdout, found.stderr


def test_keys_are_made_shown_rotated_and_revoked_through_the_socket(launch_up: Launcher) -> None:
    running = launch_up()
    code, said, _ = command(running, "keys", "create", "app", "--model", "scripted", "--budget-usd", "5", "--json")
    made = json.loads(said)
    assert code == 0
    assert running.ask("/v1/models", key=made["secret"]).status == 200
    code, said, _ = command(running, "keys", "list")
    assert code == 0
    assert "app" in said
    assert made["secret"] not in said
    _, said, _ = command(running, "keys", "show", "app")
    assert made["id"] in said
    _, said, _ = command(running, "keys", "rotate", "app", "--overlap-seconds", "0", "--json")
    rotated = json.loads(said)
    assert running.ask("/v1/models", key=rotated["secret"]).status == 200
    assert running.when(lambda: running.ask("/v1/models", key=made["secret"]).status == 401)
    code, said, _ = command(running, "keys", "revoke", "app")
    assert (code, made["id"] in said) == (0, True)
    assert running.ask("/v1/models", key=rotated["secret"]).status == 401
    audit = running.ask("/api/audit").json()
    assert "key.revoke" in json.dumps(audit)
    code, _, said = command(running, "keys", "show", "app")
    assert (code, said) == (1, "There is no key named app; `holdfast keys list` shows them.\n")
    code, _, said = command(running, "keys", "create", "no good name")
    assert code == 1
    assert "name" in said


def test_keys_and_status_of_a_distant_holdfast_take_a_url_and_a_key(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    distant = clean_environment(HOLDFAST_URL=running.url, HOLDFAST_KEY=running.key)
    found = holdfast("keys", "list", "--json", cwd=tmp_path, env=distant)
    assert [key["name"] for key in json.loads(found.stdout)] == ["bootstrap"]
    assert holdfast("status", cwd=tmp_path, env=distant).returncode == 0
    refused = holdfast("keys", "list", "--url", running.url, "--key", "hf-wrong", cwd=tmp_path)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert holdfast("keys", "list", "--url", running.url, cwd=tmp_path).returncode == 2
    nobody = holdfast("status", "--url", "http://127.0.0.1:9", "--key", "x", cwd=tmp_path)
    assert nobody.returncode == 1
    assert nobody.stderr == "No Holdfast runs at http://127.0.0.1:9.\n"


def test_the_socket_is_the_owners_alone_and_goes_with_the_process(launch_up: Launcher) -> None:
    running = launch_up()
    socket = running.data / "holdfast.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.data.stat().st_mode) == 0o700
    assert running.stop() == 0
    assert not socket.exists()
    code, _, said = command(running, "keys", "list")
    assert (code, said) == (1, f"No Holdfast runs at the data folder {running.data}.\n")


def test_a_socket_that_a_killed_process_left_is_replaced(launch_up: Launcher) -> None:
    running = launch_up()
    running.kill()
    assert (running.data / "holdfast.sock").exists()
    again = launch_up(data=running.data)
    assert command(again, "status")[0] == 0


def test_a_folder_with_a_long_name_has_its_socket_too(launch_up: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    running = launch_up(data=folder)
    assert command(running, "status")[0] == 0


def test_status_says_what_needs_a_person(launch_up: Launcher) -> None:
    running = launch_up()
    assert running.when(lambda: "scripted_serving" in command(running, "status")[1])
    code, said, _ = command(running, "status", "--json")
    found = json.loads(said)
    assert code == 0
    assert (found["ready"], found["pid"], found["url"]) == (True, running.process.pid, running.url)


def test_check_reaches_every_lane_and_names_the_hop_that_failed(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    (tmp_path / "holdfast.toml").write_text(
        f'[upstreams.good]\ndialect = "openai"\nbase_url = "{running.url}/v1"\nkey = "{running.key}"\n'
        '[upstreams.closed]\ndialect = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
        '[models.chat]\nlanes = ["good/scripted", "closed/gpt"]\n'
    )
    found = holdfast("check", "--json", cwd=tmp_path)
    assert found.returncode == 1
    lanes = {lane["lane"]: lane["failure"] for lane in json.loads(found.stdout)["lanes"]}
    assert lanes["good/scripted"] is None
    assert "127.0.0.1" in lanes["closed/gpt"]
    text = holdfast("check", cwd=tmp_path).stdout
    assert "settings are fine" in text
    assert "FAILED" in text
    assert running.key not in text


BUDGETED = """
[upstreams.s]
dialect = "scripted"
[models.scripted]
lanes = ["s/scripted"]
[prices.scripted]
input_usd = "1"
output_usd = "1"
[organisations.default]
budgets = [{ limit_usd = "100" }]
"""


def test_money_is_recomputed_by_the_running_process_and_without_it(launch_up: Launcher) -> None:
    running = launch_up(BUDGETED)
    for _ in range(3):
        assert running.chat().status == 200
    code, said, _ = command(running, "check", "--money")
    assert (code, said) == (0, "Every budget agrees with the calls.\n")
    assert running.stop() == 0
    code, said, _ = command(running, "check", "--money", "--json")
    assert code == 0
    assert json.loads(said)["differences"] == []
    assert command(running, "check", "--repair")[0] == 2


def test_a_backup_made_while_it_runs_brings_keys_and_calls_to_another_folder(
    launch_up: Launcher, tmp_path: Path
) -> None:
    running = launch_up(key=None)
    ids = [running.chat().headers["holdfast-call"] for _ in range(5)]
    target = tmp_path / "copies" / "monday"
    code, said, _ = command(running, "backup", str(target))
    assert (code, said) == (0, f"backed up into {target}\n")
    assert running.chat().status == 200
    code, _, said = command(running, "backup", str(target))
    assert code == 1
    assert "holds a backup already" in said
    other = tmp_path / "other"
    assert holdfast("restore", str(target), "--data", str(other), cwd=tmp_path).returncode == 0
    restored = launch_up(data=other, key=None)
    assert restored.extra["key"] is None
    restored.key = running.key
    found = {call["id"] for call in restored.ask("/api/calls").json()["calls"]}
    assert set(ids) == found
    before, after = (json.loads(command(each, "status", "--json")[1])["incarnation"] for each in (running, restored))
    assert before != after


def test_a_restore_wants_the_process_stopped_and_keeps_what_was_there(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    target = tmp_path / "backup"
    assert command(running, "backup", str(target))[0] == 0
    assert running.chat().status == 200
    code, _, said = command(running, "restore", str(target))
    assert code == 1
    assert f"in use by process {running.process.pid}" in said
    assert running.stop() == 0
    assert command(running, "restore", str(target))[0] == 0
    assert (running.data / "holdfast.sqlite.replaced").exists()
    again = launch_up(data=running.data)
    assert again.ask("/api/calls").json()["calls"] == []


def test_a_backup_of_a_stopped_folder_needs_no_process(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    assert running.stop() == 0
    assert command(running, "backup", str(tmp_path / "backup"))[0] == 0
    code, _, said = command(running, "restore", str(tmp_path / "nothing"))
    assert code == 1
    assert "no backup" in said


@pytest.mark.parametrize("verb", [("backup", "copy"), ("restore", "copy")])
def test_postgresql_has_tools_of_its_own(tmp_path: Path, verb: tuple[str, str]) -> None:
    (tmp_path / "holdfast.toml").write_text('[store]\npostgres = "postgresql://127.0.0.1:9/none"\n')
    found = holdfast(*verb, cwd=tmp_path)
    assert found.returncode == 2
    assert "pg_dump" in found.stderr


def test_docs_are_written_and_compared(tmp_path: Path) -> None:
    assert holdfast("docs", "--out", "reference", cwd=tmp_path).returncode == 0
    assert holdfast("docs", "--out", "reference", "--check", cwd=tmp_path).returncode == 0
    (tmp_path / "reference" / "errors.md").write_text("old")
    found = holdfast("docs", "--out", "reference", "--check", cwd=tmp_path)
    assert found.returncode == 1
    assert "errors.md" in found.stderr


def test_a_data_folder_nobody_can_write_is_a_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = holdfast("up", "--port", "0", "--data", str(blocked / "data"), cwd=tmp_path)
    assert found.returncode == 1
    assert len(found.stderr.splitlines()) == 1


def test_a_torn_store_is_a_sentence(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    assert running.stop() == 0
    copy = tmp_path / "torn"
    shutil.copytree(running.data, copy)
    (copy / "holdfast.sqlite").write_bytes(os.urandom(8192))
    found = holdfast("up", "--port", "0", "--data", str(copy), cwd=tmp_path)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_the_simulator_is_a_command_that_scripts_can_rely_on(launch_up: Launcher, tmp_path: Path) -> None:
    sim = launch_up(verb="sim", arguments=["--defaults", "tokens=3"])
    assert set(sim.extra) == {"url", "pid"}
    assert sim.chat().json()["usage"]["completion_tokens"] == 3
    counted = sim.ask("/sim/calls").json()
    assert set(counted) >= {"total", "by_fingerprint", "open", "prompt_tokens", "completion_tokens"}
    assert (counted["total"], counted["completion_tokens"]) == (1, 3)
    sim.ask("/sim/reset", method="POST")
    assert sim.ask("/sim/calls").json()["total"] == 0
    assert sim.stop() == 0
    for wrong in (["--defaults", "tokns=3"], ["--schedule", "nowhere.toml"], ["--host", "0.0.0.0"]):  # noqa: S104
        found = holdfast("sim", "--port", "0", *wrong, cwd=tmp_path)
        assert (found.returncode, found.stdout) == (2, "")
        assert len(found.stderr.splitlines()) == 1


def test_the_smallest_file_of_the_settings_page_reaches_a_simulator(launch_up: Launcher) -> None:
    sim = launch_up(verb="sim")
    running = launch_up(
        f'[upstreams.mock]\ndialect = "openai"\nbase_url = "{sim.url}/v1"\nkey = "none"\n\n[models.mock]\nlanes = ["mock/mock"]\n'
    )
    assert command(running, "check", "--config", str(running.config))[0] == 0
    answer = running.chat(model="mock")
    assert answer.status == 200
    assert answer.headers["holdfast-lane"] == "mock/mock"
    assert sim.ask("/sim/calls").json()["total"] == 1


def test_a_mistake_in_the_settings_keeps_nobody_from_revoking_a_key(launch_up: Launcher, tmp_path: Path) -> None:
    running = launch_up()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "holdfast.toml").write_text("[modells.x]\n")
    lost = holdfast("keys", "list", cwd=folder, env=clean_environment())
    assert lost.returncode == 2
    assert "--data FOLDER" in lost.stderr
    assert holdfast("keys", "list", "--data", str(running.data), cwd=folder, env=clean_environment()).returncode == 0
