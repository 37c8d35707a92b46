"""What properties of wide slabs share whose lower half is fixed: which terminations, how wide, and how they relax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, NamedTuple, TypeVar

from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult
from dpa4_flows.analysis.anomalies import surface_change
from dpa4_flows.analysis.facets import Miller, equivalent_facets, termination_of
from dpa4_flows.analysis.sites import Surface
from dpa4_flows.analysis.slabs import widened
from dpa4_flows.analysis.surface import Cut
from dpa4_flows.compute.plan import Crystal, PlanError, Property, Steps
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.surfaces import SkippedTerminations
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import had_room, held, slabs_of

D = TypeVar("D", bound=Document)


class WideSlab(NamedTuple):
    """A termination in a cell that keeps its atoms apart from their images.

    Attributes:
        cut: the termination.
        slab: widened; neither pushed nor relaxed, so that it has the symmetry of the face.
        n_cells: surface cells in it.
    """

    cut: Cut
    slab: Structure
    n_cells: int


@dataclass(frozen=True)
class HeldSlab:
    """A termination before and after it relaxed.

    Attributes:
        cut: the termination.
        wide: widened; neither pushed nor relaxed.
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
        check_positive(self, "max_index", "min_length", "min_thickness", "vacuum", "max_terminations", "max_atoms")
        try:
            self._named()
        except ValueError as reason:
            raise DPA4Error(str(reason)) from reason

    def options(self) -> RelaxOptions:
        """How slabs relax."""
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def wide_slabs(self, crystal: Crystal) -> tuple[Structure, list[WideSlab], list[SkippedTerminations]]:
        """The conventional cell that indices refer to, its terminations, and what has no slab and why.

        Raises:
            PlanError: no facet has a slab.
        """
        named = self._named()
        how = self.max_index, self.min_thickness, self.vacuum, self.max_terminations
        facets = [miller for miller, _ in named]
        found = slabs_of(crystal, *how, facets=facets, nonstoichiometric=True, asymmetric=True)
        skipped, wide = list(found.skipped), []
        for facet, cuts in groupby(found.slabs, key=lambda cut: cut.facet):
            kept, missing = _chosen(found.crystal, list(cuts), named)
            skipped += [_left_out(cut, "no_termination", f"({facet}) has {words}") for cut, words in missing]
            for cut in kept:
                slab, n_cells = widened(cut.slab, self.min_length)
                if len(slab) <= self.max_atoms:
                    wide.append(WideSlab(cut, slab, n_cells))
                    continue
                size = f"a slab {self.min_thickness:g} Å thick and {self.min_length:g} Å wide has {len(slab)} atoms"
                words = f"({cut.name}) is left out: {size}, more than max_atoms = {self.max_atoms}"
                skipped.append(_left_out(cut, "too_many_atoms", words))
        if not wide:
            codes = {entry.code for entry in skipped}
            code = "no_slab" if len(codes) > 1 else codes.pop()
            raise PlanError(f"no facet has a slab: {skipped[0].reason}", code)
        return found.crystal, wide, skipped

    def _named(self) -> list[tuple[Miller, int | None]]:
        """The facets that are named, with the number of a termination where one is."""
        return [termination_of(facet) for facet in map(str, self.facets)]


@dataclass(frozen=True)
class OnSlabs(SlabSettings[D]):
    """Base of properties of wide slabs.

    Attributes:
        facets: Miller indices in a row (111, 10-10), with a number for one termination (10-11_2); all up to max_index
            if none are named.
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
        _, wide, skipped = self.wide_slabs(crystal)
        answers = yield {one.cut.name: Relax(held(one.slab), self.options()) for one in wide}
        had_room(answers.values())
        slabs = [HeldSlab(one.cut, one.slab, answers[one.cut.name]) for one in wide]
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


def _chosen(
    crystal: Structure, cuts: list[Cut], named: Iterable[tuple[Miller, int | None]]
) -> tuple[list[Cut], list[tuple[Cut, str]]]:
    """Of the terminations of a facet those that are named, and what is said of numbers that it does not have."""
    family = equivalent_facets(crystal, cuts[0].miller)
    numbers = {number for miller, number in named if miller in family}
    if not numbers or None in numbers:
        return cuts, []
    words = "only one termination" if len(cuts) == 1 else f"terminations {cuts[0].name} to {cuts[-1].name}"
    beyond = sorted(number for number in numbers if number is not None and number > len(cuts))
    missing = [(cuts[0], f"no termination {number}: it has {words}") for number in beyond]
    return [cut for number, cut in enumerate(cuts, start=1) if number in numbers], missing


def _left_out(cut: Cut, code: str, reason: str) -> SkippedTerminations:
    return SkippedTerminations(
        facet=cut.facet, miller=cut.miller, code=code, n_terminations=1, whole_facet=False, reason=reason
    )
