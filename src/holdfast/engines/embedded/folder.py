"""The data folder: one process at a time, readable by its owner only."""

import fcntl
import os
from pathlib import Path

from holdfast.kernel.errors import StoreUnavailableError

DATABASE = "holdfast.sqlite"
LOCK = "holdfast.lock"


class DataLock:
    """Held until `release`, or until the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_data(data: Path) -> DataLock:
    """Make the folder where it is missing and lock it; StoreUnavailableError names the process that holds it."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailableError(f"The data folder {data} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreUnavailableError(
            f"The data folder {data} is in use by process {holder}. Stop it, or name another folder."
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return DataLock(descriptor)


def make_file(path: Path) -> bool:
    """Make an empty file that only its owner may read; the WAL beside a database gets the database's mode. True: it is new."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """A name in a folder survives a power loss only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
