"""Log lines on standard error: JSON for machines, text for people, never a secret.

Whoever logs pays for a queue's `put`; formatting and writing happen in a thread, so a slow terminal or a full pipe holds up
nobody. At most `limit` lines wait; what comes on top is dropped, counted and said.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO, Final

from holdfast.kernel.findings import Finding

LIMIT_LINES = 10_000
LINES_A_WRITE = 16
CLOSE_SECONDS = 2.0
LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
OFF = logging.CRITICAL + 1
CALLS: Final[Mapping[str, int]] = {"none": OFF, "errors": logging.WARNING, "all": logging.INFO}
SEVERITIES: Final[Mapping[str, int]] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FINDINGS = logging.getLogger("holdfast.findings")
CALLS_LOGGER = "holdfast.calls"
# Their own lines at `info` repeat what ours say.
QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "opentelemetry")

# What a value may not hold, so that masking never eats the quote that ends a JSON string.
_VALUE = r"[^\s\"'\\,;&<>]+"
_MASKS: Final = (
    (re.compile(rf"\b(bearer)\s+{_VALUE}", re.IGNORECASE), r"\1 …"),
    (
        re.compile(
            rf"\b((?:proxy-)?authorization|(?:x-)?api-key|cookie)(\\?[\"']?\s*[:=,]\s*b?\\?[\"']?)(?:basic\s+)?(?!bearer){_VALUE}",
            re.IGNORECASE,
        ),
        r"\1\2…",
    ),
    (re.compile(r"(://[^/\s:@\"'\\]*):[^/\s@\"'\\]+@"), r"\1:…@"),
    (
        re.compile(
            rf"([?&](?:access_token|api[_-]?key|token|key|secret|password|signature|sig)=){_VALUE}", re.IGNORECASE
        ),
        r"\1…",
    ),
    (re.compile(r"\b((?:hf|sk|rk|pk)-[A-Za-z0-9]{2})[A-Za-z0-9_-]{10,}"), r"\1…"),
)


def masked_line(line: str) -> str:
    """The line without what looks like a credential: authorization headers, API keys, passwords in URLs, tokens in queries."""
    for pattern, mask in _MASKS:
        line = pattern.sub(mask, line)
    return line


def log_finding(finding: Finding, opened: bool) -> None:
    """One line when a state that needs a person begins, one when it is over."""
    FINDINGS.log(
        SEVERITIES.get(finding.severity, logging.WARNING) if opened else logging.INFO,
        "%s" if opened else "over: %s",
        finding.what,
        extra={
            "fields": {
                "finding": finding.code,
                "subject": finding.subject,
                "open": opened,
                **({"todo": finding.todo} if opened else {}),
            }
        },
    )


def json_line(record: logging.LogRecord) -> str:
    """One JSON object; what `extra={"fields": ...}` says stands beside the message and never replaces it."""
    at = datetime.fromtimestamp(record.created, UTC)
    line: dict[str, Any] = {
        "time": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    for name, value in getattr(record, "fields", {}).items():
        line.setdefault(name, value)
    if record.exc_info:
        line.setdefault("exception", logging.Formatter().formatException(record.exc_info))
    return json.dumps(line, ensure_ascii=False, default=str)


def text_line(record: logging.LogRecord) -> str:
    """For people: a line, and an exception indented below it. Control characters are spelt out, so that no message forges a line."""
    at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
    fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items() if value is not None)
    message = record.getMessage() + (f"  {fields}" if fields else "")
    line = f"{at} {record.levelname.lower():7} {record.name}: {_flat(message)}"
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        line += "".join(f"\n    {_flat(part)}" for part in trace.splitlines())
    return line


def _flat(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class Logs(logging.Handler):
    """Takes over the root logger from `configure` to `close`."""

    def __init__(self, stream: BinaryIO | None = None, limit: int = LIMIT_LINES) -> None:
        super().__init__()
        self._stream = sys.stderr.buffer if stream is None else stream
        self._limit = limit
        self._queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._format = json_line
        self._said = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="holdfast-logs", daemon=True)
        self._thread.start()

    def configure(self, level: str, format: str, calls: str) -> None:
        """Now, and again whenever the settings changed."""
        threshold = LEVELS[level]
        self._format = text_line if format == "text" else json_line
        root = logging.getLogger()
        if self not in root.handlers:
            root.addHandler(self)
        root.setLevel(threshold)
        logging.getLogger(CALLS_LOGGER).setLevel(max(threshold, CALLS[calls]))
        for name in QUIET:
            logging.getLogger(name).setLevel(max(threshold, logging.WARNING))

    def emit(self, record: logging.LogRecord) -> None:
        if self._queue.qsize() >= self._limit:
            self.dropped += 1
            return
        self._queue.put(record)

    def close(self) -> None:
        """Writes what waits, for two seconds at most, and lets the root logger go."""
        root = logging.getLogger()
        if self in root.handlers:
            root.removeHandler(self)
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        super().close()

    def _run(self) -> None:
        more = True
        while more:
            batch = [self._queue.get()]
            while len(batch) < LINES_A_WRITE:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            more = None not in batch
            lines = [self._line(record) for record in batch if record is not None]
            unsaid = self.dropped - self._said
            if unsaid:
                self._said += unsaid
                lines.append(self._line(_dropped(unsaid)))
            self._write("".join(lines).encode("utf-8", "backslashreplace"))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            line = self._format(record)
        except (TypeError, ValueError) as error:
            line = f"a log line of {record.name} could not be written: {error}"
        return masked_line(line) + "\n"

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads standard error any more
            self.dropped += data.count(b"\n")


def _dropped(count: int) -> logging.LogRecord:
    message = f"{count} log lines were dropped: standard error is read too slowly"
    return logging.LogRecord("holdfast.logs", logging.WARNING, __file__, 0, message, None, None)
