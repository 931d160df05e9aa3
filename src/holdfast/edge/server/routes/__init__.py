"""Route tables: path -> verb. A handler unwraps, calls, wraps."""
