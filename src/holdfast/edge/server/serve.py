"""One listener: the model API before ASGI, the control plane behind it, and a stop that loses nothing.

On SIGTERM: /readyz says 503 while the listener stays open (`drain_notice_seconds`), then the listener closes, running calls may
finish within `grace_seconds`, `flush` writes what is still in memory, and only then uvicorn shuts down. A second signal cuts
the grace short; it never skips the flush.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from time import monotonic

import uvicorn
from starlette.types import ASGIApp

from holdfast.edge.server.exchange import Exchange
from holdfast.edge.server.http import HotProtocol
from holdfast.edge.server.routes.gateway import route
from holdfast.edge.server.settings import ServerSettings
from holdfast.features.gateway.model import Gateway
from holdfast.kernel.drive import Drive
from holdfast.kernel.errors import DrainingError, HoldfastError, InternalError
from holdfast.kernel.ids import Ids
from holdfast.kernel.measure import Histogram

LOG = logging.getLogger("holdfast.server")
LAG_SECONDS = 0.05
SWEEP_SLICE = 500
UVICORN_SHUTDOWN_SECONDS = 5


class Serving:
    """The running server of one process."""

    def __init__(
        self, settings: ServerSettings, gateway: Gateway, cold: ASGIApp, flush: Callable[[], Awaitable[None]]
    ) -> None:
        self.settings = settings
        self.gateway = gateway
        self.date_line = b""
        self.draining = False
        self.lag = Histogram()
        self.last_lag_seconds = 0.0
        self.ids = Ids("call")
        self._flush = flush
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._server = uvicorn.Server(
            uvicorn.Config(
                cold,
                http=partial(HotProtocol, self),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=UVICORN_SHUTDOWN_SECONDS,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
        )

    def start(self, exchange: Exchange) -> None:
        """Begin a hot request whose bytes are all there and whose turn it is."""
        exchange.received = monotonic()
        exchange.id = exchange.request_id = self.ids.make()
        try:
            if self.draining:
                exchange.keep_alive = False
            verb = route(self.gateway, exchange)
        except HoldfastError as error:
            exchange.refuse(error)
            return
        self.gateway.turns.take(partial(Drive, self._run(exchange, verb)))

    async def _run(self, exchange: Exchange, verb: Awaitable[None]) -> None:
        """The outer loop: whatever a verb lets out becomes an answer, never a stack trace or a hang."""
        try:
            await verb
        except HoldfastError as error:
            exchange.refuse(error)
        except Exception:
            LOG.exception("a request failed inside", extra={"fields": {"request_id": exchange.request_id}})
            exchange.refuse(InternalError(f"Holdfast failed; the log says why under {exchange.request_id}."))

    async def listen(self, *listeners: socket.socket) -> None:
        """Accept connections; returns once it does. From here on SIGTERM and SIGINT ask to stop."""
        self._server_loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._server_loop.add_signal_handler(number, self.stop)
        self._tick()
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=list(listeners))

    async def until_stopped(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        beat = self._server_loop.create_task(self._beat())
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            beat.cancel()
            await self._server.shutdown()

    def stop(self) -> None:
        """Ask to stop; a second time: without waiting for running calls."""
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()

    @property
    def open_connections(self) -> int:
        return len(self._server.server_state.connections)

    async def _drain(self) -> None:
        self.draining = True
        await self._wait(self.settings.drain_notice_seconds)
        for server in self._server.servers:
            server.close()
        for connection in list(self._server.server_state.connections):
            connection.shutdown()
        ends = monotonic() + self.settings.grace_seconds
        while self.gateway.running and monotonic() < ends and not self._hurried.is_set():
            await self._wait(0.02)
        for relay in list(self.gateway.running.values()):
            relay.cut(DrainingError("This process stops; ask again."))
        await asyncio.sleep(0)
        await self._flush()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._hurried.wait(), seconds)
        except TimeoutError:
            return

    async def _beat(self) -> None:
        """The date line, the loop's lag, and the sweep of slow and idle connections, in slices."""
        pending: list[HotProtocol] = []
        swept_at = monotonic()
        while True:
            due = monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            now = monotonic()
            self.last_lag_seconds = max(0.0, now - due)
            self.lag.observe(self.last_lag_seconds)
            if pending:
                batch, pending = pending[:SWEEP_SLICE], pending[SWEEP_SLICE:]
                for protocol in batch:
                    protocol.sweep(self._server_loop.time())
            elif now >= swept_at + 1.0:
                swept_at = now
                self._tick()
                pending = [found for found in self._server.server_state.connections if isinstance(found, HotProtocol)]

    def _tick(self) -> None:
        date = formatdate(usegmt=True).encode()
        self.date_line = b"date: " + date + b"\r\n"
        self._server.server_state.default_headers = [(b"date", date)]
