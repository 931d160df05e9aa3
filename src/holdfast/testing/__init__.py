"""What we test with, for those who build on Holdfast: a store in memory held to the engines' own suites, and a wrapper that
lets any port fail, wait or crash where a test says so. Nothing in the product imports it."""

from holdfast.testing.faults import Crash, Fault, Faults
from holdfast.testing.memory import MemoryStore

__all__ = ["Crash", "Fault", "Faults", "MemoryStore"]
