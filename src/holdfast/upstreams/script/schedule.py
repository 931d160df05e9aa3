"""Faults and latencies by schedule: windows in seconds since start or reset, or in call numbers.

    [[window]]
    from_seconds = 10          # inclusive
    until_seconds = 20         # exclusive
    share = 0.5
    fault = "429"
    retry_after = 2

    [[window]]
    from_call = 100            # the first call is number 1
    until_call = 200           # exclusive
    model = "scripted"         # only this name, its options aside
    ttft_ms = "lognormal:200:5000"

Any option of a model's name may stand in a window. `share` is the share of calls the window holds for. Windows that hold
at once lie over each other, the later in the file on top.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.kernel.errors import SettingsError
from holdfast.upstreams.script.options import OPTIONS, read_option

_BOUNDS = ("from_seconds", "until_seconds", "from_call", "until_call")
_WINDOW_KEYS = (*_BOUNDS, "model", *OPTIONS)
FOREVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Half-open in both measures: [from, until)."""

    from_seconds: float = 0.0
    until_seconds: float = FOREVER
    from_call: float = 1
    until_call: float = FOREVER
    model: str | None = None
    share: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def holds(self, seconds: float, call: int, model: str) -> bool:
        return (
            self.from_seconds <= seconds < self.until_seconds
            and self.from_call <= call < self.until_call
            and (self.model is None or self.model == model.partition("?")[0])
        )


Schedule = Sequence[Window]


def load_schedule(path: Path) -> Schedule:
    """Raises SettingsError, naming file, window and the nearest known name."""
    try:
        return parse_schedule(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8") from error


def parse_schedule(text: str, name: str) -> Schedule:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: {error}") from error
    windows = document.pop("window", [])
    if document or not isinstance(windows, list):
        raise SettingsError(f"{name}: a schedule holds [[window]] tables and nothing else")
    return tuple(_window(f"{name}: window {number}", entry) for number, entry in enumerate(windows, 1))


def _window(place: str, entry: Any) -> Window:
    if not isinstance(entry, dict):
        raise SettingsError(f"{place}: a schedule holds [[window]] tables and nothing else")
    options: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in entry.items():
        if key in _BOUNDS:
            own[key] = _bound(f"{place}: {key}", value)
        elif key == "model":
            own[key] = str(value)
        elif key in OPTIONS:
            options |= _option(place, key, value)
        else:
            near = difflib.get_close_matches(key, _WINDOW_KEYS, 1)
            raise SettingsError(f"{place}: unknown key {key!r}{f'; did you mean {near[0]}?' if near else ''}")
    own["share"] = options.pop("share", 1.0)
    return Window(**own, options=options)


def _option(place: str, key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingsError(f"{place}: {key} must be a number or a string")
    try:
        return read_option(key, str(value))
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _bound(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise SettingsError(f"{place} must be a number, not below 0")
    return float(value)
