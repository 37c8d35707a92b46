"""Relaxation of many structures, and of paths between them, and their dynamics, at once."""

from dpa4_core.relax.dynamics import Phase
from dpa4_core.relax.engine import relax, relax_stream
from dpa4_core.relax.mirror import mirror_of
from dpa4_core.relax.options import BandOptions, RelaxOptions
from dpa4_core.relax.path import band_path, matched_end
from dpa4_core.relax.requests import Band, Dynamics, Relax, Request, Static
from dpa4_core.relax.results import BandResult, DynamicsResult, RelaxResult, RelaxStep
from dpa4_core.relax.stream import InFlight, Result, stream

__all__ = [
    "Band",
    "BandOptions",
    "BandResult",
    "Dynamics",
    "DynamicsResult",
    "InFlight",
    "Phase",
    "Relax",
    "RelaxOptions",
    "RelaxResult",
    "RelaxStep",
    "Request",
    "Result",
    "Static",
    "band_path",
    "matched_end",
    "mirror_of",
    "relax",
    "relax_stream",
    "stream",
]
