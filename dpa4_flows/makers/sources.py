"""Where chunk jobs find their structures: jobs carry numbers of those in files, which keeps them small."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from pymatgen.core import Molecule, Structure

from dpa4_core.data.readers import iter_entries
from dpa4_core.data.structures import StructureError
from dpa4_core.errors import DPA4Error
from dpa4_flows.site_conversion import as_pymatgen

logger = logging.getLogger(__name__)


def structures_of_files(
    files: Sequence[str], start: int, stop: int | None, *, takes_disorder: bool = False
) -> tuple[list[Structure | Molecule], list[str]]:
    """Structures ``start`` to ``stop`` of all that are in ``files``, and the errors of those that cannot be used.

    Everything before is passed over without parsing it, so that a job may name a part of an input of any size instead
    of carrying its structures.

    Args:
        files: files, archives and folders as `dpa4_core.data.readers.iter_entries` reads them.
        start, stop: numbers in all files together, broken entries included; no ``stop`` is the end.
        takes_disorder: whether crystals with shared sites are structures, and no errors.

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
        if named.error is not None and not (takes_disorder and named.is_disordered):
            errors.append(f"{entry.source}: {named.error}")
            continue
        for text in named.warnings:
            logger.warning("%s: %s", entry.source, text)
        try:
            structures.append(as_pymatgen(named.structure))
        except StructureError as problem:
            errors.append(f"{entry.source}: {problem}")
    return structures, errors
