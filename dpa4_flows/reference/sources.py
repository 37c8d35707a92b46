"""Where competing phases come from: the bundled structures, files of the user, the Materials Project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pymatgen.core import SETTINGS

from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.compute.files import content_digest
from dpa4_flows.reference.bundled_phases import BundledPhases, compounds
from dpa4_flows.reference.library import (
    MATERIALS_PROJECT,
    ReferencePhase,
    bundled_elements,
    load_phases,
    read_surveys,
    select_for_chemsys,
)

MAX_ABOVE_HULL = 0.1
"""eV/atom above the hull of the Materials Project: phases further up are not asked for. The hull of another
functional or of a potential is made of phases within some tens of meV/atom of this one."""


class PhaseSource(Protocol):
    """Something that knows phases of chemical systems.

    Attributes:
        name: how the library records it.
        version: what must be equal for an earlier answer to be good; "" accepts any earlier answer.
        reach: eV/atom, how far above its own hull its phases go; infinite where it has no hull.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def reach(self) -> float: ...

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        """Phases of the system and its sub-systems."""

    def surveys(self, chemical_system: str) -> bool:
        """Whether these are all known phases of the system, so that a hull of them may be called complete."""

    def answered_by(self) -> str:
        """Version that gave the answers, known after the first of them."""


@dataclass(frozen=True)
class PhaseFile:
    """A file of structures; energies in it are ignored.

    Args:
        path: the file.
        is_survey: the user says that it holds all known phases of the systems that it has compounds of.
        reach: it has no hull.
    """

    path: Path
    is_survey: bool = False
    reach: float = float("inf")

    @cached_property
    def name(self) -> str:
        origins = sorted({survey.words for survey in self._exported.values()})
        return " of ".join(filter(None, (f"file {self.path.name}", ", ".join(origins))))

    @cached_property
    def version(self) -> str:
        return content_digest(self.path)[:12]

    @cached_property
    def _phases(self) -> list[ReferencePhase]:
        return load_phases([self.path])

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        return select_for_chemsys(self._phases, [chemical_system])

    @cached_property
    def _exported(self) -> dict[str, Survey]:
        """Surveys of the library that the file is an export of."""
        return read_surveys(self.path)

    def survey(self, chemical_system: str) -> Survey | None:
        """The survey of the system that the file is: it exports a library in which the system was surveyed, or is said
        to be one and has compounds that reach over the system.
        """
        elements = frozenset(chemical_system.split("-"))
        for system, survey in self._exported.items():
            if elements <= set(system.split("-")):
                return survey.model_copy(update={"source": f"file {self.path.name} of {survey.source}"})
        compounds = [p.elements for p in self.phases(chemical_system) if len(p.elements) > 1] if self.is_survey else []
        if not compounds or frozenset().union(*compounds) != elements:
            return None
        return Survey(source=self.name, version=self.version, date=datetime.now(UTC).date().isoformat())

    def surveys(self, chemical_system: str) -> bool:
        return self.survey(chemical_system) is not None

    def answered_by(self) -> str:
        return self.version


@dataclass
class MaterialsProjectPhases:
    """Structures of the Materials Project, near its own hull; its energies are not used.

    Args:
        client: a `MaterialsProject`; made when the first system is asked for by default.
        offline: such a client answers from its cache alone.
        reach: eV/atom above the hull of the Materials Project.
    """

    client: Any = None
    offline: bool = False
    reach: float = MAX_ABOVE_HULL
    name: str = field(default=MATERIALS_PROJECT, init=False)
    version: str = field(default="", init=False)  # the database grows; ask again with refresh

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        self.client = open_materials_project(self.client, offline=self.offline)
        found = self.client.phases(chemical_system, max_above_hull=self.reach)
        return [
            ReferencePhase(
                name=phase.material_id,
                structure=phase.structure,
                source=f"{MATERIALS_PROJECT} {phase.database_version}",
                role="element" if phase.structure.composition.is_element else "competing",
            )
            for phase in found
            if not phase.deprecated
        ]

    def surveys(self, chemical_system: str) -> bool:
        return True  # it answered, if only that it knows nothing

    def answered_by(self) -> str:
        return str(self.client.database_version())


def open_materials_project(client: Any = None, *, offline: bool = False) -> Any:
    """``client``, or a new one with the key of the user.

    Args:
        client: a client.
        offline: a new one answers from its cache alone.
    """
    if client is not None:
        return client
    # the client takes seconds to import, and nothing else here needs it
    from dpa4_flows.reference.materials_project import MaterialsProject

    return MaterialsProject(offline=offline)


def has_materials_project_key() -> bool:
    """Whether the environment or the settings of pymatgen hold an API key; it is not looked at."""
    return any(os.environ.get(name) or SETTINGS.get(name) for name in ("MP_API_KEY", "PMG_MAPI_KEY"))


def file_surveys(files: Iterable[str | Path], chemical_systems: Iterable[str]) -> dict[str, Survey]:
    """Chemical systems that files survey by their own account: exports of a library in which they were surveyed."""
    sources = [PhaseFile(Path(file)) for file in files]
    found = {system: [s for file in sources if (s := file.survey(system))] for system in chemical_systems}
    return {system: surveys[0] for system, surveys in found.items() if surveys}


def default_sources(
    files: Iterable[str | Path] = (),
    materials_project: MaterialsProjectPhases | None = None,
    *,
    files_survey: bool = False,
    bundled: bool = True,
) -> list[PhaseSource]:
    """Phases that come with the program, files, and the Materials Project where it is wanted.

    Args:
        files: see `PhaseFile`.
        materials_project: asked last.
        files_survey: the files hold all known phases of their systems.
        bundled: False leaves the bundled compounds out, and keeps the elements.
    """
    sources: list[PhaseSource] = [
        BundledPhases(elements_only=not bundled),
        *(PhaseFile(Path(file), files_survey) for file in files),
    ]
    return sources if materials_project is None else [*sources, materials_project]


def find_phases(
    chemical_systems: Iterable[str], files: Sequence[str] = (), *, bundled: bool = True
) -> list[ReferencePhase]:
    """Phases that lie in one of the chemical systems or in a sub-system of it.

    Args:
        chemical_systems: as ``"Co-Li-O"``.
        files: files of competing phases, see `load_phases`.
        bundled: also the compounds that come with the program, and not the elements alone.
    """
    systems = sorted(set(chemical_systems))
    elements = sorted({symbol for system in systems for symbol in system.split("-")})
    further = compounds(systems) if bundled else []
    return [*bundled_elements(elements), *select_for_chemsys(load_phases(files), systems), *further]
