"""The settings file changes while it runs: a good one is taken, a bad one is said and changes nothing."""

import signal
from pathlib import Path

from tests.journeys.launcher import Launcher, Running

ONE = '[upstreams.s]\ndialect = "scripted"\n[models.one]\nlanes = ["s/scripted"]\n'
TWO = ONE + '[models.two]\nlanes = ["s/scripted"]\n'
BAD = ONE + '[models.two]\nlane = ["s/scripted"]\n'


def models(running: Running) -> list[str]:
    return [model["id"] for model in running.ask("/v1/models").json()["data"]]


def findings(running: Running) -> dict[str, str]:
    return {each["code"]: each["what"] for each in running.ask("/api/findings").json()["findings"]}


def write(running: Running, text: str) -> None:
    assert running.config is not None
    running.config.write_text(text, "utf-8")


def test_a_changed_file_is_taken_without_a_restart_and_a_bad_one_changes_nothing(launch_up: Launcher) -> None:
    running = launch_up(ONE)
    assert models(running) == ["one"]
    write(running, TWO)
    assert running.when(lambda: models(running) == ["one", "two"])
    write(running, BAD)
    assert running.when(lambda: "settings_refused" in findings(running))
    said = findings(running)["settings_refused"]
    assert ':6: [models.two] unknown key "lane"; did you mean "lanes"?' in said
    assert models(running) == ["one", "two"]
    assert running.chat(model="two").status == 200
    assert "settings_refused" in str(running.ask("/readyz").json()["findings"])
    assert 'holdfast_findings{code="settings_refused",severity="warning"} 1' in running.ask("/metrics").body.decode()
    write(running, ONE)
    assert running.when(lambda: models(running) == ["one"])
    assert "settings_refused" not in findings(running)
    lines = [line for line in running.lines() if line.get("finding") == "settings_refused"]
    assert [line["open"] for line in lines] == [True, False]


def test_what_shows_only_while_taking_it_changes_nothing_either(launch_up: Launcher, tmp_path: Path) -> None:
    key = "hf-declared-key-one-0123456789"
    running = launch_up(ONE + f'[keys.app]\nsecret = "{key}"\n')
    empty = tmp_path / "authorities.pem"
    empty.write_text("nothing\n")
    write(
        running,
        TWO + f'[upstreams.t]\ndialect = "openai"\nbase_url = "https://127.0.0.1:1"\nca_bundle = "{empty}"\n',
    )
    assert running.when(lambda: "settings_refused" in findings(running))
    assert models(running) == ["one"]
    assert running.ask("/v1/models", key=key).status == 200


def test_limits_of_the_server_change_with_the_file(launch_up: Launcher) -> None:
    running = launch_up(ONE)
    long = [{"role": "user", "content": "x" * 2_000}]
    assert running.chat(model="one", messages=long).status == 200
    write(running, ONE + "[server]\nmax_body_bytes = 1024\n")
    assert running.when(lambda: running.chat(model="one", messages=long).status == 413)
    assert running.chat(model="one").status == 200


def test_a_storm_of_sighups_ends_with_the_file_as_it_is(launch_up: Launcher) -> None:
    running = launch_up(ONE)
    for text in (TWO, ONE, TWO):
        write(running, text)
        for _ in range(50):
            running.process.send_signal(signal.SIGHUP)
    assert running.when(lambda: models(running) == ["one", "two"])


def test_sighup_reads_the_file_and_the_secrets_again(launch_up: Launcher, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hf-declared-key-one-0123456789")
    running = launch_up(ONE + f'[keys.app]\nsecret = "file:{secret}"\n')
    assert running.ask("/v1/models", key="hf-declared-key-one-0123456789").status == 200
    secret.write_text("hf-declared-key-two-0123456789")
    running.process.send_signal(signal.SIGHUP)
    assert running.when(lambda: running.ask("/v1/models", key="hf-declared-key-two-0123456789").status == 200)
    assert running.ask("/v1/models", key="hf-declared-key-one-0123456789").status == 401
    assert "hf-declared-key" not in running.log.read_text("utf-8")


def test_what_needs_a_restart_is_said(launch_up: Launcher) -> None:
    running = launch_up(ONE)
    write(running, ONE + "[store]\nretention_days = 7\n")
    assert running.when(lambda: "restart_needed" in findings(running))
    assert "store.retention_days" in findings(running)["restart_needed"]
    write(running, ONE)
    assert running.when(lambda: "restart_needed" not in findings(running))


def test_the_level_of_the_log_changes_with_the_file(launch_up: Launcher) -> None:
    running = launch_up(ONE)
    assert running.chat(model="one").status == 200
    write(running, ONE + '[logs]\ncalls = "all"\n')
    assert running.when(lambda: any("reloaded" in line["message"] for line in running.lines()))
    answer = running.chat(model="one")
    assert running.when(lambda: any(line["logger"] == "holdfast.calls" for line in running.lines()))
    calls = [line for line in running.lines() if line["logger"] == "holdfast.calls"]
    assert [line["request_id"] for line in calls] == [answer.headers["x-request-id"]]
    assert set(calls[0]["stage_seconds"]) >= {"identify", "attempt"}
