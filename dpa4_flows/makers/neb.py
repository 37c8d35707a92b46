"""A path between two structures as a job."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from jobflow import Maker, job
from pymatgen.core import Molecule, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.makers.model_reference import ModelField, takes_model
from dpa4_flows.makers.property import PropertyMaker, PropertySet
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.properties.neb import Neb
from dpa4_flows.store.table import TableRef, open_for_job


@dataclass
class NebMaker(Maker):
    """One job for the path of lowest energy between two structures, which it relaxes first.

        job = NebMaker(path=Neb(n_images=7), model="dpa4-neo").make(start, end)

    All hops of an ion in a crystal are one job of `BatchMigrationMaker`.

    Args:
        name: name of the job.
        model: potential; or ``job.output.model`` of a training job in the same flow.
        path: how the path is looked for.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        shared_table: the table lies on a network file system that several machines write to.
    """

    name: str = "DPA4 path"
    model: ModelField = ModelField()
    path: Neb = field(default_factory=Neb)
    max_atoms_per_batch: int | None = None
    shared_table: bool = False

    @takes_table
    @takes_model(job(output_schema=PropertySet))
    def make(
        self, start: Structure | Molecule, end: Structure | Molecule, table: str | TableRef | None = None
    ) -> PropertySet:
        """Compute one path.

        Args:
            start, end: same atoms in the same cell, in any order; or outputs of jobs that give them.
            table: the results table, or its path, that keeps what is computed; made here if missing.
        """
        first, last = (structure_of_fields(one) if isinstance(one, dict) else one for one in (start, end))
        results = None if table is None else open_for_job(table, shared=self.shared_table)
        asked = dataclasses.replace(self.path, end=last)
        maker = PropertyMaker(asked, self.name, self.model, self.max_atoms_per_batch)
        (document,) = maker.documents([first], results)
        failed, converged = document.error is not None, document.converged
        return PropertySet(
            n_requested=1,
            n_computed=1,
            n_reused=0,
            n_failed=int(failed),
            n_unconverged=int(not (failed or converged)),
            documents=[document.model_dump(mode="json")],
        )
