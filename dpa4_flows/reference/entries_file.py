"""Files of computed entries: structures with total energies and corrections, as pymatgen and MPRester write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.data.formats import stem
from dpa4_core.data.parse_errors import reason
from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.reference.library import LibraryError, read_rows


def read_entries(path: Path) -> dict[str, ComputedStructureEntry]:
    """Entries by id, in file order; energies are those of the file, corrections included.

    The file is JSON (.json, .json.gz) with a list of `ComputedStructureEntry` dictionaries, or with such a list under
    ``entries``, as `dpa4 reference export` writes it. Further keys of a row (a stored distance to a hull, ...) do not
    count.

    Raises:
        LibraryError: the file or a row cannot be read, or an id occurs twice.
    """
    found: dict[str, ComputedStructureEntry] = {}
    for position, row in enumerate(read_rows(path)):
        entry = _entry(row.value, position, path)
        key = row.name(stem(path))
        if key in found:
            raise LibraryError(f"the id {key!r} occurs twice in {path}; rename one")
        found[key] = entry
    if not found:
        raise LibraryError(f"{path} holds no entries")
    return found


def _entry(row: Any, position: int, path: Path) -> ComputedStructureEntry:
    if not isinstance(row, Mapping) or not {"structure", "energy"} <= set(row):
        raise LibraryError(
            f"row {position} of {path} is no computed entry: it needs `structure` and `energy`, as "
            "ComputedStructureEntry.as_dict() of pymatgen gives them"
        )
    try:
        return ComputedStructureEntry(
            structure_of_fields(row["structure"]),
            float(row["energy"]),
            correction=_correction(row),
            entry_id=row.get("entry_id"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LibraryError(
            f"row {position} of {path} is no readable entry of pymatgen: {reason(error, 'JSON')}"
        ) from error


def _correction(row: Mapping[str, Any]) -> float:
    """Sum of the corrections, eV per cell; read from the numbers, since a file may not name classes to be made."""
    total = row.get("correction")
    if total is not None:
        return float(total)
    adjustments = row.get("energy_adjustments") or []
    return float(sum(a["adj_per_atom"] * a["n_atoms"] if "adj_per_atom" in a else a["value"] for a in adjustments))
