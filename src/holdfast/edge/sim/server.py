"""`holdfast sim`: listen, say so, answer until told to stop."""

import asyncio
import gc
import os
import signal
import ssl
import sys
from collections.abc import Callable

import msgspec
import uvloop

from holdfast.edge.sim.connection import Connection
from holdfast.edge.sim.options import SimOptions
from holdfast.edge.sim.routes import Routes
from holdfast.edge.sim.wire import date_line
from holdfast.kernel.clock import SystemClock
from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.scripted import LoopTimers, ScriptedModel, load_schedule

_BACKLOG = 2048


class SimServer:
    """What all connections share. Once a second `sweep` looks after them and turns the Date header on."""

    def __init__(self, model: ScriptedModel, options: SimOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.model = model
        self.routes = Routes(model, options.models)
        self.timers = LoopTimers(loop)
        self.date = date_line()
        self.connections: set[Connection] = set()
        self._loop = loop
        self._sweeper = loop.call_later(1, self.sweep)

    def sweep(self) -> None:
        self._sweeper = self._loop.call_later(1, self.sweep)
        self.date = date_line()
        self.sweep_connections()

    def sweep_connections(self) -> None:
        for connection in tuple(self.connections):
            connection.sweep()

    def close(self) -> None:
        self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.abort()


class RefusingConnection(asyncio.Protocol):
    """Closes as soon as the client begins its TLS handshake."""

    def __init__(self) -> None:
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(
    options: SimOptions, *, ready: Callable[[str], None] | None = None, stop: asyncio.Event | None = None
) -> None:
    """Answers until `stop` is set, or SIGTERM or SIGINT comes where `stop` is not given; then hangs up on everybody.

    `ready` is called once with the URL. Raises SettingsError where the schedule, the certificate or the address cannot be used.
    """
    loop = asyncio.get_running_loop()
    schedule = () if options.schedule is None else load_schedule(options.schedule)
    model = ScriptedModel(SystemClock(), options.seed, options.defaults, schedule)
    server = SimServer(model, options, loop)
    context = _tls(options)
    stopped = stop if stop is not None else _stop_on_signals(loop)
    factory = RefusingConnection if options.tls_refuse else lambda: Connection(server)
    try:
        listener = await loop.create_server(
            factory, options.host, options.port, ssl=None if options.tls_refuse else context, backlog=_BACKLOG
        )
    except OSError as error:
        server.close()
        raise SettingsError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
    port = listener.sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"{'https' if context is not None or options.tls_refuse else 'http'}://{host}:{port}"
    try:
        if ready is not None:
            ready(url)
        _announce(options, url)
        await stopped.wait()
    finally:
        listener.close()
        server.close()
        if stop is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def run_sim(options: SimOptions) -> int:
    """The exit status of `holdfast sim`: 0 when it was told to stop."""
    gc.freeze()
    uvloop.run(serve(options))
    return 0


def _stop_on_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def _announce(options: SimOptions, url: str) -> None:
    if options.quiet:
        return
    line = (
        msgspec.json.encode({"url": url, "pid": os.getpid()}).decode()
        if options.json
        else f"The scripted model answers at {url}/v1"
    )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _tls(options: SimOptions) -> ssl.SSLContext | None:
    if options.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.tls_certificate, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS certificate {options.tls_certificate} cannot be used: {error}") from error
    return context
