"""Stage ``disorder``: of a candidate whose sites are shared the lowest ordered cell goes on.

A table ``[disorder]`` in a campaign file, an empty one too, puts it before all other stages. Without it such candidates
are not readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.measured import Measured, finding
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Ask, Property
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.properties.ordering import Ordering, OrderingDocument


@dataclass(frozen=True)
class OrderedInputs(Measured):
    """Orders the candidates whose sites are shared, and computes nothing of others."""

    decided: ClassVar[tuple[str, ...]] = ("ion", "content")
    measures: Property[Any] = field(default_factory=Ordering)
    gives_structures: ClassVar[bool] = True

    @property
    def from_inputs(self) -> bool:
        return False  # a plan of as many calculations as it takes

    def ask(self, case: Case) -> Ask[Any] | None:
        return super().ask(case) if case.candidate.is_disordered else None

    def foreseen(self, scene: Scene, ids: Sequence[str]) -> tuple[int, int] | None:
        return super().foreseen(scene, [c.candidate_id for c in scene.table.candidates(ids) if c.is_disordered])

    def failed(self, case: Case) -> Finding | None:
        return super().failed(case) if case.candidate.is_disordered else None

    def judged(self, case: Case) -> Finding:
        if not case.candidate.is_disordered:
            return Finding(case.id)
        found = case.document(OrderingDocument)
        above = "" if found.next_above_mev is None else f", {found.next_above_mev:.1f} meV/atom below the next"
        words = f"its sites are shared: the lowest of {found.n_tried} ordered cells stands for it{above}"
        return finding(case, [Reason(code="ordered_from_shares", sentence=words), *found.doubts])


DISORDER = Stage(
    name="disorder",
    title="Ordered cells",
    quantities=OrderingDocument,
    reasons={
        "ordered_from_shares": ReasonKind("ordered", "its sites are shared; an ordered cell stands for it"),
        "composition_off": ReasonKind("composition off", "no ordered cell of this size has its composition"),
        "no_charges": ReasonKind("no charges", "the search for ordered cells began with random ones"),
        "still_falling": ReasonKind("still falling", "the search for ordered cells still found lower ones"),
    },
    computes=OrderedInputs(of="ordered cells"),
)
