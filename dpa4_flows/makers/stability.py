"""Is my compound stable? Against other phases, against strain, against displacements of its atoms.

job = StabilityMaker(model="dpa4-neo").make(structures)
responses = run_local(job, "stability")
for document in responses[job.output.uuid][1].output.documents:
    print(document.formula, document.verdict, document.reasons)

Everything that was computed is kept in the results table, by structure, model and settings: a job or a command that
was killed, or asks for one more part, computes what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobflow import Job, Maker, job
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.documents.stability import StabilityDocument, StabilitySet
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.model_reference import ModelField, takes_model
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.properties.hull import Hull, HullSet
from dpa4_flows.properties.stability import Stability, with_hull
from dpa4_flows.site_conversion import free_crystal
from dpa4_flows.store.table import TableRef, open_for_job


@dataclass
class StabilityMaker(Maker):
    """Job that relaxes structures and asks whether they are stable; each part may be None. Hull, strains and phonons
    of all structures share one batch.

    Args:
        name: name of the job.
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
    hull: Hull | None = field(default_factory=Hull)
    max_atoms_per_batch: int | None = None
    shared_table: bool = False

    def __post_init__(self) -> None:
        if self.hull is not None:
            self.hull = self.hull.located()

    def make(self, structures: list[Structure], table: str | Path | TableRef = "stability.sqlite") -> Job:
        """Job whose output is a `StabilitySet`.

        Args:
            structures: structures, or the output of a job that gives a list of them.
            table: results table; what it holds from earlier runs is not computed again.
        """
        if self.property.phonons is not None:
            require_extra("phonons", "a calculation of phonons")
        working: Job = self.answer(structures, table)
        working.name = self.name
        return working

    @takes_table
    @takes_model(job(output_schema=StabilitySet))
    def answer(self, structures: list[Structure], table: str | TableRef) -> StabilitySet:
        """The job of `make`."""
        crystals = [Crystal(structure_of_fields(s) if isinstance(s, dict) else s) for s in structures]
        asks = stability_asks(self.property, self.hull, crystals)
        results = open_for_job(table, shared=self.shared_table)
        return stability_set(
            dict(compute(asks.items(), self.model, results, max_atoms_per_batch=self.max_atoms_per_batch))
        )


def stability_asks(stability: Stability, hull: Hull | None, crystals: Sequence[Crystal]) -> dict[int | str, Ask[Any]]:
    """Requests for `stability_set`: of each crystal by its number, and of the places of all on the hull."""
    asks: dict[int | str, Ask[Any]] = {i: Ask(stability, crystal) for i, crystal in enumerate(crystals)}
    if hull is not None and crystals:
        asks["hull"] = Ask(hull, Crystals(tuple(Crystal(free_crystal(one.structure)[0]) for one in crystals)))
    return asks


def stability_set(answers: Mapping[int | str, Any]) -> StabilitySet:
    """Answers to `stability_asks`: documents of stability with their places on the hull."""
    hull: HullSet | None = answers.get("hull")
    found = StabilitySet(documents=[], errors=[], warnings=[] if hull is None else hull.warnings)
    for i in range(len(answers) - ("hull" in answers)):
        document: StabilityDocument = answers[i]
        if hull is not None:
            document = with_hull(document, hull.documents[i], hull.errors[i])
        found.errors.append(document.error)
        found.documents.append(None if document.error is not None else document)
    return found
