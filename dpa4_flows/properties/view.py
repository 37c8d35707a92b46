"""What properties share that read more off a hull than the distance to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, VerdictCode
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError
from dpa4_flows.compute.plan import Crystal, Crystals, Plan, PlanError, Property
from dpa4_flows.documents.schemas import AnswerDocument, Document, HullDocument, Provenance
from dpa4_flows.properties.competition import Competing, Standing, joined, systems_of, together
from dpa4_flows.properties.hull import place


class View(Document):
    """Base of what is read off a hull for one structure; alone it has a provenance, else its set has."""

    error: str | None = Field(None, description="Why there is none, one sentence")
    error_code: str | None = Field(None, description="The same for logic")
    verdict: VerdictCode | None = Field(None, description="On the crystal: stable, above_hull or unknown")
    caveat: str | None = Field(None, description="What stands behind it, where no survey of phases does")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    provenance: Provenance | None = None


class ViewSet(AnswerDocument):
    """Base of what is read off a hull for some structures, one `View` each in ``documents``."""

    documents: list[Any]
    warnings: list[str] = Field(default_factory=list, description="What holds for all of them; each has its own, too")


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
        return [
            view.model_copy(update={"warnings": [*found.warnings, *view.warnings], "provenance": found.provenance})
            for view in found.documents
        ]


@dataclass(frozen=True)
class StandingView(Viewed, Competing[Any]):
    """Base of properties that read a `View` of each crystal off what it stands against.

    Class attributes:
        without_survey: what it means where nobody surveyed the phases with further elements.
    """

    without_survey: ClassVar[str] = ""

    @abstractmethod
    def read(
        self, standing: Standing, position: int, document: HullDocument, beside: Sequence[ComputedEntry]
    ) -> dict[str, Any]:
        """Fields of the view of one crystal.

        Args:
            standing: all crystals and what competes with them.
            position: of the crystal.
            document: its place on the hull.
            beside: entries of the crystals of `beside`.

        Raises:
            PlanError, ThermodynamicsError, FrameError: there is none.
        """

    def further(self) -> Sequence[str]:
        """Chemical systems; phases of each together with the elements of a crystal compete, too."""
        return ()

    def also(self) -> Sequence[str]:
        """Chemical systems whose phases compete, too."""
        return ()

    def beside(self) -> Sequence[Crystal]:
        """Further crystals that the views are about and that have none themselves."""
        return ()

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        asked, beside = together(crystal), tuple(self.beside())
        subject = crystal
        if beside:
            aside = crystal.aside if isinstance(crystal, Crystals) else frozenset()
            positions = range(len(asked), len(asked) + len(beside))
            subject = Crystals((*asked, *beside), aside.union(positions), crystal.model, crystal.info)
        standing = yield from self.standing(subject, self.further(), self.also())
        placed = place(self, subject, standing)
        for i, one in enumerate(beside, len(asked)):
            if (problem := placed.errors[i]) is not None:
                raise PlanError(f"{one.name}: {problem}", placed.error_codes[i] or "not_comparable")
        further = [standing.candidates[i] for i in range(len(asked), len(asked) + len(beside))]
        views = []
        told = zip(placed.documents, placed.errors, placed.error_codes, strict=True)
        for i, (document, error, code) in enumerate(islice(told, len(asked))):
            if document is None:
                views.append({"error": error, "error_code": code})
                continue
            try:
                fields = self.read(standing, i, document, further)
            except PlanError as problem:
                fields = {"error": str(problem), "error_code": problem.code}
            except (ThermodynamicsError, FrameError) as problem:
                fields = {"error": str(problem), "error_code": "not_comparable"}
            said: dict[str, Any] = {"verdict": document.verdict.code, "warnings": document.warnings}
            said["caveat"] = caveat(document.verdict, document.completeness)
            views.append({**said, **fields})
        of_beside = [
            f"{one.name}: {text}"
            for one, document in zip(beside, placed.documents[len(asked) :], strict=True)
            if document is not None
            for text in document.warnings
        ]
        notes = [*placed.notes, *of_beside, *self._remarks(crystal, standing)]
        return self.document_of(crystal, self.several(documents=views, warnings=notes, provenance=self.origin(crystal)))

    def _remarks(self, subject: Crystal | Crystals, standing: Standing) -> list[str]:
        """What is to be said of all views together."""
        systems = systems_of(subject) if self.without_survey else set()
        wider = sorted({joined(system, one) for system in systems for one in self.further()} - systems)
        found = [standing.rivals.completeness(system) for system in wider]
        return [f"{one.sentence}: {self.without_survey}" for one in found if one.survey is None]


@dataclass(frozen=True)
class HullView(StandingView):
    """Base of properties that read a `View` of each crystal off the hull of what competes with it."""

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

    def read(
        self, standing: Standing, position: int, document: HullDocument, beside: Sequence[ComputedEntry]
    ) -> dict[str, Any]:
        return self.view(standing.candidates[position], standing.all_but(position), document)


def caveat(verdict: HullVerdict, completeness: HullCompleteness) -> str | None:
    """What stands behind a view, unless a survey does."""
    if verdict.code != "above_hull":
        return None if verdict.reason == "surveyed" else verdict.sentence
    return None if completeness.grade == "surveyed" else completeness.sentence
