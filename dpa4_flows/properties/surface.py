"""Surface energies of the low-index facets of a crystal, and its equilibrium shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from ase.data import atomic_numbers
from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_core.predict import Prediction
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult, Static
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.facets import Miller
from dpa4_flows.analysis.surface import J_M2_PER_EV_A2, Cut, Cuts, facet_energies, surface_energy
from dpa4_flows.analysis.wulff import wulff
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystal, Plan, PlanError, Property, checked
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.documents.surfaces import SkippedTerminations
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials, RegionDocument
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import had_room, slabs_of

STRAINED_GPA = 0.5
"""Of any component of the stress on the crystal; beyond it a slab relaxes more than its surface."""


class Termination(Document):
    """One slab: a facet, and the plane that it ends with."""

    name: str = Field(description="Facet, with _1, _2 where it has several terminations")
    facet: str = Field(description="Miller indices in a row, four of them for hexagonal axes")
    miller: Miller = Field(description="Miller indices, of the conventional cell")
    surface_energy: float | None = Field(None, description="Of the relaxed face, J/m²; null if the slab failed")
    surface_energy_ev_a2: float | None = Field(None, description="The same, eV/Å²")
    relaxation_energy: float | None = Field(None, description="By which relaxing the cut crystal lowers it, J/m²")
    excess: dict[str, float] = Field(
        default_factory=dict, description="Atoms that the slab has beyond the composition of the crystal, by element"
    )
    reconstructed: bool = Field(False, description="Whether half of a plane moved to the other face: a polar facet")
    lowest: bool = Field(False, description="Whether no other termination of the facet costs less")
    n_atoms: int = Field(description="Atoms of the slab")
    converged: bool = Field(False, description="Whether the slab reached its fmax")
    structure: dict[str, Any] = Field(description="Relaxed slab as a pymatgen dictionary; as cut if it failed")
    error: str | None = Field(None, description="One sentence if the slab failed")


class ShapeFace(Document):
    """A polygon of the equilibrium shape."""

    family: Miller = Field(description="Indices that stand for the family")
    miller: Miller = Field(description="Indices of this face")
    corners: tuple[int, ...] = Field(description="Places in the list of vertices, counter-clockwise from outside")


class EquilibriumShape(Document):
    """Wulff's construction from the facets that have an energy."""

    vertices: list[list[float]] = Field(description="[n, 3] from the centre; a face lies as far as its energy in J/m²")
    faces: list[ShapeFace]
    area_fractions: dict[str, float] = Field(description="Share of the area of each facet; 0 if it does not appear")


