"""Libraries of phases: structures to compute beside the candidates, so that a hull has something to stand on.

A library gives structures only. Energies that come with a file are ignored: they belong to another model or
to DFT, and every phase of a hull is computed by the model in use.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from dpa4_core.data.bounded import parse_json
from dpa4_core.data.formats import read_text
from dpa4_core.data.json_layout import Row, rows_of
from dpa4_core.data.parse_errors import reason
from dpa4_core.data.readers import read_structures
from dpa4_core.data.system import StructureError
from dpa4_core.errors import DPA4Error, words_of
from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.site_conversion import as_pymatgen, crystal_problem

logger = logging.getLogger(__name__)

_ELEMENTS_FILE = Path(__file__).parents[1] / "data" / "elements.json.gz"

MATERIALS_PROJECT = "Materials Project"
"""Name of the source, as the library records it."""


class LibraryError(DPA4Error):
    """A file of phases that cannot be read; one sentence that names it."""


@dataclass(frozen=True, eq=False)
class ReferencePhase:
    """A structure that competes with the candidates.

    Attributes:
        name: id in its file, not unique between files.
        structure: the structure as published; relax it before use.
        source: where it came from.
        role: "element" for an elemental reference, else "competing".
    """

    name: str
    structure: Structure
    source: str
    role: str = "competing"

    @property
    def elements(self) -> frozenset[str]:
        """Element symbols."""
        return frozenset(element.symbol for element in self.structure.composition.elements)

    def row(self, key: str) -> dict[str, Any]:
        """The phase without its structure, whose relaxation has ``key``."""
        formula, n_atoms = self.structure.composition.reduced_formula, len(self.structure)
        named = {"name": self.name, "formula": formula, "source": self.source, "role": self.role}
        return {**named, "key": key, "n_atoms": n_atoms}


def load_phases(paths: Iterable[str | Path]) -> list[ReferencePhase]:
    """Phases of files, archives or folders in any format of `dpa4_core.data.readers`, in file order.

    Rows of JSON files may also have ``source`` and ``role``. A phase that cannot be used is an error: without it a hull
    would be too high.

    Raises:
        LibraryError: a file is missing or cannot be read, or one of its structures cannot be used.
    """
    return [phase for path in paths for phase in _read(Path(path))]


@cache
def _bundled() -> tuple[ReferencePhase, ...]:
    return tuple(_read(_ELEMENTS_FILE))


def bundled_elements(elements: Collection[str] | None = None) -> list[ReferencePhase]:
    """Elemental structures that come with the package (84 elements, up to three polymorphs each).

    Args:
        elements: symbols to keep, all by default; unknown ones are left out.
    """
    return [phase for phase in _bundled() if elements is None or phase.elements <= frozenset(elements)]


def select_for_chemsys(phases: Sequence[ReferencePhase], chemical_systems: Iterable[str]) -> list[ReferencePhase]:
    """Phases whose elements all lie in one of the systems ("Co-Li-O", symbols in any order)."""
    systems = {frozenset(system.split("-")) for system in chemical_systems}
    wanted: dict[frozenset[str], bool] = {}
    for phase in phases:
        if phase.elements not in wanted:
            wanted[phase.elements] = any(phase.elements <= system for system in systems)
    return [phase for phase in phases if wanted[phase.elements]]


def read_surveys(path: Path) -> dict[str, Survey]:
    """By chemical system, the surveys that stand behind an export of a library (JSON); none in any other file.

    Raises:
        LibraryError: the file is missing or not JSON, or its surveys are damaged.
    """
    if not path.name.lower().endswith((".json", ".json.gz")):
        return {}
    content = _content(path)
    told = content.get("surveys") if isinstance(content, Mapping) and "entries" in content else None
    if told is None:
        return {}
    try:
        return {str(system): Survey.model_validate(survey) for system, survey in dict(told).items()}
    except (TypeError, ValueError) as error:
        raise LibraryError(
            f"the surveys in {path} are damaged: each chemical system needs source, version and date"
        ) from error


def read_rows(path: Path) -> list[Row]:
    """All phases of a file as JSON has them, in any layout of `dpa4_core.data.json_layout`.

    Raises:
        LibraryError: the file is missing or not JSON, or holds no list of phases.
    """
    content = _content(path)
    if not isinstance(content, list | Mapping):
        raise LibraryError(f"{path} holds no list of phases")
    return list(rows_of(content))


def _content(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise LibraryError(f"cannot read the phases in {path}: {words_of(error)}") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise LibraryError(f"{path} is not a JSON file of phases: {reason(error, 'JSON')}") from error


def _read(path: Path) -> Iterator[ReferencePhase]:
    try:
        entries = read_structures(path)
    except StructureError as error:
        raise LibraryError(str(error)) from error
    for entry in entries:
        try:
            if entry.error is not None:
                raise LibraryError(entry.error)
            structure = as_crystal(entry.structure)
        except LibraryError as error:
            raise LibraryError(f"{path} holds a phase that cannot compete: {error}") from error
        for text in entry.warnings:
            logger.warning("%s in %s: %s", entry.name, path, text)
        yield ReferencePhase(
            name=entry.name,
            structure=structure,
            source=str(entry.labels.get("source") or path.name),
            role=str(entry.labels.get("role") or ("element" if structure.composition.is_element else "competing")),
        )


def as_crystal(structure: Any) -> Structure:
    """A pymatgen structure of what a file held.

    Raises:
        LibraryError: it is no crystal.
    """
    try:
        crystal = as_pymatgen(structure)
    except StructureError as error:
        raise LibraryError(str(error)) from error
    if not isinstance(crystal, Structure):
        raise LibraryError("a molecule has no place on the hull of crystals; give it a periodic cell")
    if problem := crystal_problem(crystal):
        raise LibraryError(problem)
    return crystal
