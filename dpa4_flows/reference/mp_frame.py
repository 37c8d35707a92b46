"""Hulls made of energies of the Materials Project, for checkpoints on its scale and no others."""

from __future__ import annotations

from collections.abc import Iterable

from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.corrections import corrected_entry
from dpa4_flows.analysis.frames import run_type
from dpa4_flows.analysis.hull_warnings import materials_project_mismatch
from dpa4_flows.reference.entries import ReferenceEntries
from dpa4_flows.reference.sources import MATERIALS_PROJECT

SCHEME = "MP2020"


def check_materials_project_scale(info: ModelInfo, scheme: str) -> None:
    """Refuse what does not share the energy scale of the Materials Project.

    Args:
        info: identity card of the model.
        scheme: correction scheme for its energies.

    Raises:
        DPA4Error: the model was not trained on MPtrj, or its energies would not be corrected by MP2020.
    """
    reason = materials_project_mismatch(info.name, info.level_of_theory, info.corrections)
    if info.dispersion:
        reason = f"energies of the Materials Project have no dispersion, those of {info.name} have"
    if reason is not None:
        raise DPA4Error(reason)
    if scheme != SCHEME:
        raise DPA4Error(
            f"energies of the Materials Project carry {SCHEME} corrections and cannot stand beside energies with "
            f"{scheme}: leave --corrections at auto, or use --against cache"
        )


def materials_project_references(entries: Iterable[ComputedStructureEntry], info: ModelInfo) -> ReferenceEntries:
    """Entries of the Materials Project in the frame of a model that shares its scale.

    Corrections are applied anew by the rules that the candidates get: another version of the rules for one of the two
    would shift the distance.

    Args:
        entries: with structures; their own corrections are dropped.
        info: identity card of the model, see `check_materials_project_scale`.
    """
    check_materials_project_scale(info, SCHEME)
    found = ReferenceEntries([], [])
    for entry in entries:
        kind = str(entry.parameters.get("run_type") or "")
        if kind in ("GGA", "GGA+U") and kind != run_type(entry.composition, info.level_of_theory):
            continue  # MP2020 has no corrections for it, and the Materials Project leaves it out of its hull
        name = str(entry.entry_id)
        corrected = corrected_entry(
            entry.structure,
            entry.uncorrected_energy,
            scheme=SCHEME,
            entry_id=name,
            model_sha256=info.sha256,
            level_of_theory=info.level_of_theory,
            dispersion=info.dispersion,
            zeros=info.zeros,
            undecided=info.undecided,
        )
        if corrected.entry is None:
            row = {"formula": entry.composition.reduced_formula, "name": name}
            found.missing.append((row, corrected.reason or "no corrections"))
        else:
            corrected.entry.data |= {"source": MATERIALS_PROJECT, "warnings": list(corrected.warnings)}
            found.entries.append(corrected.entry)
    return found
