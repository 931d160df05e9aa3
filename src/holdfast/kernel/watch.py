"""Notices that files changed, by asking the file system: no promise of inotify holds on network and container mounts."""

import os
from collections.abc import Iterable
from pathlib import Path

Signature = tuple[tuple[object, ...], ...]


def signature(files: Iterable[Path]) -> Signature:
    """What differs once one of the files was written, replaced, linked elsewhere, removed or made."""
    return tuple(_of(file) for file in files)


def _of(file: Path) -> tuple[object, ...]:
    try:
        found = file.stat()
        return (os.path.realpath(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError as error:
        return (error.errno,)


class FileWatch:
    """Says a change once, and only when two looks in a row found the same: a file that is still being written is left alone."""

    def __init__(self, files: Iterable[Path], known: Signature) -> None:
        """`known` is the signature of the files from before they were last read."""
        self._files = tuple(files)
        self._known = self._last = known

    def changed(self) -> bool:
        """Look once; call it at a steady interval."""
        seen = signature(self._files)
        settled, self._last = seen == self._last, seen
        if not settled or seen == self._known:
            return False
        self._known = seen
        return True
