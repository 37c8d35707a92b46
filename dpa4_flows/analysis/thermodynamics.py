"""What the entries of a hull say beyond the distance to it: at given chemical potentials and temperatures.

    chemical_potential_region   where a phase is stable, as the corners of a polytope in Δμ
    dopant_limit                how far the potential of a foreign element goes there before another phase forms
    gibbs_entries               entries at a temperature, for the same functions and for `phase_positions`

All take corrected entries of one energy frame. The hull energy of a composition c (amounts of atoms) is
H(c) = max_f μ_f·c over the facets f of the hull, μ_f their chemical potentials. A phase on the hull is stable at
exactly those potentials that are convex combinations of the μ_f of its facets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry, GibbsComputedStructureEntry

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.corrections import corrections_by_element
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.hull import CompetingPhases, SystemHull, check_frames

_TOUCHING = 1e-9  # eV/atom; facets that meet at a composition
_SAME = 1e-6  # eV; corners of coplanar facets differ by rounding
_CORRECTED = frozenset(("O", "F", "Cl", "Br", "I", "S", "Se", "Te", "N", "H"))  # anions that every scheme corrects
SAME_FORM = 1e-3
"""eV/atom, within which two relaxations of an element are its lowest form."""
HYDROXIDE = 0.23
"""eV per hydrogen atom, by which solids with O-H are too low: median of 0.31, 0.22, 0.12, 0.15, 0.24 and 0.43 of LiOH,
NaOH, CsOH, Mg(OH)2, Ca(OH)2 and Fe(OH)2 with DPA4-Neo and OMat24 against enthalpies of formation of M. W. Chase,
NIST-JANAF Thermochemical Tables (1998). Correction schemes have nothing for them, and two thirds is motion at rest,
which energies lack: some 0.28 eV of O-H, and 0.13 of half a molecule of hydrogen."""
OH_BOND = 1.2
"""Å: hydroxides, water in crystals and acids have 0.95 to 1.1, hydrogen bonds 1.4 and more; a hydride of an oxide, such
as LaHO, has none."""
GIBBS_VERSION = 2
"""Of the science of `gibbs_entries`, see `Property.versions`; 2 raises hydroxides."""
T_RANGE = (300.0, 2000.0)
"""K, of the descriptor of Gibbs energies."""


class ThermodynamicsError(ValueError):
    """A quantity that these entries do not have; one sentence."""


@dataclass(frozen=True)
class ChemicalPotentialRegion:
    """Chemical potentials, relative to the elements, at which a phase is in equilibrium with no other.

    Attributes:
        formula: reduced formula.
        corners: Δμ in eV by element, one per corner; 0 is the element itself.
        coexisting: phases in equilibrium at each corner, the phase itself left out.
        limits: lowest and highest Δμ by element, eV.
        zeros: what Δμ counts from in the uncorrected energies of the phase, eV/atom: the element, less the correction
            of such an atom in the phase. Slabs of the phase would be corrected alike: a surface energy needs neither.
        stable: formation energies of the phases on the hull of its elements, eV/atom by formula.
    """

    formula: str
    corners: tuple[dict[str, float], ...]
    coexisting: tuple[tuple[str, ...], ...]
    limits: dict[str, tuple[float, float]]
    zeros: dict[str, float]
    stable: dict[str, float]


class DopantLimit(NamedTuple):
    """Highest chemical potential of a foreign element beside a phase: above it another phase forms.

    Attributes:
        potential: Δμ, eV from the element.
        zero: what it counts from in the uncorrected energies of a cell that holds it as that phase does, eV/atom.
        beside: formula of that phase.
    """

    potential: float
    zero: float
    beside: str


def dopant_limit(corner: Mapping[str, float], dopant: str, entries: Sequence[ComputedEntry]) -> DopantLimit:
    """How much of a dopant there may be at one corner of a region.

    Args:
        corner: Δμ in eV by element of the host.
        dopant: element that the host does not hold.
        entries: corrected entries of all phases of host and dopant.

    Raises:
        ThermodynamicsError: an element is missing.
        FrameError: entries of different frames.
    """
    hull = whole_hull(Composition(dict.fromkeys([*corner, dopant], 1)), entries)
    references = dict(zip(hull.symbols, hull.references.tolist(), strict=True))
    found = []
    for entry in hull.entries:
        amounts = entry.composition.get_el_amt_dict()
        if not (count := amounts.pop(dopant, 0.0)):
            continue
        others = sum(amount * (references[symbol] + corner[symbol]) for symbol, amount in amounts.items())
        potential = (entry.energy - others) / count - references[dopant]
        zero = references[dopant] - corrections_by_element(entry)[dopant]
        found.append(DopantLimit(float(potential), float(zero), entry.composition.reduced_formula))
    return min(found, key=lambda limit: limit.potential)


def chemical_potential_region(
    formula: str, entries: Sequence[ComputedEntry], *, metastable: bool = False
) -> ChemicalPotentialRegion:
    """Corners of the region of chemical potentials in which a phase is stable.

    Args:
        formula: of the phase; its lowest entry counts.
        entries: corrected entries of the phase, its competitors and elements; those with other elements do not count.
        metastable: take a phase above the hull, too: at the potentials of what it decomposes into, all higher by its
            distance to the hull in eV/atom, so that they add up to its own energy.

    Raises:
        ThermodynamicsError: an element is missing, there is no such phase, or it is not on the hull.
        FrameError: entries of different frames.
    """
    name = Composition(formula).reduced_formula
    hull = whole_hull(Composition(formula), entries)
    candidates = [entry for entry in hull.entries if entry.composition.reduced_formula == name]
    if not candidates:
        raise ThermodynamicsError(f"there is no entry of {name}")
    phase = min(candidates, key=lambda entry: entry.energy_per_atom)
    above = phase.energy_per_atom - (hull.energies([phase])[0] or 0.0)
    if not (metastable or on_hull(above)):
        raise ThermodynamicsError(
            f"{name} lies {above:.4f} eV/atom above the hull and is stable at no chemical potentials; it decomposes "
            f"into {', '.join(hull.decomposition(phase))}"
        )
    corrected = corrections_by_element(phase)
    if above > _TOUCHING:  # within what two relaxations differ by: it touches the hull, and its region is a point
        energy = phase.energy - (above + _TOUCHING) * phase.composition.num_atoms
        touching = ComputedEntry(phase.composition, energy, data=phase.data, entry_id=phase.entry_id)
        hull = whole_hull(Composition(formula), [*hull.entries, touching])
    corners: list[np.ndarray] = []
    coexisting: list[set[str]] = []
    for potentials, facet in zip(hull.potentials - hull.references, hull.facets, strict=True):
        names = {entry.composition.reduced_formula for entry in facet}
        if name not in names:
            continue
        same = next((i for i, corner in enumerate(corners) if np.abs(corner - potentials).max() < _SAME), None)
        if same is None:
            corners.append(potentials)
            coexisting.append(names - {name})
        else:
            coexisting[same] |= names
            coexisting[same].discard(name)
    values = np.array(corners)
    if not on_hull(above):
        values = values + above
    return ChemicalPotentialRegion(
        formula=name,
        corners=tuple({s: float(v) for s, v in zip(hull.symbols, corner, strict=True)} for corner in values),
        coexisting=tuple(tuple(sorted(names)) for names in coexisting),
        limits={s: (float(v.min()), float(v.max())) for s, v in zip(hull.symbols, values.T, strict=True)},
        zeros={s: float(zero) - corrected[s] for s, zero in zip(hull.symbols, hull.references, strict=True)},
        stable=_formation_energies(hull),
    )


def _formation_energies(hull: SystemHull) -> dict[str, float]:
    """Of the phases on a hull, eV/atom by formula."""
    found = {}
    for entry in {id(one): one for facet in hull.facets for one in facet}.values():
        fractions = entry.composition.fractional_composition.get_el_amt_dict()
        parts = sum(fractions.get(s, 0.0) * zero for s, zero in zip(hull.symbols, hull.references, strict=True))
        found[entry.composition.reduced_formula] = float(entry.energy_per_atom - parts)
    return dict(sorted(found.items()))


def gibbs_entries(entries: Sequence[ComputedStructureEntry], temperature: float) -> list[GibbsComputedStructureEntry]:
    """Entries whose energies are Gibbs energies of formation at a temperature and 1 bar.

    Formation energy and volume go into the descriptor of C. Bartel et al., Nat. Commun. 9, 4168 (2018), fitted to
    measured G(T) (about 0.05 eV/atom); of the elements, and of gases such as CO2 and H2O, the measured values are used.
    Solids that a model computed are raised by `HYDROXIDE` for each hydrogen atom on an oxygen.
    Only differences between solids mean something: polymorphs differ by their formation energy and volume alone.

    Args:
        entries: corrected entries with structures, the elements included. Formation energies without corrections are
            off by more than the temperature changes, and are refused where a correction exists.
        temperature: K, 300 to 2000.

    Returns:
        Entries for `phase_positions`, in order; ``data["frame"]`` names the temperature, so that they meet no others.
        Left out are the higher polymorphs of elements, and compounds of an element that has no reference.

    Raises:
        ThermodynamicsError: a temperature outside the range of the descriptor.
        FrameError: entries of different frames, or without the corrections they need.
    """
    check_temperature(temperature)
    check_frames(entries)
    converged = [entry for entry in entries if entry.data.get("converged", True)]
    check_corrected(converged)
    lowest: dict[str, ComputedStructureEntry] = {}
    for entry in converged:
        if entry.composition.is_element:
            symbol = entry.composition.elements[0].symbol
            if symbol not in lowest or entry.energy_per_atom < lowest[symbol].energy_per_atom:
                lowest[symbol] = entry
    found = []
    for entry in converged:
        amounts = entry.composition.get_el_amt_dict()
        if not set(amounts) <= set(lowest):
            continue
        if len(amounts) == 1 and entry.energy_per_atom > lowest[next(iter(amounts))].energy_per_atom + SAME_FORM:
            continue
        formation = entry.energy - sum(amount * lowest[symbol].energy_per_atom for symbol, amount in amounts.items())
        data = dict(entry.data)
        if data.get("frame") is not None:
            formation += HYDROXIDE * _hydrogen_on_oxygen(entry.structure)
            frame = dict(data["frame"])
            data["frame"] = {**frame, "correction": at_temperature(frame["correction"], temperature)}
        found.append(
            GibbsComputedStructureEntry(
                entry.structure,
                formation_enthalpy_per_atom=formation / entry.composition.num_atoms,
                temp=int(temperature) if temperature % 1 == 0 else temperature,  # pymatgen's tables have no 300.0
                parameters=dict(entry.parameters),
                data=data,
                entry_id=entry.entry_id,
            )
        )
    return found


def _hydrogen_on_oxygen(structure: Structure) -> int:
    """Hydrogen atoms of a cell that are bound to an oxygen."""
    symbols = np.array([site.specie.symbol for site in structure])
    if not {"H", "O"} <= {*symbols}:
        return 0
    centres, neighbours, _, _ = structure.get_neighbor_list(OH_BOND)
    return len({*centres[(symbols[centres] == "H") & (symbols[neighbours] == "O")]})


def check_temperature(temperature: float) -> None:
    """Refuse a temperature at which there are no Gibbs energies, in K."""
    if not T_RANGE[0] <= temperature <= T_RANGE[1]:
        raise ThermodynamicsError(f"temperature {temperature:g} K is outside 300 to 2000 K, for which G was fitted")


def at_temperature(correction: str, temperature: float) -> str:
    """Name of a correction scheme in the frame of Gibbs energies."""
    return f"{correction}, Gibbs {temperature:g} K"


def whole_hull(composition: Composition, entries: Sequence[ComputedEntry]) -> SystemHull:
    """Hull of the elements of ``composition``.

    Raises:
        ThermodynamicsError: one of them has no reference.
        FrameError: entries of different frames.
    """
    hull = CompetingPhases(entries).hull(frozenset(element.symbol for element in composition.elements))
    if hull.missing:
        raise ThermodynamicsError(f"no reference for {', '.join(hull.missing)}: chemical potentials need all elements")
    return hull


def check_corrected(entries: Sequence[ComputedEntry]) -> None:
    """Refuse uncorrected energies of compounds to which a correction belongs."""
    for entry in entries:
        frame = entry.data.get("frame")
        if frame is None or frame["correction"] != "none" or entry.composition.is_element:
            continue
        anions = sorted(set(entry.composition.get_el_amt_dict()) & _CORRECTED)
        if anions:
            raise FrameError(
                f"formation energies of {entry.composition.reduced_formula} and other compounds of {anions[0]} need "
                "corrections before they mean anything: take OMat24, MP2020 or a refit instead of none"
            )
