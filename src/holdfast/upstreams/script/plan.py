"""What one call will be answered, before any of it is played: frames by token, their pace, and how it ends."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from holdfast.dialects.openai.answer import ChunkSpelling, content_delta
from holdfast.upstreams.script.distributions import Constant, Distribution, seeded
from holdfast.upstreams.script.text import TOKEN_CHARACTERS

Headers = Sequence[tuple[bytes, bytes]]
Ending = Literal["complete", "stall", "cut", "reset"]


class Pace:
    """When the tokens of one answer come, in seconds after it was asked; the same each time it is gone through."""

    __slots__ = ("_gaps", "_seed", "first_seconds", "gap_seconds")

    def __init__(self, first_seconds: float, gaps: Distribution, seed: int) -> None:
        self.first_seconds = first_seconds
        self._gaps = gaps
        self._seed = seed
        self.gap_seconds = gaps.value / 1000 if isinstance(gaps, Constant) else None
        """The one gap between all tokens, or None where each is drawn."""

    @property
    def instant(self) -> bool:
        return self.first_seconds == 0 and self.gap_seconds == 0

    def gaps(self) -> Iterator[float]:
        """The pause after each token but the last, in order; endless."""
        random = seeded(self._seed).random
        gap = self._gaps.at
        while True:
            yield gap(random()) / 1000

    def moment_of(self, token: int) -> float:
        """When the token of this number (from 1) is out; 0 is the answer's first byte."""
        if token <= 1:
            return self.first_seconds
        if self.gap_seconds is not None:
            return self.first_seconds + self.gap_seconds * (token - 1)
        gaps = self.gaps()
        return self.first_seconds + math.fsum(next(gaps) for _ in range(token - 1))

    def tokens_by(self, seconds: float, most: int) -> int:
        """How many of `most` tokens are out after so many seconds."""
        if seconds < self.first_seconds:
            return 0
        if self.gap_seconds is not None:
            return (
                most if self.gap_seconds == 0 else min(most, 1 + int((seconds - self.first_seconds) / self.gap_seconds))
            )
        out, moment = 1, self.first_seconds
        for gap in self.gaps():
            moment += gap
            if moment > seconds or out >= most:
                break
            out += 1
        return min(out, most)


class Voice(Protocol):
    """One choice of an answer, told a token at a time. `silent` tokens come first and show nothing."""

    silent: int
    tokens: int

    def chunks(self, start: int, stop: int) -> list[bytes]:
        """The shown tokens [start, stop), counted without the silent ones, a frame each."""
        ...


class TextVoice:
    __slots__ = ("_after", "_before", "_text", "silent", "tokens")

    def __init__(self, spelling: ChunkSpelling, index: int, text: str, shown: int, silent: int) -> None:
        self._before, self._after = spelling.around(index)
        self._text = text
        self.silent = silent
        self.tokens = silent + shown

    def chunks(self, start: int, stop: int) -> list[bytes]:
        before, after, text = self._before, self._after, self._text
        size = TOKEN_CHARACTERS
        return [
            b"".join((before, content_delta(text[at : at + size]), after))
            for at in range(start * size, min(stop * size, len(text)), size)
        ]


class ListedVoice:
    """Deltas made beforehand, one a token: a tool call is short."""

    __slots__ = ("_after", "_before", "_deltas", "silent", "tokens")

    def __init__(self, spelling: ChunkSpelling, index: int, deltas: Sequence[bytes], silent: int) -> None:
        self._before, self._after = spelling.around(index)
        self._deltas = deltas
        self.silent = silent
        self.tokens = silent + len(deltas)

    def chunks(self, start: int, stop: int) -> list[bytes]:
        return [self._before + delta + self._after for delta in self._deltas[start:stop]]


@dataclass(slots=True)
class Telling:
    """A streamed answer: `opening` frames with the first token, then beats (one token of each choice), then `closing`.

    `twice`: the beat whose frames are sent twice. `torn`: part of one more frame, sent last, whose rest never comes."""

    voices: Sequence[Voice]
    opening: Sequence[bytes]
    closing: Sequence[bytes]
    beats: int
    twice: int = -1
    torn: bytes = b""

    def tokens_until(self, beat: int) -> int:
        if len(self.voices) == 1:
            return min(beat, self.voices[0].tokens)
        return sum(min(beat, voice.tokens) for voice in self.voices)

    def frames(self, start: int, stop: int) -> list[bytes]:
        """The frames of the beats [start, stop)."""
        if len(self.voices) == 1 and not start <= self.twice < stop:
            return self._of(self.voices[0], start, stop)
        frames: list[bytes] = []
        for beat in range(start, stop):
            for voice in self.voices:
                chunks = self._of(voice, beat, beat + 1)
                frames += chunks + chunks if beat == self.twice else chunks
        return frames

    @staticmethod
    def _of(voice: Voice, start: int, stop: int) -> list[bytes]:
        silent = voice.silent
        return voice.chunks(max(0, start - silent), stop - silent) if stop > silent else []


@dataclass(slots=True)
class Plan:
    """One call's answer. Exactly one of `telling` and `body` is there, or none where nothing is answered at all.

    `tokens` of a body are generated while it is waited for; `sent_bytes` of it are sent, all where None. `drip`: bytes and
    seconds between the pieces the body is sent in. `refused`: the model was not asked.
    """

    status: int
    headers: Headers
    pace: Pace
    id: str = ""
    telling: Telling | None = None
    body: bytes | None = None
    tokens: int = 0
    sent_bytes: int | None = None
    ending: Ending = "complete"
    drip: tuple[int, float] | None = None
    prompt_tokens: int = 0
    refused: bool = False
    unreachable: bool = False
