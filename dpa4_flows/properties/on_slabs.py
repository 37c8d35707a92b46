"""What properties of wide slabs share whose lower half is fixed: which terminations, how wide, and how they relax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult
from dpa4_flows.analysis.anomalies import surface_change
from dpa4_flows.analysis.facets import Miller, miller_of
from dpa4_flows.analysis.sites import Surface
from dpa4_flows.analysis.slabs import widened
from dpa4_flows.analysis.surface import Cut
from dpa4_flows.compute.plan import Crystal, PlanError, Property, Steps
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.surfaces import SkippedTerminations
from dpa4_flows.properties.part import had_room, held, slabs_of

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class HeldSlab:
    """A termination before and after it relaxed.

    Attributes:
        cut: the termination.
        wide: widened; neither pushed nor relaxed, so that it has the symmetry of the face.
        relaxed: the same atoms in the same order, the lower half where it was.
    """

    cut: Cut
    wide: Structure
    relaxed: RelaxResult

    def clean_doubts(self) -> Iterator[Reason]:
        """What to know of the clean slab, with codes."""
        for reason in self.doubts(self.wide, self.relaxed):
            code = {"surface_reconstructed": "clean_slab_changed", "incomplete": "slab_not_converged"}[reason.code]
            yield Reason(code=code, sentence=f"the clean slab of ({self.cut.name}): {reason.sentence}")

    def doubts(self, start: Structure, end: RelaxResult) -> Iterator[Reason]:
        """What to know of a slab that was changed and relaxed, with codes."""
        if change := surface_change(Surface(start, self.cut.oriented_unit_cell), end.structure):
            yield Reason(code="surface_reconstructed", sentence=f"the surface changed: {change}")
        if not end.converged:
            words = f"it did not reach fmax within {end.n_steps} steps: its energy is an upper bound"
            yield Reason(code="incomplete", sentence=words)


class SlabSettings(Property[D]):
    """Base of properties with these settings, whose order is their own: what they mean and which make no sense."""

    starts_from_rest: ClassVar[bool] = True

    facets: tuple[str | int, ...]
    max_index: int
    min_length: float
    min_thickness: float
    vacuum: float
    max_terminations: int
    max_atoms: int
    fmax: float
    max_steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "facets", tuple(str(facet) for facet in self.facets))

    def check(self) -> None:
        self.options()
        for name in ("max_index", "min_length", "min_thickness", "vacuum", "max_terminations", "max_atoms"):
            if not getattr(self, name) > 0:
                raise DPA4Error(f"{name} is {getattr(self, name)}; it must be positive")
        try:
            self.millers()
        except ValueError as reason:
            raise DPA4Error(str(reason)) from reason

    def options(self) -> RelaxOptions:
        """How slabs relax."""
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def millers(self) -> list[Miller]:
        """The facets that are named."""
        return [miller_of(str(facet)) for facet in self.facets]


@dataclass(frozen=True)
class OnSlabs(SlabSettings[D]):
    """Base of properties of wide slabs.

    Attributes:
        facets: Miller indices in a row (111, 10-10); all up to max_index if none are named.
        max_index: largest Miller index.
        min_length: Å, between an atom of the slab and its images.
        min_thickness: of the slabs, Å; the lower half is fixed.
        vacuum: between a slab and its image, Å.
        max_terminations: of each facet; those that break fewest bonds.
        max_atoms: of a slab; facets with larger ones are left out and say so.
        fmax: eV/Å, to which slabs relax in their fixed cells.
        max_steps: optimiser steps of each slab.
    """

    facets: tuple[str | int, ...] = ()
    max_index: int = 1
    min_length: float = 5.0
    min_thickness: float = 10.0
    vacuum: float = 15.0
    max_terminations: int = 4
    max_atoms: int = 200
    fmax: float = 0.05
    max_steps: int = 200

    def relaxed_slabs(self, crystal: Crystal) -> Steps[tuple[list[HeldSlab], list[SkippedTerminations]]]:
        """Ask for all clean slabs in one step; what has none says why.

        Raises:
            PlanError: no facet has a slab.
        """
        how = self.max_index, self.min_thickness, self.vacuum, self.max_terminations
        found = slabs_of(crystal, *how, facets=self.millers(), nonstoichiometric=True, asymmetric=True)
        skipped, wide = list(found.skipped), []
        for cut in found.slabs:
            whole = widened(cut.slab, self.min_length)[0]
            if len(whole) <= self.max_atoms:
                wide.append((cut, whole))
            else:
                words = f"its slab has {len(whole)} atoms, more than max_atoms = {self.max_atoms}"
                skipped.append(_left_out(cut, "too_many_atoms", f"({cut.name}) is left out: {words}"))
        answers = yield {cut.name: Relax(held(whole), self.options()) for cut, whole in wide}
        had_room(answers.values())
        slabs = [HeldSlab(cut, whole, answers[cut.name]) for cut, whole in wide]
        for slab in slabs:
            if slab.relaxed.error is not None:
                words = f"the clean slab of ({slab.cut.name}) failed: {slab.relaxed.error}"
                skipped.append(_left_out(slab.cut, "slab_failed", words))
        slabs = [slab for slab in slabs if slab.relaxed.error is None]
        if not slabs:
            raise PlanError(f"no facet has a slab: {skipped[-1].reason}", skipped[-1].code)
        return slabs, skipped


def told(slabs: Iterable[HeldSlab], changed: Iterable[tuple[str, Iterable[Reason]]]) -> Iterator[Reason]:
    """What to know of the clean slabs, and of those that were changed, each with the words for its change."""
    for slab in slabs:
        yield from slab.clean_doubts()
    for words, reasons in changed:
        for reason in reasons:
            yield Reason(code=reason.code, sentence=f"{words}: {reason.sentence}")


def _left_out(cut: Cut, code: str, reason: str) -> SkippedTerminations:
    return SkippedTerminations(
        facet=cut.facet, miller=cut.miller, code=code, n_terminations=1, whole_facet=False, reason=reason
    )
