"""Adsorption on the facets of a crystal: all sites of all adsorbates, each relaxed and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxResult
from dpa4_flows.analysis.adsorbates import Adsorbate, placed
from dpa4_flows.analysis.anomalies import (
    LIMITS,
    NO_ENERGY,
    NOT_WHAT_WAS_ASKED,
    anomalies,
    energy_problem,
    migration,
    surface_change,
)
from dpa4_flows.analysis.frames import MIXED_ZEROS, SEAM, seam_problem
from dpa4_flows.analysis.gas_references import REFERENCES, adsorption_energy, element_references, reference_words
from dpa4_flows.analysis.sites import Site, Surface, distinct
from dpa4_flows.analysis.slabs import below_middle
from dpa4_flows.analysis.surface import Cut
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Steps
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet, AdsorptionSite, SkippedTerminations
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.on_slabs import SlabSettings
from dpa4_flows.properties.part import BASIN, check_undecided, had_room, held
from dpa4_flows.properties.vibrations import Which, free_energies

_FIRST_STEPS, _FIRST_STEPS_OF_MOLECULES = 4, 10
"""Energies fall by 0.5 to 1 eV in the first three, as the adsorbate finds its height, and then tell sites of atoms
apart: H and O are those of all starts with DPA4-Neo. Molecules also turn; after four steps CO on Ti (10-11) would be
lost by 1 eV."""


@dataclass(frozen=True)
class _Start:
    """One slab with an adsorbate, before it relaxes."""

    facet: int
    site: Site
    adsorbate: Adsorbate
    angle: float
    structure: Structure


@dataclass(frozen=True)
class _Facet:
    """A termination in the cell in which there is one adsorbate.

    Attributes:
        cut: the termination.
        slab: widened, pushed off symmetry, its lower half fixed.
        n_cells: surface cells in it.
        n_fixed: atoms that are fixed.
        surface: of the cut, on which sites are found.
        sites: all of them, equal ones too.
    """

    cut: Cut
    slab: Structure
    n_cells: int
    n_fixed: int
    surface: Surface
    sites: list[Site]


@dataclass(frozen=True)
class Adsorption(SlabSettings[AdsorptionDocument]):
    """Electronic adsorption energies on all distinct sites of low-index facets, with what became of each.

    Attributes:
        adsorbates: H, O, OH, OOH, CO, COOH, CHO, N, NH, N2H, NH2, S, CH3, or molecule files, whose lowest atom binds.
        facets: Miller indices in a row (111, 10-10), with a number for one termination (10-11_2); all up to max_index
            if none are named.
        max_index: largest Miller index.
        min_length: Å, between an adsorbate and its images; decides the coverage.
        min_thickness: of the slabs, Å; the lower half is fixed.
        vacuum: between a slab and its image, Å.
        max_terminations: of each facet; those that break fewest bonds.
        max_atoms: of a slab; facets with larger ones are left out and say so.
        orientations: about the normal, in which an adsorbate that is not upright is put on each site.
        fmax: eV/Å, to which slabs relax in their fixed cells.
        max_steps: optimiser steps of each slab.
        references: energy of an atom by element, eV, in place of the gas table of the level of theory.
        corrections: ΔZPE − TΔS by name of the adsorbate, eV, in place of the table and of vibrations.
        vibrations: of adsorbates, in place of the table: none, those on the best site of each facet, which then hold
            for its other sites, too (best), or of each intact site (all).
        best_starts: of each adsorbate on each termination, that relax to the end: those of lowest energy after the
            first steps; 0 for all. The others have no energy and say so.
        on_first_facet: names of adsorbates that are put on the first facet only.
    """

    name: ClassVar[str] = "adsorption"
    example: ClassVar[str] = "Pt.cif --adsorbates H,CO --facets 111 --report sites.html"
    document: ClassVar[type[Document]] = AdsorptionDocument
    figures: ClassVar[str] = "dpa4_flows.report.figures_surfaces:adsorption_figures"
    caveats: ClassVar[tuple[str, ...]] = (
        "Adsorption energies are of one coverage on a clean surface without water; PBE prefers hollow sites for CO, on "
        "platinum by 0.35 eV, where the experiment finds it on top.",
        "Gas energies are from a table of the level of theory, corrections of free energies from one of common values "
        "(each ±0.05 eV).",
        BASIN,
    )

    adsorbates: tuple[Adsorbate, ...] = (Adsorbate.named("H"),)
    facets: tuple[str | int, ...] = ()
    max_index: int = 1
    min_length: float = 8.0
    min_thickness: float = 8.0
    vacuum: float = 15.0
    max_terminations: int = 4
    max_atoms: int = 200
    orientations: int = 2
    fmax: float = 0.05
    max_steps: int = 200
    references: dict[str, float] = field(default_factory=dict)
    corrections: dict[str, float] = field(default_factory=dict)
    vibrations: Which = "none"
    best_starts: int = 0
    on_first_facet: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "adsorbates", tuple(self.adsorbates))  # JSON has lists
        object.__setattr__(self, "on_first_facet", tuple(self.on_first_facet))

    def check(self) -> None:
        super().check()
        names = [adsorbate.name for adsorbate in self.adsorbates]
        if not names or len(set(names)) < len(names):
            raise DPA4Error(f"adsorbates must be named, each once, not {', '.join(names) or 'none'}")
        if unknown := [name for name in self.on_first_facet if name not in names]:
            words = f"on_first_facet names {', '.join(unknown)}; the adsorbates are {', '.join(names)}"
            raise DPA4Error(words)
        check_counts(self, "best_starts", least=0)
        check_counts(self, "orientations")

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        costs = self.costs(crystal).values()
        return sum(n for n, _ in costs), sum(atoms for _, atoms in costs)

    def costs(self, crystal: Crystal) -> dict[str, tuple[int, int]]:
        """Slabs, with and without adsorbates, and their atoms, by facet; nothing of a crystal that has none."""
        try:
            _, facets, _ = self._facets(crystal)
        except PlanError:
            return {}
        found: dict[str, tuple[int, int]] = {}
        for facet in facets:
            there = self._there(facet, facets[0], self.adsorbates)
            poses = [len(adsorbate.orientations(self.orientations)) for adsorbate in there]
            n_slabs, n_before = 1 + len(distinct(facet.sites)) * sum(poses), found.get(facet.cut.facet, (0, 0))
            found[facet.cut.facet] = n_before[0] + n_slabs, n_before[1] + n_slabs * len(facet.slab)
        return found

    def plan(self, crystal: Crystal) -> Plan[AdsorptionDocument]:
        adsorbates, seam = self._admitted(crystal)
        references = self._references(crystal, adsorbates)
        conventional, facets, skipped = self._facets(crystal)
        options = self.options()
        answers = yield {f"clean {facet.cut.name}": Relax(facet.slab, options) for facet in facets}
        clean = list(answers.values())
        had_room(clean)
        if all(slab.error is not None for slab in clean):
            raise PlanError(f"all clean slabs failed: {clean[0].error}", "not_computed")
        surfaces = [None if slab.error else Surface(slab.structure, conventional) for slab in clean]
        there = [self._there(facet, facets[0], adsorbates) for facet in facets]
        starts = [start for i, facet in enumerate(facets) for start in self._starts(i, facet, surfaces[i], there[i])]
        covered, waiting = yield from self._relaxed(starts)
        found: list[AdsorptionFacet] = []
        ends = [
            [end for start, end in zip(starts, covered, strict=True) if start.facet == i] for i in range(len(facets))
        ]
        for i, facet in enumerate(facets):
            document = _facet(facet, clean[i])
            surface = surfaces[i]
            if surface is not None:
                numbers = [number for number, start in enumerate(starts) if start.facet == i]
                document.sites = [
                    _site(facet, surface, starts[n], covered[n], clean[i].energy, references, followed=n not in waiting)
                    for n in numbers
                ]
                document.reasons += _without_intact_site(document)
                _keep_structures(document, ends[i])
            found.append(document)
        amounts = {adsorbate.name: adsorbate.amounts for adsorbate in adsorbates}
        yield from free_energies(found, ends, amounts, self.corrections, self.vibrations)
        whole = self._document(crystal, conventional, references, found, skipped)
        whole.warnings = [*seam.values(), *whole.warnings]
        whole.refused = _refused(seam)
        return whole

    def _relaxed(self, starts: Sequence[_Start]) -> Steps[tuple[list[RelaxResult], set[int]]]:
        """Ends of all starts, and the numbers of those that others have left behind after the first steps."""
        options = self.options()
        first = [self._first_steps(start.adsorbate) for start in starts]
        answers = yield {
            f"site {number}": Relax(start.structure, replace(options, max_steps=steps))
            for number, (start, steps) in enumerate(zip(starts, first, strict=True))
        }
        ends: list[RelaxResult] = list(answers.values())
        had_room(ends)
        if not self.best_starts:
            return ends, set()
        lowest, others = _best(starts, ends, self.best_starts)
        further = [number for number in lowest if first[number] < self.max_steps]
        rest = {n: replace(options, max_steps=self.max_steps - first[n]) for n in further}
        answers = yield {f"site {n}": Relax(ends[n].structure, rest[n]) for n in further}
        had_room(answers.values())
        for number, end in zip(further, answers.values(), strict=True):
            ends[number] = replace(end, n_steps=ends[number].n_steps + end.n_steps)
        return ends, {number for number in others if first[number] < self.max_steps}

    def _first_steps(self, adsorbate: Adsorbate) -> int:
        """After which starts of an adsorbate are told apart; all, if none is left."""
        most = _FIRST_STEPS if len(adsorbate.species) == 1 else _FIRST_STEPS_OF_MOLECULES
        return min(most, self.max_steps) if self.best_starts else self.max_steps

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        seam = self._seam(crystal) if error.code == SEAM else {}
        return super().facts(crystal, error) | {"refused": _refused(seam)}

    def _seam(self, crystal: Crystal) -> dict[str, Reason]:
        """What the +U policy of the model means for adsorbates on this crystal, by their name."""
        composition, level = crystal.structure.composition, crystal.info.level_of_theory
        said = {}
        for adsorbate in self.adsorbates:
            if (problem := seam_problem(composition, adsorbate.amounts, level)) is not None:
                words = f"{adsorbate.name} on {composition.reduced_formula} {problem[1]}"
                said[adsorbate.name] = Reason(code=problem[0], sentence=words)
        return said

    def _admitted(self, crystal: Crystal) -> tuple[list[Adsorbate], dict[str, Reason]]:
        """The adsorbates whose energies on this crystal mean something with this model, and what the seam means."""
        said = self._seam(crystal)
        refused = _refused(said)
        admitted = [adsorbate for adsorbate in self.adsorbates if adsorbate.name not in refused]
        if not admitted:
            raise PlanError(next(iter(refused.values())).sentence, SEAM)
        return admitted, said

    def _references(self, crystal: Crystal, adsorbates: list[Adsorbate]) -> dict[str, float]:
        level = crystal.info.level_of_theory
        known = element_references(level) | self.references
        needed = dict.fromkeys(symbol for adsorbate in adsorbates for symbol in adsorbate.amounts)
        missing = [symbol for symbol in needed if symbol not in known]
        if missing:
            level = level or "a model that does not state its level of theory"
            wanted = ", ".join(f"{symbol} = {reference_words(symbol)}" for symbol in missing if symbol in REFERENCES)
            how = f": {wanted} from molecules computed with the same functional" if wanted else ""
            words = f"no gas energies of {', '.join(missing)} are known for {level}"
            raise PlanError(f"{words}; give them as references, eV per atom{how}", "no_reference")
        if shifted := [symbol for symbol in needed if symbol in crystal.info.zeros and symbol not in self.references]:
            raise PlanError(
                f"fine-tuning shifted the energy zero of {', '.join(shifted)}, which has no common zero with the gas "
                f"energies of {level} any more: give references, eV per atom, computed as the training data were",
                MIXED_ZEROS,
            )
        check_undecided(needed, crystal.info)
        return {symbol: known[symbol] for symbol in needed}

    def _facets(self, crystal: Crystal) -> tuple[Structure, list[_Facet], list[SkippedTerminations]]:
        conventional, wide, skipped = self.wide_slabs(crystal)
        facets = []
        for cut, slab, n_cells in wide:
            surface = Surface(cut.slab, conventional)
            facets.append(_Facet(cut, held(slab), n_cells, int(below_middle(slab).sum()), surface, surface.sites()))
        return conventional, facets, skipped

    def _there(self, facet: _Facet, first: _Facet, adsorbates: Sequence[Adsorbate]) -> list[Adsorbate]:
        """What is put on a facet."""
        everywhere = facet.cut.facet == first.cut.facet
        return [one for one in adsorbates if everywhere or one.name not in self.on_first_facet]

    def _starts(
        self, number: int, facet: _Facet, surface: Surface | None, adsorbates: list[Adsorbate]
    ) -> Iterator[_Start]:
        if surface is None:
            return
        for adsorbate in adsorbates:
            for site in distinct(facet.sites):
                for angle in adsorbate.orientations(self.orientations):
                    yield _Start(number, site, adsorbate, angle, placed(surface, site, adsorbate, angle))

    def _document(
        self,
        crystal: Crystal,
        conventional: Structure,
        references: Mapping[str, float],
        facets: list[AdsorptionFacet],
        skipped: list[SkippedTerminations],
    ) -> AdsorptionDocument:
        sites = [site for facet in facets for site in facet.sites]
        intact = [site for site in sites if site.intact]
        document = AdsorptionDocument(
            formula=crystal.structure.composition.reduced_formula,
            crystal=conventional.as_dict(),
            adsorbates={adsorbate.name: adsorbate.amounts for adsorbate in self.adsorbates},
            references=dict(references),
            facets=facets,
            skipped=skipped,
            n_sites=len(sites),
            n_intact=len(intact),
            converged=all(facet.converged for facet in facets) and all(site.converged for site in intact),
            warnings=list(_warnings(facets)),
            provenance=self.origin(crystal),
        )
        best = document.best(self.adsorbates[0].name)
        if best:
            name = min(best, key=lambda facet: best[facet].adsorption_energy or 0.0)
            document.adsorption_energy, document.best_facet = best[name].adsorption_energy, name
            document.free_energy = best[name].free_energy
            document.best_site = f"{best[name].end} {best[name].end_elements}"
        return document


def _refused(seam: Mapping[str, Reason]) -> dict[str, Reason]:
    return {name: reason for name, reason in seam.items() if reason.code == SEAM}


def _best(starts: Sequence[_Start], ends: Sequence[RelaxResult], most: int) -> tuple[list[int], set[int]]:
    """Of the starts that are not at rest after their first steps: who goes on, and who does not.

    Of each adsorbate on each termination those go on that are among the ``most`` lowest.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end.error is None:
            groups.setdefault((start.facet, start.adsorbate.name), []).append(number)
    lowest = {n for group in groups.values() for n in sorted(group, key=lambda n: ends[n].energy)[:most]}
    under_way = [number for group in groups.values() for number in group if not ends[number].converged]
    return [number for number in under_way if number in lowest], {n for n in under_way if n not in lowest}


