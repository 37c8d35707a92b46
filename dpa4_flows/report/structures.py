"""Relaxed structures of a run with their energies and verdicts, as extended XYZ or JSON.

The first calculation behind a verdict is the one of the candidate that the verdict is about. Each is a frame once,
under the first stage that rests on it: the one that computed it. Both writers stream, so that memory does not grow
with the campaign.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TextIO

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz as write_ase_extxyz

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.documents.schemas import RelaxationDocument, StageResult
from dpa4_flows.report.caveats import campaign_caveats

_SLICE = 200


class Frame(NamedTuple):
    """One relaxed structure of a candidate, and the stage that computed it."""

    row: Row
    stage: StageResult
    calculation: RelaxationDocument

    def atoms(self) -> Atoms:
        """The structure, with its energy in eV (uncorrected) and with values and verdicts beside it."""
        return _atoms(self)


def iter_frames(snapshot: Snapshot, ids: Iterable[str] | None = None) -> Iterator[Frame]:
    """Frames in the order of ``ids``, by default all candidates, best first."""
    for _, frames in rows_with_frames(snapshot, ids):
        yield from frames


def write_extxyz(snapshot: Snapshot, stream: TextIO, ids: Iterable[str] | None = None) -> int:
    """Append frames to ``stream``: energy in eV (uncorrected), values and verdicts in the comment line.

    Returns:
        Number of frames.
    """
    number = 0
    for frame in iter_frames(snapshot, ids):
        write_ase_extxyz(stream, [frame.atoms()])
        number += 1
    return number


def write_json(snapshot: Snapshot, stream: TextIO) -> None:
    """One object: facts of the run and ``candidates`` with verdicts, values, units and relaxed structures.

    Structures are pymatgen dictionaries under the name of the stage that made them.
    """
    names = ("state", "campaign", "engine", "code_version", "started", "finished")
    facts = {"model": snapshot.model, "corrections": snapshot.corrections}
    facts |= {name: snapshot.meta[name] for name in names if name in snapshot.meta}
    facts["caveats"] = campaign_caveats(snapshot)
    stream.write(json.dumps(facts, ensure_ascii=False, indent=1).removesuffix("\n}"))
    stream.write(',\n "candidates": [')
    separator = "\n"
    for row, frames in rows_with_frames(snapshot):
        stream.write(separator + json.dumps(_record(row, frames), ensure_ascii=False))
        separator = ",\n"
    stream.write("\n]}\n")


def rows_with_frames(snapshot: Snapshot, ids: Iterable[str] | None = None) -> Iterator[tuple[Row, list[Frame]]]:
    """Each candidate of ``ids`` with its frames, perhaps none; by default all candidates, best first."""
    rows = snapshot.rows(ids)
    while part := list(islice(rows, _SLICE)):
        own = {row.candidate_id: _own_calculations(row) for row in part}
        found = snapshot.table.calculations(key for stages in own.values() for key in stages)
        for row in part:
            frames = [
                Frame(row, stage, found[key])
                for key, stage in own[row.candidate_id].items()
                if key in found and found[key].structure is not None
            ]
            yield row, frames


def _own_calculations(row: Row) -> dict[str, StageResult]:
    """The first stage that rests on each calculation of the candidate itself, by key; references come later in the
    list of a stage."""
    stages: dict[str, StageResult] = {}
    for stage in row.stages:
        if stage.calculation_keys:
            stages.setdefault(stage.calculation_keys[0], stage)
    return stages


def _atoms(frame: Frame) -> Atoms:
    row, stage, calculation = frame
    stored = calculation.structure or {}
    # without site properties: files carry some that ASE refuses, and none is a result
    structure = structure_of_fields(stored | {"sites": [site | {"properties": {}} for site in stored["sites"]]})
    atoms = Atoms(
        numbers=[site.specie.Z for site in structure],
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=structure.lattice.pbc,
    )
    atoms.info = {
        "candidate_id": row.candidate_id,
        "formula": row.formula,
        "stage": stage.stage,
        "verdict": row.outcome.status,
        "verdict_stage": row.outcome.stage,
        "converged": calculation.converged,
        "model_sha256": calculation.provenance.model_sha256,
        "level_of_theory": calculation.provenance.level_of_theory,
        "code_version": calculation.provenance.code_version,
    }
    if row.ranked is not None:
        atoms.info["rank"] = row.ranked.rank
        if row.ranked.score is not None:
            atoms.info["score"] = row.ranked.score
    if row.reasons:
        atoms.info["reasons"] = " | ".join(reason.sentence for reason in row.reasons)
        atoms.info["codes"] = " ".join(dict.fromkeys(reason.code for reason in row.reasons))
    if row.voided:
        atoms.info["voided"] = " ".join(row.voided)
    units = []
    for result in row.stages:
        for name, value in result.values.items():
            if value is not None:
                atoms.info[f"{result.stage}_{name}"] = value
                if unit := result.units.get(name):
                    units.append(f"{result.stage}_{name}: {unit}")
    if units:
        atoms.info["units"] = "; ".join(units)
    atoms.info = {name: _one_line(value) for name, value in atoms.info.items()}
    if calculation.energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=calculation.energy)
    return atoms


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _record(row: Row, frames: list[Frame]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "candidate_id": row.candidate_id,
        "formula": row.formula,
        "source": row.source,
        "status": row.outcome.status,
        "stage": row.outcome.stage,
        "reasons": [reason.model_dump() for reason in row.reasons],
        "voided": row.voided,
    }
    if row.ranked is not None:
        record |= row.ranked.model_dump(mode="json", exclude={"candidate_id", "formula"})
    record["stages"] = [
        s.model_dump(mode="json", exclude={"candidate_id", "document", "provenance"}) for s in row.stages
    ]
    record["structures"] = {
        frame.stage.stage: {
            "energy": frame.calculation.energy,
            "energy_unit": "eV",
            "converged": frame.calculation.converged,
            "calculation_key": frame.calculation.key,
            "structure": frame.calculation.structure,
        }
        for frame in frames
    }
    return record
