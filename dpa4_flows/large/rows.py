"""Results as rows: one journal line as soon as a structure is done, one Parquet shard when its slice is.

A shard is written beside its place, synchronised to the disk and renamed: where it is, it is whole. A journal is
appended to with one unbuffered write per structure; a line that a killed process left half written has no end and is
not read.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.data import chemical_symbols
from pymatgen.core import Composition

from dpa4_core.data.site_data import OXIDATION_STATES, as_atoms, site_data
from dpa4_core.data.structures import StructureError, System, to_system
from dpa4_core.files import append, replacing
from dpa4_core.predict import Prediction
from dpa4_core.relax import RelaxResult
from dpa4_core.verdicts import ErrorCode, code_of_earlier_version
from dpa4_flows.documents.calculations import calculation_key, largest_force, system_hash
from dpa4_flows.model_ref import ModelRef

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # number in the whole input
        ("source", pa.string()),  # file, member, number in the file
        ("name", pa.string()),  # how the structure calls itself
        ("structure_hash", pa.string()),  # of the input structure
        ("key", pa.string()),  # of structure, model and settings
        ("formula", pa.string()),  # reduced
        ("n_atoms", pa.int32()),
        ("numbers", pa.list_(pa.uint8())),  # [n]
        ("positions", pa.list_(pa.float64())),  # [3 n], Å, Cartesian
        ("cell", pa.list_(pa.float64())),  # [9], Å, rows are lattice vectors; null without periodicity
        ("pbc", pa.list_(pa.bool_())),  # [3]
        ("charge", pa.int16()),
        ("spin", pa.int16()),  # multiplicity
        ("fixed", pa.list_(pa.bool_())),  # [3 n], Cartesian coordinates that stay; null where all may move
        ("magmoms", pa.list_(pa.float64())),  # [n] or [3 n], initial moments of the input, μB; null without
        ("tags", pa.list_(pa.int64())),  # [n]; null without
        ("oxidation_states", pa.list_(pa.float64())),  # [n], null for a site without; null without any
        ("masses", pa.list_(pa.float64())),  # [n], u; null where all are the standard ones
        ("energy", pa.float64()),  # eV
        ("energy_per_atom", pa.float64()),
        ("forces", pa.list_(pa.float64())),  # [3 n], eV/Å
        ("stress", pa.list_(pa.float64())),  # [9], eV/Å³, positive under tension
        ("volume", pa.float64()),  # Å³
        ("volume_change", pa.float64()),  # relative to the input
        ("fmax", pa.float64()),  # eV/Å
        ("n_steps", pa.int32()),
        ("n_force_calls", pa.int32()),
        ("converged", pa.bool_()),
        ("reason", pa.string()),
        ("minimum", pa.string()),  # verified, likely, saddle, not_checked
        ("flags", pa.list_(pa.string())),  # what deserves a look; empty where nothing does
        ("warnings", pa.list_(pa.string())),  # what its file made doubtful; null in runs of older versions
        ("error", pa.string()),
        ("error_code", pa.string()),  # the same for logic; not there in runs of older versions
        ("energy_per_atom_std", pa.float64()),  # eV/atom, between members of a committee; null for a single model
        ("worst_force_std", pa.float64()),  # eV/Å, of the atom whose force is least certain
    ]
)
"""Columns of a shard."""

_ROW_GROUP = 1000
_SINGLE_POINT = {"converged": True, "reason": "single point"}


class Rows:
    """Makes rows for one model and one set of settings.

    Args:
        model: with its checksum.
        settings: every setting that changes the numbers.
        with_forces: whether rows hold the forces.
    """

    def __init__(self, model: ModelRef, settings: Mapping[str, Any], *, with_forces: bool) -> None:
        self._model, self._settings, self._with_forces = model, dict(settings), with_forces

    def unusable(self, index: int, source: str, name: str, error: str, code: ErrorCode | None = "refused") -> Row:
        """The row of an entry that never became a structure."""
        entry = {"index": index, "source": source, "name": name, "converged": False}
        return entry | {"reason": error, "error": error, "error_code": code}

    def computed(self, index: int, source: str, name: str, structure: Any, result: RelaxResult | Prediction) -> Row:
        """The row of a structure that went through the potential.

        Args:
            index, source, name: of the entry.
            structure: as it came in.
            result: what became of it.
        """
        if result.error is not None:
            row = self.unusable(index, source, name, result.error, result.error_code)
            return row | self._input(structure)
        final = structure if isinstance(result, Prediction) else result.structure
        before, after = to_system(structure), to_system(final)
        energy = float(result.energy)
        row = {
            "index": index,
            "source": source,
            "name": name,
            **self._input(structure),
            "numbers": after.numbers.tolist(),
            "positions": after.positions.ravel().tolist(),
            "cell": after.cell.ravel().tolist() if after.periodic else None,
            "pbc": after.pbc.tolist(),
            "energy": energy,
            "energy_per_atom": energy / after.n_atoms,
            "forces": _flat(result.forces) if self._with_forces else None,
            "stress": _flat(result.stress),
        }
        if result.energy_std is not None:
            row |= {"energy_per_atom_std": result.energy_std / after.n_atoms, "worst_force_std": result.worst_force_std}
        row |= _site_columns(final, after)
        if after.charge_spin is not None:
            row["charge"], row["spin"] = after.charge_spin
        if after.periodic:
            row["volume"] = after.volume
            row["volume_change"] = after.volume / before.volume - 1
        if isinstance(result, Prediction):
            return row | {"fmax": largest_force(result.forces), "n_steps": 0, "n_force_calls": 1} | _SINGLE_POINT
        return row | {
            "fmax": _finite(result.fmax),
            "n_steps": int(result.n_steps),
            "n_force_calls": int(result.n_force_calls),
            "converged": bool(result.converged),
            "reason": result.reason,
            "minimum": result.minimum,
            "flags": list(result.flags),
        }

    def _input(self, structure: Any) -> Row:
        try:
            system = to_system(structure)
        except StructureError:
            return {}
        name = system_hash(system)
        return {
            "structure_hash": name,
            "key": calculation_key(name, self._model, self._settings),
            "formula": _reduced_formula(system),
            "n_atoms": system.n_atoms,
        }


class Journal:
    """Rows of an unfinished slice, a line each; a reader sees every row that was appended.

    Args:
        path: file to append to.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("ab", buffering=0)
        if self._file.tell():
            append(self._file.fileno(), b"\n", path)  # ends a line that was left half written

    def attempt(self, index: int) -> None:
        """Say that structure ``index`` is computed now, alone; see `read_attempts`."""
        self.append({"attempt": index})

    def append(self, row: Row) -> None:
        """Add a row, all of it or nothing.

        Raises:
            WriteError: the disk is full, or refuses for another reason.
        """
        line = json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        append(self._file.fileno(), line, self._path)

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[Row]:
    """The complete rows of a journal, also of one that is being written; none if it is gone."""
    return (line for line in _complete_lines(path) if "index" in line)


