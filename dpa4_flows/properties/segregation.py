"""Segregation: what an exchange of a surface atom with one inside costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymatgen.core import Structure

from dpa4_core.relax import Relax, RelaxResult
from dpa4_flows.analysis.segregation import Exchange, exchanged, exchanges
from dpa4_flows.analysis.slabs import below_middle
from dpa4_flows.compute.plan import Crystal, Plan, PlanError
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.service import SegregationDocument, SurfaceExchange
from dpa4_flows.properties.on_slabs import HeldSlab, OnSlabs, told
from dpa4_flows.properties.part import had_room, held, whole_crystal


@dataclass(frozen=True)
class Segregation(OnSlabs[SegregationDocument]):
    """Energy to exchange surface atoms of an alloy with atoms of its other elements inside the slab."""

    name: ClassVar[str] = "segregation"
    example: ClassVar[str] = "Pt3Ni.cif"
    document: ClassVar[type[Document]] = SegregationDocument
    version: ClassVar[int] = 2

    def admit(self, crystal: Crystal) -> None:
        _check_alloy(whole_crystal(crystal))

    def plan(self, crystal: Crystal) -> Plan[SegregationDocument]:
        self.admit(crystal)
        slabs, skipped = yield from self.relaxed_slabs(crystal)
        asked = [(slab, exchange) for slab in slabs for exchange in exchanges(slab.wide)]
        starts = [exchanged(slab.relaxed.structure, exchange) for slab, exchange in asked]
        changed = [held(start, below_middle(slab.wide)) for start, (slab, _) in zip(starts, asked, strict=True)]
        answers = yield {str(i): Relax(one, self.options()) for i, one in enumerate(changed)}
        ends: list[RelaxResult] = list(answers.values())
        had_room(ends)
        found = [
            _exchange(slab, exchange, start, end)
            for (slab, exchange), start, end in zip(asked, starts, ends, strict=True)
        ]
        document = SegregationDocument(
            formula=crystal.structure.composition.reduced_formula,
            exchanges=found,
            skipped=skipped,
            converged=all(end.converged for end in ends) and all(slab.relaxed.converged for slab in slabs),
            warnings=list(
                told(slabs, ((f"{one.up} up, {one.down} down on ({one.facet})", one.reasons) for one in found))
            ),
            provenance=self.origin(crystal),
        )
        known = [one for one in found if one.energy is not None]
        if not known:
            raise PlanError("no exchange of a surface atom has an energy", "not_computed")
        best = min(known, key=lambda one: one.energy or 0.0)
        document.segregation_energy, document.segregating, document.segregation_facet = best.energy, best.up, best.facet
        return document


def _check_alloy(structure: Structure) -> None:
    elements = structure.composition.elements
    if len(elements) == 1:
        raise PlanError(f"{elements[0]} is one element: there is nothing to exchange", "one_element")
    if others := [str(element) for element in elements if not element.is_metal]:
        words = (
            f"{structure.composition.reduced_formula} is no alloy ({', '.join(others)}): atoms exchange among metals"
        )
        raise PlanError(words, "no_alloy")


def _exchange(slab: HeldSlab, exchange: Exchange, start: Structure, end: RelaxResult) -> SurfaceExchange:
    symbols = [site.specie.symbol for site in slab.wide]
    document = SurfaceExchange(
        facet=slab.cut.name,
        up=symbols[exchange.inside],
        down=symbols[exchange.surface],
        level=exchange.level,
        depth=exchange.depth,
    )
    if end.error is not None:
        document.reasons.append(Reason(code="not_computed", sentence=f"it failed: {end.error}"))
        return document
    document.energy = end.energy - slab.relaxed.energy
    document.reasons += slab.doubts(start, end)
    return document
