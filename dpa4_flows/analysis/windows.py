"""Between which voltages a phase neither takes up nor gives off an ion, and what it costs it to be elsewhere.

At a voltage V against the metal of an ion of charge z the ion has the potential μ = μ⁰ − zV, and a composition turns
into what has the lowest H(c + n e) − n μ, with n ions taken up (+) or given off (−). What the phase lies above that is
its decomposition energy E(V): a convex line of straight pieces, one for each n, whose kinks are the reactions along the
line of the ion (`titration`). Where a phase on the hull has E = 0 is its window; a phase above the hull has none, and E
says how far it is from one (Y. Zhu, X. He, Y. Mo, ACS Appl. Mater. Interfaces 7, 23685 (2015)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import check_frames
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError, whole_hull
from dpa4_flows.analysis.titration import atoms_of, formulas_of, titrate, units

_SAME = 1e-6  # V


@dataclass(frozen=True)
class WindowStep:
    """Voltages at which a composition turns into the same phases.

    Attributes:
        start: V against the metal of the ion; 0 for the first.
        end: V; None for the last, which goes on for ever.
        taken: ions that go in, per formula unit; negative: out.
        products: formula units per formula unit of the phase, the metal of the ion left out.
        energy_start, energy_end: decomposition energy at both ends, eV/atom of the phase; at the end of the last one
            None.
    """

    start: float
    end: float | None
    taken: float
    products: dict[str, float]
    energy_start: float
    energy_end: float | None


@dataclass(frozen=True)
class ElectrochemicalWindow:
    """Stability of a composition against a reservoir of one ion.

    Attributes:
        formula: reduced formula.
        ion: element of the reservoir.
        lower: V against the metal of the ion; below it the ion goes in (reduction). 0: stable beside the metal.
        upper: V; above it the ion goes out (oxidation). None if the composition has no such ion to give.
        reduction_products: formulas just below ``lower``; none where that is 0.
        oxidation_products: formulas just above ``upper``.
        energy_above_hull: eV/atom. Above 0 the window is that of the equilibrium phases at this composition.
        equilibrium: those phases and their atomic fractions; the phase itself if it is stable.
        steps: from 0 V upwards.
        charge_per_atom: elementary charges of an ion over the atoms of the formula.
    """

    formula: str
    ion: str
    lower: float
    upper: float | None
    reduction_products: tuple[str, ...]
    oxidation_products: tuple[str, ...]
    energy_above_hull: float
    equilibrium: dict[str, float]
    steps: tuple[WindowStep, ...]
    charge_per_atom: float

    def energy_at(self, voltage: float) -> float:
        """Decomposition energy at a voltage of 0 V or more, eV/atom."""
        step = next(one for one in reversed(self.steps) if one.start <= voltage)
        return step.energy_start - step.taken * self.charge_per_atom * (voltage - step.start)


def electrochemical_window(
    phase: ComputedEntry, entries: Sequence[ComputedEntry], *, ion: str = "Li"
) -> ElectrochemicalWindow:
    """Voltages between which a solid electrolyte (or coating) neither takes up nor gives off an ion.

    Thermodynamic limits; what is observed is wider by the overpotential of the reactions.

    Args:
        phase: the electrolyte; not needed in ``entries``.
        entries: corrected entries of the competing phases, elements and ``ion`` included.
        ion: element of the reservoir. Voltages are per elementary charge of its common ion.

    Raises:
        ThermodynamicsError: an element is missing.
        IonError: nothing is known of the charge of the ion.
        FrameError: entries of different frames.
    """
    charge = ion_charge(ion)
    formula = phase.composition.reduced_composition
    if not phase.data.get("converged", True):
        raise ThermodynamicsError(f"the relaxation of {formula.reduced_formula} did not converge: it has no window")
    check_frames([phase, *entries])
    hull = whole_hull(formula + Composition(ion), [*entries, phase])
    at_hull = hull.energies([phase])[0] or 0.0
    begin = ComputedEntry(formula, at_hull * formula.num_atoms)
    going_in = titrate(hull, begin, ion)
    going_out = titrate(hull, begin, ion, out=True)
    volts = [-one.potential / charge + 0.0 for one in (*reversed(going_in), *going_out)]
    phases: list[tuple[float, dict[str, float]]] = [(one.end, one.formulas) for one in reversed(going_in)]
    phases.append((0.0, formulas_of(units(hull, atoms_of(hull, formula)))))
    phases += [(-one.end, one.formulas) for one in going_out]
    above = max(0.0, float(phase.energy_per_atom - at_hull))
    per_atom = charge / formula.num_atoms
    lower = volts[len(going_in) - 1] if going_in else 0.0
    upper = volts[len(going_in)] if going_out else None
    return ElectrochemicalWindow(
        formula=formula.reduced_formula,
        ion=ion,
        lower=lower,
        upper=upper,
        reduction_products=tuple(sorted(going_in[0].formulas)) if going_in else (),
        oxidation_products=tuple(sorted(going_out[0].formulas)) if going_out else (),
        energy_above_hull=above,
        equilibrium=hull.decomposition(phase),
        steps=tuple(_steps(phases, volts, len(going_in), above, per_atom)),
        charge_per_atom=per_atom,
    )


def _steps(
    phases: Sequence[tuple[float, dict[str, float]]], volts: Sequence[float], own: int, above: float, per_atom: float
) -> Iterator[WindowStep]:
    """Steps from 0 V on: phases with the ions taken up there, and the voltages between them.

    Args:
        phases: from many ions to few.
        volts: between each and the next, rising.
        own: position of the phases without a reaction, whose decomposition energy is ``above`` at any voltage.
        above: eV/atom.
        per_atom: elementary charges of an ion over the atoms of the formula.
    """
    slopes = [-taken * per_atom for taken, _ in phases]
    starts, ends = [0.0, *volts], [*volts, None]
    energies = dict.fromkeys(range(own, min(own + 2, len(phases))), above)  # at the start of each step
    for i in range(own + 2, len(phases)):
        energies[i] = energies[i - 1] + slopes[i - 1] * (starts[i] - starts[i - 1])
    for i in reversed(range(own)):
        energies[i] = energies[i + 1] - slopes[i] * (starts[i + 1] - starts[i])
    for i, (taken, products) in enumerate(phases):
        end = ends[i]
        if end is None or end - starts[i] > _SAME:
            yield WindowStep(starts[i], end, taken, products, energies[i], None if end is None else energies[i + 1])
