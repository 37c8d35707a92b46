"""Properties of the crystal that a structure relaxes to; and of what is not computed at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property
from dpa4_flows.compute.relaxed import TIGHT_FMAX, Relaxed
from dpa4_flows.documents.schemas import Document

D = TypeVar("D", bound=Document)

AT_REST = Relaxed(fmax=TIGHT_FMAX, max_steps=1000, check_minimum=False)
"""Before strains and displacements: tight, and with the symmetry of the input, about which they are asked."""


@dataclass(frozen=True)
class AtRest(Property[D]):
    """A property of what a structure relaxes to.

    All properties of one structure share the relaxation. The document is that of the property of the relaxed crystal,
    which is where it is stored: nothing is stored here.

    Attributes:
        of: the property.
        relaxation: where it starts.
    """

    of: Property[D]
    relaxation: Relaxed = AT_REST

    name: ClassVar[str] = "at rest"
    document: ClassVar[type[Document]] = Document
    anew: ClassVar[bool] = True

    def plan(self, crystal: Crystal) -> Plan[D]:
        self.of.admit(crystal)
        relaxed = (yield {"relaxed": Ask(self.relaxation, crystal)})["relaxed"]
        if relaxed.error is not None:
            raise PlanError(f"the relaxation failed: {relaxed.error}", relaxed.error_code or "not_computed")
        structure = structure_of_fields(relaxed.structure)
        rest = Crystal(structure, crystal.name, relaxed=relaxed)
        return (yield {"document": Ask(self.of, rest)})["document"]

    def failed(self, crystal: Crystal, error: PlanError) -> D:
        return self.of.failed(crystal, error)


@dataclass(frozen=True)
class Unread(Property[Any]):
    """A property of something that could not be read, or is refused as it is: its document says why.

    Attributes:
        of: the property.
        error: one sentence.
        code: the same for programs.
    """

    of: Property[Any]
    error: str
    code: str = "refused"

    name: ClassVar[str] = "unread"
    document: ClassVar[type[Document]] = Document
    anew: ClassVar[bool] = True

    def plan(self, crystal: Crystal) -> Plan[Any]:
        raise PlanError(self.error, self.code)
        yield {}

    def failed(self, crystal: Crystal, error: PlanError) -> Any:
        return self.of.failed(crystal, error)
