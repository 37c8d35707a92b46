"""In service: whether a crystal lasts in water, its surface keeps its composition, and its atoms stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.dissolution import PER_PH
from dpa4_flows.compute.plan import Ask, Crystal, Plan, Property, answered
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.service import DissolutionDocument, SegregationDocument, ServiceDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.part import had_room
from dpa4_flows.properties.pourbaix import ALONE, IN_WATER, Pourbaix, PourbaixDocument
from dpa4_flows.properties.segregation import Segregation

NOT_ASKED = ("one_element", "no_alloy")
"""Codes of crystals to which a question does not apply: no warning is given."""


@dataclass(frozen=True)
class Service(Property[ServiceDocument]):
    """Decomposition in water, segregation and dissolution at the pH and the potentials of a catalyst at work; each part
    may be None.

    Attributes:
        ph: of the water, for all parts.
        potential: lowest and highest at work, V against the reversible hydrogen electrode.
        pourbaix: energy above the stable species in water, at both ends of the window: between them it is lower. Known
            compounds compete; structure types, of which hydrogen has very many, only if it says so.
        segregation: exchanges of surface atoms with the inside.
        dissolution: of surface atoms.
    """

    name: ClassVar[str] = "service"
    example: ClassVar[str] = "Pt3Ni.cif --ph 1"
    document: ClassVar[type[Document]] = ServiceDocument
    version: ClassVar[int] = 2
    starts_from_rest: ClassVar[bool] = True

    ph: float = 0.0
    potential: tuple[float, float] = (0.0, 1.0)
    pourbaix: Pourbaix | None = field(default_factory=lambda: Pourbaix(prototypes=False))
    segregation: Segregation | None = field(default_factory=Segregation)
    dissolution: Dissolution | None = field(default_factory=Dissolution)

    def check(self) -> None:
        low, high = self.potential
        if not low <= high:
            raise DPA4Error(f"potential is {low:g} to {high:g} V: give the lower end first")
        for part in self._parts().values():
            part.check()

    def _parts(self) -> dict[str, Property[Any]]:
        """What is asked for, at this pH and these potentials."""
        parts: dict[str, Property[Any]] = {}
        if self.pourbaix is not None:
            volts = tuple(dict.fromkeys(end - PER_PH * self.ph for end in self.potential))
            parts["pourbaix"] = replace(self.pourbaix, ph=(self.ph,), potential=volts)
        if self.segregation is not None:
            parts["segregation"] = self.segregation
        if self.dissolution is not None:
            ions = self.dissolution.ions or (self.pourbaix.ions if self.pourbaix else "")
            parts["dissolution"] = replace(self.dissolution, ph=self.ph, ions=ions)
        return parts

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None where what competes in water may change; the other parts are stored."""
        return None if self.pourbaix is not None and self.pourbaix.anew else super().key(crystal, model)

    def plan(self, crystal: Crystal) -> Plan[ServiceDocument]:
        answers = yield {name: Ask(part, crystal) for name, part in self._parts().items()}
        had_room(answers.values())
        if answers and all(one.error is not None and one.error_code not in NOT_ASKED for one in answers.values()):
            answered(next(iter(answers.values())))
        document = ServiceDocument(
            formula=crystal.structure.composition.reduced_formula,
            ph=self.ph,
            window=self.potential,
            warnings=[reason for name, answer in answers.items() for reason in _told(name, answer)],
            provenance=self.origin(crystal),
        )
        water: PourbaixDocument | None = answers.get("pourbaix")
        if water is not None and water.error is None:
            worst, products = max(zip(water.decomposition_energy, water.products, strict=True))
            if not on_hull(worst[0]) or ALONE not in {reason.code for reason in water.warnings}:
                document.decomposition_energy, document.products = worst[0], products[0]
        swaps: SegregationDocument | None = answers.get("segregation")
        if swaps is not None:
            document.segregation_energy, document.segregating = swaps.segregation_energy, swaps.segregating
        leaving: DissolutionDocument | None = answers.get("dissolution")
        if leaving is not None and leaving.dissolution_potential is not None:
            document.dissolution_potential, document.dissolving = leaving.dissolution_potential, leaving.dissolving
            document.whole_potential = leaving.whole_potential
            first = min(v for v in (leaving.dissolution_potential, leaving.whole_potential) if v is not None)
            document.margin = first - (self.potential[1] - PER_PH * self.ph)
        return document


def _told(name: str, answer: Any) -> Iterator[Reason]:
    """What a part has to say."""
    if answer.error is not None and answer.error_code not in NOT_ASKED:
        yield Reason(code=f"no_{name}", sentence=f"{name}: {answer.error}")
    yield from (one for one in answer.warnings if one.code != IN_WATER)
    if sentences := [one.sentence for one in answer.warnings if one.code == IN_WATER]:
        yield Reason(code=IN_WATER, sentence="; ".join(sentences))
