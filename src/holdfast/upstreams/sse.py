"""Where an event stream is cut: after each blank line, and nowhere else.

A frame is one event as the upstream spelt it, its blank line included. Lines end in LF, CRLF or CR, also mixed. However the
bytes are split on their way, the frames are the same; joined they are the bytes that came. An event whose blank line ends in
a bare CR is known to be whole only when the next byte has come.
"""

import re
from collections.abc import Sequence

BLANK_LINE = re.compile(rb"(?>\r\n?|\n)(?>\r\n?|\n)")
LONGEST_OPEN_END = 3  # bytes of a blank line that may have come without its last one: \r\n\r


class FrameTooLongError(Exception):
    """A frame grew over the cutter's bound."""


class FrameCutter:
    """Cuts one stream; holds at most `max_frame_bytes` of an unfinished frame."""

    __slots__ = ("_carriage", "_max_frame_bytes", "_tail")

    def __init__(self, max_frame_bytes: int) -> None:
        self._tail = bytearray()
        self._carriage = False  # once a CR was seen, LF alone is not searched for
        self._max_frame_bytes = max_frame_bytes

    def cut(self, data: bytes) -> Sequence[bytes]:
        """The frames that are whole now. Raises FrameTooLongError."""
        if self._carriage or b"\r" in data:
            self._carriage = True
            return self._cut_any(data)
        if self._tail:
            return self._cut_on(data)
        end = data.find(b"\n\n")
        if end >= 0 and end + 2 == len(data):
            return (data,)
        return self._split(data) if end >= 0 else self._hold(data)

    def rest(self) -> bytes:
        """What came after the last blank line; the cutter is empty then."""
        rest = bytes(self._tail)
        self._tail.clear()
        return rest

    def _hold(self, data: bytes) -> Sequence[bytes]:
        self._tail += data
        if len(self._tail) > self._max_frame_bytes:
            raise FrameTooLongError
        return ()

    def _split(self, data: bytes) -> Sequence[bytes]:
        pieces = data.split(b"\n\n")
        self._hold(pieces.pop())
        return [piece + b"\n\n" for piece in pieces]

    def _cut_on(self, data: bytes) -> Sequence[bytes]:
        """Only the seam and what is new is searched, so that a long frame in small pieces costs no more than its length."""
        tail = self._tail
        if b"\n\n" not in data and not (tail[-1] == 10 and data.startswith(b"\n")):
            return self._hold(data)
        whole = bytes(tail) + data
        tail.clear()
        return self._split(whole)

    def _cut_any(self, data: bytes) -> Sequence[bytes]:
        tail = self._tail
        search_from = max(0, len(tail) - LONGEST_OPEN_END)
        tail += data
        frames = []
        start = 0
        while (found := BLANK_LINE.search(tail, search_from)) is not None:
            end = found.end()
            if end == len(tail) and tail[-1] == 13:
                break
            frames.append(bytes(tail[start:end]))
            start = search_from = end
        del tail[:start]
        if len(tail) > self._max_frame_bytes:
            raise FrameTooLongError
        return frames
