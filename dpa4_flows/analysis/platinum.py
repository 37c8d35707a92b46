"""Platinum (111), by which the volcano of a functional is put where it belongs.

Published volcanoes are those of RPBE, which binds hydrogen 0.1 to 0.3 eV and oxygen 0.3 to 0.5 eV less than PBE. What
holds in every functional is where a surface lies beside platinum, so that the top is counted from there.
"""

from __future__ import annotations

from collections.abc import Mapping

from pymatgen.core import Lattice, Structure

from dpa4_flows.analysis.reactions import Reaction

PLATINUM, FACET = "Pt", "111"

PUBLISHED: Mapping[str, float] = {"HER": -0.09, "ORR": 0.78}
"""Descriptor of platinum (111) by the reaction in the functional of its volcano, RPBE, eV: hydrogen J. K. Nørskov et
al., J. Electrochem. Soc. 152, J23 (2005), a quarter of a layer; oxygen reduction J. K. Nørskov et al., J. Phys. Chem. B
108, 17886 (2004). That of oxygen evolution is a difference, which the functional hardly moves, and lines of the others
are in the numbers of the model: these are counted from the top itself."""


def platinum() -> Structure:
    """The crystal, to be relaxed."""
    return Structure(Lattice.from_parameters(2.807, 2.807, 2.807, 60, 60, 60), [PLATINUM], [[0.0, 0.0, 0.0]])


def from_top(reaction: Reaction, value: float, reference: float | None) -> float | None:
    """How far a surface lies from the top of the volcano, eV, negative on the side that binds too well.

    Args:
        reaction: which.
        value: descriptor of the surface.
        reference: that of platinum (111), computed alike.

    Returns:
        None where the top is not known in the numbers of this functional, since there is no reference.
    """
    published = PUBLISHED.get(reaction.name)
    if published is None:
        return value - reaction.top
    return None if reference is None else value - reference + published - reaction.top
