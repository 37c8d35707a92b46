"""atomate2's phonon flow with DPA4 filled in, for those who want its documents and its jobs.

    flow = DPA4PhononMaker(model="dpa4-neo", min_length=12).make(structure)

`BatchPhononMaker` gives the same frequencies with the displaced supercells of many structures in the same force calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from pymatgen.core import Structure

from dpa4_core.data.structures import to_system
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.inherited import DPA4FlowMaker, MakerError
from dpa4_flows.makers.model_reference import ModelLike
from dpa4_flows.makers.relax import DPA4RelaxMaker, DPA4StaticMaker, tight_relax_maker

try:
    from atomate2.forcefields.flows.phonons import PhononMaker
except ModuleNotFoundError:
    require_extra("phonons", "a phonon flow")  # the sentence that says what to install
    raise


@dataclass
class DPA4PhononMaker(DPA4FlowMaker, PhononMaker):
    """``atomate2.forcefields.flows.phonons.PhononMaker`` whose sub-Makers compute with DPA4.

    Args:
        name: name of the flow.
        model: potential of all sub-Makers.
        bulk_relax_maker: relaxes the crystal before its atoms are displaced; None for a crystal that is relaxed.
        static_energy_maker: energy of the crystal; None leaves it out.
        phonon_displacement_maker: forces in the displaced supercells.

    The other fields are those of atomate2. Needs ``pip install 'dpa4-flows[phonons]'``.
    """

    _without_effect: ClassVar[Mapping[str, str]] = {
        "code": "leave it out, jobs of DPA4 are read as those of a force field",
        "socket": "use BatchPhononMaker to compute all displacements in one job",  # atomate2 cannot read such a job
    }

    name: str = "DPA4 phonon"
    bulk_relax_maker: DPA4RelaxMaker | None = field(default_factory=tight_relax_maker)
    static_energy_maker: DPA4StaticMaker | None = field(default_factory=DPA4StaticMaker)
    phonon_displacement_maker: DPA4StaticMaker = field(default_factory=DPA4StaticMaker)

    @classmethod
    def from_model(cls, model: ModelLike = "dpa4-neo", *, relax_initial_structure: bool = True, **fields: Any) -> Self:
        """A phonon flow with one model.

        Args:
            model: potential.
            relax_initial_structure: relax the crystal before its atoms are displaced.
            fields: further fields of atomate2's PhononMaker, ``min_length=12`` for example.
        """
        if not relax_initial_structure:
            fields["bulk_relax_maker"] = None
        return cls(model=model, **fields)

    def make(self, structure: Any, *args: Any, **kwargs: Any) -> Any:
        """The flow of atomate2, with its arguments.

        Raises:
            MakerError: a slab or chain, or masses that are not the standard ones.
        """
        if isinstance(structure, Structure) and to_system(structure).masses is not None:
            raise MakerError("atomate2's flow knows standard masses only; use BatchPhononMaker for isotopes")
        return super().make(structure, *args, **kwargs)
