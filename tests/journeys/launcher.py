"""Holdfast as a process of its own, as a user starts it."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

READY_SECONDS = 30.0
STOP_SECONDS = 20.0
KEY = "hf-journey-key-of-a-test-0123456789"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """One process. `key` administers and calls."""

    url: str
    key: str
    process: subprocess.Popen[bytes]
    data: Path
    config: Path | None
    log: Path
    extra: dict[str, Any] = field(default_factory=dict)

    def ask(
        self, path: str, body: object = None, *, method: str | None = None, key: str | None = "", **headers: str
    ) -> Answer:
        """A request; `key`: None sends none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key or self.key}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        request = Request(self.url + path, data, sent, method=method)  # noqa: S310 (loopback)
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=30) as found:
                return Answer(found.status, dict(found.headers), found.read())
        except HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def chat(self, model: str = "scripted", **fields: object) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}
        return self.ask("/v1/chat/completions", body)

    def when(self, holds: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Whether it became so in time."""
        ends = time.monotonic() + seconds
        while not (true := holds()) and time.monotonic() < ends:
            time.sleep(0.02)
        return true

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, a JSON object a line."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(STOP_SECONDS)


def clean_environment(**added: str) -> dict[str, str]:
    """This process's environment without what steers Holdfast or sends requests through a proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("HOLDFAST_")}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", **added}


def holdfast(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *arguments],
        cwd=cwd,
        env=dict(env or clean_environment()),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def first_line(stream: IO[bytes], process: subprocess.Popen[bytes], log: Path) -> str:
    """What it prints first. AssertionError: it ended, or stayed silent."""
    ends = time.monotonic() + READY_SECONDS
    read = b""
    while b"\n" not in read:
        ready, _, _ = select.select([stream], [], [], max(0.0, ends - time.monotonic()))
        part = os.read(stream.fileno(), 65536) if ready else b""
        if not part:
            raise AssertionError(f"it is not ready (exit {process.poll()}): {log.read_text('utf-8')}")
        read += part
    return read.decode().partition("\n")[0]


class Launcher:
    """Starts processes and ends every one of them, each by its own pid."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        *,
        data: Path | None = None,
        arguments: Sequence[str] = (),
        verb: str = "up",
        key: str | None = KEY,
    ) -> Running:
        """`config` is the text of the settings file. `key`: HOLDFAST_BOOTSTRAP_KEY; None lets the first start make one."""
        number = len(self._started)
        file = None
        if config is not None:
            file = self._folder / f"holdfast-{number}.toml"
            file.write_text(config, "utf-8")
        data = data if data is not None else self._folder / f"data-{number}"
        log = self._folder / f"log-{number}"
        command = [sys.executable, "-m", "holdfast", verb, "--json", "--port", "0"]
        command += ["--data", str(data)] if verb == "up" else []
        command += ["--config", str(file)] if file is not None else []
        said = {**(env or {}), **({"HOLDFAST_BOOTSTRAP_KEY": key} if key is not None else {})}
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=self._folder,
                env=clean_environment(**said),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._started.append(process)
        assert process.stdout is not None
        line = json.loads(first_line(process.stdout, process, log))
        assert line["pid"] == process.pid
        return Running(line["url"], line.get("key") or key or "", process, data, file, log, line)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        for process in self._started:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()
