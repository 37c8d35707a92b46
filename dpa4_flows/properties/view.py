"""What properties share that read more off a hull than the distance to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError
from dpa4_flows.compute.plan import Crystal, Crystals, Plan, PlanError, Property
from dpa4_flows.documents.schemas import AnswerDocument, Document, HullDocument, Provenance
from dpa4_flows.properties.competition import Competing, Standing, systems_of, together, with_elements
from dpa4_flows.properties.hull import place


class View(Document):
    """Base of what is read off a hull for one structure; alone it has warnings and provenance, else its set has."""

    error: str | None = Field(None, description="Why there is none, one sentence")
    error_code: str | None = Field(None, description="The same for logic")
    caveat: str | None = Field(None, description="What stands behind it, where no survey of phases does")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    provenance: Provenance | None = None


class ViewSet(AnswerDocument):
    """Base of what is read off a hull for some structures, one `View` each in ``documents``."""

    documents: list[Any]
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")


@dataclass(frozen=True)
class Viewed(Property[Any]):
    """Base of properties whose document is a `View` of one crystal, and of several a `ViewSet` of all.

    Class attributes:
        several: type of the set.
    """

    several: ClassVar[type[ViewSet]]

    @property
    def together(self) -> bool:
        return True

    def failed(self, crystal: Crystal | Crystals, error: PlanError) -> Any:
        fields = {"error": str(error), "error_code": error.code}
        views = [fields for _ in together(crystal)]
        return self.document_of(crystal, self.several(documents=views, **fields, provenance=self.origin(crystal)))

    def each(self, crystals: Crystals, found: ViewSet) -> list[Any]:
        common = {"warnings": found.warnings, "provenance": found.provenance}
        return [view.model_copy(update=common) for view in found.documents]


@dataclass(frozen=True)
class HullView(Viewed, Competing[Any]):
    """Base of properties that read a `View` of each crystal off the hull of what competes with it.

    Class attributes:
        without_survey: what it means where nobody surveyed the phases with further elements.
    """

    without_survey: ClassVar[str] = ""

    @abstractmethod
    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        """Fields of the view of one phase.

        Args:
            phase: its entry.
            others: what it stands against.
            document: its place on the hull.

        Raises:
            PlanError, ThermodynamicsError, FrameError: there is none.
        """

    def further(self) -> Sequence[str]:
        """Elements whose phases compete beside those of the crystals."""
        return ()

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        standing = yield from self.standing(crystal, self.further())
        placed = place(self, crystal, standing)
        views = []
        for i, (document, error, code) in enumerate(
            zip(placed.documents, placed.errors, placed.error_codes, strict=True)
        ):
            if document is None:
                views.append({"error": error, "error_code": code})
                continue
            others = standing.all_but(i)
            try:
                fields = self.view(standing.candidates[i], others, document)
            except PlanError as problem:
                fields = {"error": str(problem), "error_code": problem.code}
            except (ThermodynamicsError, FrameError) as problem:
                fields = {"error": str(problem), "error_code": "not_comparable"}
            views.append({**fields, "caveat": caveat(document.verdict, document.completeness)})
        notes = [*placed.warnings, *self._remarks(crystal, standing)]
        return self.document_of(crystal, self.several(documents=views, warnings=notes, provenance=self.origin(crystal)))

    def _remarks(self, subject: Crystal | Crystals, standing: Standing) -> list[str]:
        """What is to be said of all views together."""
        systems = systems_of(subject) if self.without_survey else set()
        wider = sorted({with_elements(system, self.further()) for system in systems} - systems)
        found = [standing.rivals.completeness(system) for system in wider]
        return [f"{one.sentence}: {self.without_survey}" for one in found if one.survey is None]


def caveat(verdict: HullVerdict, completeness: HullCompleteness) -> str | None:
    """What stands behind a view, unless a survey does."""
    if verdict.code != "above_hull":
        return None if verdict.reason == "surveyed" else verdict.sentence
    return None if completeness.grade == "surveyed" else completeness.sentence
