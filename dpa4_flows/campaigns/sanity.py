"""Stage ``sanity``: what a structure must satisfy before any computer time is spent on it."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from dpa4_flows.analysis.sanity import check_candidate
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.sections import Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document

NOT_SANE = "not_sane"
INPUT_DOUBTFUL = "input_doubtful"

REASONS = {
    NOT_SANE: ReasonKind("not computable", "the structure cannot or should not be computed", status="failed"),
    INPUT_DOUBTFUL: ReasonKind("input doubtful", "something in its file is doubtful"),
}


class SanitySection(Section):
    """What is too large or too close."""

    max_atoms: int = Field(200, ge=1, description="Atoms in the input cell")
    min_distance_ratio: float = Field(
        0.5, gt=0, lt=1.5, description="Shortest distance over the sum of the covalent radii"
    )


class InputDocument(Document):
    """What is known of an input structure."""

    n_atoms: int = shown("Atoms", detail=True, default=..., description="Atoms in the input cell")


def check(case: Case, *further: Callable[[Case], list[str]]) -> Finding:
    """Readable, known elements, no overlaps.

    Args:
        case: the candidate.
        further: other checks, each with a sentence for what it refuses.
    """
    limits, structure = case.settings, case.structure
    refused = check_candidate(
        structure,
        supported_elements=case.scene.shared(_elements),
        max_atoms=limits.max_atoms,
        min_distance_ratio=limits.min_distance_ratio,
    )
    refused += [sentence for function in further for sentence in function(case)]
    codes = [(NOT_SANE, sentence) for sentence in refused]
    if not refused:
        codes = [(INPUT_DOUBTFUL, sentence) for sentence in case.candidate.warnings]
    return Finding(
        case.id,
        [Reason(code=code, sentence=sentence) for code, sentence in codes],
        values=InputDocument(n_atoms=len(structure)),
        limits={"n_atoms": limits.max_atoms, "min_distance_ratio": limits.min_distance_ratio},
    )


def _elements(scene: Scene) -> frozenset[int]:
    return frozenset(scene.elements)


SANITY = Stage(
    name="sanity",
    title="Sanity checks",
    judge=check,
    quantities=InputDocument,
    settings=SanitySection,
    reasons=REASONS,
)
