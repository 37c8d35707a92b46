"""Where chunk jobs find their structures: jobs carry ids, which keeps them small; the table has the rest."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_flows.results import ResultsTable

CANDIDATES = "candidates"
"""The candidates of the table. Any other source is ``"package.module:function"``: a function of table and ids
that gives one structure per id."""


def find_structures(table: ResultsTable, ids: Sequence[str], source: str = CANDIDATES) -> list[Structure]:
    """Structures that ``ids`` stand for, in their order.

    Args:
        table: the results table.
        ids: names of structures.
        source: `CANDIDATES` or ``"package.module:function"``.

    Raises:
        DPA4Error: an id without a structure, or a source that cannot be imported.
    """
    if source == CANDIDATES:
        return [Structure.from_dict(structure) for structure in _candidates(table, ids)]
    return _function(source)(table, list(ids))


def count_atoms(table: ResultsTable, ids: Sequence[str], source: str = CANDIDATES) -> list[int]:
    """Number of atoms of each structure; arguments as in `find_structures`."""
    if source == CANDIDATES:  # quicker than making 100,000 structures
        return [len(structure["sites"]) for structure in _candidates(table, ids)]
    return [len(structure) for structure in find_structures(table, ids, source)]


def _candidates(table: ResultsTable, ids: Sequence[str]) -> list[dict[str, Any]]:
    found = {c.candidate_id: c.structure for c in table.candidates(ids) if c.structure is not None}
    missing = [i for i in ids if i not in found]
    if missing:
        raise DPA4Error(f"{len(missing)} candidates of {table.path} have no structure, {missing[0]!r} is the first")
    return [found[i] for i in ids]


def _function(source: str) -> Callable[[ResultsTable, list[str]], list[Structure]]:
    module_name, _, attribute = source.partition(":")
    try:
        function: Callable[[ResultsTable, list[str]], list[Structure]] = getattr(
            importlib.import_module(module_name), attribute
        )
    except (ImportError, AttributeError, ValueError) as error:
        raise DPA4Error(
            f"{source!r} cannot be imported ({error}): expected candidates or package.module:function"
        ) from error
    return function
