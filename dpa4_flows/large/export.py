"""The results of a run in one file: extended XYZ, CSV, JSON or Parquet, written a part at a time."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.data.labelled.pymatgen_json import STRESS_UNIT
from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing
from dpa4_flows.large.folder import RunFolder
from dpa4_flows.large.rows import SCHEMA, Row, read_shard, to_table, write_shard

_ROWS_AT_ONCE = 1000
_DEVIATIONS = ("energy_per_atom_std", "worst_force_std")  # not there in runs of older versions
SUMMARY_COLUMNS = [
    *("source", "name", "formula", "n_atoms", "energy", "energy_per_atom", "volume", "volume_change"),
    *("fmax", "n_steps", "n_force_calls", "converged", "reason", "minimum", "flags", "warnings"),
    *("error", "error_code", "key", *_DEVIATIONS),
]
"""A number or a word each: what a CSV file has of a structure."""


def export_run(run: RunFolder, path: Path) -> int:
    """Write all results so far in the order of the input; failures too, but not to extended XYZ.

    Args:
        run: the run.
        path: file that ends in .extxyz, .csv, .json or .parquet.

    Returns:
        How many rows were written.

    Raises:
        DPA4Error: another ending.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise DPA4Error(f"cannot tell the format from {path.name!r}; end the name in {', '.join(WRITERS)}")
    with replacing(path) as part:
        return write(run, part)


def unpack(path: Path, run: RunFolder) -> None:
    """Turn a Parquet file of all results back into the shards of its run, which are as old as the file.

    Args:
        path: what `export_run` wrote.
        run: the same run, in a new folder.
    """
    rows, written = read_shard(path), path.stat().st_mtime
    for number in range(run.n_slices):
        write_shard(run.shard(number), islice(rows, run.slice_length(number)), run.facts())
        os.utime(run.shard(number), (written, written))


def _write_parquet(run: RunFolder, path: Path) -> int:
    written, rows = 0, run.rows()
    facts = run.facts()
    with pq.ParquetWriter(path, SCHEMA.with_metadata({"dpa4": json.dumps(facts)}), compression="zstd") as writer:
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            table: pa.Table = to_table(part, facts)
            writer.write_table(table)
            written += len(part)
    return written


def _write_csv(run: RunFolder, path: Path) -> int:
    written = 0
    with _text(path) as file:
        origin = run.origin()
        writer = csv.DictWriter(file, [*SUMMARY_COLUMNS, *origin])
        writer.writeheader()
        for row in run.rows(SUMMARY_COLUMNS):
            joined = {"flags": " ".join(row["flags"] or []), "warnings": "; ".join(row.get("warnings") or [])}
            writer.writerow(row | joined | origin)
            written += 1
    return written


def _write_json(run: RunFolder, path: Path) -> int:
    written = 0
    common = {"stress_unit": STRESS_UNIT, **run.origin()}
    with _text(path) as file:
        for row in run.rows():
            file.write(("[\n" if not written else ",\n") + json.dumps(row | common))
            written += 1
        file.write("\n]\n" if written else "[]\n")
    return written


def _write_extxyz(run: RunFolder, path: Path) -> int:
    written = 0
    with _text(path) as file:
        for row in _successful(run.rows()):
            atoms = flat_atoms(row)
            keys = ("name", "source", "energy_per_atom", "fmax", "n_steps", "converged", "minimum", *_DEVIATIONS)
            atoms.info |= {key: row[key] for key in keys if row.get(key) is not None} | run.origin()
            if row["flags"]:
                atoms.info["flags"] = " ".join(row["flags"])
            if row.get("warnings"):
                atoms.info["warnings"] = "; ".join(row["warnings"])
            known = {"energy": row["energy"]}
            if row["forces"] is not None:
                known["forces"] = np.reshape(row["forces"], (-1, 3))
            if row["stress"] is not None:
                known["stress"] = full_3x3_to_voigt_6_stress(np.reshape(row["stress"], (3, 3)))
            atoms.calc = SinglePointCalculator(atoms, **known)
            ase.io.write(file, atoms, format="extxyz")
            written += 1
    return written


def _text(path: Path) -> TextIO:
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")  # names need not be text


def _successful(rows: Iterator[Row]) -> Iterator[Row]:
    return (row for row in rows if row["error"] is None)


WRITERS: dict[str, Callable[[RunFolder, Path], int]] = {
    ".extxyz": _write_extxyz,
    ".xyz": _write_extxyz,
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
