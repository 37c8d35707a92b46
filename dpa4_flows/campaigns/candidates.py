"""From structure files to candidates; what cannot be read stays in the list with the sentence that says why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pymatgen.core import Structure

from dpa4_core.data.bounded import storable
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.readers import NamedStructure, read_structures
from dpa4_core.data.structures import StructureError
from dpa4_core.data.told_apart import told_apart
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.site_conversion import as_pymatgen


def read_candidates(files: Iterable[str | Path], *, disordered: bool = False) -> list[Candidate]:
    """Candidates of all files in order, ids unique: those of rows are theirs, names of files are told apart by paths.

    Every format of `dpa4_core.data.readers` is read; rows of JSON files may also have ``tags``, ``source`` and
    ``formula``. A structure that cannot be used becomes a candidate with an error, and so does one whose sites are
    shared, unless ``disordered`` says that somebody orders it.

    Raises:
        StructureError: a file is not readable at all.
        ConfigError: an id that a row gives itself occurs twice.
    """
    read = [(file, named) for file in map(Path, files) for named in read_structures(file)]
    given = {place: own for place, (_, named) in enumerate(read) if (own := _own_id(named))}
    others = iter(told_apart([named for place, (_, named) in enumerate(read) if place not in given]))
    found: dict[str, tuple[Candidate, Path]] = {}
    for place, (file, named) in enumerate(read):
        one = named if place in given else next(others)
        name = given.get(place, one.name)
        if name in found:
            other = found[name][1]
            where = f"twice in {file}" if other == file else f"in {other} and in {file}"
            raise ConfigError(f"candidate id {name!r} occurs {where}; rename one")
        found[name] = (_candidate(one, file, disordered), file)
    return [candidate for candidate, _ in found.values()]


def _own_id(named: NamedStructure) -> str:
    """The id that a row gives itself, which readers number where it repeats; empty where a file gives the name."""
    own = identifier(named.labels, "")
    return own if own and f"{named.name}:".startswith(f"{own}:") else ""


def _candidate(named: NamedStructure, file: Path, disordered: bool) -> Candidate:
    """Candidate with a crystal in pymatgen's form, or with the reason why it has none."""
    structure, error, labels = named.structure, named.error, named.labels
    if disordered and named.is_disordered:
        error = None
    if error is None:
        try:
            structure = as_pymatgen(structure)
        except StructureError as problem:
            structure, error = None, f"{named.name}: {problem}"
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
