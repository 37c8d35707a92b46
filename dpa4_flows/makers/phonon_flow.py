"""atomate2's phonon flow with DPA4 filled in, for those who want its documents and its jobs.

    flow = DPA4PhononMaker.from_model("dpa4-neo", min_length=12).make(structure)

`BatchPhononMaker` gives the same frequencies with the displaced supercells of many structures in the same force calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from dpa4_flows.extras import require_extra
from dpa4_flows.makers.elastic_flow import TIGHT_FMAX
from dpa4_flows.makers.relax import DPA4RelaxMaker, DPA4StaticMaker
from dpa4_flows.model_ref import ModelRef

try:
    from atomate2.forcefields.flows.phonons import PhononMaker
except ModuleNotFoundError:
    require_extra("phonons", "a phonon flow")  # the sentence that says what to install
    raise


@dataclass
class DPA4PhononMaker(PhononMaker):
    """``atomate2.forcefields.flows.phonons.PhononMaker`` whose sub-Makers compute with DPA4.

    Args:
        name: name of the flow.

    The other fields are those of atomate2; `from_model` fills them in. Needs ``pip install 'dpa4-flows[phonons]'``.
    """

    name: str = "DPA4 phonon"

    @classmethod
    def from_model(
        cls, model: ModelRef | str = "dpa4-neo", *, relax_initial_structure: bool = True, **fields: Any
    ) -> Self:
        """A phonon flow with one model.

        Args:
            model: potential.
            relax_initial_structure: relax the crystal before its atoms are displaced.
            fields: further fields of atomate2's PhononMaker, ``min_length=12`` for example.
        """
        reference = ModelRef(model) if isinstance(model, str) else model
        return cls(
            bulk_relax_maker=DPA4RelaxMaker(model=reference, relax_kwargs={"fmax": TIGHT_FMAX})
            if relax_initial_structure
            else None,
            static_energy_maker=DPA4StaticMaker(model=reference),
            phonon_displacement_maker=DPA4StaticMaker(model=reference),
            **fields,
        )
