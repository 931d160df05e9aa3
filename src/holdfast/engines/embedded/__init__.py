"""State in one folder of this machine: SQLite for what must last, this process's memory for what is shared by the minute.

Enough for: development, the demo, and a team whose calls one process carries: tens of thousands of calls a second with one
record each, as many rows as the disk holds, a restart in well under a second. A kill -9 loses at most the last 10 ms of what was
handed and nothing that was committed; a power loss loses nothing that was committed as `synced`.

Leave it for PostgreSQL and Redis when: a second process or machine has to answer, losing this machine's disk must not lose
the record, usage is asked over more than some ten million rows, or limits have to hold over several nodes.
"""

from holdfast.engines.embedded.engine import Embedded, open_embedded
from holdfast.engines.embedded.folder import DataLock, lock_data

__all__ = ["DataLock", "Embedded", "lock_data", "open_embedded"]
