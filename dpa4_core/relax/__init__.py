"""Relaxation of many structures at once."""

from dpa4_core.relax.engine import relax, relax_stream
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.requests import Relax, Request, Static
from dpa4_core.relax.results import RelaxResult, RelaxStep
from dpa4_core.relax.stream import InFlight, stream

__all__ = [
    "InFlight",
    "Relax",
    "RelaxOptions",
    "RelaxResult",
    "RelaxStep",
    "Request",
    "Static",
    "relax",
    "relax_stream",
    "stream",
]