class SurfaceDocument(AnswerDocument):
    """Surface energies and equilibrium shape of one crystal, clean and at 0 K."""

    formula: str = Field(description="Reduced formula")
    crystal: dict[str, Any] | None = Field(None, description="Conventional cell of the indices, a pymatgen dictionary")
    terminations: list[Termination] = Field(default_factory=list, description="Every slab")
    skipped: list[SkippedTerminations] = Field(default_factory=list, description="What has no slab, and why")
    shape: EquilibriumShape | None = Field(None, description="Null if the facets with an energy enclose nothing")
    surface_energy: float | None = shown("Surface energy", "J/m²", 3, "mean over the shape, 0 K", goal="min")
    lowest_surface_energy: float | None = shown(
        "Lowest surface energy", "J/m²", 3, "of the facet that costs least", detail=True
    )
    anisotropy: float | None = shown(
        "Anisotropy", digits=3, note="standard deviation over the shape by the mean", detail=True
    )
    chemical_potentials: dict[str, float] | None = Field(
        None, description="Of terminations of another composition, eV/atom in the uncorrected energies of the model"
    )
    converged: bool = Field(False, description="Whether every slab reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


@dataclass(frozen=True)
class SurfaceEnergies(Property[SurfaceDocument]):
    """Surface energies of low-index facets, from slabs with two equal faces, and the equilibrium shape.

    Attributes:
        max_index: largest Miller index.
        min_thickness: of the slabs, Å.
        vacuum: between a slab and its image, Å.
        max_terminations: of each facet; those that break fewest bonds.
        fmax: eV/Å, to which slabs relax in their fixed cells.
        max_steps: optimiser steps of each slab.
        chemical_potentials: for terminations of another composition than the crystal, which have no slab without: those
            of "hull", the middle of the region in which the crystal is stable, or of "O-rich" or "O-poor", its corners
            with most or least of an element; or numbers by element, eV/atom in the energies of the model, of which one
            may be missing.
        region: of chemical potentials, where these are not given as numbers.
    """

    name: ClassVar[str] = "surface"
    example: ClassVar[str] = "Pt.cif --max-index 2 --report surfaces.html"
    document: ClassVar[type[Document]] = SurfaceDocument
    version: ClassVar[int] = 2
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_surfaces:surface_figures"
    caveats: ClassVar[tuple[str, ...]] = (
        "Surfaces are clean, at 0 K and in their smallest cell: reconstructions of larger ones are not found, and what "
        "covers a surface in service changes its shape. PBE itself lies 15 to 60 % below experiment for Au, Ag and Pt.",
    )

    max_index: int = 1
    min_thickness: float = 12.0
    vacuum: float = 15.0
    max_terminations: int = 4
    fmax: float = 0.02
    max_steps: int = 500
    chemical_potentials: dict[str, float] | str | None = None
    region: ChemicalPotentials = field(default_factory=ChemicalPotentials, metadata=NO_NUMBER)

    def check(self) -> None:
        check_positive(self, "max_index", "min_thickness", "vacuum", "max_terminations")
        self._options()
        if isinstance(self.chemical_potentials, str):
            self._edge()
            self.region.check()

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None with a hull, which may change; what is computed for its chemical potentials has a key of its own."""
        return None if isinstance(self.chemical_potentials, str) else super().key(crystal, model)

    def settings(self, model: ModelRef) -> dict[str, Any]:
        at_hull = isinstance(self.chemical_potentials, str)
        return {**super().settings(model), **({"region": self.region.settings(model)} if at_hull else {})}

    def _edge(self) -> dict[str, str]:
        """Which chemical potentials of the region, as `RegionDocument.potentials` takes it."""
        if self.chemical_potentials == "hull":
            return {}
        symbol, _, which = str(self.chemical_potentials).partition("-")
        if atomic_numbers.get(symbol, 0) < 1 or which not in ("rich", "poor"):
            words = "must be numbers by element, hull, or an element with -rich or -poor, as O-rich"
            raise DPA4Error(f"chemical_potentials is {self.chemical_potentials!r}; they {words}")
        return {which: symbol}

    def _options(self) -> RelaxOptions:
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        found = self._cuts(crystal).slabs
        return len(found), sum(len(cut.slab) for cut in found)

    def plan(self, crystal: Crystal) -> Plan[SurfaceDocument]:
        if isinstance(self.chemical_potentials, str):
            return (yield from self._at_hull(crystal))
        found = self._cuts(crystal)
        options = self._options()
        answers = yield {
            **{f"bulk {cut.facet}": Static(cut.oriented_unit_cell) for cut in found.slabs},
            **{f"cut {cut.name}": Static(cut.slab) for cut in found.slabs},
            **{f"slab {cut.name}": Relax(cut.slab, options) for cut in found.slabs},
        }
        bulks = {cut.facet: checked(answers[f"bulk {cut.facet}"], "the crystal") for cut in found.slabs}
        energies = {cut.facet: bulks[cut.facet].energy / len(cut.oriented_unit_cell) for cut in found.slabs}
        slabs = {cut.name: answers[f"slab {cut.name}"] for cut in found.slabs}
        whole = {name: slab.energy for name, slab in slabs.items() if _problem(slab) is None}
        had_room(slabs.values())
        if not whole:
            raise PlanError(f"all slabs failed: {_problem(next(iter(slabs.values())))}", "not_computed")
        as_cut = {cut.name: answers[f"cut {cut.name}"] for cut in found.slabs}
        try:
            lowest = facet_energies(found.slabs, whole, energies, self._given)
        except ValueError as reason:
            raise PlanError(str(reason), "chemical_potentials") from reason
        names = {facet.termination for facet in lowest}
        document = SurfaceDocument(
            formula=crystal.structure.composition.reduced_formula,
            crystal=found.crystal.as_dict(),
            terminations=[
                self._termination(cut, slabs[cut.name], as_cut[cut.name], energies[cut.facet], names)
                for cut in found.slabs
            ],
            skipped=list(found.skipped),
            chemical_potentials=self._given,
            lowest_surface_energy=min(facet.surface_energy for facet in lowest),
            converged=all(slab.converged for slab in slabs.values()),
            warnings=list(_warnings(found, slabs, bulks)),
            provenance=self.origin(crystal),
        )
        try:
            shape = wulff(found.crystal, {facet.miller: facet.surface_energy for facet in lowest})
        except ValueError as reason:
            document.warnings.append(Reason(code="no_shape", sentence=str(reason)))
            return document
        document.shape = EquilibriumShape(
            vertices=shape.vertices.tolist(),
            faces=[ShapeFace(family=f.family, miller=f.miller, corners=f.corners) for f in shape.faces],
            area_fractions={facet.facet: shape.area_fractions[facet.miller] for facet in lowest},
        )
        document.surface_energy, document.anisotropy = shape.surface_energy, shape.anisotropy
        return document

    def _at_hull(self, crystal: Crystal) -> Plan[SurfaceDocument]:
        """With chemical potentials of the hull, if a termination needs them and the crystal is stable on it."""
        potentials, said = None, []
        if any(entry.code == "nonstoichiometric" for entry in slabs_of(crystal, *self._how()).skipped):
            region: RegionDocument = (yield {"region": Ask(self.region, crystal)})["region"]
            if region.error is None:
                edge = self._edge()
                if not {*edge.values()} <= {*region.zeros}:
                    words = (
                        f"chemical_potentials is {self.chemical_potentials}, and {region.formula} has no such element"
                    )
                    raise PlanError(words, "chemical_potentials")
                potentials = region.potentials(**edge)
                said = [Reason(code="hull_caveat", sentence=text) for text in (region.caveat, *region.warnings) if text]
            else:
                words = "terminations of another composition are left out, for want of chemical potentials"
                said = [Reason(code="no_chemical_potentials", sentence=f"{words}: {region.error}")]
        given = replace(self, chemical_potentials=potentials)
        found: SurfaceDocument = (yield {"surface": Ask(given, crystal)})["surface"]
        return found.model_copy(update={"warnings": [*said, *found.warnings], "provenance": self.origin(crystal)})

    @property
    def _given(self) -> dict[str, float] | None:
        return None if isinstance(self.chemical_potentials, str) else self.chemical_potentials

    def _how(self) -> tuple[int, float, float, int]:
        return self.max_index, self.min_thickness, self.vacuum, self.max_terminations

    def _cuts(self, crystal: Crystal) -> Cuts:
        found = slabs_of(crystal, *self._how(), nonstoichiometric=bool(self._given))
        if not found.slabs:
            raise PlanError(f"no facet has a slab: {found.skipped[0].reason}", "no_slab")
        return found

    def _termination(
        self, cut: Cut, slab: RelaxResult, as_cut: Prediction, bulk: float, lowest: Collection[str]
    ) -> Termination:
        problem = _problem(slab)
        cost, unrelaxed = (
            None if lost is not None else surface_energy(cut, result.energy, bulk, self._given)
            for result, lost in ((slab, problem), (as_cut, as_cut.error))
        )
        return Termination(
            name=cut.name,
            facet=cut.facet,
            miller=cut.miller,
            surface_energy=cost,
            surface_energy_ev_a2=None if cost is None else cost / J_M2_PER_EV_A2,
            relaxation_energy=None if cost is None or unrelaxed is None else unrelaxed - cost,
            excess=cut.excess,
            reconstructed=cut.reconstructed,
            lowest=cut.name in lowest,
            n_atoms=len(cut.slab),
            converged=slab.converged,
            structure=slab.structure.as_dict(),
            error=problem,
        )


def _problem(slab: RelaxResult) -> str | None:
    """Why a slab has no surface energy."""
    return "it came apart" if slab.error is None and "dissociated" in slab.flags else slab.error


def _warnings(found: Cuts, slabs: Mapping[str, RelaxResult], bulks: Mapping[str, Prediction]) -> Iterator[Reason]:
    failed = [name for name, slab in slabs.items() if slab.error is not None]
    if failed:
        words = f"slabs of {', '.join(failed)} failed: {slabs[failed[0]].error}"
        yield Reason(code="slab_failed", sentence=words)
    unconverged = [name for name, slab in slabs.items() if slab.error is None and not slab.converged]
    if unconverged:
        words = f"slabs of {', '.join(unconverged)} did not reach fmax: raise max_steps"
        yield Reason(code="slab_not_converged", sentence=words)
    apart = [name for name, slab in slabs.items() if "dissociated" in slab.flags]
    if apart:
        words = f"slabs of {', '.join(apart)} came apart: they have no surface energy"
        yield Reason(code="slab_dissociated", sentence=words)
    lacking = [entry.facet for entry in found.skipped if entry.whole_facet]
    if lacking:
        words = f"the equilibrium shape lacks {', '.join(f'({facet})' for facet in lacking)}, which have no slab"
        yield Reason(code="facets_missing", sentence=words)
    stresses = [
        np.abs(bulk.stress).max() * EV_PER_ANGSTROM3_TO_GPA for bulk in bulks.values() if bulk.stress is not None
    ]
    if max(stresses, default=0.0) > STRAINED_GPA:
        words = f"a stress of {max(stresses):.2f} GPa is left on the crystal: relax it before cutting slabs"
        yield Reason(code="strained_crystal", sentence=words)
