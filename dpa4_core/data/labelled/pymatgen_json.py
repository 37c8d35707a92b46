"""JSON with pymatgen structures: MPtrj, MatPES, and lists of rows with a structure and an energy.

Stresses in these files are VASP's, in kbar and positive under compression, six of them in the order xx yy zz yz xz xy.
Structures are read without pymatgen where they are simple, which is some twenty times faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from dpa4_core.data.bounded import parse_json
from dpa4_core.data.formats import read_text, stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, labelled_frame
from dpa4_core.data.json_layout import Row, rows_of
from dpa4_core.data.json_structures import holds_structure, structure_of
from dpa4_core.data.labelled.ase_files import read_database
from dpa4_core.data.system import StructureError, System
from dpa4_core.units import EV_PER_ANGSTROM3_TO_KBAR

STRESS_UNIT = "eV/Å³"
"""What a row says under ``stress_unit`` if its stress is not VASP's but positive under tension, as ours are."""


def read_json(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Rows of a JSON file, whose kind is told by its content; the file is read as a whole."""
    data = parse_json(read_text(path))
    if isinstance(data, dict) and "ids" in data and "nextid" in data:
        yield from read_database(path, keys, source, kind="json")
        return
    rows = [(row.name(stem(path)), _with_material(row)) for row in rows_of(data)]
    if rows and not any(holds_structure(row) for _, row in rows):
        raise StructureError("the file holds no structures; leave it out, or give rows a structure and labels")
    for name, row in rows:
        yield attempt(name, source, partial(_frame_of_row, row, keys, name, source), "JSON")


def _with_material(row: Row) -> Any:
    """The row; the frames of MPtrj learn the name of their material."""
    return {"material_id": row.group, **row.value} if row.group and isinstance(row.value, dict) else row.value


def _frame_of_row(row: Any, keys: LabelKeys, name: str, source: str) -> Frame:
    if not holds_structure(row):
        raise StructureError("the row holds no structure")
    provenance = row.get("provenance")
    fields = {**(provenance if isinstance(provenance, dict) else {}), **row}
    labels: dict[str, Any] = {key: value for key, value in keys.find(row).items() if key != "virial"}
    if "energy" not in labels and keys.energy is None:
        labels["energy"] = row.get(f"{keys.energy_choice}_total_energy")
    if labels.get("stress") is not None and row.get("stress_unit") != STRESS_UNIT:
        labels["stress"] = _from_kbar(labels["stress"])
    structure = _structure(row)
    return labelled_frame(
        structure,
        labels,
        name=name,
        source=source,
        fields=fields,
        properties=keys.find_properties(fields),
        look_alikes=keys.look_alikes(fields, _n_atoms(structure)),
        weights=keys.find_weights(fields),
    )


def _n_atoms(structure: Any) -> int:
    return structure.n_atoms if isinstance(structure, System) else len(structure)


def _from_kbar(stress: Any) -> Any:
    """VASP's sign and unit into ours; what is no array of numbers stays, to be refused with the other labels."""
    try:
        return -np.asarray(stress, dtype=np.float64) / EV_PER_ANGSTROM3_TO_KBAR
    except (TypeError, ValueError):
        return stress


def _structure(row: Mapping[str, Any]) -> Any:
    data = row.get("structure")
    system = _simple_crystal(data) if isinstance(data, dict) else None
    return structure_of(row) if system is None else system


def _simple_crystal(data: Mapping[str, Any]) -> System | None:
    """The system of an ordered, neutral, fully periodic pymatgen structure; None if it is anything else."""
    lattice, sites = data.get("lattice"), data.get("sites")
    if not isinstance(lattice, dict) or not isinstance(sites, list) or data.get("charge"):
        return None
    if "matrix" not in lattice or not all(lattice.get("pbc", (True,))):
        return None
    numbers = []
    for site in sites:
        species: list[Any] = site.get("species", []) if "abc" in site else []
        if len(species) != 1 or species[0].get("occu", 1) != 1 or species[0].get("element") not in atomic_numbers:
            return None
        if "selective_dynamics" in site.get("properties", {}):
            return None
        numbers.append(atomic_numbers[species[0]["element"]])
    cell = np.array(lattice["matrix"], dtype=np.float64).reshape(3, 3)
    fractional = np.array([site["abc"] for site in sites], dtype=np.float64).reshape(-1, 3)
    return System(
        numbers=np.array(numbers, dtype=np.int64),
        positions=fractional @ cell,
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        fixed=np.zeros((len(numbers), 3), dtype=bool),
    )
