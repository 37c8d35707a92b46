"""Stages ``duplicates`` and ``relaxed_duplicates``: one of equal structures stands for all of them."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from dpa4_flows.analysis.duplicates import group_duplicates, relaxed_duplicates
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.sections import Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document

REASONS = {"duplicate": ReasonKind("duplicate", "another candidate stands for it", status="failed")}


class DuplicateSection(Section):
    """Which relaxations are one."""

    window: float = Field(
        0.01, ge=0, le=0.1, description="Equal structures this close in energy after relaxation are one, eV/atom"
    )


class DuplicateDocument(Document):
    """Whom a candidate equals."""

    duplicate_of: str = shown("Duplicate of", detail=True, default=..., description="Stands for both")


class RelaxedDuplicateDocument(DuplicateDocument):
    """To whom a candidate relaxed."""

    energy_above_representative: float = shown(
        "Above the one that stands for it",
        "eV/atom",
        4,
        detail=True,
        priority=44,
        default=...,
        description="Energy above that of the one that stands for both, eV/atom",
    )


def find_duplicates(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """The first of equal structures stands for all of them."""
    for i, other in group_duplicates({case.id: case.structure for case in cases}).items():
        sentence = f"same structure as {other}, which stands for both"
        reasons = [] if i == other else [Reason(code="duplicate", sentence=sentence)]
        yield Finding(i, reasons, values=DuplicateDocument(duplicate_of=other) if reasons else None)


def find_relaxed_duplicates(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """Of candidates that relaxed to one minimum the lowest stands for all."""
    documents = {case.id: case.calculations["relax"] for case in cases}
    window = scene.settings.window
    for i, other in relaxed_duplicates(documents, energy_window=window).items() if documents else ():
        key, origin = [documents[i].key], documents[i].provenance
        if i == other:
            yield Finding(i, keys=key, provenance=origin)
            continue
        own, lower = documents[i].energy_per_atom, documents[other].energy_per_atom
        assert own is not None and lower is not None  # only converged relaxations are alike
        sentence = (
            f"relaxed to the same structure as {other}, whose energy is lower by {own - lower:.4f} eV/atom and which "
            "stands for both"
        )
        yield Finding(
            i,
            [Reason(code="duplicate", sentence=sentence)],
            values=RelaxedDuplicateDocument(duplicate_of=other, energy_above_representative=own - lower),
            limits={"energy_above_representative": window},
            keys=key,
            provenance=origin,
        )


DUPLICATES = Stage(
    name="duplicates",
    title="Duplicates",
    over_all=find_duplicates,
    by_formula=True,
    quantities=DuplicateDocument,
    reasons=REASONS,
)

RELAXED_DUPLICATES = Stage(
    name="relaxed_duplicates",
    title="Duplicates, relaxed",
    over_all=find_relaxed_duplicates,
    by_formula=True,
    quantities=RelaxedDuplicateDocument,
    settings=DuplicateSection,
    reasons=REASONS,
    needs=("relax",),
)
