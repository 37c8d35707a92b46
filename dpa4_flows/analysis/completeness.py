"""What a hull rests on, and the one word that follows from it: stable, above the hull, or unknown.

A distance is as good as the phases that compete. `hull_completeness` counts them: compounds of the chemical system and
of its sub-systems with another composition than the candidate's, since a form of itself says nothing about what it
would turn into. `hull_verdict` hands out the word, for every command, campaign, Maker, plot and report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dpa4_core.errors import plural

if TYPE_CHECKING:  # documents are imported where nothing is computed, and need not wait for pymatgen
    from pymatgen.core import Composition

ON_HULL = 5e-4
"""eV/atom: two relaxations of one phase differ by so much, so that less is on the hull. Ask `on_hull`."""

FAR_BELOW = 0.1
"""eV/atom: compounds gain little more over the known phases around them; what lies further below them misses
competitors."""

PROTOTYPE = "prototype"
"""Role of a phase that nobody reported and a structure type proposes."""


def on_hull(energy_above_hull: float, within: float = 0.0) -> bool:
    """Whether a phase lies on the hull, or at most ``within`` eV/atom above it: the one answer to that question."""
    return energy_above_hull <= within + ON_HULL


Grade = Literal["surveyed", "incomplete", "unsurveyed", "no_competitor", "element_missing", "not_recorded"]
"""From best to worst: all phases that a survey named compete; some have no energy; nobody surveyed the system; no
compound competes; an element has no reference. ``not_recorded``: stored before this was counted."""

VerdictCode = Literal["stable", "above_hull", "unknown"]
VerdictReason = Literal[
    "surveyed",
    "incomplete",
    "unsurveyed",
    "above_hull",
    "no_known_competitor",
    "far_below_competitors",
    "element_missing",
    "not_recorded",
]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Survey(_Value):
    """Who was asked for all known phases of a chemical system, and answered."""

    source: str = Field(description="Name of the database or file")
    version: str = Field("", description="Version of the database, or checksum of the file")
    date: str = Field("", description="Day of the answer")

    @property
    def words(self) -> str:
        """``Materials Project 2025.2 (2026-11-29)``."""
        return " ".join(filter(None, (self.source, self.version, f"({self.date})" if self.date else "")))


class HullCompleteness(_Value):
    """What competes in one chemical system."""

    chemsys: str = Field(description="Chemical system, elements joined by dashes")
    grade: Grade = Field(description="surveyed, incomplete, unsurveyed, no_competitor, element_missing or not_recorded")
    sentence: str = Field(description="The same for readers")
    missing_elements: list[str] = Field(default_factory=list, description="Elements without a reference")
    n_known: int = Field(0, description="Known compounds of another composition that compete, sub-systems included")
    n_prototypes: int = Field(0, description="Proposed structure types of another composition that compete")
    n_forms: int = Field(0, description="Competing phases of the same composition; of an element, its forms")
    without_energy: list[str] = Field(default_factory=list, description="Known phases without a usable energy")
    survey: Survey | None = Field(None, description="Who surveyed the phases of the system; null if nobody did")

    @property
    def competitors(self) -> str:
        """``12 known compounds + 3 prototypes``."""
        if "-" not in self.chemsys:
            return f"{plural(self.n_forms, 'known form')} of {self.chemsys}"
        known = plural(self.n_known, "known compound")
        return known if not self.n_prototypes else f"{known} + {plural(self.n_prototypes, 'prototype')}"

    @property
    def compares(self) -> bool:
        """Whether something other than elements and forms of the phase itself competes."""
        return bool(self.n_forms if "-" not in self.chemsys else self.n_known + self.n_prototypes)


class HullVerdict(_Value):
    """What may be said of one distance to the hull."""

    code: VerdictCode = Field(description="stable, above_hull or unknown")
    reason: VerdictReason = Field(description="Why: what stable rests on, or why nothing is known")
    sentence: str = Field(description="The same for readers; names what stable is measured against")
    documented: bool = Field(description="Whether known compounds stand behind the distance, so that it may rank")


@dataclass(frozen=True)
class Tally:
    """Phases of one chemical system and its sub-systems, counted by reduced formula.

    Attributes:
        elements: forms of each element, by symbol.
        known: phases of known compounds.
        prototypes: proposed phases.
    """

    elements: Mapping[str, int] = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    prototypes: Mapping[str, int] = field(default_factory=dict)


def tally(phases: Iterable[tuple[Composition, str | None]]) -> Tally:
    """Count phases.

    Args:
        phases: composition and role of each; a role other than `PROTOTYPE` is that of a known phase.
    """
    elements: dict[str, int] = {}
    known: dict[str, int] = {}
    prototypes: dict[str, int] = {}
    for composition, role in phases:
        if len(composition.elements) == 1:
            counts, name = elements, composition.elements[0].symbol
        else:
            counts, name = (prototypes if role == PROTOTYPE else known), composition.reduced_formula
        counts[name] = counts.get(name, 0) + 1
    return Tally(elements, known, prototypes)


def hull_completeness(
    chemsys: str,
    phases: Tally,
    *,
    formula: str | None = None,
    without_energy: Sequence[str] = (),
    survey: Survey | None = None,
) -> HullCompleteness:
    """Grade what competes in one chemical system.

    Args:
        chemsys: as ``"Co-Li-O"``.
        phases: competing phases of the system, without the candidates.
        formula: reduced formula of the phase that is judged; phases of its composition do not count as competitors.
        without_energy: sentences on known phases that have no usable energy.
        survey: of the system, or of a larger one.
    """
    symbols = chemsys.split("-")
    own = symbols[0] if len(symbols) == 1 else formula
    forms = sum(counts.get(own or "", 0) for counts in (phases.elements, phases.known, phases.prototypes))
    values: dict[str, Any] = {
        "chemsys": chemsys,
        "missing_elements": [symbol for symbol in symbols if not phases.elements.get(symbol)],
        "n_known": sum(name != own for name in phases.known),
        "n_prototypes": sum(n for name, n in phases.prototypes.items() if name != own),
        "n_forms": forms if own is not None else 0,
        "without_energy": list(without_energy),
        "survey": survey,
    }
    found = HullCompleteness(grade="surveyed", sentence="", **values)
    return found.model_copy(update={"grade": _grade(found), "sentence": _sentence(found)})


def not_recorded(chemsys: str, missing: Sequence[str] = ()) -> HullCompleteness:
    """Of a result that was stored before competing compounds were counted.

    Args:
        chemsys: as ``"Co-Li-O"``.
        missing: what was known to be missing.
    """
    sentence = f"the compounds that compete in {chemsys} were not counted when this was stored"
    return HullCompleteness(chemsys=chemsys, grade="not_recorded", sentence=sentence, without_energy=list(missing))


def hull_verdict(
    energy_above_hull: float, distance_to_competing: float | None, completeness: HullCompleteness
) -> HullVerdict:
    """The word for a distance to the hull.

    A phase above a hull is above it whatever is missing, since more phases only lower a hull. That it is on the hull is
    said where compounds compete and it lies near them; otherwise it is unknown.

    Args:
        energy_above_hull: eV/atom, with the other candidates if they compete.
        distance_to_competing: eV/atom, signed, to the competing phases alone; None if it is not known.
        completeness: of these phases.
    """
    reason = _doubt(distance_to_competing, completeness)
    documented = reason is None
    if not on_hull(energy_above_hull):
        words = f"{energy_above_hull:.3f} eV/atom above the hull"
        if completeness.grade != "surveyed":
            words += f" or more, {completeness.sentence}"
        return HullVerdict(code="above_hull", reason=reason or "above_hull", sentence=words, documented=documented)
    if reason is None and completeness.missing_elements:
        reason = "element_missing"
    if reason is not None:
        words = _DOUBTS[reason].format(below=-(distance_to_competing or 0.0))
        return HullVerdict(
            code="unknown", reason=reason, sentence=f"unknown: {words}; {completeness.sentence}", documented=False
        )
    words = f"stable against {completeness.competitors}, {_surveyor(completeness)}"
    if completeness.without_energy:
        words += f", {plural(len(completeness.without_energy), 'known phase')} without an energy"
    grade = completeness.grade
    assert grade in ("surveyed", "incomplete", "unsurveyed")  # every other one has a reason for doubt
    return HullVerdict(code="stable", reason=grade, sentence=words, documented=True)


_DOUBTS: dict[VerdictReason, str] = {
    "no_known_competitor": "no known competitor",
    "far_below_competitors": "{below:.3f} eV/atom below all competing phases, so that its competitors are not known",
    "element_missing": "an element has no reference",
    "not_recorded": "it is not known what competed",
}


def _doubt(distance: float | None, completeness: HullCompleteness) -> VerdictReason | None:
    """Why a distance says nothing, whatever its size."""
    if completeness.grade == "not_recorded":
        return "not_recorded"
    if not completeness.compares:
        return "no_known_competitor"
    return "far_below_competitors" if distance is not None and distance < -FAR_BELOW else None


def _grade(found: HullCompleteness) -> Grade:
    if found.missing_elements:
        return "element_missing"
    if not found.compares:
        return "no_competitor"
    if found.survey is None:
        return "unsurveyed"
    return "incomplete" if found.without_energy else "surveyed"


def _sentence(found: HullCompleteness) -> str:
    words = found.competitors if found.compares or "-" not in found.chemsys else "no known compound"
    if found.n_forms and "-" in found.chemsys:
        words += f" besides {plural(found.n_forms, 'form')} of its own"
    words += f", {_surveyor(found, in_system=True)}"
    if found.missing_elements:
        words += f", no reference for {', '.join(found.missing_elements)}"
    if found.without_energy:
        words += f", {plural(len(found.without_energy), 'known phase')} without an energy"
    return words


def _surveyor(found: HullCompleteness, *, in_system: bool = False) -> str:
    if found.survey is not None:
        return f"survey: {found.survey.words}"
    return f"no survey of phases in {found.chemsys}" if in_system else "no survey"
