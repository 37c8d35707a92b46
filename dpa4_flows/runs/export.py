"""The results of a run as files for other programs: a table, or a folder of structures with an index."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Literal

from ase import Atoms

from dpa4_core.errors import DPA4Error
from dpa4_core.files import csv_cell, plain_name, replacing_text, write_csv, write_json, write_text
from dpa4_flows.runs.run import Run
from dpa4_flows.structure_texts import cif_text, poscar_text

StructureFormat = Literal["cif", "poscar"]

INDEX_FILE = "index.csv"
_TEXTS: dict[str, tuple[str, Callable[[Atoms, str], str]]] = {
    "cif": (".cif", cif_text),
    "poscar": (".vasp", poscar_text),
}
_HEAD = ("file", "name", "formula", "stage", "verdict", "verdict_stage", "reasons")


def export(run: Run, path: Path, structure_format: StructureFormat = "cif", *, everyone: bool = False) -> str:
    """Write the results of a run; gives a phrase about what was written.

    Args:
        run: the run.
        path: a file that ends in .csv, .json or one of the run's own formats; or a folder, which gets structures.
        structure_format: of the structures in a folder.
        everyone: in a folder, also the structures of candidates that left.

    Raises:
        DPA4Error: another ending, or the run has no structures.
    """
    if path.is_dir() or not path.suffix:
        return _write_folder(run, path, structure_format, everyone=everyone)

    def write_rows(to: Path) -> str:
        rows = list(run.table())
        (write_csv if to.suffix.lower() == ".csv" else write_json)(to, rows)
        return f"{len(rows):,} rows"

    writers: dict[str, Callable[[Path], str]] = {".csv": write_rows, ".json": write_rows, **run.writers}
    if path.suffix.lower() not in writers:
        *some, last = writers
        raise DPA4Error(
            f"cannot export to {path.name}: choose a name that ends in {', '.join(some)} or {last}, or a folder for "
            "CIF files"
        )
    return writers[path.suffix.lower()](path)


def _write_folder(run: Run, folder: Path, structure_format: StructureFormat, *, everyone: bool) -> str:
    """A file for each structure, in a folder for each role, and the index of all of them."""
    suffix, text = _TEXTS[structure_format]
    taken: Counter[Path] = Counter()
    n_lines = 0
    structures = run.structures()
    first = next(structures, None)  # before anything is made: a run without structures says so
    with replacing_text(folder / INDEX_FILE) as stream:
        index = csv.writer(stream)
        index.writerow([*_HEAD, *run.numbers])
        for one in chain([] if first is None else [first], structures):
            file, reasons = "", one.reasons
            if one.atoms is not None and one.atoms.cell.rank < 3:
                reasons = "; ".join(filter(None, (reasons, "no three lattice vectors: export to .extxyz")))
            elif one.atoms is not None and (one.survives or everyone):
                place = Path(plain_name(one.role)) / plain_name(one.name)
                taken[place] += 1
                file = f"{place.as_posix()}{f'-{taken[place]}' if taken[place] > 1 else ''}{suffix}"
                write_text(folder / file, text(one.atoms, one.name))
            cells = (file, one.name, one.formula, one.role, one.verdict, one.at, reasons)
            index.writerow(map(csv_cell, (*cells, *(one.numbers.get(name) for name in run.numbers))))
            n_lines += 1
    return f"{taken.total():,} structures and {INDEX_FILE} with {n_lines:,} lines"
