"""Stage ``hull``, and hulls for any stage: how far phases lie above the competing phases by the same model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobflow import Response
from pydantic import BaseModel
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.completeness import HullCompleteness, hull_verdict
from dpa4_flows.analysis.hull import HullResult, hull_summary, phase_positions
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.sections import HullSection, Limits, RelaxSection, Section
from dpa4_flows.campaigns.stage import Computation, Finding, Stage
from dpa4_flows.documents.provenance import energy_frame, provenance
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import ChunkSummary, HullDocument, RelaxationDocument
from dpa4_flows.makers.references import (
    ReferenceMaker,
    reference_entries,
    stored_phases,
    stored_surveys,
)
from dpa4_flows.properties.competition import Rivals
from dpa4_flows.properties.hull import Graded, HullValues, hull_document, hull_problem
from dpa4_flows.reference.entries import chemical_system, document_entry
from dpa4_flows.reference.library import ReferencePhase

NOTICEABLY_BELOW = 0.02
"""eV/atom; a phase that lies further below all others may miss competitors; beyond `FAR_BELOW` it does."""

REASONS = {
    "no_hull_distance": ReasonKind("no distance", "no distance to the hull", status="error"),
    "above_limit": ReasonKind("above the hull", "too far above the hull", status="failed"),
    "corrections_doubtful": ReasonKind("corrections doubtful", "how its energy is to be corrected is doubtful"),
    "phases_missing": ReasonKind(
        "known phases missing", "known phases of its system have no energy: its distance is a lower bound"
    ),
    "element_missing": ReasonKind(
        "element missing", "an element of its system has no reference: its stability is not known", disqualifies=True
    ),
    "no_known_competitor": ReasonKind(
        "no known competitor", "no known compound competes: its stability is not known", disqualifies=True
    ),
    "far_below_competitors": ReasonKind(
        "competitors unknown",
        "far below all competing phases: its competitors are not known, nor is its stability",
        disqualifies=True,
    ),
    "not_recorded": ReasonKind(
        "competitors unknown", "what competed was not recorded: its stability is not known", disqualifies=True
    ),
    "below_competitors": ReasonKind("below all phases", "below all competing phases: its stability is an upper bound"),
}


@dataclass(frozen=True)
class CompetingPhases(Computation):
    """Relaxes the competing phases of the candidates, with the settings of the candidates: a phase that stays on a
    saddle point would let every candidate near it look stable.

    They come from the table, since a worker need not have the files.
    """

    of: str = "competing phases"

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"hull": HullSection, "relax": RelaxSection}

    def work(self, scene: Scene, ids: Sequence[str]) -> dict[str, int]:
        maker = scene.run.relax_maker(self.of)
        return {maker.key(phase.structure): len(phase.structure) for phase in self.phases(scene, ids)}

    def jobs(self, scene: Scene, ids: Sequence[str]) -> Response | ChunkSummary:
        maker = ReferenceMaker(
            relax_maker=scene.run.relax_maker(self.of), chunk_size=scene.run.campaign.engine.chunk_size
        )
        return maker.replace_phases(scene.table, self.phases(scene, ids))

    def covers(self, other: Computation) -> bool:
        return isinstance(other, CompetingPhases)

    def phases(self, scene: Scene, ids: Sequence[str]) -> list[ReferencePhase]:
        """Those in the chemical systems of the candidates ``ids``."""
        found = (structure_of_fields(c.structure) for c in scene.table.candidates(ids) if c.structure is not None)
        return stored_phases(scene.table, {chemical_system(structure) for structure in found})


@dataclass(frozen=True)
class Placed:
    """Where one phase lies.

    Attributes:
        position: with respect to the competing phases and its rivals.
        calculation: its relaxation.
        completeness: what competed.
        warnings: sentences about its corrections.
        document: the whole; None without a formation energy.
        error: instead of everything, why it has no place on a hull.
    """

    position: HullResult
    calculation: RelaxationDocument
    completeness: HullCompleteness | None = None
    warnings: Sequence[str] = ()
    document: HullDocument | None = None
    error: str = ""


def place(
    scene: Scene, calculations: Mapping[str, RelaxationDocument], judged: Collection[str], rivals: Collection[str]
) -> dict[str, Placed]:
    """Where the phases ``judged`` lie, by id.

    Args:
        scene: the stage.
        calculations: relaxations of the phases by id.
        judged: ids whose places are wanted.
        rivals: ids whose phases stand against the others; the rest competes with nothing.
    """
    scheme = scene.run.scheme()
    origin = provenance(scene.run.model, {"corrections": scheme}, with_pymatgen=True)
    found: dict[str, Placed] = {}
    entries: dict[str, ComputedStructureEntry] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    for i, calculation in calculations.items():
        corrected = document_entry(calculation, scheme, i)
        if corrected.entry is not None:
            entries[i], warnings[i] = corrected.entry, corrected.warnings
        elif i in judged:
            nowhere = HullResult(i, calculation.formula, "", 0.0, 0.0)
            found[i] = Placed(nowhere, calculation, error=corrected.reason or "no corrected energy")
    references = reference_entries(scene.table, scheme)
    own = {i: entry for i, entry in entries.items() if i in judged}
    against = [entry for i, entry in entries.items() if i in rivals]
    positions = phase_positions(list(own.values()), references.entries, rivals=against)
    frame, graded = energy_frame(scene.run.model, scheme), Graded(Rivals(references, stored_surveys(scene.table)))
    for i, position in zip(own, positions, strict=True):
        completeness = graded.of(position)
        document = None if hull_problem(position) else hull_document(position, frame, origin, completeness)
        found[i] = Placed(position, calculations[i], completeness, warnings[i], document)
    if scene.stage.name == "hull":
        stable = {i: p.document.verdict for i, p in found.items() if p.document is not None}
        summary = hull_summary(
            sorted(graded.systems),
            references.entries,
            list(entries.values()),
            completeness=graded.systems,
            verdicts=stable,
        )
        scene.table.set_meta("hull_summary", summary)
    return {i: found[i] for i in calculations if i in found}


def hull_finding(
    candidate_id: str,
    placed: Placed,
    *,
    values: type[BaseModel] = HullValues,
    suffix: str = "",
    what: str = "",
    unknown: str = "",
    further: Sequence[Reason] = (),
) -> Finding:
    """What a place on the hull says. A distance that is unknown, or a lower bound by far, does not rank.

    Args:
        candidate_id: the candidate.
        placed: where its phase lies.
        values: document of the values; their names are those of `HullValues` with ``suffix``.
        suffix: of names of values and of codes.
        what: words before the formula, with a space at the end.
        unknown: code of the reasons for a distance that is not known, instead of one for each cause.
        further: other reasons.
    """
    position, completeness = placed.position, placed.completeness
    distance, below = position.energy_above_hull, position.distance_to_competing
    origin = placed.document.provenance if placed.document else None
    keys = [placed.calculation.key]
    error = placed.error or position.error
    if error or distance is None or completeness is None:
        sentence = error or f"{position.formula} has no place on the hull"
        return Finding(candidate_id, [Reason(code="no_hull_distance", sentence=sentence)], keys=keys, provenance=origin)
    products = products_text(position.formula, position.decomposition)
    verdict = hull_verdict(distance, below, completeness)
    codes = [("corrections_doubtful", sentence) for sentence in placed.warnings]
    codes += [("phases_missing", f"not on the hull: {sentence}") for sentence in completeness.without_energy]
    if position.missing_references:
        elements = ", ".join(position.missing_references)
        codes.append(
            (unknown or "element_missing", f"no reference for {elements}: the distance to the hull is a lower bound")
        )
    if not verdict.documented:
        sentence = (
            f"whether {what}{position.formula} is stable is {verdict.sentence}"
            if verdict.code == "unknown"
            else f"{what}{position.formula}: {verdict.sentence}; its distance to the hull does not rank"
        )
        codes.append((unknown or verdict.reason, sentence))
    elif below is not None and below < -NOTICEABLY_BELOW:
        sentence = (
            f"{what}{position.formula} lies {-below:.3f} eV/atom below all competing phases: its stability is an "
            "upper bound, since a phase that is missing may lie between"
        )
        codes.append((f"below_competitors{suffix}", sentence))
    numbers = {
        "energy_above_hull": distance,
        "formation_energy_per_atom": position.formation_energy_per_atom,
        "distance_to_competing": below,
    }
    words = {"decomposition": products if verdict.code == "above_hull" else verdict.sentence}
    named = (
        {f"{name}{suffix}": number for name, number in numbers.items()} | words | {"n_competing": position.n_competing}
    )
    return Finding(
        candidate_id,
        [*(Reason(code=code, sentence=sentence) for code, sentence in codes), *further],
        values=values.model_validate({name: value for name, value in named.items() if name in values.model_fields}),
        document=placed.document,
        sentences={
            f"energy_above_hull{suffix}": f"{what}{position.formula} lies {{value:.3f}} eV/atom above the hull, more "
            f"than {{limit:g}}; it would turn into {products}"
        },
        keys=keys,
        provenance=origin,
    )


def products_text(formula: str, decomposition: Mapping[str, float]) -> str:
    """What a phase turns into, in words; fractions count atoms, not formula units."""
    if list(decomposition) == [formula]:
        return f"another structure of {formula}"
    return (
        " + ".join(f"{100 * fraction:.0f} % {product}" for product, fraction in decomposition.items()) + " (by atoms)"
    )


def judge_hull(scene: Scene, cases: list[Case]) -> Iterable[Finding]:
    """Distance of the relaxed candidates, which compete with each other, too."""
    calculations = {case.id: case.calculations["relax"] for case in cases}
    for i, placed in place(scene, calculations, calculations, calculations).items():
        yield hull_finding(i, placed)


HULL = Stage(
    name="hull",
    title="Convex hull",
    over_all=judge_hull,
    quantities=HullValues,
    criteria={"energy_above_hull": Limits(max=0.05)},
    reasons=REASONS,
    needs=("relax",),
    computes=CompetingPhases(),
)
