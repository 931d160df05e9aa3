"""Path -> what is answered. The model's own paths are played, these are answered at once."""

import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from holdfast.dialects.openai.answer import CHAT_COMPLETIONS, EMBEDDINGS, MODELS, model, models
from holdfast.upstreams.scripted import ScriptedModel

BASE = "/v1"
MODEL_PATHS = {(BASE + path).encode(): path for path in (CHAT_COMPLETIONS, EMBEDDINGS)}
_OWNER = "holdfast-sim"


def path_of(target: bytes) -> bytes:
    """The path of a request's target, which a proxy's client spells as a whole URL."""
    path = target.partition(b"?")[0]
    if path.startswith((b"http://", b"https://")):
        return b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path


class Answer(NamedTuple):
    status: int
    body: bytes


Handler = Callable[[], Answer]


class Routes:
    """What the simulator answers beside the model."""

    def __init__(self, scripted: ScriptedModel, listed: tuple[str, ...]) -> None:
        self._scripted = scripted
        self._created = int(time.time())
        self._listed = models([model(name, self._created, _OWNER) for name in listed])
        self._table: dict[str, dict[str, Handler]] = {
            "/healthz": {"GET": self._healthy},
            "/sim/calls": {"GET": self._calls},
            "/sim/reset": {"POST": self._reset},
            BASE + MODELS: {"GET": lambda: Answer(200, self._listed)},
        }

    def find(self, path: str) -> dict[str, Handler] | None:
        """Method -> handler of this path, or None where there is nothing."""
        one = BASE + MODELS + "/"
        if path.startswith(one) and len(path) > len(one):
            return {
                "GET": lambda: Answer(200, msgspec.json.encode(model(unquote(path[len(one) :]), self._created, _OWNER)))
            }
        return self._table.get(path)

    def _healthy(self) -> Answer:
        return Answer(200, b'{"status":"ok"}')

    def _calls(self) -> Answer:
        return Answer(200, self._scripted.counts.encode())

    def _reset(self) -> Answer:
        self._scripted.reset()
        return Answer(200, b'{"status":"reset"}')
