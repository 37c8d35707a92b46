"""What the library of competing phases holds, as a list and as a file of entries."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from dpa4_core.files import write_bytes
from dpa4_core.version import code_version
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.documents.schemas import Document
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.proposed import SOURCE as PROTOTYPES
from dpa4_flows.reference.store import ReferenceStore, canonical_system, library_folder
from dpa4_flows.reference.table import Answer, usable_problem


class SystemSummary(Document):
    """What the library knows of one chemical system that was asked for."""

    chemical_system: str
    sources: list[str] = Field(description="Who told the phases: source, version, date")
    completeness: HullCompleteness = Field(description="What competes in it, and who surveyed its phases")
    n_phases: int
    n_computed: int = Field(description="Phases with a usable energy")


class StoreSummary(Document):
    """One file of the library."""

    path: str
    model: str
    model_sha256: str
    level_of_theory: str
    settings: dict[str, Any]
    n_phases: int
    n_computed: int = Field(description="Phases with a usable energy")
    systems: list[SystemSummary]


def stores(folder: str | Path | None = None) -> list[ReferenceStore]:
    """All libraries of a folder, one for each model and settings."""
    return [ReferenceStore.open(path) for path in sorted(library_folder(folder).glob("*.sqlite"))]


def summarise(store: ReferenceStore) -> StoreSummary:
    """What one file of the library holds."""
    rows = store.table.phases()
    states = store.table.states([row.key for row in rows])
    answers = store.table.answers()
    usable = {row.key for row in rows if usable_problem(states, row.key) is None}
    systems = sorted({answer.chemsys for answer in answers if answer.source != PROTOTYPES})  # what was asked for
    completeness = store.completeness(systems)
    found = []
    for system in systems:
        elements = set(system.split("-"))
        keys = [row.key for row in rows if set(row.chemsys.split("-")) <= elements]
        n_usable = sum(key in usable for key in keys)
        found.append(
            SystemSummary(
                chemical_system=system,
                sources=[_words(answer) for answer in answers if answer.chemsys == system],
                completeness=completeness[system],
                n_phases=len(keys),
                n_computed=n_usable,
            )
        )
    return StoreSummary(
        path=str(store.table.path),
        model=store.info.name,
        model_sha256=store.info.sha256,
        level_of_theory=store.info.level_of_theory,
        settings=store.table.get_meta("settings"),
        n_phases=len(rows),
        n_computed=len(usable),
        systems=found,
    )


def export_entries(
    store: ReferenceStore, path: Path, scheme: str, chemical_systems: Iterable[str] | None = None
) -> int:
    """Write corrected entries with their relaxed structures as JSON, gzipped if the name ends in ``.gz``.

    The file holds pymatgen entries under ``entries``, so that it is also a file of phases for another library, and
    under ``surveys`` the systems whose phases were surveyed and are all in it. Returns how many were written.
    """
    answers = store.table.answers()
    asked = chemical_systems or [answer.chemsys for answer in answers if answer.source != PROTOTYPES]
    systems = sorted({canonical_system(system) for system in asked})
    rows = store.table.phases(systems if chemical_systems else None)
    documents = store.table.calculations(row.key for row in rows)
    entries = []
    for row in rows:
        document = documents.get(row.key)
        if document is None or not document.converged:
            continue
        corrected = document_entry(document, scheme, row.name)
        if corrected.entry is not None:
            corrected.entry.data |= {"source": row.source, "role": row.role}
            entries.append({**corrected.entry.as_dict(), "source": row.source, "role": row.role})
    content = {
        "model": store.info.to_dict(),
        "settings": store.table.get_meta("settings"),
        "corrections": scheme,
        "code_version": code_version(),
        "pymatgen_version": version("pymatgen"),
        "surveys": {
            system: found.survey.model_dump()
            for system, found in store.completeness(systems).items()
            if found.survey is not None and not found.without_energy
        },
        "entries": entries,
    }
    text = json.dumps(content, default=float).encode()
    write_bytes(path, gzip.compress(text) if path.name.endswith(".gz") else text)
    return len(entries)


def _words(answer: Answer) -> str:
    version_text = f" {answer.version}" if answer.version else ""
    return f"{answer.source}{version_text}, {answer.n_phases} phases, {answer.asked[:10]}"
