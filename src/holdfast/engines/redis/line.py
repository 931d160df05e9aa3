"""One connection to one Redis primary: commands go out in one write, answers come back in order, silence is bounded."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from holdfast.engines.redis.scripts import Script
from holdfast.kernel.errors import SettingsError, StoreUnavailableError

ANSWER_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
LEAST_VERSION = (6, 2)

Command = tuple[str | int, ...]


class UnusableError(ResponseError):
    """A server that no waiting makes usable."""


class Line:
    """Connects when needed; after a failed connect it refuses at once for a pause that doubles up to a second."""

    def __init__(self, url: str, node: str, scripts: Sequence[Script]) -> None:
        try:
            self._pool = ConnectionPool.from_url(
                url,
                protocol=2,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                socket_keepalive=True,
                retry=Retry(NoBackoff(), 0),
                client_name=f"holdfast-{node}".replace(" ", "-"),
            )
        except ValueError:
            raise SettingsError("store.redis is not a URL of Redis: redis://:password@host:6379/0") from None
        said = self._pool.connection_kwargs
        self._password = str(said["password"]) if said.get("password") else None
        self._shown = f"Redis at {said.get('path') or said.get('host', 'localhost')}:{said.get('port', 6379)}"
        self._scripts = scripts
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self._pause = 0.0
        self._refuse_until = 0.0
        self._refusal = ""

    async def open(self) -> None:
        """Connects once; SettingsError where this is no single primary that we can use."""
        try:
            async with self.turn():
                pass
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, UnusableError):
                raise SettingsError(error.message) from error
            raise

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
        """One at a time. Entering raises StoreUnavailableError where there is no connection: then nothing was sent."""
        async with self._turn:
            connection = await self._connected()
            yield partial(self._ask, connection)

    async def ask(self, *commands: Command) -> list[Any]:
        async with self.turn() as ask:
            return await ask(*commands)

    async def _ask(self, connection: AbstractConnection, *commands: Command) -> list[Any]:
        """Answers in order. A script that Redis forgot is loaded and asked again. StoreUnavailableError says that Redis
        refused, or that its answer is lost."""
        try:
            answers = await _exchange(connection, commands)
            forgotten = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if forgotten:
                await self._load_scripts(connection)
                again = await _exchange(connection, [commands[place] for place in forgotten])
                for place, answer in zip(forgotten, again, strict=True):
                    answers[place] = answer
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise StoreUnavailableError(self._say(error), retry_after_seconds=1.0) from error
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise StoreUnavailableError(self._say(answer), retry_after_seconds=1.0) from answer
        return answers

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect()

    async def _connected(self) -> AbstractConnection:
        if self._connection is not None and self._connection.is_connected:
            return self._connection
        loop = asyncio.get_running_loop()
        if loop.time() < self._refuse_until:
            raise StoreUnavailableError(self._refusal, retry_after_seconds=1.0)
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._check(connection)
                await self._load_scripts(connection)
        except (RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            self._refuse_until = loop.time() + self._pause * random.uniform(0.5, 1.0)
            self._refusal = self._say(error)
            raise StoreUnavailableError(self._refusal, retry_after_seconds=1.0) from error
        self._pause = 0.0
        self._connection = connection
        return connection

    async def _check(self, connection: AbstractConnection) -> None:
        (answer,) = await _exchange(connection, [("INFO",)])
        if isinstance(answer, ResponseError):
            raise answer
        info = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
        version = tuple(int(part) for part in info["redis_version"].split(".")[:2])
        if info.get("cluster_enabled") == "1":
            raise UnusableError("it is a node of a Redis Cluster: limits need one primary that holds all keys")
        if version < LEAST_VERSION:
            raise UnusableError(f"it is version {info['redis_version']}: 6.2 or newer is needed")
        if info.get("role") != "master":
            raise ResponseError("it is a replica and takes no writes: say the primary's address")

    async def _load_scripts(self, connection: AbstractConnection) -> None:
        loaded = await _exchange(connection, [("SCRIPT", "LOAD", script.text) for script in self._scripts])
        for answer in loaded:
            if isinstance(answer, ResponseError):
                raise answer

    def _say(self, error: BaseException) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        if self._password is not None:
            text = text.replace(self._password, "***")
        verb = "refused" if isinstance(error, ResponseError) else "does not answer"
        return f"{self._shown} {verb}: {text[:300]}"


async def _exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """What Redis answered; what it refused stands in the list as the error."""
    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as refused:
            answers.append(refused)
    return answers
