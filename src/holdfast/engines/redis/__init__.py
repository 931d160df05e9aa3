"""Rates on Redis: token buckets and slots shared by any number of nodes.

For whom: whoever runs more than one gateway process and limits by the minute or at once. A single process needs none of it:
the embedded engine keeps rates in memory.

How it differs from the embedded engine
- A reserve is one round trip, shared by all that wait at the time; time is the Redis server's.
- While Redis is away `reserve` raises StoreUnavailableError at once and recovers by itself; settlements wait for a minute.
- Losing Redis, or its data, refills buckets and frees slots; nothing here has to be backed up.

What it needs: Redis 6.2 or newer (or a server that speaks as it does, with Lua), one primary, no Redis Cluster: it is refused
when opened, because a reservation takes from several keys at once. No persistence. With `maxmemory`, any policy: an evicted
bucket is a full one. All keys begin with `hf1:` and expire when they say no more than a missing key would.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.kernel.clock import Clock
from holdfast.kernel.errors import SettingsError

if TYPE_CHECKING:
    from holdfast.engines.redis.rates import RedisRates

__all__ = ["Redis", "open_redis"]


@dataclass(frozen=True, slots=True)
class Redis:
    """The ports of one node."""

    rates: "RedisRates"

    async def close(self) -> None:
        await self.rates.close()


async def open_redis(url: str, *, clock: Clock, node: str, time: Clock | None = None) -> Redis:
    """`time`: the clock by which buckets refill and slots expire; None is the Redis server's, which all nodes share.
    Raises StoreUnavailableError where no server answers, SettingsError where it is one we cannot use."""
    try:
        from holdfast.engines.redis.line import Line
        from holdfast.engines.redis.rates import RedisRates
        from holdfast.engines.redis.scripts import load_scripts
    except ImportError as error:
        if (error.name or "redis").partition(".")[0] != "redis":
            raise
        raise SettingsError(f"Redis needs its driver: pip install 'holdfast[redis]' ({error})") from error
    scripts = load_scripts()
    line = Line(url, node, scripts.all())
    await line.open()
    return Redis(RedisRates(line, scripts, clock=clock, node=node, time=time))
