"""Corrected entries of calculated phases: what stands on a hull."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.completeness import PROTOTYPE, HullCompleteness, Survey, hull_completeness, tally
from dpa4_flows.analysis.corrections import CorrectedEntry, corrected_entry
from dpa4_flows.analysis.frames import check_fitted_to
from dpa4_flows.analysis.hull_spread import DEVIATIONS
from dpa4_flows.analysis.sanity import came_apart
from dpa4_flows.analysis.schemes import SchemeError, find_scheme, scheme_name
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.site_conversion import crystal_problem


@dataclass(frozen=True)
class ReferenceEntries:
    """What the competing phases of a results table give for a hull.

    Attributes:
        entries: corrected entries; ``entry_id`` is the name of the phase, ``data["source"]`` where it comes
            from.
        missing: phases without a usable energy, each with its row of the table and the sentence that says
            why. Without them a hull may be too high, so that distances to it are lower bounds.
    """

    entries: list[ComputedEntry]
    missing: list[tuple[dict[str, Any], str]]

    def missing_in(self, chemsys: str) -> list[str]:
        """Sentences on the missing phases of one chemical system; a proposal that came to nothing is no phase, and no
        form of an element is missed that has another.
        """
        system = set(chemsys.split("-"))
        there = {e.composition.reduced_formula for e in self.entries if e.composition.is_element}
        return [
            f"{row['formula']} ({row['name']}): {reason}"
            for row, reason in self.missing
            if row.get("role") != PROTOTYPE
            and row["formula"] not in there
            and set(Composition(row["formula"]).get_el_amt_dict()) <= system
        ]

    def completeness(
        self, chemsys: str, survey: Survey | None = None, *, formula: str | None = None
    ) -> HullCompleteness:
        """What competes in one chemical system.

        Args:
            chemsys: as ``"Co-Li-O"``.
            survey: of its phases.
            formula: of the phase that is judged, whose own composition does not count.
        """
        system = set(chemsys.split("-"))
        inside = [e for e in self.entries if {element.symbol for element in e.composition.elements} <= system]
        counted = tally((entry.composition, entry.data.get("role")) for entry in inside)
        without = self.missing_in(chemsys)
        return hull_completeness(chemsys, counted, formula=formula, without_energy=without, survey=survey)


def entries_of_phases(
    rows: Iterable[Mapping[str, Any]], documents: Mapping[str, RelaxationDocument], scheme: str
) -> ReferenceEntries:
    """Corrected entries of phases, and what has none.

    Args:
        rows: name, formula, source, role and key of the relaxation of each phase.
        documents: relaxations by key.
        scheme: correction scheme, see `correction_scheme`.
    """
    found = ReferenceEntries([], [])
    for row in rows:
        document = documents.get(row["key"])
        if document is None:
            found.missing.append((dict(row), "not computed yet"))
            continue
        corrected = document_entry(document, scheme, row["name"])
        if corrected.entry is None or not document.converged:
            found.missing.append((dict(row), corrected.reason or "the relaxation did not converge"))
        else:
            told = {name: row[name] for name in ("source", "role", "key")}
            corrected.entry.data |= {**told, "warnings": list(corrected.warnings)}
            found.entries.append(corrected.entry)
    return found


def document_entry(document: RelaxationDocument, scheme: str, entry_id: str) -> CorrectedEntry:
    """Corrected entry of a stored calculation, in the energy frame that its provenance states."""
    if document.error is not None or document.structure is None or document.energy is None:
        return CorrectedEntry(None, document.error or "no energy was stored")
    structure = structure_of_fields(document.structure)
    if problem := crystal_problem(structure) or came_apart(structure):
        return CorrectedEntry(None, problem)
    corrected = corrected_entry(
        structure,
        document.energy,
        scheme=scheme,
        entry_id=entry_id,
        model_sha256=document.provenance.model_sha256,
        level_of_theory=document.provenance.level_of_theory,
        dispersion=document.provenance.dispersion,
        converged=document.converged,
        zeros=document.provenance.zeros,
        undecided=document.provenance.undecided,
    )
    if corrected.entry is not None and document.member_energies:
        deviations = [(energy - document.energy) / document.n_atoms for energy in document.member_energies]
        corrected.entry.data[DEVIATIONS] = deviations
    return corrected


def correction_scheme(info: ModelInfo, wanted: str = "auto") -> str:
    """Name of the correction scheme to apply: ``wanted``, or with ``"auto"`` the one that fits the model's level of
    theory. The file of a refit is put in the cache, where every later step finds it by name.

    Raises:
        DPA4Error: unknown scheme.
        FrameError: a refit to another model.
    """
    scheme = (info.corrections or "none") if wanted == "auto" else wanted
    try:
        found = find_scheme(scheme)
    except SchemeError as error:
        raise DPA4Error(str(error).replace("choose from", "choose from auto,")) from error
    check_fitted_to(found.name, found.model_sha256, info.sha256)
    return scheme_name(scheme)


def chemical_system(structure: Structure) -> str:
    """Elements in alphabetical order, joined by dashes."""
    return structure.composition.element_composition.chemical_system
