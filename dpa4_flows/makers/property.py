"""A property as a job: one chunk of structures through the loop that computes everything."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from jobflow import Maker, job
from pydantic import Field
from pymatgen.core import Molecule, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.driver import Counts, Retry, compute
from dpa4_flows.compute.plan import Ask, Crystal, Property
from dpa4_flows.documents.schemas import ChunkSummary, Document
from dpa4_flows.makers.model_reference import ModelField, takes_model
from dpa4_flows.makers.sources import structures_of_files
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.store.protocol import Store
from dpa4_flows.store.table import ResultsTable, TableRef, open_for_job

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=Document)

RETRY_SINCE = "retry_errors_since"
"""Meta entry of the results table: failures older than this time, ISO 8601, are computed again."""


def retry_of(table: Store | None, *, errors: bool = False) -> Retry:
    """Which failures of a table are computed again: all with ``errors``, else those before the time that it names."""
    since = table.get_meta(RETRY_SINCE) if isinstance(table, ResultsTable) else None
    return Retry(errors, None if since is None else datetime.fromisoformat(since))


class PropertySet(ChunkSummary):
    """What a job on a chunk of structures hands on: counts, and the documents where no results table keeps them."""

    documents: list[dict[str, Any]] = Field(
        default_factory=list, description="One per structure, in order; empty where a results table keeps them"
    )


@dataclass
class PropertyMaker(Maker, Generic[D]):
    """One job that computes a property of a chunk of structures.

        maker = PropertyMaker(property=Elastic(strains=(-0.01, 0.01)), model="dpa4-neo")
        job = maker.make(structures)                  # documents in the output
        job = maker.make(structures, "run.sqlite")    # documents in the table, counts in the output

    A chunk takes its structures directly, or from files by number (small specs, any size of input). What the table
    holds is not computed again, also after a kill.

    Args:
        name: name of the job.
        model: potential; or ``job.output.model`` of a training job in the same flow.
        property: what is computed, with its settings.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        retry_errors: compute again what is stored with an error. Without it this holds for want of memory, and for
            failures before the time that the table's meta entry `RETRY_SINCE` names.
        shared_table: the table lies on a network file system that several machines write to.
    """

    property: Property[D]
    name: str = "DPA4 property"
    model: ModelField = ModelField()
    max_atoms_per_batch: int | None = None
    retry_errors: bool = False
    shared_table: bool = False

    def __post_init__(self) -> None:
        self.property = self.property.located()

    def at_build(self, *_: Any, **__: Any) -> None:
        """Refuse settings that make no sense where the flow is built."""
        self.property.check()

    @takes_table
    @takes_model(job(output_schema=PropertySet))
    def make(
        self,
        structures: Structure | Molecule | list[Structure | Molecule] | None = None,
        table: str | TableRef | None = None,
        files: list[str] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> PropertySet:
        """Compute one chunk; its structures are given, or a part of ``files``.

        Args:
            structures: a pymatgen structure or molecule, or a list of them, or the output of a job that gives one.
            table: the results table, or its path; made here, where the job is made, if missing.
            files: files, archives and folders that the worker can read, instead of ``structures``.
            start, stop: which of the structures in ``files``, counted over all of them; all by default.
        """
        results = None if table is None else open_for_job(table, shared=self.shared_table)
        errors: list[str] = []
        if files is not None:
            wanted, errors = structures_of_files(files, start, stop, takes_disorder=self.property.takes_disorder)
            for error in errors:
                logger.warning("not computed: %s", error)
        else:
            several = structures if isinstance(structures, list | tuple) else [structures]
            wanted = [structure_of_fields(s) if isinstance(s, dict) else s for s in several if s is not None]
        documents: list[D] | None = None
        if results is not None and self._is_stored(wanted):
            summary = self.run(results, wanted)
        else:
            documents, summary = self._documents(wanted, results)
        counts = summary.model_dump()
        counts["n_requested"] += len(errors)
        counts["n_failed"] += len(errors)
        return PropertySet(**counts, documents=[d.model_dump(mode="json") for d in documents or ()])

    def _is_stored(self, structures: Sequence[Structure | Molecule]) -> bool:
        """Whether a table keeps the documents, and not only the calculations behind them."""
        return not structures or self.property.key(Crystal(structures[0]), self.model) is not None

    def settings(self) -> dict[str, Any]:
        """Every setting that changes the numbers; part of the key of a document."""
        return self.property.settings(self.model)

    def key(self, structure: Structure | Molecule) -> str:
        """Key under which the document of ``structure`` is stored."""
        return self.property.key(Crystal(structure), self.model) or ""

    def run(self, table: Store, structures: Sequence[Structure | Molecule]) -> ChunkSummary:
        """What the job does, without jobflow: compute what ``table`` lacks of ``structures`` and store it there."""
        counts = Counts()
        distinct = {self.key(structure): structure for structure in structures}  # equal structures are counted once
        deque(self._compute(list(distinct.values()), table, counts), maxlen=0)
        return counts.summary(len(structures))

    def documents(self, structures: Sequence[Structure | Molecule], table: Store | None = None) -> list[D]:
        """Documents of all structures, in order; see `run`."""
        return self._documents(structures, table)[0]

    def _documents(
        self, structures: Sequence[Structure | Molecule], table: Store | None
    ) -> tuple[list[D], ChunkSummary]:
        counts = Counts()
        found = dict(self._compute(structures, table, counts))
        return [found[i] for i in range(len(structures))], counts.summary(len(structures))

    def _compute(
        self, structures: Sequence[Structure | Molecule], table: Store | None, counts: Counts
    ) -> Iterator[tuple[int, D]]:
        return compute(
            ((i, Ask(self.property, Crystal(structure))) for i, structure in enumerate(structures)),
            self.model,
            table,
            max_atoms_per_batch=self.max_atoms_per_batch,
            retry=retry_of(table, errors=self.retry_errors),
            counts=counts,
        )
