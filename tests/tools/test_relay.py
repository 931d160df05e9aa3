"""The bench's floor passes bytes and does nothing else; but it must not lie, hang or leak either."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
STREAM = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"]


class Upstream:
    def __init__(self) -> None:
        self.connections = 0
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await reader.readexactly(4)
                if b"/stream" in head:
                    for piece in STREAM:
                        writer.write(piece)
                        await asyncio.sleep(0.01)
                elif b"/gone" in head:
                    return
                else:
                    writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def relaying(upstream_port: int) -> AsyncIterator[int]:
    command = ("-m", "holdfast.tools.relay", "--upstream", f"http://127.0.0.1:{upstream_port}", "--port", "0")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = json.loads(await process.stdout.readline())
    assert said["pid"] == process.pid
    try:
        yield int(said["url"].rsplit(":", 1)[1])
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes, answer: bytes) -> None:
    request = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody" % path
    writer.write(request[:30])
    await asyncio.sleep(0.01)
    writer.write(request[30:])
    assert await reader.readexactly(len(answer)) == answer


async def test_answers_and_streams_pass_as_they_are_over_connections_kept_on_both_sides() -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with server, relaying(server.sockets[0].getsockname()[1]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            await ask(reader, writer, b"/v1/x", ANSWER)
            await ask(reader, writer, b"/stream", b"".join(STREAM))
        assert upstream.connections == 1
        assert upstream.heads[0] == b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("there", [True, False])
async def test_an_upstream_that_is_gone_is_a_502(there: bool) -> None:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream_port = server.sockets[0].getsockname()[1]
    if not there:
        server.close()
    async with relaying(upstream_port) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(reader, writer, b"/gone", b"HTTP/1.1 502 Bad Gateway\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    server.close()
