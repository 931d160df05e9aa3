"""Log lines: whole, in order, without secrets, and never in the way of whoever logs."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.edge.server.logs import Logs, json_line, log_finding, masked_line, text_line
from holdfast.kernel.clock import VirtualClock
from holdfast.kernel.findings import Findings

LOG = logging.getLogger("holdfast.tests")
CALLS = logging.getLogger("holdfast.calls")


class Stream(io.BytesIO):
    """Holds back writes while `blocked`."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def write(self, data: Any) -> int:
        self.open.wait(10)
        return super().write(data)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def logs(stream: Stream) -> Iterator[Logs]:
    levels = {name: logging.getLogger(name).level for name in (None, "holdfast.calls", "uvicorn", "uvicorn.error")}
    found = Logs(stream, limit=100)
    found.configure("info", "json", "errors")
    yield found
    found.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(logs: Logs, stream: Stream) -> list[dict[str, Any]]:
    logs.close()
    return [json.loads(line) for line in stream.getvalue().decode().splitlines()]


def test_a_line_is_an_object_with_its_fields_beside_the_message(logs: Logs, stream: Stream) -> None:
    LOG.info("hello %s", "world", extra={"fields": {"request_id": "req_1", "message": "not this one"}})
    (line,) = lines(logs, stream)
    assert (line["message"], line["level"], line["logger"], line["request_id"]) == (
        "hello world", "info", "holdfast.tests", "req_1",
    )  # fmt: skip
    assert line["time"].endswith("Z")


def test_an_exception_is_one_field_of_one_line(logs: Logs, stream: Stream) -> None:
    try:
        raise ValueError("what was wrong")
    except ValueError:
        LOG.exception("it failed")
    (line,) = lines(logs, stream)
    assert "Traceback" in line["exception"]
    assert "what was wrong" in line["exception"]


def test_lines_keep_their_order_and_close_writes_what_waits(logs: Logs, stream: Stream) -> None:
    for number in range(90):
        LOG.info("%d", number)
    assert [line["message"] for line in lines(logs, stream)] == [str(number) for number in range(90)]


def test_a_reader_that_stands_still_holds_up_nobody_and_losses_are_counted_and_said(logs: Logs, stream: Stream) -> None:
    stream.open.clear()
    for number in range(300):
        LOG.info("%d", number)
    assert logs.dropped >= 150
    dropped = logs.dropped
    stream.open.set()
    told = [line["message"] for line in lines(logs, stream) if "log lines were dropped" in line["message"]]
    assert sum(int(message.split()[0]) for message in told) == dropped
    assert told[0].endswith("log lines were dropped: standard error is read too slowly")


def test_a_closed_stream_is_no_error(logs: Logs, stream: Stream) -> None:
    stream.close()
    LOG.info("nobody reads this")
    logs.close()
    assert logs.dropped == 1


@pytest.mark.parametrize(
    ("level", "calls", "seen"),
    [
        ("info", "none", []),
        ("info", "errors", ["bad"]),
        ("info", "all", ["good", "bad"]),
        ("error", "all", []),
        ("warning", "all", ["bad"]),
    ],
)
def test_which_calls_get_a_line(logs: Logs, stream: Stream, level: str, calls: str, seen: list[str]) -> None:
    logs.configure(level, "json", calls)
    CALLS.info("good")
    CALLS.warning("bad")
    assert [line["message"] for line in lines(logs, stream)] == seen


def test_uvicorn_is_quiet_and_a_reload_changes_the_level(logs: Logs, stream: Stream) -> None:
    logging.getLogger("uvicorn.error").info("Started server process")
    LOG.debug("hidden")
    logs.configure("debug", "json", "errors")
    LOG.debug("shown")
    assert [line["message"] for line in lines(logs, stream)] == ["shown"]


def test_text_is_for_people_and_no_message_forges_a_line() -> None:
    record = logging.LogRecord("holdfast.x", logging.WARNING, "", 0, "a\nERROR forged\x1b[2J", None, None)
    record.fields = {"request_id": "req_1", "none": None}
    line = text_line(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "request_id=req_1" in line
    assert "none" not in line


SECRETS = [
    "hf-" + "0123456789abcdef" * 4,
    "sk-proj-abcdefghijklmnopqrstuvwxyz",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "around",
    [
        "the key is {}",
        "Authorization: Bearer {}",
        "{{'authorization': 'Bearer {}'}}",
        "(b'authorization', b'Bearer {}')",
        "api-key: {}",
        "x-api-key={}",
        "GET /v1/models?token={}&limit=3",
        "https://user:{}@provider.example/v1",
        'header "Authorization": "Bearer {}" refused',
    ],
)
def test_secrets_never_reach_a_line(secret: str, around: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, around.format(secret), None, None)
    record.fields = {"detail": around.format(secret)}
    for line in (masked_line(json_line(record)), masked_line(text_line(record))):
        assert secret not in line
        assert secret[6:] not in line
    assert json.loads(masked_line(json_line(record)))["level"] == "info"


@pytest.mark.parametrize(
    "line",
    [
        "call_0123456789abcdef0123456789abcdef took 3 s",
        "https://api.openai.com/v1/chat/completions answered 500",
        "task-forces and risk-averse words stay",
        'models.chat: unknown key "lane"',
        "key_00000000000000000000000000000000 was revoked",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert masked_line(line) == line


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4), st.text())
def test_any_message_and_fields_make_one_line_that_can_be_read(fields: dict[str, object], message: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (message,), None)
    record.fields = fields
    line = masked_line(json_line(record))
    assert "\n" not in line
    assert set(json.loads(line)) >= {"time", "level", "logger", "message"}
    assert "\n" not in text_line(record)


def test_a_finding_is_one_line_when_it_opens_and_one_when_it_clears(logs: Logs, stream: Stream) -> None:
    findings = Findings(VirtualClock(), on_change=log_finding)
    for _ in range(3):
        findings.open("disk_low", "data", what="There is little room.", todo="Free some.", severity="error")
    findings.clear("disk_low", "data")
    findings.clear("disk_low", "data")
    said = lines(logs, stream)
    assert [(line["finding"], line["open"], line["level"]) for line in said] == [
        ("disk_low", True, "error"),
        ("disk_low", False, "info"),
    ]
