"""What a crystal stands against: competing phases by the same model, in the same batch and corrected by the same rules,
or energies of the Materials Project. Hulls and all that is read from them begin here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.completeness import HullCompleteness, Survey
from dpa4_flows.analysis.corrections import CorrectedEntry
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.thermodynamics import GIBBS_VERSION, ThermodynamicsError, check_temperature, gibbs_entries
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, PlanError, Property, Steps
from dpa4_flows.compute.relaxed import PUSHED, Energy, Relaxed
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.part import check_zeros, whole_crystal
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.entries import (
    ReferenceEntries,
    chemical_system,
    correction_scheme,
    document_entry,
    entries_of_phases,
)
from dpa4_flows.reference.gather import gather_phases
from dpa4_flows.reference.library import MATERIALS_PROJECT, ReferencePhase
from dpa4_flows.reference.mp_frame import check_materials_project_scale, materials_project_references
from dpa4_flows.reference.proposed import with_proposals
from dpa4_flows.reference.sources import file_surveys, find_phases, open_materials_project
from dpa4_flows.reference.store import ReferenceStore

CACHE = "cache"
"""Name of the library in the cache folder of the program, where a folder of another library may be given."""

D = TypeVar("D", bound=Document)
Calculations = dict[str, Any]
"""Answers by the names of requests."""


@dataclass(frozen=True)
class Rivals:
    """What candidates stand against.

    Attributes:
        references: competing phases in the frame of the model.
        surveys: who surveyed the phases of chemical systems; the others nobody did.
        computed_by: who computed their energies.
        notes: who could not be asked.
    """

    references: ReferenceEntries
    surveys: Mapping[str, Survey]
    computed_by: str = "the same model"
    notes: tuple[str, ...] = ()

    def completeness(self, system: str, *, formula: str | None = None) -> HullCompleteness:
        """What competes in a chemical system, seen from a phase of this formula."""
        return self.references.completeness(system, self.surveys.get(system), formula=formula)


@dataclass(frozen=True)
class Standing:
    """Candidates and what competes with them, as entries of one frame that can stand on one hull.

    Attributes:
        info: identity card of the model.
        scheme: of the corrections.
        documents: calculations of the candidates that could be asked for, by position.
        candidates: entries of the candidates that have one, by position.
        reasons: why the others have none, and codes, by position.
        warnings: sentences on the corrections, by position.
        compete: positions of those that stand against the others.
        competing: entries of the competing phases.
        rivals: where these come from.
    """

    info: ModelInfo
    scheme: str
    documents: dict[int, RelaxationDocument]
    candidates: dict[int, ComputedEntry]
    reasons: dict[int, PlanError]
    warnings: dict[int, tuple[str, ...]]
    compete: Sequence[int]
    competing: list[ComputedEntry]
    rivals: Rivals

    def others(self, position: int | None = None) -> list[ComputedEntry]:
        """Candidates that compete, except that at ``position``."""
        return [self.candidates[i] for i in self.compete if i != position and i in self.candidates]

    def all_but(self, position: int) -> list[ComputedEntry]:
        """Everything that stands against one candidate, as far as its relaxation converged."""
        return [e for e in (*self.competing, *self.others(position)) if e.data.get("converged", True)]


@dataclass(frozen=True)
class Competing(Property[D]):
    """Base of properties that compare crystals with other phases. Their documents are made anew each time, since what
    competes may change; the calculations behind them are found again.

    Attributes:
        relaxation: of the crystals and their competing phases; by default it pushes atoms off saddle points.
        relax: False takes the crystals as they are, beside relaxed phases.
        corrections: "auto" takes the scheme that fits the model; "none", "MP2020", "OMat24", or the file of a refit.
        temperature: K; Gibbs energies in place of those at 0 K.
        candidates_compete: several crystals also stand against each other.
        library: of competing phases to use and to add to: "cache", or the folder of another one. None takes the phases
            of this calculation alone.
        files: of further competing phases.
        bundled: compounds that come with the program compete; elements always do.
        prototypes: propose compounds for systems of two or three elements in which none is known.
        materials_project: whether it is asked for structures; "energies": its energies compete, and nothing else.
    """

    anew: ClassVar[bool] = True  # what competes may change
    structures: ClassVar[bool] = False
    """Whether entries of competing phases need their structures also at 0 K."""

    relaxation: Relaxed = PUSHED
    relax: bool = True
    corrections: str = "auto"
    temperature: float | None = None
    candidates_compete: bool = True
    library: str | None = CACHE
    files: tuple[str, ...] = field(default=(), metadata=names_files())
    bundled: bool = True
    prototypes: bool = True
    materials_project: Literal["never", "if possible", "always", "energies"] = "never"

    @property
    def together(self) -> bool:
        return True

    def check(self) -> None:
        if self.temperature is not None:
            check_temperature(self.temperature)

    @property
    def versions(self) -> dict[str, int]:
        return super().versions | ({} if self.temperature is None else {"gibbs_entries": GIBBS_VERSION})

    @property
    def calculation(self) -> Relaxed | Energy:
        """Of the candidates."""
        return self.relaxation if self.relax else Energy()

    def located(self) -> Self:
        """With absolute paths, which hold in the folder of a job."""
        library = self.library if self.library in (None, CACHE) else str(Path(self.library or "").absolute())
        return replace(super().located(), library=library)

    def settings(self, model: ModelRef) -> dict[str, Any]:
        at = {} if self.temperature is None else {"temperature": self.temperature}
        return {**self.calculation.settings(model), "corrections": self.corrections, **at}

    def standing(
        self, subject: Crystal | Crystals, further: Sequence[str] = (), also: Iterable[str] = ()
    ) -> Steps[Standing]:
        """Ask for the candidates and all that competes with them, in one step.

        Args:
            subject: the candidates; one that comes with its relaxation stands as that left it.
            further: chemical systems; phases of each together with the elements of a candidate that is not aside
                compete, too.
            also: chemical systems whose phases compete, too.

        Raises:
            PlanError: no energies that can be compared, as at a temperature without a descriptor.
            DPA4Error: corrections or energies that do not fit the model, a library that cannot be used.
        """
        crystals = together(subject)
        try:
            scheme = correction_scheme(subject.info, self.corrections)
        except FrameError as error:
            raise PlanError(str(error), "not_comparable") from error
        aside = subject.aside if isinstance(subject, Crystals) else frozenset()
        beside = {i: ("", *(() if i in aside else further)) for i in range(len(crystals))}
        placed = ((i, _no_place(one, subject.info, beside[i])) for i, one in enumerate(crystals))
        reasons = {i: why for i, why in placed if why is not None}
        kept = {i: one for i, one in enumerate(crystals) if i not in reasons}
        asked = systems_of(Crystals(tuple(one for i, one in kept.items() if i not in aside)))
        systems = {*systems_of(Crystals(tuple(kept.values()))), *also}
        systems |= {joined(system, one) for system in asked for one in further}
        whole = {f"structure {i}": (i, crystal) for i, crystal in enumerate(crystals) if i not in reasons}
        asks = {name: Ask(self.calculation, one) for name, (_, one) in whole.items() if one.relaxed is None}
        answers, rivals = yield from self._rivals(subject, sorted(systems), scheme, asks)
        documents = {i: one.relaxed or answers[name] for name, (i, one) in whole.items()}
        compete = [i for i in documents if self.candidates_compete and i not in aside]
        try:
            return _stand(subject.info, scheme, _names(crystals), documents, reasons, compete, rivals, self.temperature)
        except (ThermodynamicsError, FrameError) as error:
            raise PlanError(str(error), "not_comparable") from error

    def _rivals(
        self, subject: Crystal | Crystals, systems: Sequence[str], scheme: str, asks: Mapping[str, Ask[Any]]
    ) -> Steps[tuple[Calculations, Rivals]]:
        if self.materials_project == "energies":
            check_materials_project_scale(subject.info, scheme)
            answers = yield asks
            return dict(answers), _energies_of_the_project(subject.info, systems)
        if self.library is None:
            return (yield from self._of_files(subject, systems, scheme, asks))
        library, notes = self.known_phases(subject, systems)
        answers = yield from library.relaxed(systems, asks, prototypes=self.prototypes)
        references = library.references(systems, scheme, answers)
        if self.structures or self.temperature is not None:
            references = library.with_structures(references, answers)
        return answers, Rivals(references, library.surveys(systems), notes=tuple(notes))

    def known_phases(self, subject: Crystal | Crystals, systems: Sequence[str]) -> tuple[ReferenceStore, list[str]]:
        """The library that knows the phases of chemical systems, and sentences on who could not be asked for them."""
        folder = None if self.library == CACHE else self.library
        library = ReferenceStore.for_model(subject.model, self.relaxation, folder)
        options = {"bundled": self.bundled, "prototypes": self.prototypes}
        assert self.materials_project != "energies", "its own energies need no phases"
        return library, gather_phases(library, systems, self.files, self.materials_project, **options)

    def _of_files(
        self, subject: Crystal | Crystals, systems: Sequence[str], scheme: str, asks: Mapping[str, Ask[Any]]
    ) -> Steps[tuple[Calculations, Rivals]]:
        found = find_phases(systems, self.files, bundled=self.bundled)
        if self.prototypes:
            found = with_proposals(systems, found, subject.info.elements)
        phases: dict[str, ReferencePhase] = {}  # one that two files hold is one
        for phase in found:
            phases.setdefault(self.relaxation.key(Crystal(phase.structure), subject.model), phase)
        known = bundled_relaxations(subject.info.sha256, phases)
        lacking = {
            key: Ask(self.relaxation, Crystal(phase.structure)) for key, phase in phases.items() if key not in known
        }
        answers = yield {**asks, **lacking}
        rows = [phase.row(key) for key, phase in phases.items()]
        references = entries_of_phases(rows, {**answers, **known}, scheme)
        return dict(answers), Rivals(references, file_surveys(self.files, systems))


def together(subject: Crystal | Crystals) -> tuple[Crystal, ...]:
    """The crystals of a subject."""
    return subject.crystals if isinstance(subject, Crystals) else (subject,)


def _names(crystals: Sequence[Crystal]) -> list[str]:
    """Of the entries of crystals: their own, if these tell them apart."""
    names = [crystal.name for crystal in crystals]
    return names if len({*names, ""}) > len(names) else [f"structure {i}" for i in range(len(names))]


def systems_of(subject: Crystal | Crystals) -> set[str]:
    """Chemical systems of the crystals of a subject; what is no crystal has none."""
    crystals = [crystal for crystal in together(subject) if _no_crystal(crystal) is None]
    return {chemical_system(whole_crystal(crystal)) for crystal in crystals}


def _no_crystal(crystal: Crystal) -> PlanError | None:
    try:
        whole_crystal(crystal)
    except PlanError as error:
        return error
    return None


def _no_place(crystal: Crystal, info: ModelInfo, beside: Iterable[str]) -> PlanError | None:
    """Why a crystal cannot stand on hulls whatever its energy is, so that nothing has to be computed.

    Args:
        crystal: the crystal.
        info: of the model.
        beside: chemical systems with each of which it spans a hull; "" for that of its own elements.
    """
    try:
        elements = whole_crystal(crystal).composition.get_el_amt_dict()
        for system in beside:
            check_zeros({*elements, *filter(None, system.split("-"))}, info)
    except PlanError as error:
        return error
    return None


def joined(*systems: str) -> str:
    """The chemical system with the elements of several."""
    return "-".join(sorted({symbol for system in systems for symbol in system.split("-")}))


def _energies_of_the_project(info: ModelInfo, systems: Sequence[str]) -> Rivals:
    if not systems:
        return Rivals(ReferenceEntries([], []), {})
    client = open_materials_project()
    entries = {e.entry_id: e for system in systems for e in client.entries(system)}
    references = materials_project_references(entries.values(), info)
    version = str(client.database_version())
    survey = Survey(source=MATERIALS_PROJECT, version=version, date=datetime.now(UTC).date().isoformat())
    return Rivals(references, dict.fromkeys(systems, survey), f"{MATERIALS_PROJECT} {version}")


def _entry(document: RelaxationDocument, info: ModelInfo, scheme: str, name: str) -> CorrectedEntry:
    """Entry of a candidate, if it was computed by the model of what competes with it."""
    other = document.provenance
    if other.model_sha256 == info.sha256:
        return document_entry(document, scheme, name)
    sentence = (
        f"{document.formula} was computed by {other.model_name}, what competes with it by {info.name}: energies of two "
        "models do not meet on a hull"
    )
    return CorrectedEntry(None, sentence, code="not_comparable")


def _stand(
    info: ModelInfo,
    scheme: str,
    names: Sequence[str],
    documents: dict[int, RelaxationDocument],
    reasons: dict[int, PlanError],
    compete: Sequence[int],
    rivals: Rivals,
    temperature: float | None,
) -> Standing:
    """Entries of calculated candidates and of what competes with them."""
    corrected = {i: _entry(document, info, scheme, names[i]) for i, document in documents.items()}
    warnings = {i: c.warnings for i, c in corrected.items()}
    for i, found in corrected.items():
        if found.entry is None:
            code = documents[i].error_code or found.code or "no_corrected_energy"
            reasons[i] = PlanError(found.reason or "no corrected energy", code)
    own = {i: c.entry for i, c in corrected.items() if c.entry is not None}
    if temperature is None:
        competing = list(rivals.references.entries)
        return Standing(info, scheme, documents, dict(own), reasons, warnings, compete, competing, rivals)
    for i, entry in own.items():
        entry.data["position"] = i
    solids = [entry for entry in rivals.references.entries if isinstance(entry, ComputedStructureEntry)]
    gibbs = gibbs_entries([*own.values(), *solids], temperature)
    at = {entry.data["position"]: entry for entry in gibbs if "position" in entry.data}
    for i in own.keys() - at.keys():
        formula = own[i].composition.reduced_formula
        reasons[i] = PlanError(
            f"{formula} has no Gibbs energy: only the lowest form of an element has one, a compound needs them all",
            "no_gibbs_energy",
        )
        if not documents[i].converged:
            sentence = f"the relaxation of {formula} did not converge; unconverged energies do not enter a hull"
            reasons[i] = PlanError(sentence, "not_converged")
    there = [entry for entry in gibbs if "position" not in entry.data]
    return Standing(info, scheme, documents, dict(at), reasons, warnings, compete, list(there), rivals)
