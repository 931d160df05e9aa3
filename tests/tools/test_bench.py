"""A run of the bench as a whole: what it prints, when it fails, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from holdfast.settings import load
from holdfast.tools.bench import BenchOptions, nginx, run
from holdfast.tools.bench.children import BenchError, Children, python, wait_until_listening
from holdfast.tools.bench.configuration import KEY_VARIABLE, POSTGRES_VARIABLE, REDIS_VARIABLE, configuration
from holdfast.tools.bench.figures import Figure, noise, quantile, ratios
from holdfast.tools.bench.machine import Window, cpu_seconds, family, rss_bytes
from holdfast.tools.bench.metrics import histogram, quantile_between
from holdfast.tools.bench.readers import ReadersResult
from holdfast.tools.bench.servers import start as start_servers
from holdfast.tools.bench.streams import Told, find_max
from holdfast.tools.bench.systems import System
from holdfast.tools.bench.wire import address_of
from tests.tools.mock import serving
from tests.tools.test_bench_streams import script

BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ntime.sleep(60)"
ASLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


SMOKE = BenchOptions(quick=True, gateway=False, json=True, seconds=0.3, stream_seconds=0.5)


def printed(text: str) -> tuple[dict[str, object], list[dict[str, object]], dict[str, object]]:
    machine, *figures, verdict = [msgspec.json.decode(line) for line in text.splitlines()]
    return machine["machine"], figures, verdict


def test_a_run_prints_figures_of_every_system_and_says_all_was_right(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(replace(SMOKE, only=("requests", "latency", "streams"))) == 0
    machine, figures, verdict = printed(capfd.readouterr().out)
    assert machine["cores"] == len(os.sched_getaffinity(0))
    assert verdict["ok"] is True
    found = {(figure["section"], figure["system"], figure["figure"]): figure for figure in figures}
    assert found["requests", "direct", "throughput"]["median"] > 0  # type: ignore[operator]
    assert found["latency", "direct", "p50"]["unit"] == "µs"
    assert found["streams 50", "direct", "lost, duplicated or out of order"]["rounds"] == [0.0]
    if nginx.find():
        assert found["requests", "nginx", "throughput"]["median"] > 0  # type: ignore[operator]
        assert ("latency", "nginx - direct", "added p50") in found


def test_without_nginx_the_run_goes_on_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nginx, "find", lambda: None)
    assert run(replace(SMOKE, only=("requests",), json=False)) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "no baseline" in said
    assert "apt-get install nginx" in said
    assert "direct" in said


def test_a_competitor_that_loses_chunks_fails_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    def losing(n: int, body: bytes) -> list[bytes]:
        pieces = script(body)
        return [*pieces[:5], *pieces[6:]] if n % 10 == 0 else pieces

    with serving(losing) as (address, _):
        assert run(replace(SMOKE, only=("streams",), against=f"http://127.0.0.1:{address.port}/v1")) == 1
    _, figures, verdict = printed(capfd.readouterr().out)
    assert verdict["ok"] is False
    assert "through against" in str(verdict["problems"])
    assert "5 lost" in str(verdict["problems"])
    assert any(figure["system"] == "against - direct" and figure["figure"] == "added p99" for figure in figures)


def test_a_competitor_that_is_not_there_fails_the_run_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(replace(SMOKE, only=("latency",), against="http://127.0.0.1:1/v1")) == 1
    assert "refused" in str(printed(capfd.readouterr().out)[2]["problems"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_no_process_behind(number: signal.Signals) -> None:
    command = python("holdfast.tools.bench", "--only", "requests", "--no-gateway", "--seconds", "30")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as bench:
        give_up = time.monotonic() + 30
        while len(started := family((bench.pid,))) < 3 and time.monotonic() < give_up:
            time.sleep(0.05)
        assert len(started) >= 3
        bench.send_signal(number)
        _, said = bench.communicate(timeout=30)
    assert bench.returncode == 130
    assert b"everything it started has ended" in said
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_children_end_when_their_block_fails_also_the_stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.tools.bench.children.END_SECONDS", 0.2)
    pids = []

    def fail() -> None:
        with Children() as children:
            for name, command in (("asleep", ASLEEP), ("stubborn", STUBBORN)):
                child = children.start(name, command)
                assert child.first_line() == b"ready\n"
                pids.append(child.pid)
            raise BenchError(str(children.folder))

    with pytest.raises(BenchError) as raised:
        fail()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not Path(str(raised.value)).exists()


def test_a_child_that_dies_or_stays_silent_is_told_with_its_own_words() -> None:
    with Children() as children:
        dying = children.start("dying", [sys.executable, "-c", "raise SystemExit('no port is free')"])
        with pytest.raises(BenchError, match="dying did not get ready: no port is free"):
            dying.first_line()
        silent = children.start("silent", [sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(BenchError, match="silent did not get ready"):
            silent.first_line(0.1)
        with pytest.raises(BenchError, match="died"):
            wait_until_listening(silent, 1)


def test_the_processor_time_and_memory_of_a_process_are_read_with_its_descendants() -> None:
    with Children() as children:
        shell = children.start("shell", ["/bin/sh", "-c", '"$0" -c "$1" & wait', sys.executable, BUSY])
        with Window((shell.pid,)) as window:
            assert shell.first_line() == b"done\n"
            members = family((shell.pid,))
            spent = cpu_seconds(members)
            memory = rss_bytes(members)
        later = cpu_seconds(family((shell.pid,)))
    assert len(members) == 2
    assert 0.2 < spent <= later
    assert memory > 4 * 1024 * 1024
    assert 0 <= window.idle_share <= 1
    assert 0 <= window.others_share <= 1


def test_the_gateways_settings_are_taken_by_the_product_with_everything_on(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.toml"
    file.write_text(configuration({"mock": "http://127.0.0.1:1/v1", "pacer": "http://127.0.0.1:2/v1"}, servers=True))
    secrets = {KEY_VARIABLE: "hf-k", POSTGRES_VARIABLE: "postgresql://x", REDIS_VARIABLE: "redis://x"}
    settings = load(file, secrets, {}).settings
    team, key = settings.organisations["bench"].teams["load"], settings.keys["bench"]
    assert settings.defaults.budget_mode == "expected"
    for limits in (settings.organisations["bench"], team, key):
        assert None not in (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent)
    assert team.budgets
    assert key.budgets
    assert set(settings.models) == {"mock", "pacer"}
    assert set(settings.prices) == {"mock/mock", "pacer/mock"}
    assert settings.store.postgres is not None
    assert settings.store.redis is not None


@pytest.mark.engines
def test_real_servers_are_started_and_ended() -> None:
    before = set(family((os.getpid(),)))
    with Children() as children:
        servers = start_servers(children, None, "redis://given")
        assert servers.redis == "redis://given"
        redis = start_servers(children, servers.postgres, None).redis
        started = set(family((os.getpid(),))) - before
        assert re.fullmatch(r"postgresql://postgres:\w+@127\.0\.0\.1:\d+/postgres", servers.postgres)
        assert re.fullmatch(r"redis://:\w+@127\.0\.0\.1:\d+/0", redis)
        assert sum("postgres" in command(pid) for pid in started) > 1
    ends = time.monotonic() + 10
    while alive := [pid for pid in started if "postgres" in command(pid) or "redis" in command(pid)]:
        assert time.monotonic() < ends, [command(pid) for pid in alive]
        time.sleep(0.05)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class ScriptedPlayer:
    """A system that adds a millisecond of p99 for every 40 streams, and loses chunks above `whole_to`."""

    def __init__(self, whole_to: int) -> None:
        self.whole_to = whole_to
        self.asked: list[tuple[str, int]] = []

    def play(self, system: System, streams: int, seconds: float) -> tuple[ReadersResult, Told]:
        self.asked.append((system.name, streams))
        blank: dict[str, object] = dict.fromkeys(ReadersResult.__struct_fields__, 0)
        blank |= {"p99_ms": 2 + (streams // 40 if system.name != "direct" else 0), "rss_bytes": (), "first_error": ""}
        blank |= {"lost": int(streams > self.whole_to)}
        return msgspec.convert(blank, ReadersResult), Told(chunks=0, late_p99_ms=0)


@pytest.mark.parametrize(("whole_to", "most"), [(5000, 1200.0), (700, 700.0), (300, 0.0)])
def test_the_largest_number_of_streams_is_found_by_what_is_added_and_by_what_is_lost(
    whole_to: int, most: float
) -> None:
    player = ScriptedPlayer(whole_to)
    direct, gateway = (System(name, address_of("http://127.0.0.1:1")) for name in ("direct", "gateway"))
    (found,) = find_max(player, direct, [gateway])
    assert found.values == (most,)
    assert ("direct", 400) in player.asked


def test_ratios_go_round_by_round_and_a_baseline_tells_the_noise() -> None:
    series = {"gateway": [50.0, 30.0, 44.0], "nginx": [100.0, 50.0, 110.0]}
    (ratio,) = ratios("s", "throughput", series, "gateway", "nginx", goal=">= 0.40")
    assert ratio.values == (0.5, 0.6, 0.4)
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.4, 0.6)
    assert ratios("s", "throughput", series, "gateway", "floor") == []
    (told,) = noise(Figure("s", "nginx", "throughput", "1/s", (100.0, 50.0, 110.0)))
    assert told.values == (60.0,)
    assert noise(Figure("s", "nginx", "throughput", "1/s", (100.0,))) == []
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.5, 0.99)] == [1, 3, 4]
    assert quantile([], 0.5) == 0


def test_a_quantile_is_read_from_what_a_histogram_grew_by() -> None:
    before = 'lag_bucket{le="0.001"} 100\nlag_bucket{le="0.01"} 100\nlag_bucket{le="+Inf"} 100\nlag_count 100\n'
    after = (
        'lag_bucket{loop="a",le="0.001"} 150\nlag_bucket{loop="a",le="0.01"} 197\nlag_bucket{loop="a",le="+Inf"} 200\n'
        'lag_bucket{loop="b",le="0.001"} 0\nlag_bucket{loop="b",le="0.01"} 0\nlag_bucket{loop="b",le="+Inf"} 0\n'
        'other_bucket{le="0.001"} 7\n'
    )
    grown = (histogram(before, "lag"), histogram(after, "lag"))
    assert quantile_between(*grown, 0.5) == 0.001
    assert quantile_between(*grown, 0.97) == 0.01
    assert quantile_between(*grown, 0.99) == float("inf")
    assert histogram("", "lag") == {}


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no section 'speed'"):
        BenchOptions(only=("speed",))
    with pytest.raises(ValueError, match="at least 1"):
        BenchOptions(rounds=0)
    with pytest.raises(ValueError, match="plain HTTP"):
        address_of("https://example.org/v1")
    assert "engines" in BenchOptions(engines=True).sections
    assert "engines" not in BenchOptions().sections
