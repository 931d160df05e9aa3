"""The scripted model behind `upstreams/scripted.py` and `holdfast sim`: what it says, when, and how it goes wrong.

Whatever it does follows from the server's seed, the request's fingerprint and how often that fingerprint was asked before;
nothing from the machine's own randomness.
"""
