"""Lattice constants, elastic constants and phonons of well-known solids beside PBE and experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ase.build import bulk
from pydantic import Field
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.supercells import shortest_vector
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.stability import PhononPart, StabilityDocument
from dpa4_flows.makers.validation import (
    Key,
    Tolerance,
    ValidationDocument,
    ValidationRow,
    compared,
    errors,
    mean,
    validation,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.table import ResultsTable

_FILE = Path(__file__).parents[1] / "data" / "bulk_solids.json"
_SOLID = "solid"
_ASE_PROTOTYPES = ("diamond", "zincblende", "rocksalt", "fcc", "bcc")
TEMPERATURE_K = 300.0
REFERENCE_CELLS = 4
"""Primitive cells along each axis of the supercells with which the references of the phonons were computed."""

TOLERANCES = {
    "a": Tolerance(0.006),
    "K": Tolerance(0.08),
    "K of an alkali metal": Tolerance(0.15),
    "C": Tolerance(0.15, 10.0),
    "f": Tolerance(0.05),
    "S": Tolerance(0.085),
}
"""A good model of PBE lies within; entropies against measurement."""


class BulkError(Document):
    """Mean absolute deviations of one quantity."""

    quantity: str
    unit: str
    n: int = Field(description="Solids")
    reference: float | None = Field(description="Mean absolute deviation from the references")
    reference_percent: float | None
    experiment: float | None = Field(description="Mean absolute deviation from experiment")
    experiment_percent: float | None


class BulkDocument(ValidationDocument):
    """The whole table."""

    errors: list[BulkError]


@dataclass(frozen=True)
class BulkSolid:
    """A solid with what is known about it, see ``data/bulk_solids.json``."""

    formula: str
    facts: dict[str, Any]

    @property
    def elastic(self) -> bool:
        return self.facts["neo"] is not None

    @property
    def phonons(self) -> bool:
        return self.facts["phonons"] is not None

    @property
    def reference_length(self) -> float:
        """Å, of the supercell of the references, with room for a lattice that shrinks."""
        return 0.97 * REFERENCE_CELLS * shortest_vector(self.structure.lattice.matrix)

    @property
    def crystal(self) -> Crystal:
        return Crystal(self.structure, name=self.formula)

    @cached_property
    def structure(self) -> Structure:
        """Primitive cell to start from."""
        start, elements, prototype = self.facts["start"], self.facts["elements"], self.facts["prototype"]
        if prototype in _ASE_PROTOTYPES:
            return AseAtomsAdaptor.get_structure(bulk("".join(elements), prototype, a=start[0]))
        places: list[Any]
        if prototype == "perovskite":
            centre = 0.5
            places = [[0, 0, 0], [centre] * 3, [0, centre, centre], [centre, 0, centre], [centre, centre, 0]]
            return Structure(Lattice.cubic(start[0]), [*elements, *elements[2:] * 2], places)
        a, c, u = start  # rutile
        places = [[0, 0, 0], [0.5] * 3, [u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
        return Structure(Lattice.tetragonal(a, c), elements[:1] * 2 + elements[1:] * 4, places)


def bulk_solids(names: Sequence[str] | None = None, *, quick: bool = False) -> list[BulkSolid]:
    """The solids of the table, all of them, those with given formulas, or the few quick ones.

    Raises:
        ValueError: a name that is not in the table.
    """
    solids = [BulkSolid(facts["formula"], facts) for facts in json.loads(_FILE.read_text())["solids"]]
    if names:
        known = {solid.formula: solid for solid in solids}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"{unknown[0]!r} is not in the table; choose from {', '.join(known)}")
        return [known[name] for name in names]
    return [solid for solid in solids if solid.facts["quick"] or not quick]


def bulk_asks(
    property_: Stability, solids: Sequence[BulkSolid], min_length: float | None = None
) -> dict[Key, Ask[Any]]:
    """What the table compares of each solid; arguments as of `bulk_document`."""
    asks: dict[Key, Ask[Any]] = {}
    for solid in solids:
        elastic = property_.elastic if solid.elastic else None
        phonons = property_.phonons if solid.phonons else None
        if phonons is not None:
            phonons = replace(phonons, min_length=min_length or solid.reference_length)
        if elastic is not None or phonons is not None:
            asked = replace(property_, elastic=elastic, phonons=phonons, hull=None)
            asks[_SOLID, solid.formula] = Ask(asked, solid.crystal)
    return asks


def bulk_failures(found: Mapping[Key, Any]) -> dict[str, str]:
    """Sentences for what has no answer, and for parts of solids without one."""
    failures = errors({key: one for key, one in found.items() if key[0] != _SOLID})
    for formula, document in ((name, one) for (what, name), one in found.items() if what == _SOLID):
        for name in ("elastic", "phonons"):
            part = getattr(document, name)
            if part is not None and part.error is not None:
                failures[formula] = f"{name}: {part.error}"
        if document.error is not None:
            failures[formula] = document.error
    return failures


def bulk_rows(solids: Sequence[BulkSolid], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    """The numbers of the solids that have an answer."""
    for solid in solids:
        if (one := found.get((_SOLID, solid.formula))) and one.error is None:
            yield from _rows(solid, one)


def bulk_document(
    model: ModelRef,
    table: ResultsTable,
    property_: Stability,
    solids: Sequence[BulkSolid],
    *,
    min_length: float | None = None,
    **how: Any,
) -> BulkDocument:
    """Compute what the table lacks and compare.

    Args:
        model: the potential.
        table: relaxations, elastic tensors and phonons are found and kept here.
        property_: settings; what is None in it is left out, and so is the hull.
        solids: from `bulk_solids`.
        min_length: Å, of the supercells of phonons; None for those of the references.
        how: further arguments of `validation`.
    """
    asks, rows = bulk_asks(property_, solids, min_length), partial(bulk_rows, solids)
    done = validation(asks, rows, model, table, failures=bulk_failures, **how)
    return BulkDocument(**dict(done), errors=_errors(done.rows))


def lattice_constant(document: StabilityDocument) -> float:
    """Edge of the conventional cell along x, Å."""
    assert document.relaxed is not None
    structure = structure_of_fields(document.relaxed.structure)
    return float(SpacegroupAnalyzer(structure, symprec=0.01).get_conventional_standard_structure().lattice.a)


_NEO = "DPA4-Neo, reference implementation"
_PBE = "PBE, literature"

_Line = tuple[str, str, float | None, Any, str, Any, str]
"""Quantity, unit, value, reference, its source, experiment, and which of the tolerances holds."""


def _rows(solid: BulkSolid, document: StabilityDocument) -> list[ValidationRow]:
    rows = [_row(solid.formula, *line) for line in _cell_lines(solid.facts, document)]
    phonons = document.phonons
    if phonons is None or phonons.error is not None:
        return rows
    expected = "unstable" if solid.facts["phonons"]["imaginary"] else "stable"
    modes = ValidationRow(
        formula=solid.formula,
        quantity="imaginary modes",
        unit="THz",
        value=phonons.f_min_thz,
        reference=None,
        reference_source=f"PBE and DPA4-Neo: {expected}",
        tolerance="same verdict",
        passed=phonons.verdict == expected,
    )
    return [*rows, *(_row(solid.formula, *line) for line in _phonon_lines(solid.facts["phonons"], phonons)), modes]


def _cell_lines(facts: dict[str, Any], document: StabilityDocument) -> Iterator[_Line]:
    pbe, experiment, elastic = facts["pbe"], facts["experiment"] or {}, document.elastic
    if pbe is None:
        return
    source = f"PBE, {pbe['source']}".replace("PBE, PBE", "PBE")
    yield "a", "Å", lattice_constant(document), pbe["a"], source, experiment.get("a"), "a"
    if elastic is None:
        return
    kind = "K of an alkali metal" if facts["alkali"] else "K"
    yield "K", "GPa", elastic.k_vrh_gpa, pbe["k"], source, experiment.get("k"), kind
    measured = experiment.get("c") or (None, None, None)
    for i, (name, row, column) in enumerate((("C11", 0, 0), ("C12", 0, 1), ("C44", 3, 3))):
        value = None if elastic.c_ij_gpa is None else elastic.c_ij_gpa[row][column]
        yield name, "GPa", value, facts["neo"]["c"][i], _NEO, measured[i], "C"


def _phonon_lines(facts: dict[str, Any], phonons: PhononPart) -> Iterator[_Line]:
    neo, literature, measured, entropy = (facts[key] for key in ("neo", "pbe_to", "experiment_f", "experiment_entropy"))
    if neo["gamma_optical"] is None:  # one atom in the cell
        yield "f max", "THz", phonons.f_max_thz, literature, _PBE, measured, "f"
    else:
        yield "f max", "THz", phonons.f_max_thz, neo["f_max"], _NEO, None, "f"
        of_pbe = literature is not None and not facts["imaginary"]
        reference, source = (literature, _PBE) if of_pbe else (neo["gamma_optical"], _NEO)
        # TO; the upper end is LO, which no model without charges has
        yield "f Γ", "THz", min(phonons.gamma_optical_thz), reference, source, _lower_end(measured), "f"
    if entropy is not None:
        value = next((t.entropy_j_mol_k for t in phonons.thermal if t.temperature_k == TEMPERATURE_K), None)
        yield "S 300 K", "J/mol/K", value, entropy, "experiment, 298 K", entropy, "S"


def _lower_end(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _row(
    formula: str, quantity: str, unit: str, value: float | None, reference: Any, source: str, experiment: Any, kind: str
) -> ValidationRow:
    return compared(formula, quantity, unit, value, reference, source, TOLERANCES[kind], experiment)


def _errors(rows: Sequence[ValidationRow]) -> list[BulkError]:
    """Mean absolute deviations by quantity; what is meant to be imaginary is left out."""
    found = []
    for quantity in dict.fromkeys(row.quantity for row in rows):
        some = [r for r in rows if r.quantity == quantity and r.value is not None and r.reference and r.value > 0]
        if not some:
            continue
        to_reference = [(r.deviation or 0.0, r.reference or [1.0]) for r in some]
        to_experiment = [(r.deviation_experiment or 0.0, r.experiment) for r in some if r.experiment is not None]
        found.append(
            BulkError(
                quantity=quantity,
                unit=some[0].unit,
                n=len(some),
                reference=mean([abs(d) for d, _ in to_reference]),
                reference_percent=mean([100 * abs(d / sum(e) * len(e)) for d, e in to_reference]),
                experiment=mean([abs(d) for d, _ in to_experiment]),
                experiment_percent=mean([100 * abs(d / sum(e) * len(e)) for d, e in to_experiment]),
            )
        )
    return found
