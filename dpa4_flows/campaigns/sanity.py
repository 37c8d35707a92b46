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

NOT_WANTED, INPUT_DOUBTFUL = "not_wanted", "input_doubtful"

REASONS = {
    "not_sane": ReasonKind("not computable", "the structure cannot be screened", status="failed"),
    "unknown_element": ReasonKind("unknown element", "the model knows nothing of an element", status="failed"),
    "implausible_volume": ReasonKind("implausible volume", "the volume does not fit the elements", status="failed"),
    "too_many_atoms": ReasonKind("too large", "the cell has more atoms than the campaign admits", status="failed"),
    NOT_WANTED: ReasonKind("not wanted", "its elements are none for this campaign", status="failed"),
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
    refused += [Reason(code=NOT_WANTED, sentence=words) for function in further for words in function(case)]
    doubts = [Reason(code=INPUT_DOUBTFUL, sentence=words) for words in case.candidate.warnings]
    return Finding(
        case.id,
        refused or doubts,
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
