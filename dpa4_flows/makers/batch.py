"""One job, one chunk of structures: computed in batches, streamed to the results table, and never computed
twice.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobflow import Maker, job
from pymatgen.core import Molecule, Structure

from dpa4_core.data.batching import default_budget
from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import PotentialLike
from dpa4_core.predict import predict
from dpa4_core.relax import RelaxResult, relax
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_flows.calculations import (
    rattled,
    relax_settings,
    relaxation_document,
    relaxation_key,
    static_settings,
)
from dpa4_flows.makers.model_reference import ModelField, takes_model
from dpa4_flows.makers.sources import CANDIDATES, find_structures, structures_of_files
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.makers.writer import ResultWriter
from dpa4_flows.results import ResultsTable, TableRef, open_for_job
from dpa4_flows.schemas import ChunkSummary, RelaxationDocument

logger = logging.getLogger(__name__)

RETRY_SINCE = "retry_errors_since"
"""Meta entry of the results table: failures older than this time, ISO 8601, are computed again."""

_PREDICT_AT_ONCE = 100  # structures between two writes of single points


@dataclass
class BatchMaker(Maker, ABC):
    """Base of chunk jobs. A chunk takes its structures from the results table by id or from files by number (small
    specs, any size of campaign) or directly, skips what the table already holds, and stores everything else, failures
    included.

    Args:
        name: name of the job.
        model: potential; or ``job.output.model`` of a training job in the same flow.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        retry_errors: compute again what is stored with an error. Without it this holds for want of memory, and for
            failures before the time that the table's meta entry `RETRY_SINCE` names.
        shared_table: the table lies on a network file system that several machines write to.
    """

    name: str = "DPA4 batch"
    model: ModelField = ModelField()
    max_atoms_per_batch: int | None = None
    retry_errors: bool = False
    shared_table: bool = False

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Every setting that changes the numbers; part of the key of a calculation."""

    @abstractmethod
    def _compute(
        self,
        structures: list[Structure | Molecule],
        potential: PotentialLike,
        info: ModelInfo,
        store: Callable[[RelaxationDocument], None],
    ) -> None:
        """Compute all ``structures`` and hand each document to ``store`` as soon as it is there."""

    def key(self, structure: Structure | Molecule) -> str:
        """Key under which this Maker stores the result of ``structure``; see `relaxation_key`."""
        return relaxation_key(structure, self.model, self.settings())

    @takes_table
    @takes_model(job(output_schema=ChunkSummary))
    def make(
        self,
        table: str | TableRef,
        ids: list[str] | None = None,
        structures: list[Structure | Molecule] | None = None,
        source: str = CANDIDATES,
        files: list[str] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> ChunkSummary:
        """Compute one chunk; its structures are named by ``ids``, given as ``structures``, or a part of ``files``.

        Args:
            table: the results table, or its path; made here, where the job is made, if missing.
            ids: what to compute, see `find_structures`.
            structures: pymatgen structures or their dictionaries, instead of ``ids``.
            source: where ``ids`` are found.
            files: files, archives and folders that the worker can read, instead of ``ids``.
            start, stop: which of the structures in ``files``, counted over all of them; all by default.
        """
        results = open_for_job(table, shared=self.shared_table)
        if files is not None:
            found, errors = structures_of_files(files, start, stop)
            for error in errors:
                logger.warning("not computed: %s", error)
            summary = self.run(results, found)
            return summary.model_copy(
                update={
                    "n_requested": summary.n_requested + len(errors),
                    "n_failed": summary.n_failed + len(errors),
                }
            )
        if structures is None:
            wanted: list[Structure | Molecule] = list(find_structures(results, ids or [], source))
        else:
            wanted = [structure_of_fields(s) if isinstance(s, dict) else s for s in structures]
        return self.run(results, wanted)

    def run(self, table: ResultsTable, structures: Sequence[Structure | Molecule]) -> ChunkSummary:
        """What the job does, without jobflow: compute what ``table`` lacks of ``structures`` and store it
        there.
        """
        by_key = {self.key(structure): structure for structure in structures}  # equal structures are computed once
        stored = table.calculations(by_key)
        since = table.get_meta(RETRY_SINCE)
        todo = [k for k in by_key if k not in stored or self._again(stored[k], since)]
        if todo:
            potential, info = self.model.load(), self.model.info()
            with ResultWriter(table) as writer:
                self._compute([by_key[key] for key in todo], potential, info, writer.add)
        final = {**stored, **table.calculations(todo)}
        return ChunkSummary(
            n_requested=len(structures),
            n_computed=len(todo),
            n_reused=len(structures) - len(todo),
            n_failed=sum(document.error is not None for document in final.values()),
            n_unconverged=sum(document.error is None and not document.converged for document in final.values()),
        )

    def _again(self, document: RelaxationDocument, since: str | None) -> bool:
        """Whether a stored failure is worth another try: memory is a matter of the machine, not of the structure."""
        if document.error is None:
            return False
        return (
            self.retry_errors
            or document.error_code == "out_of_memory"
            or (since is not None and document.provenance.created < datetime.fromisoformat(since))
        )

    def _budget(self, potential: PotentialLike) -> int:
        return self.max_atoms_per_batch or default_budget(potential.device)


@dataclass
class BatchRelaxMaker(BatchMaker):
    """Relax a chunk of structures.

    Args:
        name: name of the job.
        fmax: largest generalised force at the end, eV/Å.
        max_steps: optimiser steps before a structure counts as unconverged.
        relax_cell: relax the cell too.
        pressure_gpa: external pressure, GPa.
        optimizer, max_step, cell, keep_symmetry, check_minimum: see `dpa4_core.relax`; a mask of the cell is a list of
            six.
        rattle: width of the random displacements that a relaxation starts with, Å; always the same for one structure. A
            relaxation keeps the symmetry that it starts with, also on top of a barrier.

    The other options are those of `BatchMaker`.
    """

    name: str = "DPA4 batch relax"
    fmax: float = 0.02
    max_steps: int = 500
    relax_cell: bool = True
    pressure_gpa: float = 0.0
    rattle: float = 0.0
    optimizer: OptimizerName = "auto"
    max_step: float | None = None
    cell: str | list[int] = "full"
    keep_symmetry: bool = False
    check_minimum: bool = True

    def settings(self) -> dict[str, Any]:
        pushed = {"rattle": float(self.rattle)} if self.rattle else {}
        settings = relax_settings(
            fmax=self.fmax,
            max_steps=self.max_steps,
            relax_cell=self.relax_cell,
            pressure_gpa=self.pressure_gpa,
            dtype=self.model.dtype,
            optimizer=self.optimizer,
            max_step=self.max_step,
            cell=self.cell,
            keep_symmetry=self.keep_symmetry,
            check_minimum=self.check_minimum,
        )
        return pushed | settings

    def _compute(
        self,
        structures: list[Structure | Molecule],
        potential: PotentialLike,
        info: ModelInfo,
        store: Callable[[RelaxationDocument], None],
    ) -> None:
        settings = self.settings()

        def finished(index: int, result: RelaxResult) -> None:
            store(relaxation_document(structures[index], result, info, settings))

        relax(
            [rattled(structure, self.rattle) for structure in structures],
            potential,
            fmax=self.fmax,
            max_steps=self.max_steps,
            relax_cell=self.relax_cell,
            pressure_gpa=self.pressure_gpa,
            optimizer=self.optimizer,
            max_step=self.max_step,
            cell=self.cell,
            keep_symmetry=self.keep_symmetry,
            check_minimum=self.check_minimum,
            max_atoms_per_batch=self._budget(potential),
            on_result=finished,
        )


@dataclass
class BatchStaticMaker(BatchMaker):
    """Energy, forces and stress of a chunk of structures as they are; stored like relaxations of zero steps.

    The options are those of `BatchMaker`.
    """

    name: str = "DPA4 batch static"

    def settings(self) -> dict[str, Any]:
        return static_settings(dtype=self.model.dtype)

    def _compute(
        self,
        structures: list[Structure | Molecule],
        potential: PotentialLike,
        info: ModelInfo,
        store: Callable[[RelaxationDocument], None],
    ) -> None:
        settings = self.settings()
        for start in range(0, len(structures), _PREDICT_AT_ONCE):
            part = structures[start : start + _PREDICT_AT_ONCE]
            results = predict(part, potential, max_atoms_per_batch=self._budget(potential))
            for structure, result in zip(part, results, strict=True):
                store(relaxation_document(structure, result, info, settings))
