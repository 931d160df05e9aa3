"""A wire between a client and a server that loses what a test wants lost."""

import asyncio
from contextlib import suppress


class LossyWire:
    """Forwards TCP on 127.0.0.1. After `lose_next_answer` the server gets what it is sent and acts on it, but its next
    answer never arrives: the connection is closed instead. `refuse` closes what is open and every new connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._losing = False
        self.refuse = False
        self.lost = 0

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def lose_next_answer(self) -> None:
        self._losing = True

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            if not self.refuse:
                await self._forward(reader, writer)
        finally:
            writer.close()
            if task is not None:
                self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                pumps = [
                    asyncio.ensure_future(self._ask(reader, there_writer)),
                    asyncio.ensure_future(self._answer(there_reader, writer)),
                ]
                _, pending = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pending:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                there_writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._losing:
                self._losing = False
                self.lost += 1
                return
            writer.write(data)
            await writer.drain()
