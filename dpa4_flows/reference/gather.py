"""Asking for the phases of chemical systems whoever can be asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from dpa4_flows.reference.mp_cache import MaterialsProjectError
from dpa4_flows.reference.sources import MaterialsProjectPhases, default_sources, has_materials_project_key
from dpa4_flows.reference.store import ReferenceStore

AskProject = Literal["never", "if possible", "always"]
"""Whether the Materials Project is asked for structures; "if possible" does if there is a key and it answers."""


def gather_phases(
    store: ReferenceStore,
    chemical_systems: Iterable[str],
    files: Iterable[str | Path] = (),
    materials_project: AskProject = "never",
    *,
    files_survey: bool = False,
    refresh: bool = False,
    bundled: bool = True,
    prototypes: bool = True,
) -> list[str]:
    """Let a library know the phases of chemical systems, relaxing none; gives sentences on who could not be asked.

    Args:
        store: the library.
        chemical_systems: as ``"Li-Co-O"``.
        files: structures to add.
        materials_project: whether it is asked for structures.
        files_survey, bundled: see `default_sources`.
        refresh, prototypes: see `ReferenceStore.ask`.

    Raises:
        MaterialsProjectError: it has to be asked and does not answer.
    """
    systems, files = list(chemical_systems), list(files)

    def ask(source: MaterialsProjectPhases | None = None) -> None:
        sources = default_sources(files, source, files_survey=files_survey, bundled=bundled)
        store.ask(systems, sources, refresh=refresh, prototypes=prototypes)

    if materials_project == "never":
        ask()
        return []
    # without a key only the cache of answers can help, and the network is not waited for
    source = MaterialsProjectPhases(offline=materials_project != "always" and not has_materials_project_key())
    try:
        ask(source)
    except MaterialsProjectError as error:
        if materials_project == "always":
            raise
        ask()
        return [] if source.offline else [f"without the Materials Project: {error}"]
    return []
