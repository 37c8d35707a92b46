"""Crystals by name: files, and where there is none, materials that the Materials Project knows by id or formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymatgen.core import Composition

from dpa4_core.data.readers import NamedStructure, read_structures
from dpa4_core.data.told_apart import told_apart
from dpa4_core.errors import DPA4Error
from dpa4_flows.reference.mp_cache import MaterialsProjectError
from dpa4_flows.reference.sources import MAX_ABOVE_HULL, has_materials_project_key, open_materials_project

_ID = re.compile(r"(mp|mvc)-[a-z0-9]+")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()\[\]\d])+")


def read_crystals(names: Sequence[str | Path], *, alone: bool | None = None) -> list[NamedStructure]:
    """Every structure of all files; what is no file but an id (mp-22526) or a formula (LiCoO2) is that material of the
    Materials Project, of a formula the most stable one. Among several, one that cannot be read fails alone.

    Args:
        names: files, folders, archives, ids, formulas.
        alone: whether nothing else is read; by default if there is one name.

    Raises:
        DPA4Error: the only one cannot be read.
    """
    alone = len(names) == 1 if alone is None else alone
    found: list[NamedStructure] = []
    for name in names:
        try:
            found += [_material(str(name))] if is_material(name) else read_structures(name)
        except DPA4Error as error:
            if alone:
                raise
            found.append(NamedStructure(str(name), None, str(error)))
    return told_apart(found)


def is_material(name: str | Path) -> bool:
    """Whether a name is that of a material and not of a file."""
    text = str(name)
    if Path(text).expanduser().exists():
        return False
    return _ID.fullmatch(text) is not None or formula_of(text) is not None


def formula_of(text: str) -> Composition | None:
    """The composition of a text that is a formula and no file."""
    if not _FORMULA.fullmatch(text) or Path(text).exists():
        return None
    try:
        return Composition(text, strict=True)
    except ValueError:
        return None


def _material(name: str) -> NamedStructure:
    """From the cache of answers, or with a key from the server."""
    has_key = has_materials_project_key()
    client = open_materials_project(offline=not has_key)
    composition = formula_of(name)
    try:
        if composition is None:
            return NamedStructure(name, client.material(name).structure)
        return _most_stable(client, name, composition)
    except MaterialsProjectError as error:
        why = f": {error}" if has_key else " without a key: set MP_API_KEY to the one of materialsproject.org/api"
        raise MaterialsProjectError(
            f"there is no file {name}, and the Materials Project does not give that material{why}"
        ) from error


def _most_stable(client: Any, name: str, composition: Composition) -> NamedStructure:
    """The lowest phase of a formula; those near the hull first, which a hull asks for, too."""
    system = composition.chemical_system
    for limit in (MAX_ABOVE_HULL, None):
        phases = [
            phase
            for phase in client.phases(system, max_above_hull=limit)
            if phase.structure.composition.reduced_formula == composition.reduced_formula and not phase.deprecated
        ]
        if phases:
            lowest = min(phases, key=lambda phase: phase.energy_above_hull)
            others = f", the lowest of {len(phases)} of this formula" if len(phases) > 1 else ""
            words = f"is {lowest.material_id} of the Materials Project {lowest.database_version}{others}"
            return NamedStructure(name, lowest.structure, None, (words,))
    raise MaterialsProjectError(f"it has no {composition.reduced_formula} (database {client.database_version()})")
