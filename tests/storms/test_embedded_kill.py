"""kill -9 at any moment: what was acknowledged is there, no unit is half there, and money is what the calls say."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import SystemClock
from tests.contracts.samples import ALWAYS, call_closed, settled
from tests.storms.embedded_load import BUDGETS, RESERVED, cost_of

ROOT = Path(__file__).parents[2]
ROUNDS = 10


def run_and_kill(data: Path, seed: int, first: int, seconds: float) -> set[int]:
    """Numbers the process said were committed before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.storms.embedded_load", str(data), str(seed), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seconds)
        process.kill()
        said = process.stdout.read().split(b"\n")[:-1]  # the last line may be cut
    return {int(line) for line in said}


async def stored(engine: Embedded) -> tuple[set[int], set[int]]:
    """Numbers of the units that are there, each looked at whole, and of the calls that are still open."""
    there: set[int] = set()
    still_open: set[int] = set()
    keys = {int(one.id.removeprefix("key_")) for one in (await engine.directory.changes_since(0)).keys}
    audits = {int(row.id.removeprefix("aud_")) for row in await engine.directory.audit(limit=1_000_000)}
    before = None
    while page := await engine.calls.page(ALWAYS, limit=10_000, before=before):
        before = (page[-1].opened.opened_at, page[-1].opened.id)
        for row in page:
            number = int(row.opened.id.removeprefix("call_"))
            if row.closed is not None and row.closed.status == "unknown":
                continue
            ended = row.closed is not None
            parts = {ended, number in keys, number in audits, len(row.further) == 1}
            assert len(parts) == 1, f"unit {number} is half there"
            if row.closed is not None:
                assert row.closed.cost_nanodollars == cost_of(number)
            (there if ended else still_open).add(number)
    assert keys == audits == there
    return there, still_open


async def close_abandoned(engine: Embedded) -> None:
    """What the gateway does after a crash."""
    for opened in await engine.calls.open_calls():
        end = call_closed(opened.id, status="unknown", cost_nanodollars=RESERVED)
        await engine.record.commit(end, settled(opened.id, RESERVED, RESERVED, *BUDGETS))


@pytest.mark.storm
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_acknowledged_is_lost_and_nothing_is_half_there(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    first, acknowledged = 0, set[int]()
    for round_number in range(ROUNDS // 2):
        life = rng.random() * 0.25
        acknowledged |= await asyncio.to_thread(run_and_kill, tmp_path / "data", rng.randrange(10**6), first, life)
        engine = await open_embedded(tmp_path / "data", clock=SystemClock())
        there, still_open = await stored(engine)
        assert acknowledged <= there
        mine = {number for number in there | still_open if number >= first}
        assert mine == set(range(first, first + len(mine))), "units are kept in the order they were given"
        assert await engine.money.recompute(repair=False) == []
        if round_number % 2:
            held = await engine.money.held(BUDGETS)
            assert {one.reserved_nanodollars for one in held} == {RESERVED * len(still_open)}
        await close_abandoned(engine)
        assert await engine.money.recompute(repair=False) == []
        held = await engine.money.held(BUDGETS)
        spent = (await engine.calls.spent(ALWAYS)).spent_nanodollars
        assert {(one.spent_nanodollars, one.reserved_nanodollars) for one in held} == {(spent, 0)}
        first += len(mine)
        await engine.close()
    assert acknowledged, "nothing was ever committed: the storm proves nothing"
