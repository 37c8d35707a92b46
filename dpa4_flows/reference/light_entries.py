"""Corrected entries without structures, as a library stores them: all that a hull needs, and quick to make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymatgen.entries.computed_entries import CompositionEnergyAdjustment, ComputedEntry

from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.table import PhaseRow


def stored_entry(document: RelaxationDocument | None, scheme: str, name: str) -> dict[str, Any] | str:
    """Plain types of a corrected entry without its structure, or why there is none."""
    if document is None:
        return "not computed yet"
    corrected = document_entry(document, scheme, name)
    if corrected.entry is None or not document.converged:
        return corrected.reason or "the relaxation did not converge"
    entry = corrected.entry
    return {
        "composition": entry.composition.get_el_amt_dict(),
        "energy": entry.uncorrected_energy,
        "adjustments": [
            [a.value / a.n_atoms, a.n_atoms, a.uncertainty_per_atom, a.name] for a in entry.energy_adjustments
        ],
        "parameters": entry.parameters,
        "data": {**entry.data, "warnings": list(corrected.warnings)},
        "scheme": scheme,
    }


def light_entry(stored: Mapping[str, Any], row: PhaseRow) -> ComputedEntry:
    """Entry of what `stored_entry` gave."""
    adjustments = [
        CompositionEnergyAdjustment(
            per_atom, n_atoms, uncertainty_per_atom=uncertainty, name=name, cls={"scheme": stored["scheme"]}
        )
        for per_atom, n_atoms, uncertainty, name in stored["adjustments"]
    ]
    return ComputedEntry(
        stored["composition"],
        stored["energy"],
        energy_adjustments=adjustments,
        parameters=stored["parameters"],
        data={**stored["data"], "source": row.source, "role": row.role, "key": row.key},
        entry_id=row.name,
    )
