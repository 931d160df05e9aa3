"""`holdfast sim` as a process of its own, and raw sockets to look at what it really sends."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from holdfast.edge.sim import SimOptions, run_sim

PATHS = {"schedule", "tls_certificate", "tls_key"}


class Simulator:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        parts = urlsplit(url)
        self.address = (str(parts.hostname), int(parts.port or 0))

    def calls(self) -> dict[str, Any]:
        with urlopen(self.url + "/sim/calls", timeout=10) as answer:  # noqa: S310 (loopback)
            counted: dict[str, Any] = json.load(answer)
        return counted

    def reset(self) -> None:
        urlopen(Request(self.url + "/sim/reset", method="POST"), timeout=10).close()  # noqa: S310 (loopback)

    def calls_when(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The counts once they are so; the last ones seen where that takes too long."""
        deadline = time.monotonic() + 10
        while not holds(counted := self.calls()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return counted

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def talk(self, sent: bytes) -> bytes:
        """What comes back until the server closes."""
        with self.connect() as held:
            held.sendall(sent)
            return read_all(held)


def read_all(held: socket.socket) -> bytes:
    parts = []
    while part := held.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_until(held: socket.socket, mark: bytes, times: int = 1) -> bytes:
    got = b""
    while got.count(mark) < times and (part := held.recv(65536)):
        got += part
    return got


def spelt(
    target: str, body: bytes | dict[str, Any] = b"", *, method: str = "POST", headers: str = "", close: bool = True
) -> bytes:
    """A request as it goes over the wire; `close` asks the server to close after it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = f"{method} {target} HTTP/1.1\r\nHost: sim\r\n{headers}{'Connection: close' + chr(13) + chr(10) if close else ''}"
    return lines.encode() + (b"Content-Length: %d\r\n" % len(raw) if raw or method == "POST" else b"") + b"\r\n" + raw


def chat(model: str = "scripted", prompt: str = "Hello", **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **members}


CHAT = "/v1/chat/completions"


@contextmanager
def simulator(**options: Any) -> Iterator[Simulator]:
    told = json.dumps({"port": 0, "json": True, **options}, default=str)
    process = subprocess.Popen([sys.executable, "-m", __name__, told], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        yield Simulator(process, ready["url"])
    finally:
        process.terminate()
        assert process.wait(10) == 0
        assert process.stdout is not None
        process.stdout.close()


if __name__ == "__main__":
    said: dict[str, Any] = json.loads(sys.argv[1])
    for name in PATHS & said.keys():
        said[name] = Path(said[name])
    sys.exit(run_sim(SimOptions(**said)))
