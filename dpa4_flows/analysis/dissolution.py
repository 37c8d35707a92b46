"""Potentials at which metal atoms leave a solid as ions in water.

    M + x H₂O → MOₓHᵧ(z) + (2x − y) H⁺ + n e⁻,   n = 2x − y + z

has the standard potential U⁰ = [ΔG(ion) − x ΔG(H₂O)] / n by measurement. An atom of a surface dissolves at

    U = U⁰ + E(removal) / n

with the energy to take it out of the surface and into its own metal (J. Greeley, J. K. Nørskov, Electrochim. Acta 52,
5829 (2007)). Potentials are against the standard hydrogen electrode, at 1 mol/L and 298 K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pymatgen.core.ion import Ion

from dpa4_core.units import KJ_PER_MOL_TO_EV
from dpa4_flows.analysis.pourbaix import ReferencedIon

WATER = -237.14 * KJ_PER_MOL_TO_EV
"""eV, Gibbs energy of formation of liquid water."""
PER_PH = 0.05916
"""V, ln(10) kT/e at 298.15 K."""


class Dissolved(NamedTuple):
    """What a metal atom becomes.

    Attributes:
        ion: formula.
        n_electrons: that it gives off.
        standard_potential: V, of the metal itself, at the pH asked for.
        potential: V, of the atom.
    """

    ion: str
    n_electrons: float
    standard_potential: float
    potential: float


def dissolved(element: str, ions: Sequence[ReferencedIon], ph: float = 0.0, removal: float = 0.0) -> Dissolved | None:
    """The ion that an atom becomes first as the potential rises; None if no ion of the element is known.

    Args:
        element: symbol.
        ions: measured ones.
        ph: of the water.
        removal: eV, to take the atom out and into its own metal: 0 for the metal.
    """
    found = []
    for one in ions:
        if one.element != element:
            continue
        species = Ion.from_formula(one.formula)
        n_metal = species.composition[element]
        oxygen, hydrogen = (species.composition[symbol] / n_metal for symbol in "OH")
        protons = 2 * oxygen - hydrogen
        n_electrons = protons + species.charge / n_metal
        if n_electrons > 0:
            gibbs = one.gibbs_kj_mol * KJ_PER_MOL_TO_EV / n_metal
            standard = (gibbs - oxygen * WATER - protons * PER_PH * ph) / n_electrons
            found.append(Dissolved(one.formula, n_electrons, standard, standard + removal / n_electrons))
    return min(found, key=lambda one: one.potential, default=None)


def whole_potential(shares: Mapping[str, float], formation_energy: float, atoms: Mapping[str, Dissolved]) -> float:
    """V, at which a crystal of metals dissolves as a whole: that of atoms at kinks, on average over its elements.

    Args:
        shares: of the elements, adding up to 1.
        formation_energy: eV/atom, from the metals.
        atoms: of the metals themselves, by element.
    """
    electrons = {symbol: share * atoms[symbol].n_electrons for symbol, share in shares.items()}
    cost = sum(n * atoms[symbol].standard_potential for symbol, n in electrons.items()) - formation_energy
    return cost / sum(electrons.values())
