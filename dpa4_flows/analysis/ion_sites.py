"""Where a host has room for an ion, how many its metals can pay for, and whether it is still the same host then.

Places are corners of Voronoi cells, which are farthest from the atoms around them (`interstitial_sites`), as far as an
ion fits between the ionic radii there: it is as near to anions as they touch, and cations have room to spare. No charge
density takes part: which place is the best one is for the energies of a potential to say.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Composition, Species, Structure

from dpa4_flows.analysis.defects import interstitial_sites
from dpa4_flows.analysis.electrode import remove_ions
from dpa4_flows.analysis.force_constants import shortest_vector
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.migration import ion_radii
from dpa4_flows.analysis.orderings import compact_supercell
from dpa4_flows.analysis.oxidation import guess_oxidation_states

LOWEST_STATES: dict[str, int] = {
    **dict.fromkeys(("V", "Cr", "Mn", "Fe", "Co", "Ni", "Sn"), 2),
    **dict.fromkeys(("Ti", "Nb", "Mo", "Ru", "Ta", "Ir"), 3),
    "Cu": 1,
    "W": 4,
}
"""Lowest oxidation state that insertion reaches in a solid before the metal itself, or another phase of it, forms."""

FITS = 0.5
"""Of the radius of an ion, which must be free around a place: a tetrahedron of a close-packed oxide has 0.55 of that of
lithium, before the host has given way."""
_SYMPREC = 0.1  # Å; a host that has relaxed with ions in it keeps its symmetry roughly
_BONDED, _APART = 1.25, 1.5  # sums of covalent radii, up to which atoms are bonded and beyond which they are not
_WHOLE = 1e-6


class Place(NamedTuple):
    """A place for an ion.

    Attributes:
        fractional: [3] coordinates.
        room: Å, radius of the sphere that is free there.
        number: of such places in the cell, which symmetry makes equal.
    """

    fractional: NDArray[np.float64]
    room: float
    number: int


class Uptake(NamedTuple):
    """How many ions a cell can take up.

    Attributes:
        most: until its metals are at their lowest oxidation states; None where it has no such metal.
        whole: numbers on the way at which the mean state of these metals is a whole number.
    """

    most: int | None
    whole: tuple[int, ...]


def places(structure: Structure, ion: str, most: int) -> list[Place]:
    """Places for one more ion, each once for all that symmetry makes equal, those with most room first.

    Args:
        structure: the host, with or without ions.
        ion: element.
        most: how many are given at most.
    """
    own = _ionic_radius(ion)
    sizes = {**ion_radii(structure), ion: own}
    lattice, free = structure.lattice, np.array([sizes[site.specie.symbol] for site in structure])
    found = []
    for hole in interstitial_sites(structure, _SYMPREC):
        room = float((lattice.get_all_distances([hole.place], structure.frac_coords)[0] - free).min())
        if room >= FITS * own:
            found.append(Place(hole.place, room, hole.number))
    return sorted(found, key=lambda place: -place.room)[:most]


def filled_cell(primitive: Structure, min_length: float) -> Structure:
    """The smallest supercell in which an ion is ``min_length`` Å from its images, as compact as there is: graphite has
    LiC6 in one of three cells.
    """
    lattice = primitive.lattice
    matrices = (compact_supercell(lattice, size) for size in itertools.count(1))
    matrix = next(one for one in matrices if shortest_vector(one @ lattice.matrix) >= min_length)
    cell = primitive.copy()
    cell.make_supercell(matrix)
    return cell


def surroundings(structure: Structure, index: int, ion: str) -> str:
    """What is around an ion: ``6 O at 2.15 Å``."""
    centre = structure[index]
    near = sorted(
        (n.nn_distance, n.specie.symbol) for n in structure.get_neighbors(centre, 4.0) if n.specie.symbol != ion
    )
    if not near:
        return "nothing within 4 Å"
    symbol = near[0][1]
    shell = [distance for distance, other in near if other == symbol and distance < 1.3 * near[0][0]]
    return f"{len(shell)} {symbol} at {np.mean(shell):.2f} Å"


def uptake(composition: Composition, ion: str) -> Uptake:
    """How many ions the metals of a cell pay for, by the most probable oxidation states of what it is now."""
    amounts = composition.get_el_amt_dict()
    metals = [symbol for symbol in amounts if symbol in LOWEST_STATES and symbol != ion]
    states = guess_oxidation_states(composition) or guess_oxidation_states(composition, rare_states=True)
    if not metals or not states or not any(states.values()):
        return Uptake(None, ())
    charge, n_metals = ion_charge(ion), sum(amounts[symbol] for symbol in metals)
    spare = sum(amounts[symbol] * max(0.0, states[symbol] - LOWEST_STATES[symbol]) for symbol in metals)
    mean = sum(amounts[symbol] * states[symbol] for symbol in metals) / n_metals
    most = math.floor(spare / charge + _WHOLE)
    steps = ((mean - state) * n_metals / charge for state in range(math.ceil(mean - 1 - _WHOLE), 0, -1))
    whole = tuple(round(n) for n in steps if 0 < n <= most + _WHOLE and abs(n - round(n)) < _WHOLE)
    return Uptake(most, whole)


def numbers_tried(found: Uptake, n_steps: int, otherwise: int) -> tuple[int, ...]:
    """Numbers of ions after each step of an insertion, from the fewest.

    Args:
        found: what the host can take up.
        n_steps: equal parts into which that is cut; numbers at whole oxidation states are among them besides.
        otherwise: ions where no metal says how many.
    """
    if found.most is None:
        return tuple(range(1, otherwise + 1))
    parts = {math.floor(found.most * step / n_steps + 0.5) for step in range(1, n_steps + 1)}
    return tuple(sorted({n for n in (*parts, *found.whole) if n > 0}))


def keeps_bonds(before: Structure, after: Structure, ion: str) -> bool:
    """Whether a layered host is still the same although its atoms have moved: layers that glide over each other keep
    the bonds inside, a host that rearranges does not. Atoms between bonded and apart count as they were.
    """
    first, second = (remove_ions(one, ion) if ion in one.symbol_set else one for one in (before, after))
    if not _is_layered(first):
        return False
    low = [_neighbours(one, _BONDED) for one in (first, second)]
    high = [_neighbours(one, _APART) for one in (first, second)]
    kept: bool = low[0].keys() == low[1].keys() and all(
        low[0][kind] <= high[1][kind] and low[1][kind] <= high[0][kind] for kind in low[0]
    )
    return kept


def _neighbours(host: Structure, bonded: float) -> dict[tuple[str, str], int]:
    """How many bonds there are between atoms of two elements."""
    symbols = [site.specie.symbol for site in host]
    found = {(a, b): 0 for a in set(symbols) for b in set(symbols)}
    for i, j, _ in _bonds(host, bonded):
        found[symbols[i], symbols[j]] += 1
    return found


def _bonds(host: Structure, bonded: float) -> list[tuple[int, int, NDArray[np.float64]]]:
    """Both atoms of each bond, and the cell in which the second lies; both ways."""
    radii = covalent_radii[np.array(host.atomic_numbers)]
    one, other, cells, distances = host.get_neighbor_list(2 * bonded * float(radii.max()))
    near = distances < bonded * (radii[one] + radii[other])
    return list(zip(one[near].tolist(), other[near].tolist(), cells[near], strict=True))


def _is_layered(host: Structure) -> bool:
    """Whether bonds lead from an atom to its images along two directions."""
    beside: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for i, j, cell in _bonds(host, _BONDED):
        beside.setdefault(i, []).append((j, cell))
    reached, waiting, loops = {0: np.zeros(3)}, [0], [np.zeros(3)]
    while waiting:
        atom = waiting.pop()
        for other, cell in beside.get(atom, []):
            if other not in reached:
                reached[other] = reached[atom] + cell
                waiting.append(other)
            else:
                loops.append(reached[atom] + cell - reached[other])
    return int(np.linalg.matrix_rank(np.unique(loops, axis=0))) == 2


def _ionic_radius(ion: str) -> float:
    radius = Species(ion, ion_charge(ion)).ionic_radius
    assert radius is not None, "ions that move have one"
    return float(radius)
