"""The scripted model as a real HTTP server: test an application, or Holdfast itself, without a provider.

Invariants: an answer follows from the seed, the request and how often it was asked; what was asked and generated is counted
exactly (`GET /sim/calls`); a client that hangs up stops its answer at once; nothing outside `/v1`, `/sim` and `/healthz` is answered.
"""

from holdfast.edge.sim.options import SimOptions, personality
from holdfast.edge.sim.server import run_sim, serve
from holdfast.upstreams.scripted import FAULTS, OPTIONS

__all__ = ["FAULTS", "OPTIONS", "SimOptions", "personality", "run_sim", "serve"]
