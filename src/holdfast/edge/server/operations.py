"""What operators see of one process: health, readiness, metrics, and the findings that its own state makes."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from holdfast.edge.server.health import LagWindow, Reason, reasons
from holdfast.edge.server.latency import short
from holdfast.edge.server.metrics import exposition
from holdfast.edge.server.samples import Moment, process_now, process_start, samples
from holdfast.features.gateway.model import Gateway
from holdfast.kernel.errors import StoreUnavailableError
from holdfast.kernel.measure import Histogram

LOOK_SECONDS = 1.0
PING_SECONDS = 2.0
SLOW_LOOKS = 10
BACKLOG_BYTES = 16 * 1024 * 1024
BACKLOG_SECONDS = 1.5
GIB = 1024**3


class Server(Protocol):
    """What is asked of the running server."""

    @property
    def draining(self) -> bool: ...
    @property
    def lag(self) -> Histogram: ...
    @property
    def open_connections(self) -> int: ...


class Operations:
    """`follow` runs beside the server and opens and clears findings; the rest answers from what it last saw, so that being
    asked often costs the stores nothing."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        version: str,
        data: Path | None,
        stale_prices: Callable[[float], str | None],
        dropped_lines: Callable[[], int],
    ) -> None:
        """`data`: the folder to watch the free space of, None where no files are kept."""
        self.gateway = gateway
        self.version = version
        self._data = data
        self._stale_prices = stale_prices
        self._dropped_lines = dropped_lines
        self._server: Server | None = None
        self._window = LagWindow()
        self._process_start = process_start()
        self._store: str | None = None
        self._rates: str | None = None

    def started(self, server: Server) -> None:
        """The server listens."""
        self._server = server

    @property
    def has_started(self) -> bool:
        return self._server is not None

    def reasons(self) -> list[Reason]:
        """Why traffic should go elsewhere; empty: it should come."""
        return reasons(
            started=self._server is not None,
            draining=self._server is not None and self._server.draining,
            store=self._store,
            rates=self._rates,
            lagging=self._window.lagging,
            running_calls=len(self.gateway.running),
            max_inflight=self.gateway.max_inflight,
        )

    def detail(self) -> dict[str, Any]:
        """What /readyz says to whoever may see it."""
        found, record = self.reasons(), self.gateway.record
        return {
            "ready": not found,
            "reasons": [{"code": reason.code, "what": reason.what} for reason in found],
            "findings": [
                {
                    "code": finding.code,
                    "subject": finding.subject,
                    "what": finding.what,
                    "todo": finding.todo,
                    "since": finding.since,
                    "severity": finding.severity,
                }
                for finding in self.gateway.findings.all()
            ],
            "running_calls": len(self.gateway.running),
            "open_connections": self._server.open_connections if self._server is not None else 0,
            "loop_lag_p99_seconds": self._server.lag.quantile(0.99) if self._server is not None else 0.0,
            "record_backlog_bytes": record.backlog_bytes,
            "record_backlog_seconds": round(record.backlog_seconds, 3),
            "latency": short(self.gateway.measures),
            "version": self.version,
            "node": self.gateway.node,
        }

    async def metrics(self) -> bytes:
        """The page of /metrics."""
        server = self._server
        moment = Moment(
            version=self.version,
            ready=not self.reasons(),
            lag=server.lag if server is not None else Histogram(),
            open_connections=server.open_connections if server is not None else 0,
            dropped_lines=self._dropped_lines(),
            findings=self.gateway.findings.all(),
            process=await asyncio.to_thread(process_now, self._process_start),
        )
        return await exposition(samples(self.gateway, moment))

    async def follow(self) -> None:
        """Look every second, until cancelled."""
        looks = 0
        while True:
            await self.look()
            if looks % SLOW_LOOKS == 0:
                await self.look_slowly()
            looks += 1
            await self.gateway.clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """What can change from one second to the next."""
        gateway = self.gateway
        self._store, self._rates = await asyncio.gather(_said(gateway.record.ping), _said(gateway.rates.ping))
        self._judge(
            "store_unavailable", "record", self._store, severity="error",
            todo="Bring the store back: disk space and the file's rights for files, the server and the network for PostgreSQL.",
        )  # fmt: skip
        self._judge(
            "rates_unavailable", "rates", self._rates, severity="error",
            todo="Bring Redis back; until then calls that a limit applies to are refused with 503.",
        )  # fmt: skip
        record = gateway.record
        behind = record.backlog_bytes >= BACKLOG_BYTES or record.backlog_seconds >= BACKLOG_SECONDS
        self._judge(
            "record_backlog", "record",
            f"Records wait to be written: {record.backlog_bytes} bytes, the oldest for {record.backlog_seconds:.1f} s. "
            "New calls are refused at 64 MiB or 5 s." if behind else None,
            todo="Look at the store's disk or server: it is slower than the calls come in.",
        )  # fmt: skip
        if record.rejected:
            self._judge(
                "record_rejected", "record", f"{record.rejected} records could not be applied and are missing.",
                severity="error", todo="The log names each; run `holdfast check --money`, and report it: this is a defect.",
            )  # fmt: skip
        if self._server is not None:
            self._window.look(self._server.lag)
        self._judge(
            "loop_lag", "process", "The event loop runs late: this process has more to do than its core can."
            if self._window.lagging else None,
            todo="Start more processes, or find what else takes this machine's CPU.",
        )  # fmt: skip

    async def look_slowly(self) -> None:
        """What changes slowly, or takes a while to find out."""
        if self._data is not None:
            self._judge(
                "disk_low", str(self._data), await asyncio.to_thread(low_disk, self._data), severity="error",
                todo="Free some space: when the disk is full, new calls are refused and reads go on.",
            )  # fmt: skip
        lanes = [lane for model in self.gateway.snapshot.models.values() for lane in model.lanes]
        listed = any(lane.price is not None and lane.price.version.startswith("shipped:") for lane in lanes)
        self._judge(
            "prices_stale", "prices", self._stale_prices(self.gateway.clock.now()) if listed else None, severity="info",
            todo='Take a newer release, or declare what you pay under [prices."MODEL"].',
        )  # fmt: skip
        scripted = sorted({lane.name for lane in lanes if lane.scripted})
        self._judge(
            "scripted_serving", "models",
            f"Made-up answers are served by {', '.join(scripted[:5])}." if scripted else None, severity="info",
            todo="Declare a provider under [upstreams.NAME] in holdfast.toml when you want real ones.",
        )  # fmt: skip

    def _judge(self, code: str, subject: str, what: str | None, *, todo: str, severity: str = "warning") -> None:
        """Open while there is something to say."""
        if what is None:
            self.gateway.findings.clear(code, subject)
        else:
            self.gateway.findings.open(code, subject, what=what, todo=todo, severity=severity)


async def _said(ping: Callable[[], Awaitable[None]]) -> str | None:
    """What is wrong, or None."""
    try:
        async with asyncio.timeout(PING_SECONDS):
            await ping()
    except StoreUnavailableError as error:
        return error.message
    except TimeoutError:
        return f"It has not answered for {PING_SECONDS:g} s."
    return None


def low_disk(folder: Path) -> str | None:
    """A sentence when the disk under the folder has less than 1 GiB free, or less than 5 % (10 GiB is enough on any disk)."""
    try:
        found = shutil.disk_usage(folder)
    except OSError as error:
        return f"The free space under {folder} cannot be read: {error.strerror}."
    if found.free >= max(GIB, min(found.total // 20, 10 * GIB)):
        return None
    return f"{found.free / GIB:.1f} GiB of {found.total / GIB:.0f} GiB are free under {folder}."
