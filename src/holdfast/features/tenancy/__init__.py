"""Organisations, teams and keys; budgets, usage and the audit of who changed what."""
