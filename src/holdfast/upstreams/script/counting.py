"""What the model was asked and what it said: the truth that a gateway's books are checked against."""

import msgspec

FINGERPRINT_LIMIT = 100_000
OTHER = "other"


class Counts:
    """Bounded: the first `limit` fingerprints are counted by name, later ones together under `other`.

    A call that is refused (an error status) counts in `total`, `refused` and `by_fingerprint`, and costs no tokens. Every other
    call costs its prompt when it arrives and each token of its answer when that is generated. `open`: answers in progress.
    `hung_up`: answers whose client left before the end.
    """

    __slots__ = (
        "_limit",
        "by_fingerprint",
        "completion_tokens",
        "hung_up",
        "open",
        "prompt_tokens",
        "refused",
        "total",
    )

    def __init__(self, limit: int = FINGERPRINT_LIMIT) -> None:
        self._limit = limit
        self.by_fingerprint: dict[str, int] = {}
        self.open = 0
        self._clear()

    def _clear(self) -> None:
        self.by_fingerprint.clear()
        self.total = 0
        self.refused = 0
        self.hung_up = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def reset(self) -> None:
        """Forgets what was; answers in progress stay open, and count what they generate from now on."""
        self._clear()

    def asked_before(self, fingerprint: str) -> int:
        """How often this fingerprint was asked (under `other`: how often any of them was)."""
        counted = self.by_fingerprint
        if len(counted) < self._limit:
            return counted.get(fingerprint, 0)
        return counted.get(fingerprint) or counted.get(OTHER, 0)

    def ask(self, fingerprint: str, prompt_tokens: int, refused: bool) -> None:
        self.total += 1
        counted = self.by_fingerprint
        if len(counted) >= self._limit and fingerprint not in counted:
            fingerprint = OTHER
        counted[fingerprint] = counted.get(fingerprint, 0) + 1
        if refused:
            self.refused += 1
        else:
            self.prompt_tokens += prompt_tokens

    def encode(self) -> bytes:
        return msgspec.json.encode(
            {
                "total": self.total,
                "by_fingerprint": self.by_fingerprint,
                "open": self.open,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "refused": self.refused,
                "hung_up": self.hung_up,
            }
        )
