"""Is my compound stable? Against other phases, against strain, against displacements of its atoms.

flow = StabilityMaker(model="dpa4-neo").make(structures)
responses = run_local(flow, "stability")
for document in responses[flow.output.uuid][1].output.documents:
    print(document.formula, document.verdict, document.reasons)

Everything that was computed is kept in the results table, by structure, model and settings: a flow or a command that
was killed, or asks for one more part, computes what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobflow import Flow, Job, JobOrder, Maker, job
from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.stability import NOT_ASKED, PARTS, Part, hull_part, overall_verdict, space_group
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.elastic import BatchElasticMaker
from dpa4_flows.makers.follow import Descent, ModeFollower
from dpa4_flows.makers.hull import CACHE, ConvexHullMaker, HullSet
from dpa4_flows.makers.model_reference import ModelField, with_model
from dpa4_flows.makers.phonons import BatchPhononMaker
from dpa4_flows.provenance import provenance
from dpa4_flows.results import ResultsTable, TableRef, open_for_job, table_for_jobs
from dpa4_flows.schemas import Document, Provenance, RelaxationDocument
from dpa4_flows.schemas_stability import (
    ElasticPart,
    FollowedPart,
    HullPart,
    PhononPart,
    RelaxedPart,
    StabilityDocument,
    StabilityPart,
    StabilitySet,
)
from dpa4_flows.site_conversion import all_with_written_masses, free_crystal

LOWER_EV = 2e-3
"""eV/atom; two relaxations of one structure differ by less."""

Stage = Literal["relax", "elastic", "phonons", "follow"]
STAGES: tuple[Stage, ...] = ("relax", "elastic", "phonons", "follow")


class StageSummary(Document):
    """What a stage hands on: counts only, the results are in the table."""

    stage: Stage
    n_structures: int
    n_failed: int = Field(description="Without a result")


@dataclass
class StabilityMaker(Maker):
    """Flow that relaxes structures and asks whether they are stable; each part may be None.

    Args:
        name: name of the flow.
        model: potential of all parts.
        fmax: eV/Å, of the relaxation that strains and phonons start from. It keeps the symmetry of the input.
        max_steps: optimiser steps of this relaxation.
        hull: distance to competing phases, by default to those of the library that all hulls share. Its own
            relaxations are those of the library, which push atoms off saddle points.
        elastic: elastic tensor and Born criteria.
        phonons: imaginary modes and thermal properties.
        max_follow_steps: how often an unstable crystal is followed along its imaginary mode; 0 for never.
        max_atoms_per_batch: atoms that relax at the same time; None leaves it to the device.
        shared_table: the table lies on a network file system that several machines write to.
    """

    name: str = "stability"
    model: ModelField = ModelField()
    fmax: float = 1e-3
    max_steps: int = 1000
    hull: ConvexHullMaker | None = field(default_factory=lambda: ConvexHullMaker(store=CACHE))
    elastic: BatchElasticMaker | None = field(default_factory=BatchElasticMaker)
    phonons: BatchPhononMaker | None = field(default_factory=BatchPhononMaker)
    max_follow_steps: int = 0
    max_atoms_per_batch: int | None = None
    shared_table: bool = False

    def make(self, structures: list[Structure], table: str | Path | TableRef = "stability.sqlite") -> Flow:
        """Flow whose output is a `StabilitySet`.

        Args:
            structures: structures, or the output of a job that gives a list of them.
            table: results table; what it holds from earlier runs is not computed again.
        """
        if self.phonons is not None:
            require_extra("phonons", "a calculation of phonons")
        self.settings()  # refuses a part with another model before there is a job
        path = table_for_jobs(table, shared=self.shared_table)
        structures = all_with_written_masses(structures)
        jobs: list[Flow | Job] = []
        hull_output = None
        if self.hull is not None:
            free = [free_crystal(s)[0] for s in structures] if isinstance(structures, list) else structures
            hull = with_model(self.hull, self.model).make(free, path)
            jobs.append(hull)
            hull_output = hull.output
        for stage in self.stages:
            working = run_stage(self, stage, path, structures)
            working.name = f"{self.name}: {stage}"
            jobs.append(working)
        answering = assess(self, path, structures, hull_output)
        answering.name = self.name
        jobs.append(answering)
        return Flow(jobs, output=answering.output, name=self.name, order=JobOrder.LINEAR)

    # ---- the parts, each with the model of the whole -----------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        """What has to be done, in order."""
        wanted = {
            "relax": True,
            "elastic": self.elastic is not None,
            "phonons": self.phonons is not None,
            "follow": self.phonons is not None and self.max_follow_steps > 0,
        }
        return [stage for stage in STAGES if wanted[stage]]

    @property
    def relaxation(self) -> BatchRelaxMaker:
        """The relaxation that strains and phonons start from."""
        return BatchRelaxMaker(
            name="tight relax",
            model=self.model,
            fmax=self.fmax,
            max_steps=self.max_steps,
            check_minimum=self.phonons is None,  # phonons judge the structure that was asked for
            max_atoms_per_batch=self.max_atoms_per_batch,
            shared_table=self.shared_table,
        )

    def _elastic(self) -> BatchElasticMaker:
        assert self.elastic is not None
        return with_model(self.elastic, self.model)

    def _phonons(self) -> BatchPhononMaker:
        assert self.phonons is not None
        return with_model(self.phonons, self.model)

    def _follow(self) -> ModeFollower:
        return ModeFollower(self.relaxation, self._phonons(), self.max_follow_steps)

    def settings(self) -> dict[str, Any]:
        """Every setting that changes the numbers."""
        return {
            "relax": self.relaxation.settings(),
            "elastic": None if self.elastic is None else self._elastic().settings(),
            "phonons": None if self.phonons is None else self._phonons().settings(),
            "max_follow_steps": self.max_follow_steps,
        }

    # ---- work, without jobflow ---------------------------------------------------------------------------------------

    def run_stage(
        self,
        stage: Stage,
        table: ResultsTable,
        structures: Sequence[Structure],
        on_done: Callable[[int], None] | None = None,
    ) -> StageSummary:
        """Compute what the table lacks for one stage.

        Args:
            stage: what to do; the stages before it have been done.
            table: results table.
            structures: as given by the user.
            on_done: called with the number of structures that were just finished.
        """
        if stage == "relax":
            self.relaxation.run(table, [free_crystal(s)[0] for s in structures])
        relaxed = self.relaxed(table, structures)
        good = [_structure(d) for d in relaxed if d.error is None]
        parts: Sequence[StabilityPart] = []
        if stage == "elastic":
            parts = self._elastic().run(good, table, on_done)
        elif stage == "phonons":
            parts = self._phonons().run(good, table, on_done)
        elif stage == "follow":
            parts = list(self._followed(table, [d for d in relaxed if d.error is None]).values())
        failed = len(relaxed) - len(good) + sum(part.error is not None for part in parts)
        return StageSummary(stage=stage, n_structures=len(structures), n_failed=failed)

    def relaxed(self, table: ResultsTable, structures: Sequence[Structure]) -> list[RelaxationDocument]:
        """The relaxation of each structure."""
        keys = [self.relaxation.key(free_crystal(structure)[0]) for structure in structures]
        stored = table.calculations(keys)
        return [stored[key] for key in keys]

    def _followed(self, table: ResultsTable, relaxed: Sequence[RelaxationDocument]) -> dict[str, FollowedPart]:
        """By key of the relaxation, for the crystals whose phonons are unstable."""
        phonons = self._phonons().run([_structure(d) for d in relaxed], table)
        unstable = {d.key: (d, p) for d, p in zip(relaxed, phonons, strict=True) if p.verdict == "unstable"}
        starts = [Descent(_structure(d), d.energy_per_atom or 0.0, p) for d, p in unstable.values()]
        return dict(zip(unstable, self._follow().run(starts, table), strict=True))

    def assess(self, table: ResultsTable, structures: Sequence[Structure], hull: HullSet | None = None) -> StabilitySet:
        """One document for each structure; what the table lacks is computed.

        Args:
            table: results table.
            structures: as given by the user.
            hull: where the structures lie, in the same order; None leaves the part out.
        """
        relaxed = self.relaxed(table, structures)
        good = [d for d in relaxed if d.error is None]
        crystals = [_structure(d) for d in good]
        elastic: dict[str, ElasticPart] = {}
        phonons: dict[str, PhononPart] = {}
        followed: dict[str, FollowedPart] = {}
        if self.elastic is not None:
            elastic = {d.key: p for d, p in zip(good, self._elastic().run(crystals, table), strict=True)}
        if self.phonons is not None:
            phonons = {d.key: p for d, p in zip(good, self._phonons().run(crystals, table), strict=True)}
        if "follow" in self.stages:
            followed = self._followed(table, good)
        found = StabilitySet(documents=[], errors=[], warnings=[] if hull is None else hull.warnings)
        for i, (structure, document) in enumerate(zip(structures, relaxed, strict=True)):
            found.errors.append(document.error)
            if document.error is not None:
                found.documents.append(None)
                continue
            place = None if hull is None else _hull_part(hull, i, document.provenance)
            key = document.key
            parts = (place, elastic.get(key), phonons.get(key), followed.get(key))
            found.documents.append(self._document(structure, document, *parts))
        return found

    def _document(
        self,
        structure: Structure,
        document: RelaxationDocument,
        hull: HullPart | None,
        elastic: ElasticPart | None,
        phonons: PhononPart | None,
        followed: FollowedPart | None,
    ) -> StabilityDocument:
        parts: dict[str, StabilityPart] = {
            name: part
            for name, part in (("hull", hull), ("elastic", elastic), ("phonons", phonons))
            if part is not None
        }
        verdicts: dict[str, Part] = dict.fromkeys(PARTS, NOT_ASKED) | {n: p.verdict for n, p in parts.items()}
        reasons = [
            f"{name}: {NOT_ASKED}" if name not in parts else f"{name}: {verdict}, {parts[name].reason}"
            for name, verdict in verdicts.items()
        ]
        if followed is not None:
            reasons.append(f"along the mode: {followed.reason}")
        warnings = [*free_crystal(structure)[1]]
        if not document.converged:
            warnings.append(f"the relaxation ended at {document.fmax:.3g} eV/Å, not at {self.fmax:g}: raise max_steps")
        warnings += [text for part in parts.values() for text in part.warnings]
        warnings += _lower_on_hull(hull, document)
        assert document.energy_per_atom is not None and document.fmax is not None
        start = free_crystal(structure)[0]
        change = None if document.volume is None else 100 * (document.volume / start.volume - 1)
        return StabilityDocument(
            formula=document.formula,
            verdict=overall_verdict(verdicts),
            verdicts=verdicts,
            reasons=reasons,
            warnings=list(dict.fromkeys(warnings)),
            relaxed=RelaxedPart(
                structure=document.structure or {},
                energy_per_atom=document.energy_per_atom,
                fmax=document.fmax,
                converged=document.converged,
                volume_change_percent=change,
                space_group_before=space_group(start),
                space_group=space_group(_structure(document)),
                provenance=document.provenance,
            ),
            hull=hull,
            elastic=elastic,
            phonons=phonons,
            followed=followed,
            provenance=provenance(self.model, self.settings()),
        )


@job(output_schema=StageSummary)
def run_stage(maker: StabilityMaker, stage: Stage, table: str | TableRef, structures: list[Structure]) -> StageSummary:
    """One stage of `StabilityMaker`, whose results go to the table."""
    return maker.run_stage(stage, open_for_job(table, shared=maker.shared_table), structures)


@job(output_schema=StabilitySet)
def assess(
    maker: StabilityMaker, table: str | TableRef, structures: list[Structure], hull: HullSet | None = None
) -> StabilitySet:
    """The documents of `StabilityMaker`, from what the stages before put into the table."""
    placed = HullSet.model_validate(hull) if isinstance(hull, dict) else hull
    return maker.assess(open_for_job(table, shared=maker.shared_table), structures, placed)


def _structure(document: RelaxationDocument) -> Structure:
    return structure_of_fields(document.structure or {})


def _lower_on_hull(hull: HullPart | None, document: RelaxationDocument) -> list[str]:
    """What to say if the relaxation for the hull, which may break the symmetry, found something lower."""
    if hull is None or hull.document is None or document.energy_per_atom is None:
        return []
    energy = hull.document.energy_per_atom_corrected - hull.document.correction_per_atom
    lower = document.energy_per_atom - energy
    if lower < LOWER_EV:
        return []
    return [
        f"with its atoms displaced it relaxes to a structure {1000 * lower:.0f} meV/atom lower: the distance to the "
        "hull is that of the lower one, strains and phonons are those of the symmetric one"
    ]


def _hull_part(hull: HullSet, index: int, origin: Provenance) -> HullPart:
    place, error = hull.documents[index], hull.errors[index]
    if place is None:
        sentence = error or "no place on the hull"
        return HullPart(verdict="unknown", reason=sentence, error=sentence, converged=False, provenance=origin)
    products = " + ".join(f"{share:.2f} {formula}" for formula, share in place.decomposition.items())
    if set(place.decomposition) == {place.formula}:
        products = f"another form of {place.formula}"
    verdict, reason = hull_part(place.verdict, place.completeness, place.energy_above_hull, products)
    return HullPart(
        verdict=verdict,
        reason=reason,
        converged=True,
        warnings=place.warnings,
        provenance=place.provenance,
        document=place,
    )
