"""Everything in one process: SQLite files and memory. Enough for one machine; leave it when a second one has to serve."""
