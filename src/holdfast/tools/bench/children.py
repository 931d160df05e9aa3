"""Processes the bench starts, and their certain end."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec

from holdfast.tools.bench.interrupts import Interrupts

READY_SECONDS = 60.0
END_SECONDS = 10.0
Result = TypeVar("Result")


class BenchError(RuntimeError):
    """The bench cannot measure: a system did not start, died, or answered wrongly. The message says which and why."""


def _inherited() -> dict[str, str]:
    """The environment without the settings of whoever runs the bench: they would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


class Child:
    """One running process, in a session of its own so that Ctrl-C reaches only the bench, which then ends it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        stdin: bool = False,
        user: int | None = None,
    ) -> None:
        self.name = name
        self._said = folder / f"{name}.log"
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(  # noqa: S603
                list(command),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**_inherited(), **environment},
                start_new_session=True,
                user=user,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> IO[bytes]:
        """Its standard output."""
        if self.process.stdout is None:
            raise BenchError(f"{self.name} was started without a standard output")
        return self.process.stdout

    def first_line(self, timeout_seconds: float = READY_SECONDS) -> bytes:
        """The line it prints when it is ready; raises BenchError when it dies or stays silent."""
        watchdog = threading.Timer(timeout_seconds, self.process.kill)
        watchdog.start()
        try:
            line = self.output().readline()
        finally:
            watchdog.cancel()
        if not line:
            raise BenchError(f"{self.name} did not get ready: {self.complaint()}")
        return line

    def complaint(self) -> str:
        """The end of what it said on standard error."""
        text = self._said.read_text(errors="replace").strip()
        return text[-2000:] or "it said nothing"

    def ask_to_end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """SIGTERM, patience, SIGKILL; never an error."""
        self.ask_to_end()
        if self.process.poll() is None:
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Children:
    """Whatever is started through it is ended when its `with` block is left, whichever way; Ctrl-C and SIGTERM leave it too."""

    def __init__(self) -> None:
        self._alive: list[Child] = []
        self._interrupts = Interrupts()
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-bench-")
        self.folder = Path(self._folder.name)

    def __enter__(self) -> "Children":
        self._interrupts.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupts.ignore()
        for child in self._alive:
            child.ask_to_end()
        while self._alive:
            self._alive.pop().end()
        self._folder.cleanup()
        self._interrupts.uninstall()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        user: int | None = None,
        stdin: bool = False,
    ) -> Child:
        with self._interrupts.held():
            child = Child(name, command, environment or {}, self.folder, stdin=stdin, user=user)
            self._alive.append(child)
        return child

    def end(self, child: Child) -> None:
        child.end()
        self._alive.remove(child)

    def measure(self, module: str, plan: msgspec.Struct, result: type[Result], timeout_seconds: float) -> Result:
        """Run one of the bench's own programs to its end: plan in on standard input, result out on standard output."""
        child = self.start(module, python(f"holdfast.tools.bench.{module}"), stdin=True)
        try:
            said, _ = child.process.communicate(msgspec.json.encode(plan), timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{module} took longer than {timeout_seconds:.0f} s: {child.complaint()}") from error
        finally:
            self.end(child)
        if child.process.returncode != 0:
            raise BenchError(f"{module} failed: {child.complaint().splitlines()[-1]}")
        return msgspec.json.decode(said, type=result)


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def wait_until_listening(child: Child, port: int, timeout_seconds: float = 10.0) -> None:
    """For a server that prints nothing when it is ready."""
    from_now = time.monotonic() + timeout_seconds
    while time.monotonic() < from_now:
        if child.process.poll() is not None:
            raise BenchError(f"{child.name} died: {child.complaint()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"{child.name} does not listen on port {port}: {child.complaint()}")


def free_port() -> int:
    """A port nobody listens on now, for programs that cannot be asked to take a free one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
