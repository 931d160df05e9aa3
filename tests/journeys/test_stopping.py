"""Stopping, by word and by force: running streams end, the flush is never skipped, and the next start finds a whole folder."""

import signal

import pytest

from tests.journeys.launcher import Launcher, Running
from tests.journeys.streams import Stream

CONFIG = """
[upstreams.s]
dialect = "scripted"
[models.scripted]
lanes = ["s/scripted"]
[models.slow]
lanes = ["s/scripted?itl_ms=20&tokens=100"]
[models.endless]
lanes = ["s/scripted?itl_ms=100&tokens=2000"]
[prices.scripted]
input_usd = "1"
output_usd = "1"
[prices."scripted?itl_ms=20&tokens=100"]
input_usd = "1"
output_usd = "1"
[prices."scripted?itl_ms=100&tokens=2000"]
input_usd = "1"
output_usd = "1"
"""


def call_of(running: Running, model: str) -> dict[str, object]:
    found = running.ask(f"/api/calls?model={model}").json()["calls"]
    assert len(found) == 1
    call: dict[str, object] = found[0]
    return call


def test_a_stream_ends_well_while_readiness_sends_traffic_elsewhere(launch_up: Launcher) -> None:
    running = launch_up(CONFIG, arguments=["--set", "server.drain_notice_seconds=1"])
    assert running.ask("/readyz", key=None).status == 200
    stream = Stream(running, "slow")
    running.process.send_signal(signal.SIGTERM)
    assert running.when(lambda: running.ask("/readyz", key=None).status == 503)
    ready = running.ask("/readyz", key=None).json()
    assert [reason["code"] for reason in ready["reasons"]] == ["draining"]
    assert running.ask("/healthz", key=None).status == 200
    assert running.ask("/startupz", key=None).status == 200
    assert not stream.is_whole()
    stream.join()
    assert stream.is_whole()
    assert running.process.wait(20) == 0
    again = launch_up(CONFIG, data=running.data)
    assert call_of(again, "slow")["status"] == "complete"


def test_up_stops_listening_at_once_and_still_lets_a_stream_end(launch_up: Launcher) -> None:
    running = launch_up(CONFIG)
    stream = Stream(running, "slow")
    assert running.stop() == 0
    stream.join()
    assert stream.is_whole()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_calls_and_keeps_their_records(launch_up: Launcher, number: int) -> None:
    running = launch_up(CONFIG, env={})
    stream = Stream(running, "endless")
    for _ in range(20):
        assert running.chat().status == 200
    running.process.send_signal(number)
    assert running.when(lambda: running.process.poll() is not None, seconds=0.3) is False
    running.process.send_signal(number)
    assert running.process.wait(20) == 0
    stream.join()
    assert not stream.is_whole()
    again = launch_up(CONFIG, data=running.data)
    assert len(again.ask("/api/calls?model=scripted").json()["calls"]) == 20
    cut = call_of(again, "endless")
    assert cut["status"] != "open"
    assert isinstance(cut["cost_nanodollars"], int)
    assert cut["cost_nanodollars"] > 0


def test_a_killed_process_leaves_a_folder_that_starts_and_calls_that_end(launch_up: Launcher) -> None:
    running = launch_up(CONFIG, key=None)
    first = running.key
    assert running.chat().status == 200
    stream = Stream(running, "endless")
    assert running.when(lambda: running.ask("/api/calls?model=endless").json()["calls"] != [])
    assert call_of(running, "endless")["status"] == "open"
    running.kill()
    stream.join()
    assert not stream.is_whole()
    again = launch_up(CONFIG, key=None, data=running.data)
    assert again.extra["key"] is None
    again.key = first
    assert again.chat().status == 200
    lost = call_of(again, "endless")
    assert (lost["status"], lost["error_code"]) == ("unknown", "outcome_unknown")
    assert lost["usage"] is not None
    assert again.stop() == 0
