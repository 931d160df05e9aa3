"""Organisations, teams and keys; budgets, usage and the audit of who changed what.

Invariants
- A secret is known here by its SHA-256 only; it is shown once, to whoever made it.
- What the settings file declares is changed in the file, what the API made is changed by API; no name is in both.
- A change and its audit row are one unit; a change is conditional on the version it was based on.
- An administrator of the whole instance always remains.
- While the store is away the last snapshot goes on: known keys work, and the list of findings says so.
- What a key may not see does not exist for it: 404, never 403.
"""