def _facet(facet: _Facet, clean: RelaxResult) -> AdsorptionFacet:
    a, b, _ = facet.slab.lattice.matrix
    cut = facet.cut
    document = AdsorptionFacet(
        name=cut.name,
        facet=cut.facet,
        miller=cut.miller,
        n_atoms=len(facet.slab),
        n_fixed=facet.n_fixed,
        area=float(np.linalg.norm(np.cross(a, b))),
        coverage=1 / facet.n_cells,
        excess=cut.excess,
        reconstructed=cut.reconstructed,
        converged=clean.converged,
        structure=clean.structure.as_dict(),
        error=clean.error,
    )
    if clean.error is not None:
        return document
    document.energy = clean.energy
    if change := surface_change(Surface(facet.slab, cut.oriented_unit_cell), clean.structure):
        document.reasons.append(Reason(code="clean_slab_changed", sentence=f"({cut.name}) reconstructed: {change}"))
    if not clean.converged:
        words = f"the clean slab of ({cut.name}) did not reach fmax: raise max_steps"
        document.reasons.append(Reason(code="slab_not_converged", sentence=words))
    return document


def _site(
    facet: _Facet,
    surface: Surface,
    start: _Start,
    end: RelaxResult,
    clean: float,
    references: Mapping[str, float],
    *,
    followed: bool = True,
) -> AdsorptionSite:
    document = AdsorptionSite(
        adsorbate=start.adsorbate.name,
        start=start.site.kind,
        start_elements=start.site.elements,
        missing_bonds=start.site.missing_bonds,
        angle=start.angle,
        converged=end.converged,
        n_steps=end.n_steps,
    )
    if end.error is not None:
        document.reasons.append(Reason(code="not_computed", sentence=f"it failed: {end.error}"))
        return document
    if not followed:
        words = f"it was left after {end.n_steps} steps, since other starts were lower (setting best_starts)"
        document.reasons.append(Reason(code="not_followed", sentence=words))
        return document
    structure, n_slab = end.structure, len(facet.slab)
    place = structure.cart_coords[n_slab]
    document.energy, document.position = end.energy, tuple(place.tolist())
    document.height = _height(structure, n_slab)
    document.reasons += anomalies(surface, start.structure, structure)
    at = migration(facet.surface, facet.sites, start.site, place)
    document.end, document.end_elements = at.kind, at.elements
    if at.orbit != start.site.orbit:
        words = f"it went from {start.site.kind} of {start.site.elements} to {at.kind} of {at.elements}"
        document.reasons.append(Reason(code="migrated", sentence=words.replace("_", " ")))
    if not end.converged:
        words = f"it did not reach fmax within {end.n_steps} steps: its energy is an upper bound"
        document.reasons.append(Reason(code="incomplete", sentence=words))
    energy = adsorption_energy(end.energy, clean, start.adsorbate.amounts, references)
    assert energy is not None, "references were checked before"
    n_metal = sum(site.specie.is_metal for site in facet.slab) or n_slab
    if problem := energy_problem(energy, n_metal, start.adsorbate.name):
        document.reasons.append(problem)
    else:
        document.adsorption_energy = energy
    document.intact = not set(document.codes) & {*NOT_WHAT_WAS_ASKED, *NO_ENERGY}
    return document


