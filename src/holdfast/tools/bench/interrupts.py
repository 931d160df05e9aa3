"""Ctrl-C and SIGTERM, made harmless to processes that are just being started or ended."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Interrupts:
    """While installed, both signals raise KeyboardInterrupt in the main thread: at once, but inside `held()` at its end, and
    after `ignore()` no more. Off the main thread nothing is installed, for Python gives signals to that one only."""

    def __init__(self) -> None:
        self._before: list[tuple[signal.Signals, Handler]] = []
        self._holding = False
        self._pending = False
        self._deaf = False

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = [(number, signal.signal(number, self._heard)) for number in (signal.SIGINT, signal.SIGTERM)]

    def ignore(self) -> None:
        self._deaf = True

    def uninstall(self) -> None:
        while self._before:
            number, handler = self._before.pop()
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal waits until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            raise KeyboardInterrupt

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._deaf:
            return
        if self._holding:
            self._pending = True
            return
        raise KeyboardInterrupt
