"""The words of a verdict on a relaxed structure."""

from __future__ import annotations

from typing import Literal

Minimum = Literal["verified", "likely", "saddle", "not_checked"]
"""What is known about the end of a relaxation; see `dpa4_core.relax.RelaxResult`."""


FLAG_SENTENCES = {
    "dissociated": "it fell into pieces, or into layers or chains",
    "close_contact": "two atoms are closer than 0.65 of the sum of their covalent radii",
    "large_volume_change": "the volume grew or shrank by more than a factor of 1.5",
    "saddle": "it is on a saddle point: a way down was found and not gone",
    "vacuum_kept": "its cell has a gap of more than 8 Å, as that of a slab, chain or molecule, and the lattice vector "
    "across it did not relax (cell = all relaxes it)",
}
"""What the flags of a `RelaxResult` mean."""

ErrorCode = Literal[
    "refused",
    "not_finite",
    "large_force",
    "exploded",
    "deformed",
    "dissociated",
    "too_long",
    "out_of_memory",
    "crashed",
]
"""Why nothing was computed, for logic: the input cannot be computed, the numbers of the potential are not finite or
senseless, the structure fell apart, memory ran out, or the potential broke."""


def code_of_earlier_version(error: str) -> ErrorCode:
    """The code of an error that was stored when errors were sentences alone; want of memory is all they told apart."""
    return "out_of_memory" if error.startswith("out of memory") else "crashed"
