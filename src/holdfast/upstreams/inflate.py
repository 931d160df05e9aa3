"""An answer that came compressed although we asked for plain bytes: gzip or deflate, opened under a bound."""

import zlib

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
RAW = -zlib.MAX_WBITS
CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})


class InflateError(Exception):
    """What is wrong with the compressed bytes, as the end of a sentence about them."""


class Inflater:
    """Opens one body, piece by piece; members of gzip that follow one another are one body."""

    __slots__ = ("_inflater", "_started")

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(GZIP_OR_ZLIB)
        self._started = False

    @property
    def whole(self) -> bool:
        """Whether the body so far is complete."""
        return self._inflater.eof or not self._started

    def inflate(self, data: bytes, max_bytes: int) -> bytes:
        """What the piece opens to; raises InflateError when that is over `max_bytes` or no gzip or deflate."""
        opened: list[bytes] = []
        room = max_bytes
        try:
            while data:
                if self._inflater.eof:
                    self._inflater = zlib.decompressobj(GZIP_OR_ZLIB)
                piece = self._open(data, room + 1)
                room -= len(piece)
                if room < 0:
                    raise InflateError(f"opens to more than {max_bytes} bytes")
                opened.append(piece)
                data = self._inflater.unused_data
        except zlib.error as error:
            raise InflateError(f"cannot be decompressed ({error})") from None
        return b"".join(opened)

    def _open(self, data: bytes, max_bytes: int) -> bytes:
        """`deflate` should be zlib's format, but some servers send the bare one."""
        first, self._started = not self._started, True
        try:
            return self._inflater.decompress(data, max_bytes)
        except zlib.error:
            if not first:
                raise
            self._inflater = zlib.decompressobj(RAW)
            return self._inflater.decompress(data, max_bytes)
