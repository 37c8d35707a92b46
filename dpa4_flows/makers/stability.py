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

from jobflow import Flow, Job, JobOrder, Maker, job
from pymatgen.core import Structure

from dpa4_flows.compute.store import Store
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.hull import ConvexHullMaker, HullSet
from dpa4_flows.makers.model_reference import ModelField, takes_model, with_model
from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.properties.stability import Stability, with_hull
from dpa4_flows.results import TableRef, open_for_job, table_for_jobs
from dpa4_flows.schemas_stability import StabilityDocument, StabilitySet
from dpa4_flows.site_conversion import all_with_written_masses, free_crystal


@dataclass
class StabilityMaker(Maker):
    """Flow that relaxes structures and asks whether they are stable; each part may be None.

    Args:
        name: name of the flow.
        model: potential of all parts.
        property: relaxation, elastic tensor, phonons and the way along imaginary modes, with their settings.
        hull: distance to competing phases, by default to those of the library that all hulls share. Its own
            relaxations are those of the library, which push atoms off saddle points.
        max_atoms_per_batch: atoms that are computed at the same time; None leaves it to the device.
        shared_table: the table lies on a network file system that several machines write to.
    """

    name: str = "stability"
    model: ModelField = ModelField()
    property: Stability = field(default_factory=Stability)
    hull: ConvexHullMaker | None = field(default_factory=ConvexHullMaker)
    max_atoms_per_batch: int | None = None
    shared_table: bool = False

    def make(self, structures: list[Structure], table: str | Path | TableRef = "stability.sqlite") -> Flow:
        """Flow whose output is a `StabilitySet`.

        Args:
            structures: structures, or the output of a job that gives a list of them.
            table: results table; what it holds from earlier runs is not computed again.
        """
        if self.property.phonons is not None:
            require_extra("phonons", "a calculation of phonons")
        path = table_for_jobs(table, shared=self.shared_table)
        structures = all_with_written_masses(structures)
        jobs: list[Flow | Job] = []
        placed = None
        if self.hull is not None:
            free = [free_crystal(s)[0] for s in structures] if isinstance(structures, list) else structures
            hull = with_model(self.hull, self.model).make(free, path)
            jobs.append(hull)
            placed = hull.output
        answering = self.assess(structures, path, placed)
        answering.name = self.name
        return Flow([*jobs, answering], output=answering.output, name=self.name, order=JobOrder.LINEAR)

    @takes_model(job(output_schema=StabilitySet))
    def assess(self, structures: list[Structure], table: str | TableRef, hull: HullSet | None = None) -> StabilitySet:
        """The job that computes and answers, after the one that places on hulls."""
        placed = HullSet.model_validate(hull) if isinstance(hull, dict) else hull
        return self.run(open_for_job(table, shared=self.shared_table), structures, placed)

    def run(
        self,
        table: Store,
        structures: Sequence[Structure],
        hull: HullSet | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> StabilitySet:
        """What the job does, without jobflow: one document for each structure; what the table lacks is computed.

        Args:
            table: where everything is found and kept.
            structures: as given by the user.
            hull: where the structures lie, in the same order; None leaves the part out.
            on_done: called with the number of structures that were just finished.
        """
        maker = PropertyMaker(self.property, model=self.model, max_atoms_per_batch=self.max_atoms_per_batch)
        return stability_set(maker.documents(structures, table, on_done), hull)


def stability_set(documents: Sequence[StabilityDocument], hull: HullSet | None) -> StabilitySet:
    """Documents of stability with their places on the hull, which are in the same order."""
    found = StabilitySet(documents=[], errors=[], warnings=[] if hull is None else hull.warnings)
    for i, document in enumerate(documents):
        if hull is not None:
            document = with_hull(document, hull.documents[i], hull.errors[i])
        found.errors.append(document.error)
        found.documents.append(None if document.error is not None else document)
    return found
