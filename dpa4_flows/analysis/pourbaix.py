"""Stability in water: Pourbaix diagrams of solids by a model and ions by experiment.

Ions are no crystals, so that no model of solids gives their energies. Measured Gibbs energies of formation are taken
for them, and moved by the error that the model makes for a solid with the same element (K. A. Persson et al., PRB 85,
235438 (2012)):

    G(ion) = ΔG_measured(ion) + [ΔG_model(solid) − ΔG_measured(solid)] · n_ion / n_solid

with n the atoms of that element. So the dissolution of that solid has its measured energy, whatever the frame of the
model. Solids are Gibbs energies at 300 K, see ``thermodynamics.gibbs_entries``; water has its measured energy.
pymatgen's ``PourbaixDiagram`` does the geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.pourbaix_diagram import IonEntry, PourbaixDiagram, PourbaixEntry
from pymatgen.core import Composition
from pymatgen.core.ion import Ion
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_core.units import KJ_PER_MOL_TO_EV
from dpa4_flows.analysis.hull import CompetingPhases, SystemHull
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError

TEMPERATURE = 300.0
"""K, of the Gibbs energies of solids; ions are measured at 298.15 K."""

_WATER = frozenset(("O", "H"))


@dataclass(frozen=True)
class ReferencedIon:
    """An ion in water by experiment; Gibbs energies of formation in kJ/mol at 298.15 K.

    Attributes:
        formula: as pymatgen writes ions.
        gibbs_kj_mol: of the ion at 1 mol/L.
        reference_solid: formula of a solid with the same element.
        reference_gibbs_kj_mol: of that formula as written.
        source: where the numbers are from.
    """

    formula: str
    gibbs_kj_mol: float
    reference_solid: str
    reference_gibbs_kj_mol: float
    source: str = ""

    @property
    def element(self) -> str:
        """Its one element besides O and H."""
        return next(e.symbol for e in Ion.from_formula(self.formula).composition.elements if e.symbol not in _WATER)

    @property
    def reference_elements(self) -> frozenset[str]:
        """Elements of the reference solid."""
        return frozenset(Composition(self.reference_solid).get_el_amt_dict())


@dataclass(frozen=True)
class AqueousStability:
    """What becomes of a solid in water.

    Attributes:
        formula: reduced formula.
        ph: values of pH, [n].
        potential: values in V against the standard hydrogen electrode, [m].
        decomposition_energy: eV/atom above the stable mixture [m, n]; 0 where the solid is stable. Up to about 0.2 a
            solid may last, above 0.5 it dissolves (A. K. Singh et al., Chem. Mater. 29, 10159 (2017)).
        products: the stable species there, by name, [m][n].
    """

    formula: str
    ph: tuple[float, ...]
    potential: tuple[float, ...]
    decomposition_energy: NDArray[np.float64]
    products: tuple[tuple[str, ...], ...]


def check_ions(elements: frozenset[str], ions: Sequence[ReferencedIon]) -> None:
    """Refuse a diagram without ions of one of its elements, in which every solid would seem to last.

    Raises:
        ThermodynamicsError: an element has no ion, or there is no element besides O and H.
    """
    own = elements - _WATER
    if not own:
        raise ThermodynamicsError("a Pourbaix diagram needs an element besides O and H")
    if missing := sorted(own - {ion.element for ion in ions}):
        names = ", ".join(missing)
        raise ThermodynamicsError(
            f"no ion of {names} is known, without which every solid of {names} would seem to last in water: add one to "
            "the file of ions"
        )


def pourbaix_entries(entries: Sequence[ComputedEntry], ions: Sequence[ReferencedIon]) -> list[PourbaixEntry]:
    """Solids and ions in one frame.

    Args:
        entries: Gibbs energies of solids at 300 K, the elements (also O and H) and the reference solids among them.
        ions: measured ions of the elements that the diagram is made of; solids with others only serve as references.

    Raises:
        ThermodynamicsError: an element or a reference solid is missing.
        FrameError: entries of different frames.
    """
    own = frozenset(ion.element for ion in ions)
    needed = own.union(_WATER, *(ion.reference_elements for ion in ions))
    hull = CompetingPhases(entries).hull(needed)
    if hull.missing:
        raise ThermodynamicsError(f"no reference for {', '.join(hull.missing)}: a Pourbaix diagram needs all elements")
    found = []
    for entry in hull.entries:
        symbols = set(entry.composition.get_el_amt_dict())
        if symbols & own and symbols <= own | _WATER:
            energy = (hull.formation_energy(entry) or 0.0) * entry.composition.num_atoms
            solid = ComputedEntry(entry.composition, energy, entry_id=entry.entry_id)
            found.append(PourbaixEntry(solid, str(entry.entry_id)))
    return [*found, *(_ion_entry(ion, hull) for ion in ions)]


def pourbaix_diagram(
    phase: PourbaixEntry, entries: Sequence[PourbaixEntry], concentration: float = 1e-6
) -> PourbaixDiagram:
    """The diagram of the elements of a solid.

    Args:
        phase: the solid, one of ``entries`` or not.
        entries: from `pourbaix_entries`; those with other elements do not count.
        concentration: of each ion, mol/L.
    """
    amounts = {s: n for s, n in phase.composition.get_el_amt_dict().items() if s not in _WATER}
    total = sum(amounts.values())
    inside = [e for e in entries if {x.symbol for x in e.composition.elements} <= set(amounts) | _WATER]
    return PourbaixDiagram(
        [*inside, *([] if phase in inside else [phase])],
        comp_dict={s: n / total for s, n in amounts.items()},
        conc_dict=dict.fromkeys(amounts, concentration),
    )


def aqueous_stability(
    phase: PourbaixEntry, diagram: PourbaixDiagram, *, ph: Sequence[float], potential: Sequence[float]
) -> AqueousStability:
    """How far a solid is from the stable species at given pH and potential.

    Args:
        phase: the solid.
        diagram: of its elements.
        ph: values of pH.
        potential: values in V against the standard hydrogen electrode.
    """
    grid_ph, grid_v = np.meshgrid(np.asarray(ph, dtype=float), np.asarray(potential, dtype=float))
    energy = np.asarray(diagram.get_decomposition_energy(phase, grid_ph, grid_v), dtype=float)
    return AqueousStability(
        formula=phase.composition.reduced_formula,
        ph=tuple(float(x) for x in ph),
        potential=tuple(float(v) for v in potential),
        decomposition_energy=np.maximum(energy, 0.0),
        products=tuple(tuple(diagram.find_stable_entry(x, v).name for x in ph) for v in potential),
    )


def reference_shifts(entries: Sequence[ComputedEntry], ions: Sequence[ReferencedIon]) -> Mapping[str, float]:
    """ΔG_model − ΔG_measured of each reference solid, eV per formula as written: what the ions are moved by."""
    needed = frozenset(_WATER).union(*(ion.reference_elements for ion in ions))
    hull = CompetingPhases(entries).hull(needed)
    return {ion.reference_solid: _shift(ion, hull) for ion in ions}


def _ion_entry(ion: ReferencedIon, hull: SystemHull) -> PourbaixEntry:
    species = Ion.from_formula(ion.formula)
    solid = Composition(ion.reference_solid)
    share = species.composition[ion.element] / solid[ion.element]
    # pymatgen takes ions here, which its annotation does not say
    entry: Any = IonEntry(species, ion.gibbs_kj_mol * KJ_PER_MOL_TO_EV + _shift(ion, hull) * share)
    return PourbaixEntry(entry, ion.formula)


def _shift(ion: ReferencedIon, hull: SystemHull) -> float:
    solid = Composition(ion.reference_solid)
    alike = [e for e in hull.entries if e.composition.reduced_formula == solid.reduced_formula]
    if not alike:
        raise ThermodynamicsError(
            f"the reference solid {ion.reference_solid} of {ion.formula} is not among the competing phases: add it "
            "with `dpa4 reference build --from FILE`"
        )
    lowest = min(alike, key=lambda entry: entry.energy_per_atom)
    per_atom = hull.formation_energy(lowest)
    assert per_atom is not None  # no element is missing
    return per_atom * solid.num_atoms - ion.reference_gibbs_kj_mol * KJ_PER_MOL_TO_EV
