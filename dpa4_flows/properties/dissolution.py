"""Dissolution: at which potential atoms leave the surface as ions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from pymatgen.core import Structure

from dpa4_core.relax import Relax, RelaxResult, Static
from dpa4_flows.analysis.anomalies import energy_problem
from dpa4_flows.analysis.dissolution import dissolved, whole_potential
from dpa4_flows.analysis.pourbaix import ReferencedIon
from dpa4_flows.analysis.segregation import surface_atoms
from dpa4_flows.analysis.slabs import below_middle
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Steps, checked
from dpa4_flows.compute.relaxed import PUSHED
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.service import DissolutionDocument, RemovedAtom
from dpa4_flows.properties.on_slabs import HeldSlab, OnSlabs, told
from dpa4_flows.properties.part import had_room, held, whole_crystal
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.ions import BUNDLED, read_ions
from dpa4_flows.reference.library import bundled_elements


@dataclass(frozen=True)
class Dissolution(OnSlabs[DissolutionDocument]):
    """Potential at which atoms leave the surface as ions, from the energy to take them out and measured ions.

    Attributes:
        ph: of the water.
        ions: file of measured ions, see `dpa4_flows.reference.ions`; by default the bundled table of 41 elements.
    """

    name: ClassVar[str] = "dissolution"
    example: ClassVar[str] = "Pt3Ni.cif --ph 1"
    document: ClassVar[type[Document]] = DissolutionDocument
    version: ClassVar[int] = 2

    ph: float = 0.0
    ions: str = field(default="", metadata=names_files())

    def admit(self, crystal: Crystal) -> None:
        _metals(crystal, self._ions())

    def _ions(self) -> Sequence[ReferencedIon]:
        return read_ions(Path(self.ions) if self.ions else BUNDLED)

    def plan(self, crystal: Crystal) -> Plan[DissolutionDocument]:
        structure = whole_crystal(crystal)
        ions = self._ions()
        metals, said = _metals(crystal, ions)
        elements = yield from _element_energies(crystal, metals)
        slabs, skipped = yield from self.relaxed_slabs(crystal)
        asked = [
            (slab, int(atom))
            for slab in slabs
            for atom in surface_atoms(slab.wide)
            if slab.wide[int(atom)].specie.symbol in metals
        ]
        starts = [_without(slab.relaxed.structure, atom) for slab, atom in asked]
        changed = [
            held(start, np.delete(below_middle(slab.wide), atom))
            for start, (slab, atom) in zip(starts, asked, strict=True)
        ]
        removed = {str(i): Relax(one, self.options()) for i, one in enumerate(changed)}
        answers = yield {"crystal": Static(structure), **removed}
        ends: list[RelaxResult] = [answers[name] for name in removed]
        had_room(ends)
        found = [
            self._atom(slab, atom, start, end, elements, ions)
            for (slab, atom), start, end in zip(asked, starts, ends, strict=True)
        ]
        document = DissolutionDocument(
            formula=structure.composition.reduced_formula,
            ph=self.ph,
            atoms=found,
            skipped=skipped,
            converged=all(end.converged for end in ends) and all(slab.relaxed.converged for slab in slabs),
            warnings=[*said, *told(slabs, ((f"{one.element} out of ({one.facet})", one.reasons) for one in found))],
            provenance=self.origin(crystal),
        )
        shares = structure.composition.fractional_composition.get_el_amt_dict()
        if set(shares) <= set(metals):
            energy = checked(answers["crystal"], "the crystal").energy / len(structure)
            formation = energy - sum(share * elements[symbol] for symbol, share in shares.items())
            themselves = {symbol: one for symbol in shares if (one := dissolved(symbol, ions, self.ph)) is not None}
            document.whole_potential = whole_potential(shares, formation, themselves)
        known = [one for one in found if one.potential is not None]
        if not known:
            words = "; ".join(reason.sentence for reason in document.warnings) or "no metal atom lies on top"
            raise PlanError(f"no surface atom has a dissolution potential: {words}", "not_computed")
        first = min(known, key=lambda one: one.potential or 0.0)
        document.dissolution_potential, document.dissolving = first.potential, first.element
        return document

    def _atom(
        self,
        slab: HeldSlab,
        atom: int,
        start: Structure,
        end: RelaxResult,
        elements: Mapping[str, float],
        ions: Sequence[ReferencedIon],
    ) -> RemovedAtom:
        symbol = slab.wide[atom].specie.symbol
        document = RemovedAtom(facet=slab.cut.name, element=symbol)
        if end.error is not None:
            document.reasons.append(Reason(code="not_computed", sentence=f"it failed: {end.error}"))
            return document
        document.reasons += slab.doubts(start, end)
        removal = end.energy + elements[symbol] - slab.relaxed.energy
        n_metal = sum(site.specie.is_metal for site in slab.wide)
        if problem := energy_problem(removal, n_metal, f"taking out {symbol}"):
            document.reasons.append(problem)
            return document
        ion = dissolved(symbol, ions, self.ph, removal)
        assert ion is not None, "elements without ions were left out before"
        document.removal_energy, document.ion, document.n_electrons = removal, ion.ion, ion.n_electrons
        document.standard_potential, document.potential = ion.standard_potential, ion.potential
        return document


def _without(slab: Structure, atom: int) -> Structure:
    rest = slab.copy()
    rest.remove_sites([atom])
    return rest


def _metals(crystal: Crystal, ions: Sequence[ReferencedIon]) -> tuple[list[str], list[Reason]]:
    """Elements whose atoms can be taken out, and what is said of the others.

    Raises:
        PlanError: there are none, or it is no metal.
    """
    composition = crystal.structure.composition
    if not any(element.is_metal for element in composition.elements):
        raise PlanError("it holds no metal that could dissolve", "no_metal")
    if others := [str(element) for element in composition.elements if not element.is_metal]:
        words = f"the metal of {composition.reduced_formula} leaves together with {', '.join(others)}"
        raise PlanError(f"{words}: the energy above the stable species in water says whether it lasts", "no_alloy")
    kept, said = [], []
    for element in composition.elements:
        symbol = element.symbol
        if dissolved(symbol, ions) is None:
            said.append(Reason(code="no_ion", sentence=f"no ion of {symbol} is known: add one to the file of ions"))
        else:
            kept.append(symbol)
    if not kept:
        raise PlanError(said[0].sentence, said[0].code)
    return kept, said


def _element_energies(crystal: Crystal, symbols: Sequence[str]) -> Steps[dict[str, float]]:
    """Energies of the metals themselves in their lowest form, eV/atom.

    Raises:
        PlanError: one of them has none.
    """
    phases = {PUSHED.key(Crystal(phase.structure), crystal.model): phase for phase in bundled_elements(symbols)}
    known = bundled_relaxations(crystal.info.sha256, phases)
    lacking = {key: Ask(PUSHED, Crystal(phases[key].structure)) for key in phases if key not in known}
    answers = {**(yield lacking), **known}
    energies: dict[str, float] = {}
    for key, phase in phases.items():
        (symbol,) = phase.elements
        energy = answers[key].energy_per_atom
        if energy is not None:
            energies[symbol] = min(energy, energies.get(symbol, energy))
    if missing := [symbol for symbol in symbols if symbol not in energies]:
        raise PlanError(f"no energy of {', '.join(missing)} as a metal", "no_reference")
    return energies