def read_attempts(path: Path) -> Iterator[int]:
    """Structures that a process began to compute alone; without a row it did not survive them."""
    return (line["attempt"] for line in _complete_lines(path) if "attempt" in line)


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    try:
                        yield json.loads(line)
                    except ValueError:  # half a line, or a hole that a crash of the machine left
                        continue
    except FileNotFoundError:
        return


def write_shard(path: Path, rows: Iterable[Row], facts: Mapping[str, Any]) -> None:
    """Write rows as one Parquet file that is complete as soon as it exists, also after a power cut.

    Args:
        path: where.
        rows: any order.
        facts: what the file says about its origin, under the key ``dpa4`` of its metadata.
    """
    table = to_table(sorted(rows, key=lambda row: row["index"]), facts)
    with replacing(path) as part, part.open("wb") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=_ROW_GROUP)


def storable_row(row: Row) -> Row:
    """``row`` as it can be stored: text that is none, as in names of files of another system, is written as codes.

    Raises:
        ValueError: a number that the columns do not take.
    """
    row = {key: _storable(value) for key, value in row.items()}
    json.dumps(row, allow_nan=False)
    try:
        to_table([row], {})
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ValueError(str(error)) from error
    return row


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return (
        [_storable(item) for item in value]
        if isinstance(value, list) and value and isinstance(value[0], str)
        else value
    )


def to_table(rows: Sequence[Row], facts: Mapping[str, Any]) -> pa.Table:
    """Rows as an Arrow table whose metadata tells the origin."""
    rows = [{key: _storable(value) for key, value in row.items()} for row in rows]  # journals of an older version
    return pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({"dpa4": json.dumps(facts)}))


def error_code(row: Row) -> ErrorCode | None:
    """Why a row has no numbers, also one of a run of an older version."""
    if row.get("error") is None:
        return None
    return row.get("error_code") or code_of_earlier_version(row["error"])


def read_shard(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of a shard, a part at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROW_GROUP, columns=columns):
            yield from batch.to_pylist()


_SITE_ARRAYS = {
    "magmoms": "initial_magmoms",
    "tags": "tags",
    "oxidation_states": OXIDATION_STATES,
    "masses": "masses",
}
"""Columns of a row under ASE's names."""


def _site_columns(structure: Any, system: System) -> Row:
    """What the structure says about its sites, as far as it says anything."""
    atoms = as_atoms(structure)
    said = site_data(atoms)
    columns: Row = {"fixed": system.fixed.ravel().tolist()} if system.fixed.any() else {}
    wanted = {"magmoms": "magnetic moments", "tags": "tags", "oxidation_states": "oxidation states"}
    for column, what in wanted.items():
        if what in said:
            columns[column] = [_number(value) for value in atoms.arrays[_SITE_ARRAYS[column]].ravel().tolist()]
    if system.masses is not None:
        columns["masses"] = system.masses.tolist()
    return columns


def _number(value: float) -> float | None:
    """The journal is JSON, which has no NaN."""
    return None if math.isnan(value) else value


def _reduced_formula(system: System) -> str:
    counts = Counter(chemical_symbols[number] for number in system.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pymatgen sorts by electronegativity, which noble gases have not
        return str(Composition(counts).reduced_formula)


def _flat(array: Any) -> list[float] | None:
    return None if array is None else np.asarray(array, dtype=float).ravel().tolist()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
