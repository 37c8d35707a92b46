"""What two phases turn into where they touch.

A mixture of the fractions 1 − x and x of the atoms of two phases has the energy (1 − x) e₁ + x e₂; what it turns into
lies on the hull. The difference along x,

    ΔE(x) = H((1 − x) c₁ + x c₂) − (1 − x) e₁ − x e₂        eV per atom of the mixture,

is convex and made of straight pieces, whose kinks are reactions between whole phases; the lowest of them is what an
interface gains at most (Y. Zhu, X. He, Y. Mo, J. Mater. Chem. A 4, 3253 (2016); W. D. Richards et al., Chem. Mater.
28, 266 (2016)). With a reservoir of an ion at a voltage, e and H are grand potentials e − n μ of the other elements,
and the ion goes in and out as it likes. The phases are taken with their own energies: what a phase above the hull would
gain by itself is part of ΔE, and left out of the mutual part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import SystemHull
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError, whole_hull
from dpa4_flows.analysis.titration import atoms_of, pieces, reaction_words, units

_NOTHING = 1e-6  # eV/atom; gains below are rounding
_FULL = "full"  # of an entry without its ion: the formula with it


@dataclass(frozen=True)
class Kink:
    """A reaction of the first phase with some of the second.

    Attributes:
        fraction: of the atoms of the mixture, those of the second phase.
        energy: of reaction, eV per atom of the mixture; negative gives off energy.
        products: formula units per formula unit of the first phase; of the second one where there is nothing else.
        reaction: in words.
    """

    fraction: float
    energy: float
    products: dict[str, float]
    reaction: str


@dataclass(frozen=True)
class Contact:
    """What two phases turn into.

    Attributes:
        first, second: reduced formulas.
        voltage: V of the reservoir of the ion; None without one.
        energy: of the reaction that gives off most, eV per atom of the mixture; 0 if there is none.
        mutual_energy: the part of it that each phase would not gain alone, where that is largest.
        best: the kink with ``energy``.
        kinks: all of them, from the first phase to the second.
    """

    first: str
    second: str
    voltage: float | None
    energy: float
    mutual_energy: float
    best: Kink
    kinks: tuple[Kink, ...]

    @property
    def reacts(self) -> bool:
        """Whether the contact itself gains anything."""
        return self.mutual_energy < -_NOTHING


def contact(
    first: ComputedEntry,
    second: ComputedEntry,
    entries: Sequence[ComputedEntry],
    *,
    ion: str = "Li",
    voltage: float | None = None,
) -> Contact:
    """Reaction of two phases.

    Args:
        first, second: with their own energies; not needed in ``entries``.
        entries: corrected entries of all phases of their elements.
        ion: of the reservoir.
        voltage: V against the metal of the ion, which then comes from a reservoir; None for no reservoir.

    Raises:
        ThermodynamicsError: an element is missing, or a phase holds nothing but the ion of the reservoir.
        IonError: nothing is known of the charge of the ion.
        FrameError: entries of different frames.
    """
    whole = (first, second)
    everything = [*entries, first, second]
    if voltage is not None:
        metal = whole_hull(Composition(ion), everything)
        potential = float(metal.references[0]) - ion_charge(ion) * voltage
        everything = [kept for one in everything if (kept := _without(one, ion, potential)) is not None]
        left = [_without(one, ion, potential) for one in whole]
        if None in left:
            raise ThermodynamicsError(f"{ion} itself has no voltage but 0: a reservoir at {voltage:g} V dissolves it")
        first, second = (one for one in left if one is not None)
    hull = whole_hull(first.composition + second.composition, everything)
    atoms = [one.composition.num_atoms for one in whole]
    ends = [atoms_of(hull, one.composition) / n for one, n in zip((first, second), atoms, strict=True)]
    own = [one.energy / n for one, n in zip((first, second), atoms, strict=True)]
    heights, slopes = hull.potentials @ ends[0], hull.potentials @ (ends[1] - ends[0])
    fractions = [0.0, *(piece.end for piece in pieces(heights, slopes, 1.0))]
    gains = [float((heights + slopes * x).max()) - (1 - x) * own[0] - x * own[1] for x in fractions]
    energies = [gain if gain < -_NOTHING else 0.0 for gain in gains]
    mutual = [e - (1 - x) * energies[0] - x * energies[-1] for e, x in zip(energies, fractions, strict=True)]
    kinks = tuple(_kink(hull, whole, ends, x, e, ion, voltage) for x, e in zip(fractions, energies, strict=True))
    best = min(kinks, key=lambda kink: kink.energy)
    names = [one.composition.reduced_formula for one in whole]
    return Contact(names[0], names[1], voltage, min(best.energy, 0.0), min(mutual), best, kinks)


def conducting(products: Sequence[str]) -> list[str]:
    """Those of some phases in which electrons are likely to move: metals, and compounds whose charges do not balance.

    What grows of them does not keep two phases apart, while insulators do (Richards et al. 2016).
    """
    return [formula for formula in products if _conducts(Composition(formula))]


def share_a_compound(first: Composition, second: Composition, entries: Iterable[ComputedEntry]) -> bool:
    """Whether a compound is known with an element of each phase that the other lacks. Without one it is no finding that
    they do not react; where one phase has all elements of the other every compound is of both.
    """
    of_first, of_second = (set(one.get_el_amt_dict()) for one in (first, second))
    own, other, both = of_first - of_second, of_second - of_first, of_first | of_second
    if not own or not other:
        return True
    held = (set(entry.composition.get_el_amt_dict()) for entry in entries)
    return any(elements & own and elements & other and elements <= both for elements in held)


def _conducts(composition: Composition) -> bool:
    if composition.is_element:
        return bool(composition.elements[0].is_metal)
    return not guess_oxidation_states(composition)


def _without(entry: ComputedEntry, ion: str, potential: float) -> ComputedEntry | None:
    """The grand potential of an entry in contact with a reservoir of ``ion``; None if it is nothing else."""
    amount = entry.composition[ion]
    rest = Composition({e: n for e, n in entry.composition.items() if e.symbol != ion})
    if not rest:
        return None
    data = {**entry.data, _FULL: entry.composition}
    return ComputedEntry(rest, entry.energy - amount * potential, data=data, entry_id=entry.entry_id)


def _kink(
    hull: SystemHull,
    whole: Sequence[ComputedEntry],
    ends: Sequence[np.ndarray],
    fraction: float,
    energy: float,
    ion: str,
    voltage: float | None,
) -> Kink:
    """The reaction at one fraction, per formula unit of the first phase, or of the second without a first."""
    formulas = [one.composition.reduced_composition for one in whole]
    shares = [(1 - fraction) / formulas[0].num_atoms, fraction / formulas[1].num_atoms]
    unit = shares[0] if fraction < 1 else shares[1]
    amounts = [share / unit for share in shares]
    mixture = units(hull, ((1 - fraction) * ends[0] + fraction * ends[1]) / unit)
    products: dict[str, float] = {}
    for entry, n in mixture:
        full: Composition = entry.data.get(_FULL, entry.composition)
        # units are those of the formula without the ion, which may be several of the whole one
        n *= entry.composition.reduced_composition.num_atoms / entry.composition.num_atoms
        n *= full.num_atoms / full.reduced_composition.num_atoms
        products[full.reduced_formula] = products.get(full.reduced_formula, 0.0) + n
    reactants = {one.reduced_formula: n for one, n in zip(formulas, amounts, strict=True) if n > 0}
    taken = list(reactants.items())[1:]
    if voltage is not None:
        after = sum(n * Composition(formula)[ion] for formula, n in products.items())
        ions = after - sum(n * Composition(formula)[ion] for formula, n in reactants.items())
        if ions > _NOTHING:
            taken.append((ion, ions))
        elif ions < -_NOTHING:
            products = {**products, ion: -ions}
    words = reaction_words(next(iter(reactants)), products, *taken)
    return Kink(float(fraction), energy, products, words)
