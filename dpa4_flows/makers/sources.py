"""Where chunk jobs find their structures: jobs carry ids, which keeps them small; the table has the rest."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pymatgen.core import Molecule, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.data.readers import iter_entries
from dpa4_core.errors import DPA4Error
from dpa4_flows.site_conversion import as_pymatgen
from dpa4_flows.store.table import ResultsTable

logger = logging.getLogger(__name__)

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
        return [structure_of_fields(structure) for structure in _candidates(table, ids)]
    return _function(source)(table, list(ids))


def structures_of_files(
    files: Sequence[str], start: int, stop: int | None
) -> tuple[list[Structure | Molecule], list[str]]:
    """Structures ``start`` to ``stop`` of all that are in ``files``, and the errors of those that cannot be used.

    Everything before is passed over without parsing it, so that a job may name a part of an input of any size instead
    of carrying its structures.

    Args:
        files: files, archives and folders as `dpa4_core.data.readers.iter_entries` reads them.
        start, stop: numbers in all files together, broken entries included; no ``stop`` is the end.

    Raises:
        DPA4Error: a file is missing.
    """
    if missing := [file for file in files if not Path(file).expanduser().exists()]:
        raise DPA4Error(f"there is no file {missing[0]}")
    structures: list[Structure | Molecule] = []
    errors = []
    entries = chain.from_iterable(iter_entries(file) for file in files)
    for entry in islice(entries, start, stop):
        named = entry.read()
        if named.error is not None:
            errors.append(f"{entry.source}: {named.error}")
            continue
        for text in named.warnings:
            logger.warning("%s: %s", entry.source, text)
        structures.append(as_pymatgen(named.structure))
    return structures, errors


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
