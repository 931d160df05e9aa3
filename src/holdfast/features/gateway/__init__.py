"""The gateway: one path from a client's call to a model and back.

Invariants
- Every call that was sent has exactly one row and exactly one end, and what was reserved for it is settled once.
- What was forwarded is never retried: a second attempt starts only while the client has seen nothing.
- A body goes upstream as the bytes it came in, but for the edits `spelt` in `attempt.py` names.
"""
