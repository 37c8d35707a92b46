"""atomate2's force-field Makers with DPA4 filled in: drop-ins for every atomate2 flow, with the model in the
document. The model may be the output of a training job in the same flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from atomate2.forcefields.jobs import ForceFieldRelaxMaker, ForceFieldStaticMaker, forcefield_job
from atomate2.forcefields.md import ForceFieldMDMaker
from atomate2.forcefields.schemas import ForceFieldMoleculeTaskDocument, ForceFieldTaskDocument
from atomate2.forcefields.utils import MLFF
from pydantic import Field
from pymatgen.core import Molecule, Structure

from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.structures import to_system
from dpa4_core.relax import relax
from dpa4_core.relax.projection import allowed_strains, held_vacuum
from dpa4_core.verdicts import Minimum
from dpa4_core.version import code_version
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.reasons import Reason, of_flags
from dpa4_flows.documents.schemas import Provenance
from dpa4_flows.makers.inherited import refuse_changed
from dpa4_flows.makers.model_reference import ModelField, takes_model

FMAX = 0.02
"""eV/Å. atomate2's own default, 0.1, leaves errors of several meV/atom."""

TIGHT_FMAX = 1e-3
"""eV/Å, for strains and phonons; atomate2's own 1e-5 is beyond the precision of float32."""

_NO_FORCE_FIELD = (MLFF.Forcefield, str(MLFF.Forcefield), MLFF.Forcefield.value)  # atomate2 puts them into the fields
_WITHOUT_EFFECT: Mapping[str, str] = {
    "force_field_name": "give model=..., or use atomate2's own Maker for another force field",
    "calculator_meta": "give model='package.module:callable' for an ASE calculator",
    "calculator_kwargs": "give model=ModelRef(name, device=..., dtype=...)",
}


class DPA4TaskDocument(ForceFieldTaskDocument):
    """atomate2's document of a periodic structure, and which model computed it."""

    dpa4: Provenance = Field(description="Model, settings and code behind this document")
    minimum: Minimum = Field("not_checked", description="Whether no way down was found around the end")
    doubts: list[Reason] = Field(default_factory=list, description="What deserves a look, also where it converged")


class DPA4MoleculeTaskDocument(ForceFieldMoleculeTaskDocument):
    """atomate2's document of a molecule, and which model computed it."""

    dpa4: Provenance = Field(description="Model, settings and code behind this document")
    minimum: Minimum = Field("not_checked", description="Whether no way down was found around the end")
    doubts: list[Reason] = Field(default_factory=list, description="What deserves a look, also where it converged")


TaskDocument = DPA4TaskDocument | DPA4MoleculeTaskDocument


class VacuumHeld(FrechetCellFilter):
    """ASE's filter of a cell, whose lattice vectors across a vacuum stay as in `dpa4_core.relax`."""

    def __init__(self, atoms: Atoms, **options: Any) -> None:
        super().__init__(atoms, **options)
        self._strains = allowed_strains(to_system(atoms), "volume" if options.get("constant_volume") else "full")

    def get_forces(self, *args: Any, **options: Any) -> np.ndarray:
        forces: np.ndarray = super().get_forces(*args, **options)
        if self._strains is not None:
            forces[-3:] = (self._strains @ forces[-3:].ravel()).reshape(3, 3)
        return forces


@dataclass
class _DPA4Mixin:
    """The calculator from the process-wide cache, and the model in the documents."""

    model: ModelField = ModelField()

    def __post_init__(self) -> None:
        refuse_changed(self, _WITHOUT_EFFECT, _NO_FORCE_FIELD)
        given: dict[str, Any] = dict(getattr(self, "task_document_kwargs", None) or {})
        self.task_document_kwargs: dict[str, Any] = {}
        super().__post_init__()  # type: ignore[misc]
        self.task_document_kwargs = given  # without what atomate2 adds to it and then calls deprecated

    def _get_calculator(self) -> Calculator:
        return DPA4Calculator(self.model.load())

    @property
    def ase_calculator_name(self) -> str:
        """Name of the model, which atomate2 stores as ``forcefield_name``."""
        return self.model.info().name

    def _stamp(
        self, document: Any, settings: dict[str, Any], minimum: Minimum = "not_checked", flags: Sequence[str] = ()
    ) -> TaskDocument:
        """``document`` with provenance, and an entry that says where its energy comes from."""
        info = self.model.info()
        molecule = isinstance(document, ForceFieldMoleculeTaskDocument)
        fields = {name: getattr(document, name) for name in type(document).model_fields}
        fields["forcefield_version"] = code_version()
        fields |= {"minimum": minimum, "doubts": of_flags(flags)}
        fields["dpa4"] = provenance(info, {**settings, "dtype": self.model.dtype})
        if molecule:
            fields["molecule"] = document.output.mol_or_struct  # atomate2 0.1.5 leaves it empty
        else:
            fields["entry"].parameters.update(
                model=info.name, model_sha256=info.sha256, level_of_theory=info.level_of_theory
            )
        return (DPA4MoleculeTaskDocument if molecule else DPA4TaskDocument).model_construct(**fields)


