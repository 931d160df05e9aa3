"""kill -9 at any moment, again and again on one data folder, under load, with the simulator as the provider.

What holds by the durability table (docs: a record is lost only if it was handed within 10 ms and one commit of the kill; MARGIN is
what this machine may need for both): the folder starts again; every call that was answered before that margin has its row,
complete, with the usage the client was told; every call the provider saw has a row, unless it was asked within the margin;
what was open ends `unknown` and is charged what it had reserved; budgets are the sums of the rows; a strict cap is not passed.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import SystemClock
from holdfast.ports.calls import CallRow, Window
from holdfast.ports.money import Balance
from tests.journeys.launcher import Launcher, Running, launching
from tests.journeys.simulator import Simulator, simulator

ROUNDS = 8
CLIENTS = 12
MARGIN_SECONDS = 0.5
CAP_NANODOLLARS = 10_000_000
MOST_TOKENS, AFTER_TOKENS = 20, 4
INPUT_NANODOLLARS, OUTPUT_NANODOLLARS = 10_000, 40_000
CONFIG = """
[defaults]
budget_mode = "strict"

[organisations.acme.teams.rich]
budgets = [{ limit_usd = "1000", period = "month" }, { limit_usd = "500", period = "day" }]
[organisations.acme.teams.poor]
budgets = [{ limit_usd = "0.01", period = "month" }]

[keys.rich]
secret = "env:RICH"
team = "acme/rich"
[keys.poor]
secret = "env:POOR"
team = "acme/poor"

[upstreams.sim]
dialect = "openai"
base_url = "URL/v1"
key = "none"

