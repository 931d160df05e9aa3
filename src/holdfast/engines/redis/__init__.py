"""Hot state in one Redis primary, shared by several nodes."""
