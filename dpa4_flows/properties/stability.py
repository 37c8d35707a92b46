"""Is a compound stable? Against other phases, against strain, against displacements of its atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.stability import NOT_ASKED, PARTS, Part, hull_part, overall_verdict, space_group
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, Plan, PlanError, Property, answered
from dpa4_flows.compute.relaxed import TIGHT_FMAX, Relaxed
from dpa4_flows.documents.hull import products_text, values_of
from dpa4_flows.documents.schemas import HullDocument, Provenance, RelaxationDocument
from dpa4_flows.documents.stability import (
    ElasticPart,
    HullPart,
    PhononPart,
    RelaxedPart,
    StabilityDocument,
    StabilityPart,
    StabilitySet,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.hull import Hull, HullSet
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.modes import FollowedModes
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.site_conversion import free_crystal

LOWER_EV = 2e-3
"""eV/atom; two relaxations of one structure differ by less."""


@dataclass(frozen=True)
class Stability(Property[Any]):
    """Place on the hull, elastic tensor and phonons of a crystal, and what follows from them; each part may be None.

    Of one crystal it gives a `StabilityDocument`; of several, which may stand against each other on the hull, the
    `StabilitySet` of all. Phonons, and strains beside them, are those of the crystal with the symmetry that it has.

    Attributes:
        relaxation: that strains and phonons start from. Beside phonons it looks for no way down: they judge the
            structure that was asked for.
        elastic: elastic tensor and Born criteria.
        phonons: imaginary modes and thermal properties.
        max_follow_steps: how often an unstable crystal is followed along its imaginary mode; 0 for never.
        hull: distance to competing phases. It has a relaxation of its own, which pushes atoms off saddle points.
    """

    name: ClassVar[str] = "stability"
    document: ClassVar[type[StabilityDocument]] = StabilityDocument
    figures: ClassVar[str] = "dpa4_flows.report.figures_properties:verdicts"

    relaxation: Relaxed = field(default_factory=lambda: Relaxed(fmax=TIGHT_FMAX, max_steps=1000))
    elastic: Elastic | None = field(default_factory=Elastic)
    phonons: Phonons | None = field(default_factory=Phonons)
    max_follow_steps: int = 0
    hull: Hull | None = field(default_factory=Hull)

    def __post_init__(self) -> None:
        if self.phonons is not None and self.relaxation.check_minimum:
            object.__setattr__(self, "relaxation", replace(self.relaxation, check_minimum=False))

    @property
    def together(self) -> bool:
        return self.hull is not None

    def check(self) -> None:
        check_counts(self, "max_follow_steps", least=0)
        for part in (self.relaxation, self.elastic, self.phonons, self.hull):
            if part is not None:
                part.check()

    def settings(self, model: ModelRef) -> dict[str, Any]:
        parts = {"relax": self.relaxation, "elastic": self.elastic, "phonons": self.phonons, "hull": self.hull}
        settings = {name: None if part is None else part.settings(model) for name, part in parts.items()}
        return {"calculation": self.name, **settings, "max_follow_steps": self.max_follow_steps}

    def key(self, crystal: Crystal | Crystals, model: ModelRef) -> str | None:
        """None with a hull: what competes may change. Its parts are stored."""
        return None if self.hull is not None or isinstance(crystal, Crystals) else super().key(crystal, model)

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"formula": crystal.structure.composition.reduced_formula, "verdict": "undecided", "reasons": []}

    def failed(self, crystal: Crystal | Crystals, error: PlanError) -> Any:
        if not isinstance(crystal, Crystals):
            return super().failed(crystal, error)
        whole = (replace(one, model=crystal.model, info=crystal.info) for one in crystal.crystals)
        return StabilitySet(documents=[super(Stability, self).failed(one, error) for one in whole])

    def each(self, crystals: Crystals, found: StabilitySet) -> list[StabilityDocument]:
        return found.documents

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        if isinstance(crystal, Crystals):
            return (yield from self._together(crystal))
        if self.hull is None:
            return (yield from self._parts(crystal))
        return (yield from self._together(Crystals((crystal,)))).documents[0]

    def _together(self, crystals: Crystals) -> Plan[StabilitySet]:
        """Strains and phonons of each crystal, and the places of all on the hull."""
        parts = replace(self, hull=None)
        asks: dict[str, Ask[Any]] = {str(i): Ask(parts, one) for i, one in enumerate(crystals.crystals)}
        if self.hull is not None and crystals.crystals:
            free = [Crystal(free_crystal(one.structure)[0], one.name) for one in crystals.crystals]
            asks["hull"] = Ask(self.hull, Crystals(tuple(free)))
        answers = yield asks
        places: HullSet | None = answers.get("hull")
        documents = [answers[str(i)] for i in range(len(crystals.crystals))]
        if places is None:
            return StabilitySet(documents=documents)
        placed = [
            _with_hull(document, place, error, [] if place is None else places.said_of(place))
            for document, place, error in zip(documents, places.documents, places.errors, strict=True)
        ]
        return StabilitySet(documents=placed, warnings=places.warnings, completeness=places.completeness)

    def _parts(self, crystal: Crystal) -> Plan[StabilityDocument]:
        start, remarks = free_crystal(whole_crystal(crystal))
        document: RelaxationDocument = answered((yield {"relaxed": Ask(self.relaxation, Crystal(start))})["relaxed"])
        at_rest = Crystal(structure_of_fields(document.structure or {}), relaxed=document)
        asked: dict[str, Elastic | Phonons] = {}
        if self.elastic is not None:
            asked["elastic"] = self.elastic
        if self.phonons is not None:
            asked["phonons"] = self.phonons
        parts = yield {name: Ask(part, at_rest) for name, part in asked.items()}
        elastic: ElasticPart | None = parts.get("elastic")
        phonons: PhononPart | None = parts.get("phonons")
        followed = None
        if self.max_follow_steps and self.phonons is not None and phonons is not None and phonons.verdict == "unstable":
            modes = FollowedModes(self.relaxation, self.phonons, self.max_follow_steps)
            followed = (yield {"followed": Ask(modes, at_rest)})["followed"]
        if not document.converged:
            fmax = self.relaxation.fmax
            remarks.append(f"the relaxation ended at {document.fmax:.3g} eV/Å, not at {fmax:g}: raise max_steps")
        assert document.energy_per_atom is not None and document.fmax is not None
        remarks += [doubt.sentence for doubt in document.doubts]
        before, after = space_group(start), space_group(whole_crystal(at_rest))
        if before != after:
            remarks.append(f"it relaxed from {before} to {after}: strains and phonons are those of {after}")
        change = None if document.volume is None else 100 * (document.volume / start.volume - 1)
        return _answered(
            StabilityDocument(
                formula=document.formula,
                verdict="undecided",
                reasons=[],
                warnings=remarks,
                relaxed=RelaxedPart(
                    structure=document.structure or {},
                    energy_per_atom=document.energy_per_atom,
                    fmax=document.fmax,
                    converged=document.converged,
                    volume_change_percent=change,
                    space_group_before=before,
                    space_group=after,
                    minimum=document.minimum,
                    provenance=document.provenance,
                ),
                elastic=elastic,
                phonons=phonons,
                followed=followed,
                provenance=self.origin(crystal),
            )
        )


def _with_hull(
    document: StabilityDocument, place: HullDocument | None, error: str | None, said: Sequence[str]
) -> StabilityDocument:
    """``document`` with its place on the hull and what is said of that, or with why there is none."""
    if document.relaxed is None:
        return document
    part = _hull_part(place, error, document.relaxed.provenance)
    lower = _lower_on_hull(place, document.relaxed)
    warnings = list(dict.fromkeys([*document.warnings, *said, *lower]))
    return _answered(document.model_copy(update={"hull": part, "warnings": warnings}))


def _answered(document: StabilityDocument) -> StabilityDocument:
    """``document`` with the verdict, reasons and warnings that follow from its parts."""
    parts: dict[str, StabilityPart] = {name: part for name in PARTS if (part := getattr(document, name)) is not None}
    verdicts: dict[str, Part] = dict.fromkeys(PARTS, NOT_ASKED) | {n: p.verdict for n, p in parts.items()}
    reasons = [
        f"{name}: {NOT_ASKED}" if name not in parts else f"{name}: {verdict}, {parts[name].reason}"
        for name, verdict in verdicts.items()
    ]
    if document.followed is not None:
        reasons.append(f"along the mode: {document.followed.reason}")
    warnings = [*document.warnings, *(text for part in parts.values() for text in part.warnings)]
    verdict = overall_verdict(verdicts)
    facts = {"verdict": verdict, "verdicts": verdicts, "reasons": reasons, "answer": _words(verdict, parts, verdicts)}
    return document.model_copy(update={**facts, "warnings": list(dict.fromkeys(warnings))})


def _words(verdict: str, parts: Mapping[str, StabilityPart], verdicts: Mapping[str, Part]) -> str:
    """The verdict; stable names what it is measured against unless that was surveyed."""
    hull = parts.get("hull")
    if verdict == "stable" and isinstance(hull, HullPart) and hull.document is not None:
        return verdict if hull.document.verdict.reason == "surveyed" else hull.document.verdict.sentence
    left = [name for name, part in verdicts.items() if part == NOT_ASKED]
    return f"{verdict}, {' and '.join(left)} not asked" if verdict == "undecided" and left else verdict


def _lower_on_hull(place: HullDocument | None, relaxed: RelaxedPart) -> list[str]:
    """What to say if the relaxation for the hull, which may break the symmetry, found something lower."""
    if place is None:
        return []
    energy = place.energy_per_atom_corrected - place.correction_per_atom
    lower = relaxed.energy_per_atom - energy
    if lower < LOWER_EV:
        return []
    return [
        f"with its atoms displaced it relaxes to a structure {1000 * lower:.0f} meV/atom lower: the distance to the "
        "hull is that of the lower one, strains and phonons are those of the symmetric one"
    ]


def _hull_part(place: HullDocument | None, error: str | None, origin: Provenance) -> HullPart:
    if place is None:
        sentence = error or "no place on the hull"
        return HullPart(verdict="unknown", reason=sentence, error=sentence, converged=False, provenance=origin)
    products = products_text(place.formula, place.decomposition)
    verdict, reason = hull_part(place.verdict, place.completeness, place.energy_above_hull, products)
    return HullPart(
        verdict=verdict,
        reason=reason,
        converged=True,
        warnings=place.warnings,
        provenance=place.provenance,
        document=place,
        **values_of(place),
    )
