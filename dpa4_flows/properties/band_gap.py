"""The band gap of a crystal: from a property model, from its file, or guessed from its composition; else unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_core.properties import PropertyPredictor
from dpa4_core.relax import Static
from dpa4_flows.analysis.band_gaps import (
    Gap,
    GapError,
    composition_gap,
    measured_gap,
    shockley_queisser_percent,
    stated_gap,
)
from dpa4_flows.compute.plan import Crystal, Crystals, Plan, Property
from dpa4_flows.documents.calculations import stated
from dpa4_flows.documents.provenance import NO_MODEL, provenance
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document, Provenance
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.part import whole_crystal

MODEL, FILE, COMPOSITION = "property model", "file", "composition"


class GapEstimate(Document):
    """A gap from one source."""

    source: str = Field(description="property model, file, or composition")
    band_gap: float = Field(description="Estimate of the measured gap, eV")
    error: float = Field(description="Its standard deviation, eV")
    stated: float = Field(description="As the source has it, eV")
    level_of_theory: str = Field(description="Of what the source has")


class BandGapDocument(AnswerDocument):
    """Band gap of one crystal, never without an error and a level of theory."""

    formula: str = Field(description="Reduced formula")
    band_gap: float | None = shown(
        "Band gap",
        "eV",
        2,
        "estimate of the measured gap, from what is known best: property model, file or composition",
        goal="max",
        scale=(0.0, 6.0),
        spares_error=True,
        priority=10,
        description="Estimate of the measured gap, eV; null where nothing is known",
    )
    band_gap_std: float | None = shown(
        "Error of the gap",
        "eV",
        2,
        "standard deviation of the estimate",
        detail=True,
        description="Standard deviation of the estimate, eV",
    )
    source: str | None = shown("Gap from", priority=11, description="Of the estimate")
    stated_gap: float | None = shown("Gap as stated", "eV", 2, "at its own level of theory", detail=True)
    gap_level: str | None = shown("Level of the gap", detail=True, description="Level of theory of the stated gap")
    shockley_queisser_percent: float | None = shown(
        "Shockley-Queisser limit", "%", 1, "of a solar cell of this gap, black sun", goal="max", scale=(15.0, 31.0)
    )
    estimates: list[GapEstimate] = Field(default_factory=list, description="From all sources, the best known first")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class BandGap(Property[BandGapDocument]):
    """Band gap of a crystal as it is, by a property model in place of the potential, as its file states it, or guessed.

    A model of energies has no gap: with one, file and composition are all that is asked.

    Attributes:
        guess: from the composition, where nothing better is known.
    """

    name: ClassVar[str] = "band_gap"
    example: ClassVar[str] = "GaAs.cif"
    document: ClassVar[type[Document]] = BandGapDocument
    takes_heads: ClassVar[bool] = True
    caveats: ClassVar[tuple[str, ...]] = (
        "Band gaps are estimates of measured ones with a standard deviation: those of PBE are raised by what they are "
        "too low on average, and a guess from the composition tells a semiconductor from an insulator, no more.",
    )

    guess: bool = True

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """With what the file states, which is no part of the structure."""
        stated = _stated(crystal)
        key = super().key(crystal, model)
        return f"{key} {digest(stated)[:16]}" if stated else key

    def check_model(self, model: ModelRef) -> None:
        if (head := model.head()) is not None:
            _quality(head, model)

    def origin(self, crystal: Crystal | Crystals) -> Provenance:
        """Without a property model no model stands behind the document."""
        if crystal.model.head() is None:
            return provenance(ModelInfo(NO_MODEL), {"calculation": self.name, "guess": self.guess})
        return super().origin(crystal)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        return 0, 0  # a model of a property takes no derivatives: nothing beside one step of a relaxation

    def plan(self, crystal: Crystal) -> Plan[BandGapDocument]:
        structure = whole_crystal(crystal)
        found: list[tuple[str, Gap]] = []
        doubts: list[Reason] = []
        head = crystal.model.head()
        if head is not None:
            error, level = _quality(head, crystal.model)
            answer = (yield {"gap": Static(structure)})["gap"]
            if answer.error is None:
                found.append((MODEL, measured_gap(float(answer.energy), level, error)))
            else:
                doubts.append(Reason(code="gap_not_computed", sentence=f"the property model failed: {answer.error}"))
        found += self._elsewhere(crystal, structure, doubts)
        found.sort(key=lambda one: one[1].error)  # what is known best counts
        facts: dict[str, Any] = {}
        if found:
            source, gap = found[0]
            facts = {
                "band_gap": gap.value,
                "band_gap_std": gap.error,
                "source": source,
                "stated_gap": gap.stated,
                "gap_level": gap.level,
                "shockley_queisser_percent": shockley_queisser_percent(gap.value),
            }
            if not gap.placed:
                words = f"how measured gaps follow from those of {gap.level} is not known: it stands as it is"
                doubts.append(Reason(code="gap_as_stated", sentence=words))
        return BandGapDocument(
            formula=structure.composition.reduced_formula,
            estimates=[
                GapEstimate(
                    source=source, band_gap=gap.value, error=gap.error, stated=gap.stated, level_of_theory=gap.level
                )
                for source, gap in found
            ],
            doubts=doubts,
            provenance=self.origin(crystal),
            **facts,
        )

    def _elsewhere(self, crystal: Crystal, structure: Structure, doubts: list[Reason]) -> Iterator[tuple[str, Gap]]:
        try:
            stated = stated_gap(_stated(crystal))
        except GapError as error:
            doubts.append(Reason(code="gap_not_usable", sentence=str(error)))
            stated = None
        if stated is not None:
            yield FILE, stated
        guessed = composition_gap(structure.composition) if self.guess else None
        if guessed is not None:
            yield COMPOSITION, guessed


def _stated(crystal: Crystal) -> dict[str, Any]:
    """What its file states of a gap; an identifier alone is nothing."""
    facts = stated(crystal.structure)
    return facts if "band_gap" in facts else {}


def _quality(head: PropertyPredictor, model: ModelRef) -> tuple[float, str]:
    """Error of a property model on frames that it was not trained on, eV, and its level of theory.

    Raises:
        DPA4Error: it is no model of gaps, or does not say one of the two.
    """
    about = head.model.config
    if about.unit != "eV" or about.kind != "intensive" or not about.name.lower().endswith("gap"):
        unit = f"{about.kind}, in {about.unit or 'no unit'}"
        raise DPA4Error(f"{model.name} is about {about.name} ({unit}); call it band_gap, intensive, in eV")
    error = head.info.training.get("validation", {}).get("property_rmse")
    if not isinstance(error, float):
        raise DPA4Error(
            f"{model.name} does not say how far its gaps are off: train it with frames set aside for validation"
        )
    if head.info.level_of_theory in ("", "unknown"):
        raise DPA4Error(
            f'{model.name} does not say its level of theory: train it with level_of_theory = "PBE", or whatever its '
            "gaps were computed with"
        )
    return error, head.info.level_of_theory
