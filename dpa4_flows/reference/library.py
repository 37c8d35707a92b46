"""Libraries of phases: structures to compute beside the candidates, so that a hull has something to stand on.

A library gives structures only. Energies that come with a file are ignored: they belong to another model or
to DFT, and every phase of a hull is computed by the model in use.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import DummySpecies, Structure

from dpa4_core.data.bounded import LARGEST_FILE, bounded_stream, parse_json, whole_text
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.json_layout import Row, rows_of
from dpa4_core.data.json_structures import structure_of
from dpa4_core.data.parse_errors import reason
from dpa4_core.data.system import StructureError
from dpa4_core.errors import words_of
from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.site_conversion import as_pymatgen, crystal_problem

_ELEMENTS_FILE = Path(__file__).parents[1] / "data" / "elements.json.gz"

MATERIALS_PROJECT = "Materials Project"
"""Name of the source, as the library records it."""


class LibraryError(ValueError):
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


def load_phases(paths: Iterable[str | Path]) -> list[ReferencePhase]:
    """Phases of JSON files (.json or .json.gz), in file order.

    A file holds a list, a list under ``entries``, ``phases`` or ``structures``, or a dictionary from name to phase. A
    phase is anything that `dpa4_core.data.json_structures.structure_of` reads; an id, ``source`` and ``role`` are
    optional.

    Raises:
        LibraryError: a file is missing or not JSON, or a row is no phase.
    """
    return [phase for path in paths for phase in _read(Path(path))]


def bundled_elements(elements: Collection[str] | None = None) -> list[ReferencePhase]:
    """Elemental structures that come with the package (84 elements, up to three polymorphs each).

    Args:
        elements: symbols to keep, all by default; unknown ones are left out.
    """
    return [phase for phase in _read(_ELEMENTS_FILE) if elements is None or phase.elements <= frozenset(elements)]


def select_for_chemsys(phases: Sequence[ReferencePhase], chemical_systems: Iterable[str]) -> list[ReferencePhase]:
    """Phases whose elements all lie in one of the systems ("Co-Li-O", symbols in any order)."""
    systems = {frozenset(system.split("-")) for system in chemical_systems}
    wanted: dict[frozenset[str], bool] = {}
    for phase in phases:
        if phase.elements not in wanted:
            wanted[phase.elements] = any(phase.elements <= system for system in systems)
    return [phase for phase in phases if wanted[phase.elements]]


def read_surveys(path: Path) -> dict[str, Survey]:
    """By chemical system, the surveys that stand behind an export of a library; none in any other file.

    Raises:
        LibraryError: the file is missing or not JSON, or its surveys are damaged.
    """
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
        return parse_json(_text(path))
    except OSError as error:
        raise LibraryError(f"cannot read the phases in {path}: {words_of(error)}") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise LibraryError(f"{path} is not a JSON file of phases: {reason(error, 'JSON')}") from error


def _text(path: Path) -> str:
    """The text of a plain or gzipped file, whatever its name."""
    with path.open("rb") as stream:
        if stream.peek(2)[:2] != b"\x1f\x8b":
            return whole_text(stream, LARGEST_FILE)
        size = path.stat().st_size
        with gzip.open(stream) as unpacked, bounded_stream(unpacked, lambda: size) as bounded:
            return whole_text(bounded, LARGEST_FILE)


def files_checksum(files: Sequence[Path]) -> str:
    """Twelve digits that change with the content of the files.

    Raises:
        LibraryError: one cannot be read.
    """
    checksum = hashlib.sha256()
    for file in files:
        try:
            checksum.update(file.read_bytes())
        except OSError as error:
            raise LibraryError(f"cannot read the phases in {file}: {error.strerror or error}") from error
    return checksum.hexdigest()[:12]


def _read(path: Path) -> Iterator[ReferencePhase]:
    for position, row in enumerate(read_rows(path)):
        yield _phase(row, position, path)


def _phase(row: Row, position: int, path: Path) -> ReferencePhase:
    where = f"row {row.part or position} of {path}"
    if not isinstance(row.value, Mapping):
        raise LibraryError(f"{where} is no phase with a structure")
    try:
        structure = as_crystal(structure_of(row.value))
        if len(structure) == 0:
            raise StructureError("no atoms")
        if dummies := [str(species) for species in structure.elements if isinstance(species, DummySpecies)]:
            raise StructureError(f"{dummies[0]} is not an element")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LibraryError(
            f"{where} has no readable structure: {reason(error, 'JSON')}; give "
            "lattice, species and frac_coords, or a pymatgen dictionary"
        ) from error
    name = row.key if row.key is not None else identifier(row.value, "")
    return ReferencePhase(
        name=name or f"{structure.composition.reduced_formula}-{position}",
        structure=structure,
        source=str(row.value.get("source") or path.name),
        role=str(row.value.get("role") or ("element" if structure.composition.is_element else "competing")),
    )


def as_crystal(structure: Any) -> Structure:
    """A pymatgen structure of what a file held.

    Raises:
        LibraryError: it is no crystal.
    """
    crystal = as_pymatgen(structure)
    if not isinstance(crystal, Structure):
        raise LibraryError("a molecule has no place on the hull of crystals; give it a periodic cell")
    if problem := crystal_problem(crystal):
        raise LibraryError(problem)
    return crystal
