"""The properties that all others are made of: the relaxed structure and its energy, and the energy of a structure as
it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from dpa4_core.errors import DPA4Error
from dpa4_core.predict import Prediction
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult, Static
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_core.verdicts import ErrorCode, Minimum
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property
from dpa4_flows.documents.calculations import (
    RATTLE,
    UNNAMED,
    rattled,
    relax_settings,
    relaxation_document,
    relaxation_key,
    static_settings,
)
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.model_ref import ModelRef

TIGHT_FMAX = 1e-3
"""eV/Å, for strains and phonons."""


@dataclass(frozen=True)
class Calculated(Property[RelaxationDocument]):
    """Base of what gives one energy: its documents, failures too, are the calculations of a results table."""

    document: ClassVar[type[RelaxationDocument]] = RelaxationDocument
    keeps_failures: ClassVar[bool] = True
    keeps_calculations: ClassVar[bool] = False  # the document is the calculation

    def key(self, crystal: Crystal, model: ModelRef) -> str:
        return relaxation_key(crystal.structure, model, self.settings(model))

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        return 1, len(crystal.structure)

    def failed(self, crystal: Crystal, error: PlanError) -> RelaxationDocument:
        code: ErrorCode = error.code if error.code in get_args(ErrorCode) else "crashed"  # type: ignore[assignment]
        return self._document(crystal, Prediction(error=str(error), error_code=code))

    def _document(self, crystal: Crystal, result: RelaxResult | Prediction) -> RelaxationDocument:
        return relaxation_document(crystal.structure, result, crystal.info, self.settings(crystal.model))


@dataclass(frozen=True)
class Relaxed(Calculated):
    """A structure at rest.

    Attributes:
        fmax: largest generalised force at the end, eV/Å.
        max_steps: optimiser steps before a structure counts as unconverged.
        relax_cell: relax the cell too.
        pressure_gpa: external pressure, GPa.
        rattle: width of the random displacements that a relaxation starts with, Å; always the same for one structure. A
            relaxation keeps the symmetry that it starts with, also on top of a barrier.
        optimizer: auto, lbfgs or fire.
        max_step: Å, longest displacement of an atom in a step; by default that of the optimizer.
        cell: full, all (vacuum too), fixed, volume or shape (kept constant), or a list of six, which of the strains xx,
            yy, zz, yz, xz, xy may change.
        keep_symmetry: keep the space group of the start.
        check_minimum: look for a way down from where forces vanish, and go it.
    """

    name: ClassVar[str] = "relax"

    fmax: float = 0.02
    max_steps: int = 500
    relax_cell: bool = True
    pressure_gpa: float = 0.0
    rattle: float = 0.0
    optimizer: OptimizerName = "auto"
    max_step: float | None = None
    cell: str | list[int] = "full"
    keep_symmetry: bool = False
    check_minimum: bool = True

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Relaxed:
        """The relaxation with these `settings`, also of a time when there were fewer of them."""
        values = {"rattle": 0.0, "check_minimum": False, **UNNAMED, **settings}
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})

    def settings(self, model: ModelRef) -> dict[str, Any]:
        options = dict(vars(self))
        rattle = options.pop("rattle")
        pushed = {"rattle": float(rattle)} if rattle else {}
        return pushed | relax_settings(**options, dtype=model.dtype)

    def plan(self, crystal: Crystal) -> Plan[RelaxationDocument]:
        found = yield {"relaxed": Relax(rattled(crystal.structure, self.rattle), self._options())}
        return self._document(crystal, found["relaxed"])

    def check(self) -> None:
        if not self.rattle >= 0:
            raise DPA4Error(f"rattle must be 0 Å or more, not {self.rattle}")
        self._options()

    def _options(self) -> RelaxOptions:
        return RelaxOptions(**{name: value for name, value in vars(self).items() if name != "rattle"})


PUSHED = Relaxed(rattle=RATTLE)
"""The relaxation of `dpa4 hull` and campaigns, so that all read one library."""


class _AsItIs(RelaxationDocument):
    """What is shown of a structure that was not relaxed: its pressure, and nothing of a relaxation."""

    pressure_gpa: float | None = shown("Pressure", "GPa", 2, "positive when compressed", detail=True)
    volume_change_percent: float | None = None
    n_steps: int = 0
    minimum: Minimum = "not_checked"


@dataclass(frozen=True)
class Energy(Calculated):
    """Energy, pressure and largest force of a structure as it is; stored like a relaxation of zero steps."""

    name: ClassVar[str] = "static"
    example: ClassVar[str] = "Cu.cif NaCl.cif"
    shown: ClassVar[type[Document] | None] = _AsItIs

    def settings(self, model: ModelRef) -> dict[str, Any]:
        return static_settings(dtype=model.dtype)

    def plan(self, crystal: Crystal) -> Plan[RelaxationDocument]:
        found = yield {"energy": Static(crystal.structure)}
        return self._document(crystal, found["energy"])
