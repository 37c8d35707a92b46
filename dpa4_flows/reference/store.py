"""The library of competing phases: relaxed once by each model, shared by all hulls from then on.

    store = ReferenceStore.for_model(ModelRef("dpa4-neo"))
    store.build(["Li-Co-O"], default_sources(["my_phases.json"], MaterialsProjectPhases()))
    references = store.references(["Li-Co-O"], "OMat24")          # milliseconds, no network
    positions = phase_positions(candidates, references.entries)

One SQLite file holds what one model (by its checksum) gave with one set of relaxation settings, since only such
energies may meet on a hull. Building again computes what is missing, also after a kill, and several processes may
build and read at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

from pydantic import Field
from pymatgen.core import Composition, Element, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.locks import locked_names
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.registry import cache_dir
from dpa4_core.strict import build
from dpa4_core.version import __version__
from dpa4_flows.analysis.completeness import HullCompleteness, Survey, hull_completeness, tally
from dpa4_flows.compute.driver import Counts, Retry, compute
from dpa4_flows.compute.plan import Ask, Crystal, Steps, Until
from dpa4_flows.compute.relaxed import PUSHED, Relaxed
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.entries import ReferenceEntries
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.light_entries import light_entry, stored_entry
from dpa4_flows.reference.proposed import PROTOTYPE, proposals_version, proposed_phases, uncovered
from dpa4_flows.reference.proposed import SOURCE as PROTOTYPES
from dpa4_flows.reference.sources import PhaseSource
from dpa4_flows.reference.table import Answer, PhaseRow, ReferenceTable, usable_problem
from dpa4_flows.store.table import ResultsError

_ENTRY_VERSION = 2  # raise it when corrections change, so that stored entries are made anew


class BuildSummary(Document):
    """What a build found and did."""

    chemical_systems: list[str] = Field(description="What was asked for, elements in alphabetical order")
    n_phases: int = Field(description="Phases known in these systems")
    n_computed: int = Field(description="Relaxed by this build")
    n_reused: int = Field(description="Relaxed before")
    missing_elements: list[str] = Field(description="Elements without a usable phase")
    failures: list[str] = Field(description="Known phases without a usable energy, one sentence each")


@dataclass(frozen=True)
class ReferenceStore:
    """Competing phases of one model and one set of relaxation settings.

    Attributes:
        table: the file.
        model: that computes; candidates relaxed by it in the same way are comparable.
        relaxation: of the phases.
        info: identity card of the model.
    """

    table: ReferenceTable
    model: ModelRef
    relaxation: Relaxed
    info: ModelInfo
    _memory: dict[tuple[PhaseRow, str], ComputedEntry] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def for_model(
        cls, model: ModelRef, relaxation: Relaxed = PUSHED, folder: str | Path | None = None
    ) -> ReferenceStore:
        """The library of a model and settings, made if there is none; one object for all in a process. Loads the model.

        Args:
            model: that computes.
            relaxation: of the phases; by default that of `dpa4 hull` and campaigns.
            folder: folder of the library; by default ``references`` in the cache of the program.
        """
        info = model.info()
        model = replace(model, sha256=info.sha256)
        path = _path(model, relaxation, folder).absolute()
        known = _OPEN.get((path, model))
        if known is not None and path.is_file():
            return known
        table = ReferenceTable(path)
        if table.get_meta("model") is None:
            table.set_meta("settings", relaxation.settings(model))
            table.set_meta("model_name", model.name)
            table.set_meta("model", info.to_dict())
        store = _OPEN[path, model] = cls(table, model, relaxation, info)
        return store

    @classmethod
    def find(
        cls, model: ModelRef, relaxation: Relaxed = PUSHED, folder: str | Path | None = None
    ) -> ReferenceStore | None:
        """The library of `for_model` if there is one; it is only read."""
        info = model.info()
        model = replace(model, sha256=info.sha256)
        path = _path(model, relaxation, folder)
        if not path.is_file():
            return None
        table = ReferenceTable(path, read_only=True)
        return None if table.get_meta("model") is None else cls(table, model, relaxation, info)

    @classmethod
    def open(cls, path: str | Path) -> ReferenceStore:
        """A library that exists; the model is loaded when something has to be computed, not before."""
        table = ReferenceTable(path, read_only=not os.access(path, os.W_OK))
        facts, settings = table.get_meta("model"), table.get_meta("settings")
        if facts is None:
            raise DPA4Error(f"{path} is no library of reference phases; build one with `dpa4 reference build`")
        info = build(ModelInfo, facts, str(path))
        dtype, dispersion = settings["dtype"], info.dispersion or None
        model = ModelRef(table.get_meta("model_name"), info.sha256, dtype=dtype, dispersion=dispersion)
        return cls(table, model, Relaxed.of_settings(settings), info)

    def key(self, structure: Structure) -> str:
        """Key of the relaxation of a structure."""
        return self.relaxation.key(Crystal(structure), self.model)

    def relaxed(
        self, chemical_systems: Iterable[str], beside: Mapping[str, Ask[Any]], *, prototypes: bool = True
    ) -> Steps[dict[str, Any]]:
        """Ask for what the phases of chemical systems lack, and for something else in the same step. What another
        process is at is waited for, not computed twice.

        Args:
            chemical_systems: of the phases.
            beside: other requests by name.
            prototypes: also for proposed phases, as others may have asked for them.

        Returns:
            Answers to ``beside`` by name, and by key the relaxations of phases, which may not be in the file yet.
        """
        answers: dict[str, Any] = {}
        rows = self.table.phases(chemical_systems)
        lacking = self._to_do(row for row in rows if prototypes or row.role != PROTOTYPE)
        while beside or lacking:
            systems = {row.chemsys for row in lacking}
            own: AbstractContextManager[list[str]] = nullcontext([])
            if systems:
                own = locked_names(self.lock, systems, wait=False)
            with own as free:
                rows = self._to_do(row for row in lacking if row.chemsys in free)  # what nobody has done meanwhile
                structures = self.table.structures([row.key for row in rows])
                asks = {key: Ask(self.relaxation, Crystal(one), self.table) for key, one in structures.items()}
                answers |= yield {**beside, **asks}
                self.table.put_calculations(answers[key] for key in asks)  # before others may begin
            beside, lacking = {}, [row for row in lacking if row.chemsys not in free]
            if lacking:
                yield {"another process": Until(partial(self._is_free, lacking[0].chemsys))}
        return answers

    def _is_free(self, chemical_system: str) -> bool:
        with locked_names(self.lock, [chemical_system], wait=False) as free:
            return bool(free)

    def _to_do(self, rows: Iterable[PhaseRow], *, retry_errors: bool = False) -> list[PhaseRow]:
        """Phases whose relaxation is not there, or failed and is to be tried again."""
        listed = list(rows)
        states = self.table.states([row.key for row in listed])
        return [r for r in listed if r.key not in states or (retry_errors and usable_problem(states, r.key))]

    # ---- building --------------------------------------------------------------------------------------------------

    def build(
        self,
        chemical_systems: Iterable[str],
        sources: Sequence[PhaseSource],
        *,
        refresh: bool = False,
        retry_errors: bool = False,
        precomputed: bool = True,
        prototypes: bool = True,
        max_atoms_per_batch: int | None = None,
        counts: Counts | None = None,
    ) -> BuildSummary:
        """Ask the sources for phases of the systems and their sub-systems, and relax those that have no energy yet.

        Args:
            chemical_systems: as ``"Li-Co-O"``, in any order of the elements.
            sources: whom to ask; an earlier answer of the same version is not asked for again.
            refresh: ask again all the same.
            retry_errors: relax again what failed.
            precomputed: take relaxations that come with the program; False relaxes everything here.
            prototypes: propose compounds for systems of two or three elements in which no source knows one.
            max_atoms_per_batch: atoms that relax at the same time; None leaves it to the device.
            counts: told what is done.
        """
        systems = self.ask(chemical_systems, sources, refresh=refresh, precomputed=precomputed, prototypes=prototypes)
        rows = self.table.phases(systems)
        done: set[str] = set()

        def relax(parts: Collection[str]) -> None:
            todo = [r.key for r in self._to_do((r for r in rows if r.chemsys in parts), retry_errors=retry_errors)]
            done.update(todo)
            structures = self.table.structures(todo)
            asks = ((key, Ask(self.relaxation, Crystal(structures[key]))) for key in todo)
            retry = Retry(errors=retry_errors)
            budget = max_atoms_per_batch
            deque(compute(asks, self.model, self.table, max_atoms_per_batch=budget, retry=retry, counts=counts), 0)

        # first all that nobody else is at, in one go; then, one at a time, what is left by those we waited for
        parts = {row.chemsys for row in self._to_do(rows, retry_errors=retry_errors)}
        with locked_names(self.lock, parts, wait=False) as free:
            relax(free)
        for part in sorted(parts - set(free)):
            with locked_names(self.lock, [part], wait=True):
                relax([part])
        states = self.table.states([row.key for row in rows])
        usable = {row.chemsys for row in rows if (state := states.get(row.key)) and state.converged}
        elements = sorted({symbol for system in systems for symbol in system.split("-")})
        return BuildSummary(
            chemical_systems=sorted(set(systems)),
            n_phases=len(rows),
            n_computed=len(done),
            n_reused=len(rows) - len(done),
            missing_elements=[symbol for symbol in elements if symbol not in usable],
            failures=[
                f"{row.formula} ({row.name}): {problem}"
                for row in rows
                if row.role != PROTOTYPE and (problem := usable_problem(states, row.key)) is not None
            ],
        )

    def add(self, phases: Iterable[ReferencePhase], documents: Iterable[RelaxationDocument]) -> None:
        """Add phases and relaxations that were made elsewhere with the model and the settings of this library."""
        self.table.put_phases(self._keyed(phases))
        self.table.put_calculations(documents)

    def ask(
        self,
        chemical_systems: Iterable[str],
        sources: Sequence[PhaseSource],
        *,
        refresh: bool = False,
        precomputed: bool = True,
        prototypes: bool = True,
    ) -> list[str]:
        """Ask the sources as `build` does and relax nothing; relaxations that come with the program are taken over.

        Returns the systems, each with its elements in alphabetical order.
        """
        systems = [canonical_system(system) for system in chemical_systems]
        self._ask(systems, sources, refresh)
        if prototypes:
            self._propose(systems)
        if precomputed:
            self.take_over(row.key for row in self.table.phases(systems))
        return systems

    @property
    def lock(self) -> Path:
        """File of the locks on chemical systems that are being computed."""
        return self.table.path.with_suffix(".lock")

    def take_over(self, keys: Iterable[str]) -> None:
        """Store relaxations that come with the program, where the library has none."""
        wanted = set(keys)
        known = bundled_relaxations(self.info.sha256, wanted - self.table.existing_keys(wanted))
        self.table.put_calculations(known.values())

    def _ask(self, systems: Sequence[str], sources: Sequence[PhaseSource], refresh: bool) -> None:
        answers = self.table.answers()
        for source in sources:
            known = [
                a
                for a in answers
                if a.source == source.name and a.version in (source.version or a.version,) and a.reach >= source.reach
            ]
            for system in sorted(set(systems), key=lambda s: (-s.count("-"), s)):  # the widest answer many others
                if not refresh and any(_suffices(answer, source, system) for answer in known):
                    continue
                phases = source.phases(system)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                answer = Answer(
                    system, source.name, source.answered_by(), source.reach, source.surveys(system), len(phases), now
                )
                self.table.put_answer(answer, self._keyed(phases))
                known.append(answer)

    def _propose(self, systems: Sequence[str]) -> None:
        """Add structure types with the elements of sub-systems that have no compound; once for each of them."""
        known = {row.chemsys for row in self.table.phases(systems)}
        kind = proposals_version()
        known |= {
            answer.chemsys for answer in self.table.answers() if answer.source == PROTOTYPES and answer.version == kind
        }
        for system in uncovered(systems, known, self.info.elements):
            phases = proposed_phases(system)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.table.put_answer(Answer(system, PROTOTYPES, kind, 0.0, False, len(phases), now), self._keyed(phases))

    def _keyed(self, phases: Iterable[ReferencePhase]) -> list[tuple[str, ReferencePhase, Any]]:
        return [(self.key(phase.structure), phase, plain_structure(phase.structure)) for phase in phases]

    # ---- reading ---------------------------------------------------------------------------------------------------

    def references(
        self, chemical_systems: Iterable[str], scheme: str, new: Mapping[str, RelaxationDocument] = MappingProxyType({})
    ) -> ReferenceEntries:
        """Corrected entries of all phases of the systems and their sub-systems, and what has none.

        Args:
            chemical_systems: as ``"Li-Co-O"``.
            scheme: correction scheme, see `correction_scheme`.
            new: relaxations by key that may not be in the file yet.
        """
        return self.entries(self.table.phases(canonical_system(system) for system in chemical_systems), scheme, new)

    def entries(
        self, rows: Sequence[PhaseRow], scheme: str, new: Mapping[str, RelaxationDocument] = MappingProxyType({})
    ) -> ReferenceEntries:
        """Corrected entries of phases; made once and stored, since oxidation states and O-O bonds take time."""
        kind = f"{scheme} {_ENTRY_VERSION} {__version__} pymatgen {version('pymatgen')}"
        unknown = [row.key for row in rows if (row, kind) not in self._memory]
        stored = self.table.entries(unknown, kind)
        documents = {**self.table.calculations(key for key in unknown if key not in {*stored, *new}), **new}
        found = ReferenceEntries([], [])
        fresh: dict[str, dict[str, Any]] = {}
        for row in rows:
            entry = self._memory.get((row, kind))
            if entry is None:
                content = stored.get(row.key) or stored_entry(documents.get(row.key), scheme, row.name)
                if isinstance(content, str):
                    found.missing.append((row._asdict(), content))
                    continue
                if row.key not in stored:
                    fresh[row.key] = content
                entry = self._memory[row, kind] = light_entry(content, row)
            found.entries.append(entry)
        if fresh and not self.table.read_only:
            self.table.put_entries(kind, fresh)
        return found

    def with_structures(
        self, references: ReferenceEntries, new: Mapping[str, RelaxationDocument] = MappingProxyType({})
    ) -> ReferenceEntries:
        """The same entries with relaxed structures, which Gibbs energies need; ``new`` as in `references`."""
        keys = [entry.data["key"] for entry in references.entries]
        documents = {**self.table.calculations(key for key in keys if key not in new), **new}
        entries: list[ComputedEntry] = [
            ComputedStructureEntry(
                structure_of_fields(documents[entry.data["key"]].structure or {}),
                entry.uncorrected_energy,
                energy_adjustments=list(entry.energy_adjustments),
                parameters=entry.parameters,
                data=entry.data,
                entry_id=entry.entry_id,
            )
            for entry in references.entries
        ]
        return ReferenceEntries(entries, references.missing)

    def surveys(self, chemical_systems: Iterable[str]) -> dict[str, Survey]:
        """The latest survey of the phases of each system; systems that nobody surveyed are left out."""
        told = sorted((answer for answer in self.table.answers() if answer.surveys), key=lambda answer: answer.asked)
        systems = sorted({canonical_system(system) for system in chemical_systems})
        return {system: answer.survey() for system in systems for answer in told if answer.covers(system)}

    def completeness(self, chemical_systems: Iterable[str]) -> dict[str, HullCompleteness]:
        """What the library has against the phases of each system: all that is relaxed."""
        systems = sorted({canonical_system(system) for system in chemical_systems})
        surveys = self.surveys(systems)
        found = {}
        for system in systems:
            rows = self.table.phases([system])
            states = self.table.states([row.key for row in rows])
            problems = {row: problem for row in rows if (problem := usable_problem(states, row.key)) is not None}
            found[system] = hull_completeness(
                system,
                tally((Composition(row.formula), row.role) for row in rows if row not in problems),
                without_energy=[
                    f"{row.formula} ({row.name}): {problem}"
                    for row, problem in problems.items()
                    if row.role != PROTOTYPE
                ],
                survey=surveys.get(system),
            )
        return found


_OPEN: WeakValueDictionary[tuple[Path, ModelRef], ReferenceStore] = WeakValueDictionary()
"""Libraries in use: plans that share one share its entries and the requests for its phases."""


def _path(model: ModelRef, relaxation: Relaxed, folder: str | Path | None) -> Path:
    """File of the library of a model, which has its checksum, and of settings."""
    return library_folder(folder) / f"{(model.sha256 or '')[:16]}-{digest(relaxation.settings(model))[:8]}.sqlite"


def library_folder(folder: str | Path | None = None) -> Path:
    """Folder of the library: the given one, else ``references`` in the cache of the program.

    Raises:
        ResultsError: it is a file.
    """
    place = cache_dir() / "references" if folder is None else Path(folder).expanduser()
    if place.is_file():
        raise ResultsError(f"{place} is a file, and a library is a folder; give another name")
    return place


def canonical_system(chemical_system: str) -> str:
    """``"Co-Li-O"`` for ``"Li-Co-O"``.

    Raises:
        DPA4Error: a part is no element.
    """
    symbols = [symbol.strip() for symbol in chemical_system.split("-")]
    if wrong := [symbol for symbol in symbols if not Element.is_valid_symbol(symbol) or symbol in ("D", "T")]:
        raise DPA4Error(f"{wrong[0]!r} in {chemical_system!r} is no element; write a chemical system as Li-Co-O")
    return "-".join(sorted(set(symbols)))


def _suffices(answer: Answer, source: PhaseSource, system: str) -> bool:
    """Whether an earlier answer of a source need not be asked for again; it must if it has become a survey."""
    return answer.covers(system) and (answer.surveys or not source.surveys(system))
