"""Properties that look at several structures together as jobs: hulls, and what is read off them.

job = ConvexHullMaker(property=Hull(files=("li_co_o_phases.json.gz",))).make(structures, "hull.sqlite")
responses = run_local(job, "hull")
for document in responses[job.output.uuid][1].output.documents:
    print(document.formula, document.energy_above_hull)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from jobflow import job
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.documents.schemas import Document
from dpa4_flows.makers.model_reference import takes_model
from dpa4_flows.makers.property import PropertyMaker, retry_of
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.store.table import TableRef, open_for_job

D = TypeVar("D", bound=Document)


@dataclass
class TogetherMaker(PropertyMaker[D]):
    """One job that looks at all its structures together and gives one document; the fields are those of
    `PropertyMaker`. For more than some hundred structures make a campaign, whose jobs carry ids instead of structures.
    """

    @takes_table
    @takes_model(job)
    def make(self, structures: list[Structure] | None = None, table: str | TableRef | None = None) -> Document:
        """The document.

        Args:
            structures: structures, or the output of a job that gives a list of them.
            table: results table; what it holds from earlier runs is not computed again. None keeps nothing but what
                goes into the library of competing phases.
        """
        results = None if table is None else open_for_job(table, shared=self.shared_table)
        crystals = [Crystal(structure_of_fields(s) if isinstance(s, dict) else s) for s in structures or []]
        ask: Ask[Any] = Ask(self.property, Crystals(tuple(crystals)))
        budget, retry = self.max_atoms_per_batch, retry_of(results, errors=self.retry_errors)
        ((_, document),) = compute([(0, ask)], self.model, results, max_atoms_per_batch=budget, retry=retry)
        found: Document = document
        return found
