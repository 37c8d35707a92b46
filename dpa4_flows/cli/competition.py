"""What structures stand against, as `--against` says: the library, files, or energies of the Materials Project."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness, Survey
from dpa4_flows.cli.reference_build import build_library
from dpa4_flows.makers.hull import CACHE
from dpa4_flows.makers.references import find_phases
from dpa4_flows.reference.entries import ReferenceEntries
from dpa4_flows.reference.library import (
    MATERIALS_PROJECT,
    LibraryError,
    as_crystal,
)
from dpa4_flows.reference.mp_frame import check_materials_project_scale, materials_project_references
from dpa4_flows.reference.sources import file_surveys, open_materials_project
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.structure_files import Computed

MP = "mp"

Against = Annotated[
    list[str] | None,
    typer.Option(
        help="What competes: cache, the library that grows by what is missing; FILE, structures in files; both "
        "relaxed by the same model. mp: energies of the Materials Project, for a model on their scale."
    ),
]
Corrections = Annotated[
    str, typer.Option(help="auto takes those that fit the model; none, MP2020, OMat24, or the .yaml file of a refit.")
]

AskMP = Annotated[
    bool | None,
    typer.Option("--mp/--no-mp", help="Ask the Materials Project for structures; default: with an API key."),
]


@dataclass(frozen=True)
class Competition:
    """What the structures stand against.

    Attributes:
        references: competing phases in the frame of the model.
        surveys: who surveyed the phases of chemical systems; the others nobody did.
        computed_by: who computed their energies.
        notes: what could not be asked.
    """

    references: ReferenceEntries
    surveys: dict[str, Survey]
    computed_by: str = "the same model"
    notes: tuple[str, ...] = ()

    def completeness(self, system: str) -> HullCompleteness:
        """What competes in a chemical system."""
        return self.references.completeness(system, self.surveys.get(system))


def against_kinds(against: Sequence[str] | None) -> list[str]:
    """``["cache"]``, ``["mp"]``, or names of files."""
    kinds = list(dict.fromkeys(against or [CACHE]))
    if len(kinds) > 1 and {CACHE, MP} & set(kinds):
        raise DPA4Error(
            f"--against takes one of cache, mp, or files, not {' and '.join(kinds)}: energies of different origin "
            "never meet on one hull; files join the library with `dpa4 reference build --from FILE`"
        )
    for kind in kinds:
        if kind not in (CACHE, MP) and not Path(kind).exists():
            raise DPA4Error(f"there is no file {kind} to stand against; --against takes cache, mp, or a file")
    return kinds


def compete(
    store: ReferenceStore, systems: Iterable[str], kinds: Sequence[str], scheme: str, mp: bool | None, *, quiet: bool
) -> Competition:
    """Competing phases of chemical systems, relaxed now where they are missing.

    Args:
        store: the library of the model and its settings.
        systems: chemical systems.
        kinds: from `against_kinds`.
        scheme: correction scheme.
        mp: ask the Materials Project for structures; None does if it answers.
        quiet: no progress bar.

    Raises:
        DPA4Error: energies of the Materials Project for a model on another scale.
    """
    systems = sorted(set(systems))
    if kinds == [MP]:
        check_materials_project_scale(store.info, scheme)
    if not systems:
        return Competition(ReferenceEntries([], []), {})
    if kinds == [MP]:
        client = open_materials_project()
        entries = {e.entry_id: e for system in systems for e in client.entries(system)}
        references = materials_project_references(entries.values(), store.info)
        version = str(client.database_version())
        survey = Survey(source=MATERIALS_PROJECT, version=version, date=datetime.now(UTC).date().isoformat())
        return Competition(references, dict.fromkeys(systems, survey), f"{MATERIALS_PROJECT} {version}")
    if kinds == [CACHE]:
        _, notes = build_library(store, systems, mp=mp, quiet=quiet)
        return Competition(store.references(systems, scheme), store.surveys(systems), notes=tuple(notes))
    phases = find_phases(systems, kinds, bundled=False)
    return Competition(store.entries_of(phases, scheme), file_surveys(kinds, systems))


def crystal(entry: Computed) -> Computed:
    """The input as a pymatgen structure; a molecule fails alone."""
    if entry.error is not None:
        return entry
    try:
        return replace(entry, structure=as_crystal(entry.structure))
    except LibraryError as error:
        return replace(entry, structure=None, error=str(error))
