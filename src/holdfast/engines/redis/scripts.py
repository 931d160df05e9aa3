"""The Lua that runs inside Redis: files beside the engine, each with what all of them share put before it."""

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


@dataclass(frozen=True, slots=True)
class Scripts:
    reserve: Script
    settle: Script
    levels: Script

    def all(self) -> tuple[Script, ...]:
        return (self.reserve, self.settle, self.levels)


def load_scripts() -> Scripts:
    folder = resources.files(__package__)
    shared = folder.joinpath("buckets.lua").read_text(encoding="utf-8")

    def load(name: str) -> Script:
        text = shared + "\n" + folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
        return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    return Scripts(load("reserve"), load("settle"), load("levels"))
