"""A data folder as a copy, and back.

A backup is a folder that holds the same files a data folder does. It is made while the process runs, and is what the
record was at one moment. It holds key fingerprints and answers, so only its owner may read it.
"""

import contextlib
import os
from pathlib import Path

import apsw

from holdfast.engines.embedded.connections import open_reader
from holdfast.engines.embedded.folder import DATABASE, lock_data, make_file, sync_folder
from holdfast.engines.embedded.migrate import check_schema, known_migrations
from holdfast.engines.embedded.statements import load
from holdfast.kernel.errors import ConflictError, StoreUnavailableError
from holdfast.kernel.ids import make_id


def backup(data: Path, target: Path) -> None:
    """Copy the record of a data folder into a folder that has none yet; nobody who writes meanwhile waits for it.

    ConflictError: the target holds a backup already. StoreUnavailableError: there is nothing to copy, or no room for it;
    then the target holds nothing that looks like a backup."""
    if not (data / DATABASE).exists():
        raise StoreUnavailableError(f"There is no record in {data} to back up.")
    if (target / DATABASE).exists():
        raise ConflictError(f"{target} holds a backup already: name a folder that does not.")
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(data / DATABASE, target)
    except (apsw.Error, OSError) as error:
        raise StoreUnavailableError(f"The backup into {target} failed: {error}.") from error


def restore(source: Path, data: Path) -> str:
    """Make a backup the record of a data folder whose process is stopped; the incarnation that begins.

    The record that was there before is kept beside it as `holdfast.sqlite.replaced`, one of them.
    ConflictError: the source is no whole backup; the data folder is as it was. SchemaMismatchError: a much newer release made it.
    StoreUnavailableError: a process has the folder, or there is no room."""
    if not (source / DATABASE).exists():
        raise ConflictError(f"There is no backup in {source}.")
    lock = lock_data(data)
    try:
        fresh = _copy(source / DATABASE, data, keep_name=False)
        incarnation = _begin_history(fresh)
        _put_aside(data)
        fresh.rename(data / DATABASE)
        sync_folder(data)
    except (apsw.Error, OSError) as error:
        raise StoreUnavailableError(f"The backup could not be restored into {data}: {error}.") from error
    finally:
        lock.release()
    return incarnation


def _copy(source: Path, folder: Path, *, keep_name: bool = True) -> Path:
    """One consistent copy of a database, checked and on the disk; under its own name only when it is whole."""
    part = folder / (DATABASE + ".part")
    part.unlink(missing_ok=True)
    make_file(part)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(part.unlink, missing_ok=True)
        with contextlib.closing(open_reader(source)) as reader, contextlib.closing(_open(part)) as copy:
            with copy.backup("main", reader, "main") as step:
                step.step(-1)  # in WAL mode nobody waits for a reader, so all at once is one moment
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, no WAL beside it
            _check(copy, source)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        on_failure.pop_all()
    if not keep_name:
        return part
    part.rename(folder / DATABASE)
    sync_folder(folder)
    return folder / DATABASE


def _open(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)


def _check(connection: apsw.Connection, source: Path) -> None:
    try:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except apsw.Error as error:
        problems = [str(error)]
    if problems != ["ok"]:
        raise ConflictError(f"{source} is damaged: {'; '.join(map(str, problems))}.")
    if check_schema(connection, known_migrations()) == 0:
        raise ConflictError(f"{source} is no record of Holdfast's.")


def _begin_history(path: Path) -> str:
    incarnation = make_id("inc")
    with contextlib.closing(_open(path)) as connection:
        connection.execute(load("store.sql")["set_incarnation"], (incarnation,))
    return incarnation


def _put_aside(data: Path) -> None:
    """The record that is replaced, whole: what its WAL holds goes into it first."""
    current = data / DATABASE
    if not current.exists():
        return
    # A damaged record is a usual reason to restore; it is kept as it is.
    with contextlib.suppress(apsw.NotADBError, apsw.CorruptError), contextlib.closing(_open(current)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    current.rename(data / (DATABASE + ".replaced"))
    for suffix in ("-wal", "-shm"):
        (data / (DATABASE + suffix)).unlink(missing_ok=True)
