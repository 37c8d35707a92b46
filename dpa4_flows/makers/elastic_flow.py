"""atomate2's elastic flow with DPA4 filled in, for those who want its documents and its jobs.

    flow = DPA4ElasticMaker(model="dpa4-neo").make(structure)

`BatchElasticMaker` gives the same tensor with the strained cells of many structures in the same force calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from atomate2.forcefields.flows.elastic import ElasticMaker

from dpa4_flows.makers.inherited import DPA4FlowMaker
from dpa4_flows.makers.model_reference import ModelLike
from dpa4_flows.makers.relax import DPA4RelaxMaker, tight_relax_maker


@dataclass
class DPA4ElasticMaker(DPA4FlowMaker, ElasticMaker):
    """``atomate2.forcefields.flows.elastic.ElasticMaker`` whose sub-Makers compute with DPA4.

    Args:
        name: name of the flow.
        model: potential of all sub-Makers.
        bulk_relax_maker: relaxes the crystal before it is strained; None for a crystal that is relaxed.
        elastic_relax_maker: relaxes the atoms of the strained cells.

    The other fields are those of atomate2.
    """

    name: str = "DPA4 elastic"
    bulk_relax_maker: DPA4RelaxMaker | None = field(default_factory=tight_relax_maker)
    elastic_relax_maker: DPA4RelaxMaker = field(default_factory=lambda: tight_relax_maker(relax_cell=False))

    @classmethod
    def from_model(cls, model: ModelLike = "dpa4-neo", *, relax_initial_structure: bool = True, **fields: Any) -> Self:
        """An elastic flow with one model.

        Args:
            model: potential.
            relax_initial_structure: relax the crystal before it is strained.
            fields: further fields of atomate2's ElasticMaker.
        """
        if not relax_initial_structure:
            fields["bulk_relax_maker"] = None
        return cls(model=model, **fields)
