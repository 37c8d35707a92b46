"""Exchanges of surface atoms with atoms of other elements inside a slab.

The segregation energy of B is that of the slab after an atom B from inside and a surface atom A have changed places,
minus that before: below zero B comes to the surface (A. V. Ruban, H. L. Skriver, J. K. Nørskov, Phys. Rev. B 59, 15990
(1999), for ordered alloys instead of one impurity in a host).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_flows.analysis.facets import symmetry
from dpa4_flows.analysis.slabs import below_middle

LAYER = 0.5
"""Å in height, within which atoms make one layer: neighbouring planes of close-packed and open faces are farther apart,
and surface atoms of alloys rumple by less."""


class Exchange(NamedTuple):
    """Two atoms of a slab that change places.

    Attributes:
        surface: atom of the outermost layer, which goes inside.
        inside: atom that comes up.
        level: ``next``, the highest layer with such atoms, where the nearest one is taken; ``deep``, the lowest that is
            free, where the farthest one is, so that the two see nothing of each other.
        depth: Å, between their layers.
    """

    surface: int
    inside: int
    level: Literal["next", "deep"]
    depth: float


def surface_atoms(slab: Structure) -> NDArray[np.int64]:
    """One atom of each kind, told apart by symmetry, in the outermost layer of the upper face."""
    heights = slab.cart_coords[:, 2]
    top = np.flatnonzero(heights > heights.max() - LAYER)
    return np.asarray(top[np.unique(symmetry(slab).equivalent_atoms[top], return_index=True)[1]])


def exchanges(slab: Structure) -> list[Exchange]:
    """All kinds of surface atoms with the nearest and the deepest atom of each other element in the upper half."""
    heights, numbers = slab.cart_coords[:, 2], np.array(slab.atomic_numbers)
    free = ~below_middle(slab) & (heights <= heights.max() - LAYER)
    found = []
    for atom in surface_atoms(slab):
        lengths = slab.distance_matrix[atom]
        for number in sorted(set(numbers[free].tolist()) - {int(numbers[atom])}):
            inside = np.flatnonzero(free & (numbers == number))
            high, low = (inside[np.abs(heights[inside] - end) < LAYER] for end in _ends(heights[inside]))
            pair = {"next": int(high[lengths[high].argmin()]), "deep": int(low[lengths[low].argmax()])}
            for level, other in pair.items() if pair["next"] != pair["deep"] else [("deep", pair["deep"])]:
                found.append(Exchange(int(atom), other, level, float(heights[atom] - heights[other])))  # type: ignore[arg-type]
    return found


def exchanged(slab: Structure, exchange: Exchange) -> Structure:
    """The slab after the exchange; atoms keep their numbers, not their elements."""
    species = [site.specie for site in slab]
    one, other = exchange.surface, exchange.inside
    species[one], species[other] = species[other], species[one]
    return Structure(slab.lattice, species, slab.frac_coords, site_properties=slab.site_properties)


def _ends(heights: NDArray[np.float64]) -> tuple[float, float]:
    return float(heights.max()), float(heights.min())
