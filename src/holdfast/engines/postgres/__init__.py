"""Durable state in PostgreSQL, shared by several nodes."""
