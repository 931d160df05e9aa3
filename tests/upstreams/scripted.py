"""A sink that remembers, and short ways to ask the scripted model in process."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from holdfast.ports.upstream import Ended, Headers, Limits, Outgoing
from holdfast.upstreams.scripted import ScriptedExchange, ScriptedUpstream

LIMITS = Limits()


class Remembering:
    """Holds a sink to its promise: head once, then frames, then end exactly once. `at_frames` is called after each batch."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.got: list[bytes] = []
        self.batches = 0
        self.ended: Ended | None = None
        self.exchange: ScriptedExchange | None = None
        self.pause_after: int | None = None
        self.cancel_after: int | None = None

    def head(self, status: int, headers: Headers) -> None:
        assert self.status == 0
        assert self.ended is None
        self.status, self.headers = status, headers

    def frames(self, frames: Sequence[bytes]) -> None:
        assert self.status
        assert self.ended is None
        self.got += frames
        self.batches += 1
        if self.exchange is not None and self.pause_after is not None and len(self.got) >= self.pause_after:
            self.exchange.pause()
        if self.exchange is not None and self.cancel_after is not None and len(self.got) >= self.cancel_after:
            self.exchange.cancel()

    def end(self, ended: Ended) -> None:
        assert self.ended is None
        self.ended = ended

    @property
    def outcome(self) -> str | None:
        return None if self.ended is None else self.ended.outcome

    @property
    def waits(self) -> bool:
        return self.ended is None

    @property
    def text(self) -> str:
        """What the first choice said, of a stream or of a whole answer."""
        if len(self.got) == 1 and not self.got[0].startswith(b"data: "):
            return str(json.loads(self.got[0])["choices"][0]["message"]["content"])
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in self.chunks if chunk["choices"])

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(frame[6:]) for frame in self.got if frame != b"data: [DONE]\n\n"]

    @property
    def body(self) -> dict[str, Any]:
        (only,) = self.got
        decoded: dict[str, Any] = json.loads(only)
        return decoded


def chat(model: str = "scripted", prompt: str = "Hello", **members: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **members}


async def ask(
    upstream: ScriptedUpstream,
    request: dict[str, Any],
    *,
    path: str = "/chat/completions",
    limits: Limits = LIMITS,
    headers: Headers = (),
    sink: Remembering | None = None,
) -> Remembering:
    """Sends, and lets what needs no time happen; the rest plays on as the clock does."""
    sink = Remembering() if sink is None else sink
    body = json.dumps(request).encode()
    call = Outgoing(path, request["model"], body, headers, bool(request.get("stream")), limits, "call_1")
    sink.exchange = await upstream.send(call, sink)
    assert sink.status == 0, "nothing reaches the sink before send returned"
    await settle()
    return sink


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
