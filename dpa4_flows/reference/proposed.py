"""Phases that nobody reported: what structure types would give where a chemical system has no compound at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib.metadata import version

from pymatgen.core import Element

from dpa4_flows.analysis.completeness import PROTOTYPE
from dpa4_flows.analysis.prototypes import MAX_ELEMENTS, proposals
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.table import subsystems

SOURCE = "prototypes"
"""Name of the source, as the library records it."""


def uncovered(chemical_systems: Iterable[str], known: Iterable[str], elements: Collection[int] = ()) -> list[str]:
    """Systems of two or three elements, among the given ones and their sub-systems, without a compound.

    Args:
        chemical_systems: as ``"Co-Li-O"``.
        known: the chemical system of every known phase.
        elements: atomic numbers that the model knows; all by default.
    """
    parts = {part for system in chemical_systems for part in subsystems(system)}
    computable = {Element.from_Z(number).symbol for number in elements}
    return sorted(
        part
        for part in parts - set(known)
        if 1 <= part.count("-") < MAX_ELEMENTS and (not computable or set(part.split("-")) <= computable)
    )


def proposed_phases(chemical_system: str) -> list[ReferencePhase]:
    """Charge-balanced compounds of exactly these elements, see `analysis.prototypes`; none for alloys."""
    return [
        ReferencePhase(proposal.name, proposal.structure, "AFLOW structure type (pymatgen)", PROTOTYPE)
        for proposal in proposals(chemical_system.split("-"))
    ]


def with_proposals(
    chemical_systems: Iterable[str], phases: Iterable[ReferencePhase], elements: Collection[int] = ()
) -> list[ReferencePhase]:
    """``phases``, and proposals for the systems in which none of them lies; arguments as in `uncovered`."""
    found = list(phases)
    lacking = uncovered(chemical_systems, {"-".join(sorted(phase.elements)) for phase in found}, elements)
    return [*found, *(phase for system in lacking for phase in proposed_phases(system))]


def proposals_version() -> str:
    """Changes when the structure types may."""
    return f"pymatgen {version('pymatgen')}"
