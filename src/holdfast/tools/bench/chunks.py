"""What the paced upstream says in a chunk, and how a reader checks it: whose it is, which one it is, when it left.

A chunk's content is `STREAM SEQUENCE NANOSECONDS `: the stream's number, the sequence from 0, and the monotonic moment it was
written. Upstream and reader stand on one machine, so the difference to the reader's own clock is the chunk's delay."""

import re

STREAM_MARK = re.compile(rb"call-(\d{12})")
CONTENT = re.compile(rb'"content": ?"(\d{12}) (\d{8}) (\d{20}) "')
DONE = b"data: [DONE]"
TEMPLATE = (
    b'data: {"id":"chatcmpl-%012d","object":"chat.completion.chunk","created":1700000000,"model":"mock",'
    b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
)
USAGE = (
    b'data: {"id":"chatcmpl-%012d","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":230,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)


def framed(payload: bytes) -> bytes:
    """As one chunk of a chunked HTTP body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def opening(stream: int) -> bytes:
    return framed(TEMPLATE % (stream, b'{"role":"assistant","content":""}', b"null"))


def pattern(stream: int) -> bytes:
    """This stream's chunks but for sequence and time: `pattern % (sequence, nanoseconds)` is one, framed."""
    content = b'{"content":"%012d %%08d %%020d "}' % stream
    size = len(TEMPLATE % (stream, content % (0, 0), b"null"))
    return b"%x\r\n" % size + TEMPLATE % (stream, content, b"null") + b"\r\n"


def closing(stream: int, chunks: int, usage: bool) -> bytes:
    """The finish reason, the usage when it was asked for, [DONE], and the end of the body."""
    said = framed(TEMPLATE % (stream, b"{}", b'"stop"'))
    if usage:
        said += framed(USAGE % (stream, chunks, 230 + chunks))
    return said + framed(DONE + b"\n\n") + b"0\r\n\r\n"


class Dechunker:
    """Takes a chunked body apart, however it was cut on the way. Raises ValueError for a size that is none."""

    __slots__ = ("_kept", "ended")

    def __init__(self) -> None:
        self._kept = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The payload that is whole by now; `ended` after the last chunk."""
        if self._kept:
            data = self._kept + data
        at, payload = 0, b""
        while not self.ended:
            line = data.find(b"\r\n", at)
            if line < 0:
                break
            size = int(data[at:line], 16)
            after = line + 2 + size
            if len(data) < after + 2:
                break
            if size:
                payload += data[line + 2 : after]
            else:
                self.ended = True
            at = after + 2
        self._kept = data[at:]
        return payload


class StreamCheck:
    """Holds one stream to its promise: each of its own chunks once, in order, and one [DONE] after the last."""

    __slots__ = ("_due", "_expected", "_kept", "_missing", "_stream", "done", "duplicated", "foreign", "reordered")

    def __init__(self, stream: int, expected: int) -> None:
        self._stream = b"%012d" % stream
        self._expected = expected
        self._kept = b""
        self._due = 0
        self._missing: set[int] = set()
        self.done = 0
        self.duplicated = 0
        self.reordered = 0
        self.foreign = 0

    @property
    def lost(self) -> int:
        """Chunks that have not come, those still due among them."""
        return len(self._missing) + max(self._expected - self._due, 0)

    def feed(self, payload: bytes) -> list[int]:
        """The sending times of the chunks whose events are whole by now; a partial tail waits for the rest."""
        if self._kept:
            payload = self._kept + payload
        end = payload.rfind(b"\n\n") + 2
        if end < 2:
            self._kept = payload
            return []
        self._kept = payload[end:]
        if self._kept:
            payload = payload[:end]
        times = []
        for stream, sequence, sent in CONTENT.findall(payload):
            if stream != self._stream:
                self.foreign += 1
                continue
            place = int(sequence)
            if place == self._due:
                self._due += 1
            else:
                self._misplaced(place)
            times.append(int(sent))
        if DONE in payload:
            self.done += 1
        return times

    def _misplaced(self, place: int) -> None:
        if place > self._due:
            self._missing.update(range(self._due, place))
            self._due = place + 1
        elif place in self._missing:
            self._missing.discard(place)
            self.reordered += 1
        else:
            self.duplicated += 1