def _height(structure: Structure, n_slab: int) -> float:
    """Of the bound atom above the atoms that bind it, or above the nearest one."""
    lengths = structure.distance_matrix[n_slab, :n_slab]
    binding = lengths < LIMITS.bonded / 1.1 * max(lengths.min(), 1e-6)
    heights = structure.cart_coords[:, 2]
    return float(heights[n_slab] - heights[:n_slab][binding].mean())


def _keep_structures(document: AdsorptionFacet, ends: list[RelaxResult]) -> None:
    """Those of the best sites, and of what went wrong one example for each set of codes, the lowest in energy."""
    for name in dict.fromkeys(site.adsorbate for site in document.sites):
        best, shown = document.best(name), set[frozenset[str]]()
        pairs = zip(document.sites, ends, strict=True)
        computed = [pair for pair in pairs if pair[0].adsorbate == name and pair[0].energy is not None]
        for site, end in sorted(computed, key=lambda pair: pair[0].energy or 0.0):
            codes = frozenset(site.codes)
            if site is best or not (site.intact or codes in shown):
                site.structure = end.structure.as_dict()
                shown.add(codes)


def _warnings(facets: list[AdsorptionFacet]) -> Iterator[Reason]:
    for facet in facets:
        yield from facet.reasons
        if facet.error is not None:
            yield Reason(code="slab_failed", sentence=f"the clean slab of ({facet.name}) failed: {facet.error}")


def _without_intact_site(facet: AdsorptionFacet) -> Iterator[Reason]:
    for name in dict.fromkeys(site.adsorbate for site in facet.sites):
        of_it = [site for site in facet.sites if site.adsorbate == name]
        if not any(site.intact for site in of_it):
            counts = Counter(code for site in of_it for code in site.codes)
            words = ", ".join(f"{code} {n}" for code, n in counts.most_common())
            yield Reason(code="no_intact_site", sentence=f"no site of {name} on ({facet.name}) is intact: {words}")
