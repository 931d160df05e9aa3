"""The frame cutter: whole events, byte for byte, however the bytes were split on their way."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.upstreams.sse import FrameCutter, FrameTooLongError

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from([b"", b"data: a", b"data: {}", b": keep-alive", b"event: done", b"id: 1", b"x"])
STREAMS = st.lists(st.tuples(LINES, LINE_ENDS), max_size=24).map(lambda lines: b"".join(a + b for a, b in lines))
ANY_BYTES = st.lists(st.sampled_from([b"\r", b"\n", b"a", b"b"]), max_size=30).map(b"".join)


def cut_all(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    cutter = FrameCutter(1 << 20)
    frames = [frame for piece in pieces for frame in cutter.cut(piece)]
    return frames, cutter.rest()


def as_a_reader_would(stream: bytes) -> tuple[list[bytes], bytes]:
    """Line by line, the way the specification reads: the slow truth the cutter is compared with."""
    frames, frame = [], b""
    for line in re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", stream):
        frame += line
        bare = line.strip(b"\r\n") == b""
        if bare and len(frame) > len(line):
            frames.append(frame)
            frame = b""
    return frames, frame


def split(stream: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(cuts)]


@given(st.one_of(STREAMS, ANY_BYTES), st.lists(st.integers(0, 1000), max_size=20))
@example(b"a\r\n\r\nb\r\n\r\n", [4])
@example(b"a\n\r\nb\r\n\nc\r\r\nd", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_any_split_gives_the_same_frames_and_loses_no_byte(stream: bytes, places: list[int]) -> None:
    frames, rest = cut_all(split(stream, places))
    assert b"".join(frames) + rest == stream
    at_once, _ = cut_all([stream])
    byte_by_byte, _ = cut_all([stream[i : i + 1] for i in range(len(stream))])
    assert frames == at_once == byte_by_byte


@given(STREAMS, st.lists(st.integers(0, 1000), max_size=20))
def test_frames_are_what_a_line_by_line_reader_finds(stream: bytes, places: list[int]) -> None:
    stream = b"data: x" + stream + b"data: y"  # a bare CR at the very end is not yet decided
    assert cut_all(split(stream, places)) == as_a_reader_would(stream)


def test_a_chunk_that_is_one_frame_is_passed_on_without_a_copy() -> None:
    frame = b'data: {"a":1}\n\n'
    assert FrameCutter(100).cut(frame)[0] is frame


def test_several_frames_come_in_one_call_and_the_tail_waits() -> None:
    cutter = FrameCutter(100)
    assert cutter.cut(b"data: a\n\ndata: b\n\ndata: c") == [b"data: a\n\n", b"data: b\n\n"]
    assert cutter.cut(b"\n\n") == [b"data: c\n\n"]
    assert cutter.rest() == b""


def test_a_frame_is_whole_with_its_blank_line_whichever_way_lines_end() -> None:
    for end in (b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\n\n"):
        assert list(FrameCutter(100).cut(b"data: a" + end)) == [b"data: a" + end]


def test_a_bare_cr_waits_for_the_byte_that_tells_whether_it_is_a_crlf() -> None:
    cutter = FrameCutter(100)
    assert list(cutter.cut(b"data: a\r\r")) == []
    assert list(cutter.cut(b"data: b\r\r")) == [b"data: a\r\r"]
    assert cutter.rest() == b"data: b\r\r"


@pytest.mark.parametrize("letter", [b"x", b"\r", b"x\r\n"], ids=["one line", "carriage returns", "lines"])
def test_an_event_that_never_ends_is_refused_at_the_bound(letter: bytes) -> None:
    cutter = FrameCutter(1000)
    piece = b"x" + letter
    for _ in range(1000 // len(piece)):
        cutter.cut(piece)
    with pytest.raises(FrameTooLongError):
        cutter.cut(piece)


def test_a_long_event_in_small_pieces_is_cut_once() -> None:
    cutter = FrameCutter(8 << 20)
    piece = b"x" * 64
    held = [frame for _ in range(64 * 1024) for frame in cutter.cut(piece)]
    assert held == []
    assert [len(frame) for frame in cutter.cut(b"\n\ny")] == [4 * 1024 * 1024 + 2]
    assert cutter.rest() == b"y"
