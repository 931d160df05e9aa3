"""Reading one answer after another off a connection: status, the headers that may pass, and the body's pieces.

httptools is strict about what it reads (framing, characters, line ends); what it leaves open is refused here: other transfer
codings than chunked, other content codings than gzip and deflate, a status outside 100..599, a change of protocol, a head of
more than 64 KiB or 200 names. 1xx answers and trailers are read and dropped.
"""

from collections.abc import Callable
from typing import NoReturn

import httptools

from holdfast.upstreams.inflate import CODINGS

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_NAMES = 200
MAX_NAMES_KNOWN = 1000
MAX_NAME_BYTES_KNOWN = 100

DROPPED = b""
CONTENT_TYPE = b"content-type"
CONTENT_LENGTH = b"content-length"
CONTENT_ENCODING = b"content-encoding"
TRANSFER_ENCODING = b"transfer-encoding"
READ_HERE = {name: name for name in (CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING)}
WITHOUT_BODY = frozenset({204, 304})
EVENT_STREAM = b"text/event-stream"


class HeaderNames:
    """A provider's header name, in its own spelling -> the name towards the client, or DROPPED; each looked up once."""

    __slots__ = ("_rename", "known")

    def __init__(self, rename: Callable[[bytes], bytes | None]) -> None:
        self._rename = rename
        self.known: dict[bytes, bytes] = {}

    def learn(self, name: bytes) -> bytes:
        lower = name.lower()
        known = READ_HERE.get(lower) or (CONTENT_TYPE if lower == CONTENT_TYPE else self._rename(name) or DROPPED)
        if len(self.known) < MAX_NAMES_KNOWN and len(name) <= MAX_NAME_BYTES_KNOWN:
            self.known[name] = known
        return known


class RefusedError(Exception):
    """Stops the parser; the answer's `refusal` says why, as the end of a sentence about the upstream."""


class Answer:
    """What the parser has read of the answer under way. `parts` are the body's pieces that nobody has taken yet.

    Header lines and pieces are put into `_lines` and `parts` by the parser itself, without a Python frame each.
    """

    __slots__ = (
        "_lines",
        "_names",
        "_parser",
        "coding",
        "complete",
        "event_stream",
        "feed",
        "head_bytes",
        "headers",
        "keep_alive",
        "max_whole_bytes",
        "on_body",
        "on_header",
        "parts",
        "refusal",
        "status",
        "stream_wanted",
        "until_eof",
    )

    def __init__(self, names: HeaderNames, max_whole_bytes: int) -> None:
        self._names = names
        self._lines: dict[bytes, bytes] = {}
        self.max_whole_bytes = max_whole_bytes
        self.parts: list[bytes] = []
        self.on_header = self._lines.__setitem__
        self.on_body = self.parts.append
        self._parser = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data
        self.expect(stream_wanted=False)

    def expect(self, stream_wanted: bool) -> None:
        """The next bytes begin the answer to a new request."""
        self.stream_wanted = stream_wanted
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_bytes = 0
        self.complete = False
        self.keep_alive = False
        self.event_stream = False
        self.until_eof = False
        self.coding = DROPPED
        self.refusal = ""

    def on_message_begin(self) -> None:
        if self.complete:
            raise RefusedError
        self._lines.clear()

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                self._refuse(f"answered with status {status}, which nobody asked for")
            return
        if status > 599:
            self._refuse(f"answered with status {status}, which does not exist")
        if len(self._lines) > MAX_HEAD_NAMES or (self.head_bytes > MAX_HEAD_BYTES and self._head_is_long()):
            self._refuse(f"answered with a head of more than {MAX_HEAD_BYTES // 1024} KiB or {MAX_HEAD_NAMES} headers")
        self._read_lines(status)
        self.status = status

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    @property
    def too_long(self) -> bool:
        """Whether a head without an end, or trailers, have grown over every measure."""
        return (self.status == 0 and self.head_bytes > MAX_HEAD_BYTES) or len(self._lines) > 2 * MAX_HEAD_NAMES

    def _refuse(self, what: str) -> NoReturn:
        self.refusal = what
        raise RefusedError

    def _read_lines(self, status: int) -> None:
        known_names = self._names.known
        headers = self.headers
        media = length = None
        framed = status in WITHOUT_BODY
        for name, value in self._lines.items():
            known = known_names.get(name)
            if known is None:
                known = self._names.learn(name)
            if known is DROPPED:
                continue
            if known is CONTENT_TYPE:
                media = value
                headers.append((known, value))
            elif known is CONTENT_LENGTH:
                framed = True
                length = value
            elif known is TRANSFER_ENCODING:
                framed = True
                if value.lower() != b"chunked":
                    self._refuse(f"answered in the transfer coding {value[:80]!r}, of which only chunked is read")
            elif known is CONTENT_ENCODING:
                self._read_coding(value)
            else:
                headers.append((known, value))
        self.until_eof = not framed
        self.event_stream = (
            self.stream_wanted and status == 200 and media is not None and media.lower().startswith(EVENT_STREAM)
        )
        if length is not None and not self.event_stream and int(length) > self.max_whole_bytes:
            self._refuse(f"answers with {int(length)} bytes, over the {self.max_whole_bytes} of max_answer_bytes")

    def _read_coding(self, value: bytes) -> None:
        coding = value.strip().lower()
        if coding in CODINGS:
            self.coding = coding
        elif coding not in {b"", b"identity"}:
            self._refuse(f"answered in the content coding {value[:80]!r} although plain bytes were asked for")

    def _head_is_long(self) -> bool:
        return sum(len(name) + len(value) + 4 for name, value in self._lines.items()) > MAX_HEAD_BYTES
