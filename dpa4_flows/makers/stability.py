"""Is my compound stable? Against other phases, against strain, against displacements of its atoms.

job = StabilityMaker(model="dpa4-neo").make(structures, "stability.sqlite")
responses = run_local(job, "stability")
for document in responses[job.output.uuid][1].output.documents:
    print(document.formula, document.verdict, document.reasons)

Everything that was computed is kept in the results table, by structure, model and settings: a job or a command that
was killed, or asks for one more part, computes what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dpa4_flows.documents.stability import StabilitySet
from dpa4_flows.makers.hull import TogetherMaker
from dpa4_flows.properties.stability import Stability


@dataclass
class StabilityMaker(TogetherMaker[StabilitySet]):
    """Relaxes structures and asks whether they are stable; hull, strains and phonons of all share one batch. The output
    is a `StabilitySet`.
    """

    property: Stability = field(default_factory=Stability)
    name: str = "stability"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.property.check()
