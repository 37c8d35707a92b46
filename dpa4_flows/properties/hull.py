"""Energy above the convex hull: crystals and their competing phases relax in one batch, and are placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dpa4_core.verdicts import Minimum
from dpa4_flows.analysis.completeness import HullCompleteness, VerdictCode, hull_completeness, hull_verdict
from dpa4_flows.analysis.hull import HullResult, hull_summary, phase_positions
from dpa4_flows.analysis.hull_spread import place_spreads
from dpa4_flows.analysis.hull_warnings import scheme_warnings, system_warnings
from dpa4_flows.analysis.thermodynamics import at_temperature
from dpa4_flows.compute.plan import Crystal, Crystals, Plan, PlanError
from dpa4_flows.documents.hull import HullValues, missing_from, values_of
from dpa4_flows.documents.provenance import energy_frame, provenance
from dpa4_flows.documents.quantities import Unit
from dpa4_flows.documents.schemas import (
    AnswerDocument,
    Document,
    EnergyFrame,
    HullDocument,
    Provenance,
    RelaxationDocument,
)
from dpa4_flows.properties.competition import Competing, Standing, together


@dataclass(frozen=True)
class Place:
    """Where one crystal lies, and what is behind it.

    Attributes:
        position: distances also where they mean nothing; of a crystal without an energy its formula alone.
        completeness: what competed; None where there is no distance.
        doubts: sentences on the corrections of its energy.
        document: what may be said of it; None where there is no formation energy.
        relaxed: the calculation that it rests on.
        error: one sentence if it has no energy to compare.
        error_code: the same for logic.
    """

    position: HullResult
    completeness: HullCompleteness | None = None
    doubts: Sequence[str] = ()
    document: HullDocument | None = None
    relaxed: RelaxationDocument | None = None
    error: str | None = None
    error_code: str | None = None


class HullSet(Document):
    """Where some structures lie with respect to the hulls of their chemical systems."""

    documents: list[HullDocument | None] = Field(
        description="One per structure, in order; None where there is an error"
    )
    errors: list[str | None] = Field(description="One sentence per structure that has no document")
    error_codes: list[str | None] = Field(default_factory=list, description="The same for logic")
    error: str | None = Field(None, description="Why there are no hulls at all")
    error_code: str | None = Field(None, description="The same for logic")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    notes: list[str] = Field(default_factory=list, description="Those of the warnings that hold for all structures")
    frame: EnergyFrame
    completeness: dict[str, HullCompleteness] = Field(
        default_factory=dict, description="What competes in each chemical system, without the structures themselves"
    )
    summary: dict[str, Any] = Field(description="Phases of each chemical system, see analysis.hull.hull_summary")
    places: list[Any] = Field(default_factory=list, exclude=True, description="A `Place` each; not written to files")

    def said_of(self, document: HullDocument) -> list[str]:
        """What to know before the numbers of one structure are quoted."""
        missing = missing_from(self.completeness[document.chemsys])
        return list(dict.fromkeys([*self.notes, *document.warnings, *missing]))


class HullPlace(HullValues, AnswerDocument):
    """Where one structure lies with respect to the hull of its chemical system; no distance where nothing is known."""

    verdict: str | None = Field(None, description="Stable, above the hull, or unknown, and why, in words")
    verdict_code: VerdictCode | None = Field(None, description="The same for programs")
    verdict_reason: str | None = Field(None, description="Why, for programs")
    grade: str | None = Field(None, description="How completely the competing phases are known")
    chemsys: str | None = Field(None, description="Chemical system, elements joined by dashes")
    energy_per_atom: Annotated[float | None, Unit("eV/atom")] = Field(None, description="Uncorrected, eV/atom")
    fmax: Annotated[float | None, Unit("eV/Å")] = Field(None, description="Largest force of its relaxation, eV/Å")
    n_steps: int | None = Field(None, description="Steps of its relaxation")
    converged: bool | None = Field(None, description="Whether its relaxation did")
    minimum: Minimum = Field("not_checked", description="Whether no way down was found around the end of it")
    energy_per_atom_corrected: Annotated[float | None, Unit("eV/atom")] = Field(None, description="eV/atom")
    correction_per_atom: Annotated[float | None, Unit("eV/atom")] = Field(None, description="Of its energy, eV/atom")
    level_of_theory: str | None = Field(None, description="Functional and +U policy of its energy")
    correction: str | None = Field(None, description="Scheme of the corrections")
    competing_energies: str | None = Field(None, description="Who computed the competing phases")
    document: HullDocument | None = Field(None, description="All that is known of the place")
    system: dict[str, Any] = Field(
        default_factory=dict, exclude=True, description="Hull of its chemical system, to draw it; one for many places"
    )
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")


_PLAIN = ("chemsys", "energy_per_atom_corrected", "correction_per_atom", "competing_energies")
"""Fields that a place has from its document as they are."""
_RELAXED = ("energy_per_atom", "fmax", "n_steps", "converged", "minimum")
"""The same from the relaxation."""


@dataclass(frozen=True)
class Hull(Competing[Any]):
    """Where a crystal lies above the hull of competing phases.

    Of one crystal it gives a `HullPlace`; of several, which may stand against each other, the `HullSet` of all.
    """

    name: ClassVar[str] = "hull"
    document: ClassVar[type[Document]] = HullPlace
    figures: ClassVar[str] = "dpa4_flows.report.hull_plot:hulls_of"

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        standing = yield from self.standing(crystal)
        return self.document_of(crystal, place(self, crystal, standing))

    def failed(self, crystal: Crystal | Crystals, error: PlanError) -> Any:
        n = len(together(crystal))
        found = HullSet(
            documents=[None] * n,
            errors=[str(error)] * n,
            error_codes=[error.code] * n,
            error=str(error),
            error_code=error.code,
            frame=energy_frame(crystal.info),
            summary={},
        )
        return self.document_of(crystal, found)

    def each(self, crystals: Crystals, found: HullSet) -> list[HullPlace]:
        return [self._place(crystals, found, i) for i in range(len(found.documents))]

    def _place(self, subject: Crystals, found: HullSet, number: int) -> HullPlace:
        document = found.documents[number]
        if document is None:
            why = {"error": found.errors[number], "error_code": found.error_codes[number]}
            return HullPlace(**why, warnings=found.notes, provenance=self.origin(subject))
        return HullPlace(
            **values_of(document),
            **{name: getattr(document, name) for name in _PLAIN},
            **{name: getattr(found.places[number].relaxed, name) for name in _RELAXED},
            level_of_theory=document.frame.level_of_theory,
            correction=document.frame.correction,
            verdict=document.verdict.sentence,
            verdict_code=document.verdict.code,
            verdict_reason=document.verdict.reason,
            grade=document.completeness.grade,
            document=document,
            system={document.chemsys: found.summary[document.chemsys]},
            warnings=found.said_of(document),
            provenance=document.provenance,
        )


def place(competing: Competing[Any], subject: Crystal | Crystals, standing: Standing) -> HullSet:
    """Where the candidates of a property lie above the hull of what competes with them.

    Raises:
        FrameError: the frames differ.
    """
    info, scheme, phases = standing.info, standing.scheme, standing.candidates
    entries = list(phases.values())
    found_places = phase_positions(entries, standing.competing, rivals=standing.others())
    spreads = place_spreads(entries, standing.competing, standing.others())
    positions = {
        i: replace(position, spread=spread) for i, position, spread in zip(phases, found_places, spreads, strict=True)
    }
    of_product: dict[str, list[str]] = {}
    for entry in standing.rivals.references.entries:
        of_product.setdefault(entry.composition.reduced_formula, []).extend(entry.data.get("warnings", []))

    origin = provenance(info, {**competing.settings(subject.model), "corrections": scheme}, with_pymatgen=True)
    frame = energy_frame(info, scheme)
    if competing.temperature is not None:
        frame.correction = at_temperature(scheme, competing.temperature)
    found = HullSet(documents=[], errors=[], frame=frame, summary={}, notes=[*standing.rivals.notes])
    found.notes += scheme_warnings(info.level_of_theory, info.corrections, scheme, info.zeros, info.dispersion)
    rivals, systems, said = standing.rivals, found.completeness, []
    for i, crystal in enumerate(together(subject)):
        position = positions.get(i)
        problem = standing.reasons[i] if position is None else hull_problem(position)
        document = completeness = None
        if position is not None and position.error is None:
            system, survey = position.chemsys, rivals.surveys.get(position.chemsys)
            missing = rivals.references.missing_in(system) if system not in systems else systems[system].without_energy
            completeness = position.completeness(missing, survey)
            if system not in systems:
                systems[system] = hull_completeness(system, position.competing, without_energy=missing, survey=survey)
        if position is not None and completeness is not None and problem is None:
            doubts = [doubt.sentence for doubt in standing.documents[i].doubts]
            warnings = [
                *standing.warnings[i],
                *system_warnings(position.chemsys.split("-"), info.level_of_theory, scheme),
                *(text for product in position.decomposition for text in of_product.get(product, [])),
            ]
            document = hull_document(position, frame, origin, completeness)
            document.competing_energies = rivals.computed_by
            document.warnings = list(dict.fromkeys([*doubts, *warnings]))
            said += [*(f"{crystal.name or position.formula}: {text}" for text in doubts), *warnings]
        if position is None:
            nowhere = HullResult("", crystal.structure.composition.reduced_formula, "", 0.0, 0.0)
            found.places.append(Place(nowhere, error=str(problem), error_code=problem.code if problem else None))
        else:
            found.places.append(Place(position, completeness, standing.warnings[i], document, standing.documents[i]))
        found.documents.append(document)
        found.errors.append(None if problem is None else str(problem))
        found.error_codes.append(None if problem is None else problem.code)
    found.warnings = list(dict.fromkeys([*found.notes, *said]))
    found.completeness = dict(sorted(systems.items()))
    verdicts = {
        str(phases[i].entry_id): document.verdict for i, document in enumerate(found.documents) if document is not None
    }
    found.summary = hull_summary(
        list(found.completeness), standing.competing, entries, completeness=found.completeness, verdicts=verdicts
    )
    return found


def hull_problem(position: HullResult) -> PlanError | None:
    """Why there is no document; a hull without an elemental reference has distances but no formation
    energies.
    """
    if position.error is None and position.formation_energy_per_atom is None:
        missing = ", ".join(position.missing_references)
        return PlanError(f"{position.formula} has no formation energy: no reference for {missing}", "element_missing")
    return None if position.error is None else PlanError(position.error, "no_hull_distance")


def hull_document(
    position: HullResult, frame: EnergyFrame, origin: Provenance, completeness: HullCompleteness
) -> HullDocument:
    """Document of one position.

    Args:
        position: from `phase_positions`, with formation energy and without error.
        frame: energy frame of candidates and competing phases.
        origin: provenance.
        completeness: what competed.
    """
    assert position.formation_energy_per_atom is not None and position.energy_above_hull is not None
    verdict = hull_verdict(position.energy_above_hull, position.distance_to_competing, completeness)
    shared = HullDocument.model_fields.keys() & {item.name for item in fields(position)}
    told = {name: getattr(position, name) for name in shared}
    if verdict.code == "unknown":
        told["energy_above_hull"] = None
    told |= position.deviations()
    return HullDocument(**told, verdict=verdict, completeness=completeness, frame=frame, provenance=origin)
