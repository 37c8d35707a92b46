"""What properties share: crystals that have one, calculations that can be left out, documents with a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_core.model.info import ModelInfo
from dpa4_core.predict import Prediction
from dpa4_core.relax import DynamicsResult, RelaxResult
from dpa4_flows.analysis.frames import zero_problem
from dpa4_flows.analysis.slabs import below_middle
from dpa4_flows.analysis.surface import Cuts, cuts
from dpa4_flows.compute.driver import OUT_OF_MEMORY
from dpa4_flows.compute.plan import Crystal, PlanError, Property
from dpa4_flows.documents.calculations import RATTLE, rattled
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Provenance, RelaxationDocument
from dpa4_flows.documents.stability import StabilityPart
from dpa4_flows.site_conversion import crystal_problem

P = TypeVar("P", bound=StabilityPart)

BASIN = "Cells keep to the basin in which their relaxation begins: no way down is looked for where it ends."
"""Caveat of properties whose own relaxations are not checked."""


class StabilityProperty(Property[P]):
    """Base of properties whose document is a `StabilityPart`; one without an answer has the verdict "unknown"."""

    starts_from_rest: ClassVar[bool] = True

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"verdict": "unknown", "reason": str(error), "converged": False}


def had_room(
    results: Iterable[RelaxResult | Prediction | DynamicsResult | RelaxationDocument | AnswerDocument],
) -> None:
    """For properties that go on without some of their calculations: a larger machine has those that lacked memory, so
    that a document without them must not be kept.

    Raises:
        PlanError: one of them ran out of memory.
    """
    for result in results:
        if result.error_code == OUT_OF_MEMORY:
            raise PlanError(str(result.error), OUT_OF_MEMORY)


def cells_not_converged(results: Sequence[RelaxResult], fmax: float) -> list[Reason]:
    """The doubt that cells raise whose atoms did not come to rest within ``fmax`` eV/Å, if there are any."""
    left = sum(not result.converged for result in results)
    if not left:
        return []
    words = f"{left} of {len(results)} cells did not reach {fmax:g} eV/Å: raise max_steps"
    return [Reason(code="cells_not_converged", sentence=words)]


def check_zeros(elements: Iterable[str], of: ModelInfo | Provenance) -> None:
    """For energies of phases that hold some of these elements each, and are subtracted.

    Args:
        elements: symbols, of all of them together.
        of: the model that computes, or the origin of what it computed.

    Raises:
        PlanError: fine-tuning left them without a common zero.
    """
    if problem := zero_problem(elements, of.zeros, of.undecided):
        raise PlanError(problem[1], problem[0])


def check_undecided(elements: Iterable[str], of: ModelInfo | Provenance) -> None:
    """For energies of elements that are compared one by one with numbers from elsewhere; arguments of `check_zeros`.

    Raises:
        PlanError: the zero of one of them is not known by itself.
    """
    check_zeros([symbol for symbol in elements if symbol in of.undecided], ModelInfo(undecided=tuple(of.undecided)))


def whole_crystal(crystal: Crystal) -> Structure:
    """The structure, if it is a crystal.

    Raises:
        PlanError: it is a molecule, a slab or a chain.
    """
    if not isinstance(crystal.structure, Structure):
        raise PlanError("a molecule has no such property; give it a periodic cell", "no_crystal")
    if problem := crystal_problem(crystal.structure):
        raise PlanError(problem, "no_crystal")
    return crystal.structure


def slabs_of(
    crystal: Crystal, max_index: int, min_thickness: float, vacuum: float, max_terminations: int, **which: Any
) -> Cuts:
    """The terminations of a crystal; arguments as of `dpa4_flows.analysis.surface.cuts`.

    Raises:
        PlanError: it is no crystal, or cannot be cut.
    """
    structure = whole_crystal(crystal)
    try:
        return cuts(structure, max_index, min_thickness, vacuum, max_terminations, **which)
    except ValueError as reason:
        raise PlanError(str(reason), "not_cut") from reason


def held(slab: Structure, still: NDArray[np.bool_] | None = None) -> Structure:
    """The slab with its lower half fixed, or the atoms ``still`` of one that was changed, whose energy is compared with
    that of the slab before; the rest is pushed off exact symmetry.
    """
    free = [[not one] * 3 for one in (below_middle(slab) if still is None else still).tolist()]
    pushed = rattled(slab.copy(site_properties={"selective_dynamics": free}), RATTLE)
    assert isinstance(pushed, Structure), "a slab is no molecule"
    return pushed


def check_ion(crystal: Crystal, ion: str) -> None:
    """Refuse a crystal without the ion that is to move.

    Raises:
        PlanError: it has none.
    """
    composition = crystal.structure.composition
    if ion not in composition.get_el_amt_dict():
        raise PlanError(
            f"{composition.reduced_formula} holds no {ion}; name the ion that moves as working_ion", "no_ion"
        )
