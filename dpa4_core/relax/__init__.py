"""Relaxation of many structures at once."""

from dpa4_core.relax.engine import relax, relax_stream
from dpa4_core.relax.results import RelaxResult, RelaxStep

__all__ = ["RelaxResult", "RelaxStep", "relax", "relax_stream"]
