"""States that need a person: what, since when, what to do. One list, raised and cleared by whoever notices."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from holdfast.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    subject: str
    what: str
    todo: str
    since: float
    severity: str = "warning"
    count: int = 1


class Findings:
    """At most `limit` open findings; a finding is open from `open` to `clear` and keeps its first moment."""

    def __init__(
        self, clock: Clock, limit: int = 500, on_change: Callable[[Finding, bool], None] | None = None
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._on_change = on_change
        self._open: dict[tuple[str, str], Finding] = {}

    def open(self, code: str, subject: str, *, what: str, todo: str, severity: str = "warning") -> None:
        key = (code, subject)
        known = self._open.get(key)
        if known is not None:
            self._open[key] = replace(known, what=what, todo=todo, severity=severity, count=known.count + 1)
            return
        if len(self._open) >= self._limit:
            return
        finding = Finding(code, subject, what, todo, self._clock.now(), severity)
        self._open[key] = finding
        if self._on_change is not None:
            self._on_change(finding, True)

    def clear(self, code: str, subject: str) -> None:
        finding = self._open.pop((code, subject), None)
        if finding is not None and self._on_change is not None:
            self._on_change(finding, False)

    def all(self) -> list[Finding]:
        return sorted(self._open.values(), key=lambda finding: finding.since)
