"""From structure files to candidates; what cannot be read stays in the list with the sentence that says why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ase import Atoms
from pymatgen.core import Structure

from dpa4_core.data.bounded import LARGEST_FILE, open_bytes, parse_json, storable, whole_text
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.readers import ID_KEYS, NamedStructure, read_structures
from dpa4_flows.calculations import plain_structure
from dpa4_flows.campaigns.config import ConfigError
from dpa4_flows.schemas import Candidate
from dpa4_flows.site_conversion import as_pymatgen


def read_candidates(files: Iterable[str | Path]) -> list[Candidate]:
    """Candidates of all files in order, ids unique.

    Every format of `dpa4_core.data.readers` is read; rows of a JSON list may also have ``tags``, ``source`` and
    ``formula``. A structure that cannot be used becomes a candidate with an error.

    Raises:
        StructureError: a file is not readable at all.
        ConfigError: an id occurs twice.
    """
    found: dict[str, tuple[Candidate, Path]] = {}
    for file in map(Path, files):
        labels = _labels(file)
        for named in read_structures(file):
            if named.name in found:
                other = found[named.name][1]
                where = f"twice in {file}" if other == file else f"in {other} and in {file}"
                raise ConfigError(f"candidate id {named.name!r} occurs {where}; rename one")
            found[named.name] = (_candidate(named, labels.get(named.name, {}), file), file)
    return [candidate for candidate, _ in found.values()]


def _labels(file: Path) -> dict[str, dict[str, Any]]:
    """What the rows of a JSON list say besides the structure, by id; a repeated id is an error."""
    name = file.name.lower()
    if not file.is_file() or not name.endswith((".json", ".json.gz")):
        return {}
    try:
        with open_bytes(file) as stream:
            data = parse_json(whole_text(stream, LARGEST_FILE))
    except PARSE_ERRORS as error:
        raise ConfigError(f"{file} cannot be read: {reason(error, 'JSON')}") from None
    rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
    labels: dict[str, dict[str, Any]] = {}
    for row in rows:
        for name in {storable(str(row[key])) for key in ID_KEYS if key in row}:
            if name in labels:  # readers number what repeats, as in a trajectory; an id that somebody gave is unique
                raise ConfigError(f"candidate id {name!r} occurs twice in {file}; rename one")
            labels[name] = row
    return labels


def _candidate(named: NamedStructure, labels: dict[str, Any], file: Path) -> Candidate:
    """Candidate with an ordered crystal in pymatgen's form, or with the reason why it has none."""
    structure, error = named.structure, named.error
    if error is None and isinstance(structure, Atoms) and structure.pbc.any():
        structure = as_pymatgen(structure)
    if error is None and not isinstance(structure, Structure):
        error = f"{named.name} is not periodic; a campaign needs crystals"
    formula = labels.get("formula")
    if isinstance(structure, Structure) and len(structure):
        formula = structure.composition.element_composition.reduced_formula
    if error is None:
        structure = plain_structure(structure)
        structure.remove_oxidation_states()  # labels of the file, not of the relaxed structure
    tags = labels.get("tags") or []
    if not isinstance(tags, str | list):
        tags = [tags]
    return Candidate(
        candidate_id=named.name,
        formula=storable(str(formula or named.name)),
        structure=structure.as_dict() if error is None else None,
        source=storable(str(labels.get("source") or file.name)),
        tags=[storable(str(tag)) for tag in (tags.split() if isinstance(tags, str) else tags)],
        warnings=list(named.warnings),
        error=error,
    )
