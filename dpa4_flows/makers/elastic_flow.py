"""atomate2's elastic flow with DPA4 filled in, for those who want its documents and its jobs.

    flow = DPA4ElasticMaker.from_model("dpa4-neo").make(structure)

`BatchElasticMaker` gives the same tensor with the strained cells of many structures in the same force calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from atomate2.forcefields.flows.elastic import ElasticMaker

from dpa4_flows.makers.relax import DPA4RelaxMaker
from dpa4_flows.model_ref import ModelRef

TIGHT_FMAX = 1e-3
"""eV/Å; atomate2's own 1e-5 is beyond the precision of float32."""


@dataclass
class DPA4ElasticMaker(ElasticMaker):
    """``atomate2.forcefields.flows.elastic.ElasticMaker`` whose sub-Makers compute with DPA4.

    Args:
        name: name of the flow.

    The other fields are those of atomate2; `from_model` fills them in.
    """

    name: str = "DPA4 elastic"

    @classmethod
    def from_model(
        cls, model: ModelRef | str = "dpa4-neo", *, relax_initial_structure: bool = True, **fields: Any
    ) -> Self:
        """An elastic flow with one model.

        Args:
            model: potential.
            relax_initial_structure: relax the crystal before it is strained.
            fields: further fields of atomate2's ElasticMaker.
        """
        reference = ModelRef(model) if isinstance(model, str) else model
        relax: dict[str, Any] = {"model": reference, "relax_kwargs": {"fmax": TIGHT_FMAX}}
        return cls(
            bulk_relax_maker=DPA4RelaxMaker(**relax) if relax_initial_structure else None,
            elastic_relax_maker=DPA4RelaxMaker(relax_cell=False, **relax),
            **fields,
        )
