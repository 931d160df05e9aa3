"""Where a running process is met by whoever owns its data: the socket in the data folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "holdfast.sock"
LONGEST_PATH = 100  # what a socket's address can hold, from 104 to 108 bytes


@contextmanager
def reachable(folder: Path) -> Iterator[str]:
    """A path of the folder's socket that is short enough to bind or connect to, while entered. OSError: the folder is not there."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
