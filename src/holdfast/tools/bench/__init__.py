"""`holdfast bench`: what Holdfast costs, measured beside a baseline and a floor in the same run. It speaks HTTP only."""

from holdfast.tools.bench.options import SECTIONS, BenchOptions
from holdfast.tools.bench.session import run

__all__ = ["SECTIONS", "BenchOptions", "run"]
