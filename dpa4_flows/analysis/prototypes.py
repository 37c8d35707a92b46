"""Compounds that a chemical system might have: known structure types with its elements on their sites.

The structure types are those of the AFLOW library (M. J. Mehl et al., Comput. Mater. Sci. 136, S1 (2017)) that pymatgen
carries. Only compositions that common oxidation states balance are proposed, which leaves intermetallics out: nobody
expects one structure type of them rather than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
from pymatgen.core import Element, Structure

MAX_ATOMS = 20
"""Atoms of a primitive cell; the few larger types cost more than all others together."""

MAX_ELEMENTS = 3

MIN_LIKE_IONS = 0.6
"""Of the sum of their radii, when cations and anions touch: ions of equal charge are not closer in any salt."""

MIN_FILLING = 0.3
"""Share of the cell that ions fill: 0.35 in cristobalite, 0.5 to 0.8 in salts."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A structure type with elements on its sites, not relaxed.

    Attributes:
        name: formula and structure type in AFLOW's notation.
        structure: scaled so that cation and anion touch.
    """

    name: str
    structure: Structure


def proposals(elements: Sequence[str]) -> list[Proposal]:
    """Charge-balanced compounds of exactly these elements, 2 or 3, in every structure type that takes them."""
    if not 2 <= len(elements) <= MAX_ELEMENTS:
        return []
    found = []
    for label, prototype in _prototypes():
        sites = [element.symbol for element in prototype.elements]
        if len(sites) != len(elements):
            continue
        amounts = prototype.composition.get_el_amt_dict()
        for assigned in permutations(elements):
            onto = dict(zip(sites, assigned, strict=True))
            states = balance({onto[site]: amounts[site] for site in sites})
            if states is None:
                continue
            decorated = prototype.copy()
            decorated.replace_species(onto)
            scaled = _scaled(decorated, states)
            if scaled is not None:
                found.append(Proposal(f"{scaled.composition.reduced_formula} as {label}", scaled))
    return found


def balance(amounts: Mapping[str, float]) -> dict[str, int] | None:
    """One common oxidation state of each element that makes the compound neutral, anions being the more
    electronegative elements; None if there are none.

    Args:
        amounts: atoms by element symbol.
    """
    elements = [Element(symbol) for symbol in amounts]
    for states in product(*(element.common_oxidation_states for element in elements)):
        if abs(sum(state * amount for state, amount in zip(states, amounts.values(), strict=True))) > 1e-8:
            continue
        cations = [element.X for element, state in zip(elements, states, strict=True) if state > 0]
        anions = [element.X for element, state in zip(elements, states, strict=True) if state < 0]
        if cations and anions and max(cations) < min(anions):
            return dict(zip(amounts, states, strict=True))
    return None


def _scaled(structure: Structure, states: Mapping[str, int]) -> Structure | None:
    """The structure with a cell in which the closest cation and anion touch; None if its type is no ionic one.

    A type of molecules, in which equal ions are the closest ones, or of open frameworks, which equal spheres fill to
    less than `MIN_FILLING`, ends far from where it started when it is made of ions.
    """
    radii = np.array([_ionic_radius(Element(site.specie.symbol), states[site.specie.symbol]) for site in structure])
    signs = np.sign([states[site.specie.symbol] for site in structure])
    reach = 1.5 * structure.volume ** (1 / 3)  # every cell has neighbours in that range
    first, second, _, distances = structure.get_neighbor_list(reach)
    relative = distances / (radii[first] + radii[second])
    opposite = signs[first] != signs[second]
    if not opposite.any():
        return None
    touching = float(relative[opposite].min())
    if float(relative.min()) < MIN_LIKE_IONS * touching:
        return None
    volume = structure.volume / touching**3
    if 4 / 3 * np.pi * float((radii**3).sum()) < MIN_FILLING * volume:
        return None
    structure.scale_lattice(volume)
    return structure


def _ionic_radius(element: Element, state: int) -> float:
    """Å, Shannon; the mean over the tabulated oxidation states where the one asked for has none."""
    known = {charge: float(radius) for charge, radius in element.ionic_radii.items()}
    return known.get(state) or float(np.mean([*known.values()] or [float(element.atomic_radius or 1.5)]))


@cache
def _prototypes() -> tuple[tuple[str, Structure], ...]:
    return tuple(_small_prototypes())


def _small_prototypes() -> Iterator[tuple[str, Structure]]:
    """Label and primitive cell of the types with few atoms and two or three elements."""
    # reading the library takes seconds, which only those wait for who propose compounds
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    for prototype in AFLOW_PROTOTYPE_LIBRARY:
        structure: Structure = prototype["snl"].structure
        if not 2 <= len(structure.elements) <= MAX_ELEMENTS or len(structure) > 8 * MAX_ATOMS:
            continue
        primitive = structure.get_primitive_structure()
        if len(primitive) <= MAX_ATOMS:
            yield prototype["tags"]["aflow"], primitive
