"""The floor of the bench: a bare HTTP/1.1 relay, one protocol on each side, without any policy.

`python -m holdfast.tools.relay --upstream http://127.0.0.1:9100 --port 0` prints `{"url": ..., "pid": ...}` and relays until
SIGTERM. Bytes pass as they come, requests and answers alike; they are parsed for nothing but where a message ends. What a
gateway costs over this is its policy.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Relay:
    """Where requests go, and the upstream connections that are free."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.idle: list[UpstreamSide] = []


class ClientSide(asyncio.Protocol):
    """One client; its requests are answered one after another."""

    __slots__ = ("_asked", "_dialling", "_full", "_parser", "_pieces", "_relay", "side", "transport")

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []  # requests that no upstream connection has been given
        self._asked = False
        self._full = False
        self._dialling: asyncio.Task[None] | None = None
        self.side: UpstreamSide | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.side is not None:
            self.side.transport.abort()
        if self._dialling is not None:
            self._dialling.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()
            return
        self._pieces.append(data)
        if self._asked:
            self._ask()

    def on_message_complete(self) -> None:
        self._asked = True

    def pause_writing(self) -> None:
        self._full = True
        if self.side is not None:
            self.side.transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self.side is not None:
            self.side.transport.resume_reading()

    def answered(self, side: "UpstreamSide", keep_alive: bool) -> None:
        self.side = side.client = None
        if self._full:
            side.transport.resume_reading()
        if keep_alive:
            self._relay.idle.append(side)
        else:
            side.transport.abort()
            self.transport.close()

    def broke(self, answering: bool) -> None:
        self.side = None
        if not answering:
            self.transport.write(UNREACHABLE)
        self.transport.close()

    def _ask(self) -> None:
        if self.side is not None or self._dialling is not None:
            self.transport.abort()  # pipelining is more than a floor needs
            return
        idle = self._relay.idle
        if idle:
            self._send(idle.pop())
        else:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, side = await loop.create_connection(
                lambda: UpstreamSide(self._relay), self._relay.host, self._relay.port
            )
        except OSError:
            self.broke(answering=False)
            return
        self._dialling = None
        self._send(side)

    def _send(self, side: "UpstreamSide") -> None:
        self.side = side
        side.client = self
        pieces = self._pieces
        side.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        pieces.clear()
        self._asked = False


class UpstreamSide(asyncio.Protocol):
    """One connection to the upstream, free or answering one client."""

    __slots__ = ("_answering", "_complete", "_keep_alive", "_parser", "_relay", "client", "transport")

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._parser = httptools.HttpResponseParser(self)
        self._answering = False
        self._complete = False
        self._keep_alive = False
        self.client: ClientSide | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.client.broke(self._answering)
        elif self in self._relay.idle:
            self._relay.idle.remove(self)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            self.transport.abort()
            return
        self._answering = True
        client.transport.write(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.transport.abort()
            return
        if self._complete:
            self._complete = self._answering = False
            client.answered(self, self._keep_alive)

    def on_message_complete(self) -> None:
        self._complete = self._parser.get_status_code() >= 200
        self._keep_alive = self._parser.should_keep_alive()


async def relay(upstream: str, host: str, port: int) -> None:
    """Listens, says where in one line of JSON, and relays until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    target = urlsplit(upstream)
    state = Relay(target.hostname or "127.0.0.1", target.port or 80)
    server = await loop.create_server(lambda: ClientSide(state), host, port, backlog=2048)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m holdfast.tools.relay", description=__doc__)
    parser.add_argument("--upstream", required=True, help="where to relay to, http://host:port")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    said = parser.parse_args()
    uvloop.run(relay(said.upstream, said.host, said.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
