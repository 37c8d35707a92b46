"""Structures as rows of plain lists: what large runs write, and what a row with ASE's names may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from dpa4_core.data.ase_fields import atoms_of_fields
from dpa4_core.data.plain_fields import numbers_of_any
from dpa4_core.data.site_data import OXIDATION_STATES, cartesian_constraints
from dpa4_core.data.system import StructureError

COLUMNS = ("numbers", "positions", "cell", "pbc", "charge", "spin", "fixed", "magmoms", "tags", "masses")
"""Of a structure, beside ``oxidation_states``."""
_ARRAYS = {"magmoms": "initial_magmoms", "tags": "tags", "masses": "masses", "oxidation_states": OXIDATION_STATES}


def is_flat(row: Mapping[str, Any]) -> bool:
    """Whether a row has atomic numbers and positions."""
    return row.get("numbers") is not None and row.get("positions") is not None


def flat_atoms(row: Mapping[str, Any]) -> Atoms:
    """The structure of a row, without its results.

    Args:
        row: ``numbers`` [n], ``positions`` [3 n] or [n, 3] in Å, ``cell`` [9] or [3, 3] in Å or None, ``pbc`` [3]; and
            as far as they are there ``charge``, ``spin``, ``fixed`` [3 n], ``magmoms``, ``tags``, ``masses`` and
            ``oxidation_states``.

    Raises:
        StructureError: a list is not what it should be; one sentence.
    """
    cell = row.get("cell")
    atoms = atoms_of_fields(
        {
            "numbers": row["numbers"],
            "positions": _in_rows(row["positions"], 3, "positions"),
            "cell": None if cell is None else _in_rows(cell, 3, "the cell"),
            "pbc": row.get("pbc", cell is not None),
        }
    )
    n = len(atoms)
    atoms.info |= {key: row[key] for key in ("charge", "spin") if row.get(key) is not None}
    for column, name in _ARRAYS.items():
        if row.get(column) is not None:  # files of earlier versions do not have them
            array = numbers_of_any(_without_gaps(row[column]), column)
            if array.size not in (n, 3 * n):
                raise StructureError(f"there are {array.size} {column.replace('_', ' ')} for {n} atoms")
            array = array.ravel() if array.size == n else array.reshape(n, 3)
            atoms.set_array(name, array.astype(np.int64) if name == "tags" else array)
    if row.get("fixed") is not None:
        fixed = _in_rows(row["fixed"], 3, "the list of fixed coordinates").astype(bool)
        if len(fixed) != n:
            raise StructureError(f"there are {len(fixed)} times three fixed coordinates for {n} atoms")
        atoms.set_constraint(cartesian_constraints(fixed))
    return atoms


def _in_rows(value: Any, width: int, what: str) -> np.ndarray[Any, Any]:
    array = numbers_of_any(value, what)
    if array.size % width:
        raise StructureError(f"{what} does not come in threes")
    return array.reshape(-1, width)


def _without_gaps(values: Any) -> Any:
    """JSON has no NaN; a site without a value has null."""
    return [np.nan if value is None else value for value in values] if isinstance(values, list) else values