[models.quick]
lanes = ["sim/scripted?tokens=4"]
[models.slow]
lanes = ["sim/scripted?tokens=20&itl_ms=10"]
[prices."scripted?tokens=4"]
input_usd = "10"
output_usd = "40"
[prices."scripted?tokens=20&itl_ms=10"]
input_usd = "10"
output_usd = "40"
"""


@dataclass
class Asked:
    """One call as its client saw it: when it was asked, when it was answered whole, and what it was told."""

    tag: str
    at: float
    answered_at: float | None = None
    usage: tuple[int, int] | None = None


@dataclass
class Load:
    """Clients that ask without a pause until their gateway is gone."""

    running: Running
    round: int
    asked: list[Asked] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _ask(self, client: int) -> None:
        parts = urlsplit(self.running.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        key = "hf-poor" if client == 0 else "hf-rich"
        number = 0
        try:
            while not self.stopping.is_set():
                number += 1
                self._one(connection, key, f"{self.round}-{client}-{number}", slow=client % 3 == 0)
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, key: str, tag: str, *, slow: bool) -> None:
        asked = Asked(tag, time.monotonic())
        self.asked.append(asked)
        body: dict[str, Any] = {
            "model": "slow" if slow else "quick",
            "messages": [{"role": "user", "content": f"This is {tag}"}],
            "user": tag,
            "max_tokens": 30,
        }
        if slow:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            return
        if slow:
            *_, last, done = said.removesuffix(b"\n\n").split(b"\n\n")
            assert done == b"data: [DONE]"
            said = last.removeprefix(b"data: ")
        usage = json.loads(said)["usage"]
        asked.answered_at, asked.usage = time.monotonic(), (usage["prompt_tokens"], usage["completion_tokens"])


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with simulator() as running:
        yield running


@pytest.mark.storm
@pytest.mark.timeout(150)
async def test_kill_at_any_moment(sim: Simulator, tmp_path: Path) -> None:
    dice = random.Random(20261120)
    data = tmp_path / "data"
    asked: list[Asked] = []
    owed: set[str] = set()
    excused: set[str] = set()
    with launching(tmp_path) as launcher:
        for number in range(ROUNDS):
            running = started(launcher, sim, data)
            load = Load(running, number)
            threads = load.start()
            time.sleep(dice.uniform(0.1, 0.9))  # noqa: ASYNC251 - the clients are threads
            killed_at = time.monotonic()
            running.kill()
            load.stopping.set()
            for thread in threads:
                thread.join()
            asked += load.asked
            owed |= {one.tag for one in load.asked if one.answered_at and one.answered_at < killed_at - MARGIN_SECONDS}
            excused |= {one.tag for one in load.asked if one.at > killed_at - MARGIN_SECONDS}
        running = started(launcher, sim, data)
        assert running.chat("quick", user="after").status == 200
        ends = time.monotonic() + 5  # the end of the call just made is a record like any other: written within moments
        while left := running.ask("/api/calls?status=open").json()["calls"]:
            assert time.monotonic() < ends, left
        assert running.stop() == 0
    engine = await open_embedded(data, clock=SystemClock())
    try:
        rows = {row.opened.end_user: row for row in await every(engine) if row.opened.end_user != "after"}
        answered_have_rows(asked, rows, owed)
        the_provider_saw_no_more(sim, rows, excused)
        crashed_calls_are_unknown_and_charged(rows)
        await budgets_are_sums_of_rows(engine, rows)
    finally:
        await engine.close()


def started(launcher: Launcher, sim: Simulator, data: Path) -> Running:
    return launcher(CONFIG.replace("URL", sim.url), {"RICH": "hf-rich", "POOR": "hf-poor"}, data=data)


async def every(engine: Embedded) -> list[CallRow]:
    rows: list[CallRow] = []
    before = None
    while page := await engine.calls.page(Window(0.0, 4e9), limit=1_000, before=before):
        rows += page
        before = (page[-1].opened.opened_at, page[-1].opened.id)
    return rows


def answered_have_rows(asked: list[Asked], rows: dict[str | None, CallRow], owed: set[str]) -> None:
    """Whoever was told of an answer in time finds it in the books, and it says what they were told."""
    assert len(owed) > 20
    for one in asked:
        row = rows.get(one.tag)
        if one.tag in owed:
            assert row is not None, f"{one.tag} was answered and has no row"
            assert row.closed is not None
            assert row.closed.status == "complete"
        if row is not None and row.closed is not None and row.closed.status == "complete" and one.usage is not None:
            assert (row.closed.usage.input_tokens, row.closed.usage.output_tokens) == one.usage
            assert row.cost_nanodollars == one.usage[0] * INPUT_NANODOLLARS + one.usage[1] * OUTPUT_NANODOLLARS


def the_provider_saw_no_more(sim: Simulator, rows: dict[str | None, CallRow], excused: set[str]) -> None:
    """A call is written down before the provider hears of it: what it saw beyond the rows was asked just before a kill. Nor did
    it say more than the rows that ended, the ones a kill cut short and the ones it lost can hold."""
    counted = sim.calls_when(lambda counts: counts["open"] == 0)
    seen, said = counted["total"] - 1, counted["completion_tokens"] - AFTER_TOKENS
    assert max(counted["by_fingerprint"].values()) == 1, "a call was made twice"
    sent = [row for row in rows.values() if row.closed is not None and row.closed.status != "refused"]
    complete = [row.closed for row in sent if row.closed is not None and row.closed.status == "complete"]
    lost = len([tag for tag in excused if tag not in rows])
    assert len(complete) <= seen <= len(sent) + lost
    told = sum(closed.usage.output_tokens for closed in complete)
    assert told <= said <= told + MOST_TOKENS * (len(sent) - len(complete) + lost)


def crashed_calls_are_unknown_and_charged(rows: dict[str | None, CallRow]) -> None:
    unknown = [row for row in rows.values() if row.closed is not None and row.closed.status == "unknown"]
    assert unknown, "no round was killed with a call in flight"
    for row in unknown:
        assert row.closed is not None
        assert row.closed.error_code == "outcome_unknown"
        assert row.closed.usage.estimated
        assert row.cost_nanodollars == row.opened.reserved_nanodollars > 0
    assert all(row.closed is not None for row in rows.values())


async def budgets_are_sums_of_rows(engine: Embedded, rows: dict[str | None, CallRow]) -> None:
    assert await engine.money.recompute(repair=False) == []
    spent = {"rich": 0, "poor": 0}
    for row in rows.values():
        spent[row.opened.team] += row.cost_nanodollars or 0
    now = time.time()
    for team, sum_of_rows in spent.items():
        month = time.strftime("%Y-%m", time.gmtime(now))
        held = await engine.money.held([Balance(f"team:acme/{team}", f"month:{month}:UTC", 0.0, 4e9, 1)])
        assert (held[0].spent_nanodollars, held[0].reserved_nanodollars) == (sum_of_rows, 0)
    assert CAP_NANODOLLARS // 2 < spent["poor"] <= CAP_NANODOLLARS
