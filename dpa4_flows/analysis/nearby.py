"""Which compounds are known near a composition: a look-up in composition space, without any energy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pymatgen.core import Composition

NEAR = 0.1
"""Share of the atoms; MO2 and M3O4 differ by 0.095, MO2 and MO by 0.167."""


class NearestCompound(NamedTuple):
    """The known compound whose composition is closest, and how far it is."""

    formula: str
    distance: float

    @property
    def near(self) -> bool:
        """Whether it can be what a phase turns into without most of it staying as it is."""
        return self.distance <= NEAR


def composition_distance(first: Composition, second: Composition) -> float:
    """Share of the atoms that must be exchanged to turn one composition into the other, 0 to 1.

    Half the sum of the differences of the atomic fractions.
    """
    fractions = [composition.fractional_composition.get_el_amt_dict() for composition in (first, second)]
    return 0.5 * sum(abs(fractions[0].get(e, 0.0) - fractions[1].get(e, 0.0)) for e in {*fractions[0], *fractions[1]})


def nearest_compound(composition: Composition, formulas: Iterable[str]) -> NearestCompound | None:
    """The closest of the compounds; elements do not count. None if there is no compound.

    Args:
        composition: of the phase that is judged.
        formulas: of the phases that compete; one of the same composition is at distance 0.
    """
    compounds = [(formula, Composition(formula)) for formula in formulas]
    found = [
        NearestCompound(formula, composition_distance(composition, other))
        for formula, other in compounds
        if len(other.elements) > 1
    ]
    return min(found, key=lambda compound: (compound.distance, compound.formula), default=None)
