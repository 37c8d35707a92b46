"""Base of the Makers of stability: many structures in few force calls, every finished part kept in the results
table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobflow import Maker, job
from pymatgen.core import Structure

from dpa4_core.data.batching import default_budget
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import PotentialLike
from dpa4_flows.calculations import relaxation_key
from dpa4_flows.makers.model_reference import ModelField, takes_model
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.results import ResultsTable, TableRef, open_for_job
from dpa4_flows.schemas_stability import StabilityPart, StabilityParts
from dpa4_flows.site_conversion import crystal_problem

P = TypeVar("P", bound=StabilityPart)

_BATCHES_BETWEEN_WRITES = 4


@dataclass
class PartMaker(Maker, ABC, Generic[P]):
    """Computes one part of stability for relaxed structures. Finished parts are found again by structure, model and
    settings; failed ones are computed anew.

    Args:
        name: name of the job.
        model: potential.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
    """

    name: str = "part"
    model: ModelField = ModelField()
    max_atoms_per_batch: int | None = None

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Every setting that changes the numbers."""

    @property
    @abstractmethod
    def document(self) -> type[P]:
        """Type of the part."""

    @abstractmethod
    def _work(self, structure: Structure) -> int:
        """About how many atoms all cells of ``structure`` have."""

    @abstractmethod
    def _compute(self, structures: list[Structure], potential: PotentialLike, info: ModelInfo) -> list[P]:
        """The parts of ``structures``; one that fails has an error."""

    @abstractmethod
    def _failed(self, sentence: str, info: ModelInfo) -> P:
        """The part of a structure for which nothing was computed."""

    @takes_table
    @takes_model(job(output_schema=StabilityParts))
    def make(self, structures: list[Structure], table: str | TableRef | None = None) -> StabilityParts:
        """One job for relaxed crystals.

        Args:
            structures: relaxed crystals, or the output of a job that gives a list of them.
            table: a results table that keeps finished parts, or its path; made here if missing.
        """
        return StabilityParts(parts=list(self.run(structures, None if table is None else open_for_job(table))))

    def key(self, structure: Structure) -> str:
        """Key under which the part of ``structure`` is kept."""
        settings = self.settings()
        return f"{settings['calculation']} {relaxation_key(structure, self.model, settings)}"

    def run(
        self,
        structures: Sequence[Structure],
        table: ResultsTable | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[P]:
        """Parts of all structures, in order.

        Args:
            structures: relaxed crystals.
            table: where finished parts are found and kept.
            on_done: called with the number of parts that were just finished.
        """
        found: dict[str, P] = {}
        by_key = {self.key(structure): structure for structure in structures}
        for key in by_key:
            stored = None if table is None else table.get_meta(key)
            if stored is not None:
                found[key] = self.document.model_validate(stored)
        if on_done is not None and found:
            on_done(len(found))
        todo = {key: structure for key, structure in by_key.items() if key not in found}
        if todo:
            potential, info = self.model.load(), self.model.info()
            problems = {key: problem for key, structure in todo.items() if (problem := crystal_problem(structure))}
            for key, problem in problems.items():
                found[key] = self._failed(problem, info)
                del todo[key]
            for keys in self._groups(todo, potential):
                parts = self._compute([todo[key] for key in keys], potential, info)
                for key, part in zip(keys, parts, strict=True):
                    found[key] = part
                    if table is not None and part.error is None:
                        table.set_meta(key, part.model_dump(mode="json"))
                if on_done is not None:
                    on_done(len(keys))
        return [found[self.key(structure)] for structure in structures]

    def _budget(self, potential: PotentialLike) -> int:
        return self.max_atoms_per_batch or default_budget(potential.device)

    def _groups(self, todo: dict[str, Structure], potential: PotentialLike) -> Iterator[list[str]]:
        """Keys in groups that fill some batches each, small structures first: what a kill can lose."""
        limit = _BATCHES_BETWEEN_WRITES * self._budget(potential)
        group: list[str] = []
        size = 0
        for key in sorted(todo, key=lambda k: len(todo[k])):
            work = self._work(todo[key])
            if group and size + work > limit:
                yield group
                group, size = [], 0
            group.append(key)
            size += work
        if group:
            yield group
