"""A process that lives to be killed: it hands and commits numbered units, and says the number of each that was committed.

    python -m tests.storms.embedded_load DATA SEED FIRST_NUMBER

Unit n ends call `call_n`, with a further attempt, a key `key_n` and an audit row `aud_n`; its call was opened by a unit before.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from holdfast.engines.embedded import Embedded, open_embedded
from holdfast.kernel.clock import SystemClock
from holdfast.ports.directory import Put
from holdfast.ports.record import Level
from tests.contracts.samples import NOON, attempted, audit_row, balance, call_closed, call_opened, key, settled

BUDGETS = (balance("org:acme", 10**15), balance("team:acme/search", 10**15), balance("key:key_1", 10**15))
RESERVED = 500


def cost_of(number: int) -> int:
    return number % 97


async def begin(engine: Embedded, number: int) -> None:
    opened = call_opened(id=f"call_{number}", reserved_nanodollars=RESERVED, opened_at=NOON + number / 1000)
    await engine.money.reserve(opened.id, RESERVED, BUDGETS)
    engine.record.hand(opened)


async def end(engine: Embedded, number: int, rng: random.Random) -> None:
    changes = (
        attempted(f"call_{number}", cost_nanodollars=7),
        call_closed(f"call_{number}", cost_nanodollars=cost_of(number), attempts=2),
        settled(f"call_{number}", RESERVED, cost_of(number) + 7, *BUDGETS),
        audit_row(id=f"aud_{number}"),
    )
    made = key(id=f"key_{number}")
    if rng.random() < 0.7:
        engine.record.hand(*changes, Put(made))
        return
    level = Level.SYNCED if rng.random() < 0.2 else Level.WRITTEN
    await engine.record.commit(*changes, Put(made, expect_version=0), level=level)
    os.write(1, f"{number}\n".encode())


async def main(data: Path, seed: int, number: int) -> None:
    rng = random.Random(seed)
    engine = await open_embedded(data, clock=SystemClock(), commit_interval_seconds=0.003)
    os.write(1, b"ready\n")
    running: list[int] = []
    while True:
        for _ in range(rng.randrange(1, 30)):
            await begin(engine, number)
            running.append(number)
            number += 1
        rng.shuffle(running)
        while len(running) > rng.randrange(20):
            await end(engine, running.pop(), rng)
        await asyncio.sleep(rng.random() * 0.004)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
