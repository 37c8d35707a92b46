"""Libraries of phases: structures to compute beside the candidates, so that a hull has something to stand on.

A library gives structures only. Energies that come with a file are ignored: they belong to another model or
to DFT, and every phase of a hull is computed by the model in use.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import DummySpecies, Structure

from dpa4_core.data.bounded import LARGEST_FILE, bounded_stream, parse_json, whole_text
from dpa4_core.data.parse_errors import reason
from dpa4_core.data.plain_fields import structure_of_fields, structure_of_lists
from dpa4_core.data.system import StructureError
from dpa4_core.errors import words_of

_ELEMENTS_FILE = Path(__file__).parents[1] / "data" / "elements.json.gz"
_NAME_KEYS = ("id", "name", "entry_id", "material_id")


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

    A file holds a list, a list under ``entries``, ``phases`` or ``structures``, or a dictionary from name to
    phase. A phase is a pymatgen structure or entry as a dictionary, or a row with ``structure``, which in
    turn is a pymatgen dictionary or has ``lattice`` (3×3, Å, rows), ``species`` and ``frac_coords``. ``id``,
    ``source`` and ``role`` are optional.

    Raises:
        LibraryError: a file is missing or not JSON, or a row is no phase.
    """
    return [phase for path in paths for phase in _read(Path(path))]


def bundled_elements(elements: Collection[str] | None = None) -> list[ReferencePhase]:
    """Elemental structures that come with the package (84 elements, up to three polymorphs each).

    Args:
        elements: symbols to keep, all by default; unknown ones are left out, see `missing_elements`.
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


def missing_elements(phases: Sequence[ReferencePhase], chemical_systems: Iterable[str]) -> dict[str, list[str]]:
    """Elements without an elemental phase: {chemical system: symbols}; complete systems are left out."""
    present = {symbol for phase in phases if len(phase.elements) == 1 for symbol in phase.elements}
    missing = {system: sorted(set(system.split("-")) - present) for system in chemical_systems}
    return {system: symbols for system, symbols in missing.items() if symbols}


def read_rows(path: Path) -> list[tuple[str | None, Any]]:
    """(name or None, phase as JSON has it) for all phases of a file, in any layout of `load_phases`.

    Raises:
        LibraryError: the file is missing or not JSON, or holds no list of phases.
    """
    try:
        content = parse_json(_text(path))
    except OSError as error:
        raise LibraryError(f"cannot read the phases in {path}: {words_of(error)}") from error
    except (ValueError, EOFError, zlib.error) as error:
        raise LibraryError(f"{path} is not a JSON file of phases: {reason(error, 'JSON')}") from error
    return _rows(content, path)


def _text(path: Path) -> str:
    """The text of a plain or gzipped file, whatever its name."""
    with path.open("rb") as stream:
        if stream.peek(2)[:2] != b"\x1f\x8b":
            return whole_text(stream, LARGEST_FILE)
        size = path.stat().st_size
        with gzip.open(stream) as unpacked, bounded_stream(unpacked, lambda: size) as bounded:
            return whole_text(bounded, LARGEST_FILE)


def _read(path: Path) -> Iterator[ReferencePhase]:
    for position, (name, row) in enumerate(read_rows(path)):
        yield _phase(row, name, position, path)


def _rows(content: Any, path: Path) -> list[tuple[str | None, Any]]:
    """(name or None, phase) pairs of any of the layouts."""
    if isinstance(content, Mapping):
        for key in ("entries", "phases", "structures"):
            if isinstance(content.get(key), (list, Mapping)):
                return _rows(content[key], path)
        if "structure" in content or "lattice" in content:
            return [(None, content)]
        return [(str(name), row) for name, row in content.items()]
    if isinstance(content, list):
        return [(None, row) for row in content]
    raise LibraryError(f"{path} holds {type(content).__name__}, not a list of phases")


def _phase(row: Any, name: str | None, position: int, path: Path) -> ReferencePhase:
    if not isinstance(row, Mapping):
        raise LibraryError(f"row {position} of {path} is {type(row).__name__}, not a phase with a structure")
    data = row.get("structure", row)
    try:
        structure = _structure(data)
        formula = structure.composition.reduced_formula
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise LibraryError(
            f"row {position} of {path} has no readable structure: {reason(error, 'JSON')}; give "
            "lattice, species and frac_coords, or a pymatgen dictionary"
        ) from error
    given = next((str(row[key]) for key in _NAME_KEYS if row.get(key) not in (None, "")), name)
    return ReferencePhase(
        name=given if given is not None else f"{formula}-{position}",
        structure=structure,
        source=str(row.get("source") or path.name),
        role=str(row.get("role") or ("element" if structure.composition.is_element else "competing")),
    )


def _structure(data: Any) -> Structure:
    structure = (
        structure_of_fields(data)
        if "sites" in data
        else structure_of_lists(data["lattice"], data["species"], data["frac_coords"], cartesian=False)
    )
    if len(structure) == 0:
        raise StructureError("no atoms")
    if dummies := [str(species) for species in structure.elements if isinstance(species, DummySpecies)]:
        raise StructureError(f"{dummies[0]} is not an element")
    return structure
