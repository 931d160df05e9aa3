-- name: open_writer
-- WAL: readers see the last commit and never wait for the writer. A larger WAL than usual, so that the moves back into the
-- database are few. `fullfsync` matters on macOS only, where a plain fsync does not reach the disk.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA fullfsync = 1;
PRAGMA checkpoint_fullfsync = 1;

-- name: open_reader
-- A reader cannot write even by mistake.
PRAGMA query_only = 1;
PRAGMA cache_size = -4096;
PRAGMA temp_store = MEMORY;

-- name: pin
-- The first read of a transaction fixes what it sees.
SELECT value FROM meta WHERE name = 'incarnation'

-- name: touch
-- The smallest real write, for a ping, and for a commit that has to sync. Its value differs each time, because SQLite leaves
-- a page alone that would not change.
UPDATE meta SET value = value + 1 WHERE name = 'touched'

-- name: incarnation
-- The identity of this store's history.
SELECT value FROM meta WHERE name = 'incarnation'

-- name: set_incarnation
-- A history begins.
INSERT OR REPLACE INTO meta (name, value) VALUES ('incarnation', ?)