@dataclass
class _RelaxMixin(_DPA4Mixin):
    def __post_init__(self) -> None:
        super().__post_init__()
        # a file that every relaxation appends to is of no use beside the document
        self.relax_kwargs: dict[str, Any] = {
            "fmax": FMAX,
            "final_atoms_object_file": None,
            **self.relax_kwargs,
        }

    @takes_model(forcefield_job)
    def make(
        self, structure: Structure | Molecule | list[Structure | Molecule], prev_dir: str | Path | None = None
    ) -> TaskDocument | list[TaskDocument]:
        """Compute one structure or molecule, or a list of them one after another.

        Args:
            structure: pymatgen structure or molecule, or a list.
            prev_dir: not used; there because other atomate2 Makers have it.
        """
        compute: Any = ForceFieldRelaxMaker.make
        several = isinstance(structure, list)
        documents = [compute.original(self, one, prev_dir) for one in (structure if several else [structure])]
        names = (
            "relax_cell",
            "relax_shape",
            "fix_symmetry",
            "symprec",
            "steps",
            "relax_kwargs",
            "optimizer_kwargs",
        )
        settings = {name: getattr(self, name) for name in names}
        found = [self._lowest(document) for document in documents]
        stamped = [self._stamp(lowest, settings, minimum, flags) for lowest, minimum, flags in found]
        return stamped if several else stamped[0]

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> Any:
        """What ASE finds; the cell is held across a vacuum unless ``relax_kwargs`` name another ``cell_filter``."""
        held = copy(self)
        held.relax_kwargs = {"cell_filter": VacuumHeld, **self.relax_kwargs}
        compute: Any = ForceFieldRelaxMaker.run_ase
        return compute(held, mol_or_struct, prev_dir)

    def _lowest(self, document: Any) -> tuple[Any, Minimum, Sequence[str]]:
        """The document, or that of what lies below it; what is known about its end, and flags of `RelaxResult`."""
        return document, "not_checked", ()


@dataclass
class DPA4RelaxMaker(_RelaxMixin, ForceFieldRelaxMaker):
    """Relax with ASE's FIRE to 0.02 eV/Å; for many structures `BatchRelaxMaker` is much faster.

    Args:
        name: name of the job.
        model: potential.
        check_minimum: look for a way down from the end, and go it; see `dpa4_core.relax`.

    The other fields are those of ``atomate2.forcefields.jobs.ForceFieldRelaxMaker``, for example
    ``relax_kwargs={"fmax": 1e-3}``.
    """

    name: str = "DPA4 relax"
    check_minimum: bool = True

    def _lowest(self, document: Any) -> tuple[Any, Minimum, Sequence[str]]:
        reached = (
            document.output.mol_or_struct if hasattr(document.output, "mol_or_struct") else document.output.structure
        )
        if not (self.check_minimum and document.is_force_converged):
            moves = (self.relax_cell or self.relax_shape) and "cell_filter" not in self.relax_kwargs
            kept = moves and held_vacuum(to_system(reached), "full").any()
            return document, "not_checked", ("vacuum_kept",) if kept else ()
        (result,) = relax(
            [reached],
            self.model.load(),
            fmax=self.relax_kwargs["fmax"],
            max_steps=self.steps,
            relax_cell=self.relax_cell or self.relax_shape,
            cell="volume" if self.relax_shape else "full",
            keep_symmetry=self.fix_symmetry,
            symprec=self.symprec or 0.01,
        )
        if result.n_steps == 0 or not result.converged:
            return document, result.minimum, result.flags
        compute: Any = ForceFieldRelaxMaker.make
        lower = compute.original(self, result.structure)
        lower.input = document.input
        return lower, result.minimum, result.flags


def tight_relax_maker(relax_cell: bool = True) -> DPA4RelaxMaker:
    """Relaxes tightly enough for strains and phonons, which ask about the structure that is given, saddle or not."""
    return DPA4RelaxMaker(relax_cell=relax_cell, relax_kwargs={"fmax": TIGHT_FMAX}, check_minimum=False)


@dataclass
class DPA4StaticMaker(_RelaxMixin, ForceFieldStaticMaker):
    """Energy, forces and stress of a structure as it is.

    Args:
        name: name of the job.
        model: potential.

    The other fields are those of ``atomate2.forcefields.jobs.ForceFieldStaticMaker``.
    """

    name: str = "DPA4 static"


@dataclass
class DPA4MDMaker(_DPA4Mixin, ForceFieldMDMaker):
    """Molecular dynamics with ASE.

    Args:
        name: name of the job.
        model: potential.

    The other fields are those of ``atomate2.forcefields.md.ForceFieldMDMaker``: K, fs and kbar.
    """

    name: str = "DPA4 MD"

    @takes_model(forcefield_job)
    def make(self, structure: Structure | Molecule, prev_dir: str | Path | None = None) -> TaskDocument:
        """Run the dynamics of one structure or molecule.

        Args:
            structure: pymatgen structure or molecule.
            prev_dir: not used; there because other atomate2 Makers have it.
        """
        settings = {
            "ensemble": str(getattr(self.ensemble, "value", self.ensemble)),
            "n_steps": self.n_steps,
            "temperature": self.temperature,
            "pressure": self.pressure,
            "seed": self.mb_velocity_seed,
        }
        compute: Any = ForceFieldMDMaker.make
        document = compute.original(self, structure, prev_dir)
        return self._stamp(document, {**settings, "time_step": self.time_step})
