"""The path of lowest energy between two structures at rest, and its barrier: a nudged elastic band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field
from pymatgen.core import Molecule, Structure

from dpa4_core.data.structures import from_system, to_system
from dpa4_core.relax import Band, BandOptions, Relax, RelaxOptions, Static, band_path, matched_end, mirror_of
from dpa4_flows.analysis.migration import too_small
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property, checked
from dpa4_flows.documents.calculations import input_hash, plain_structure
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.limits import check_counts

D = TypeVar("D", bound=AnswerDocument)

OFF_MIDDLE = 0.05
"""Of the length of a path; a middle that is nearer to one end than the other has slid down from the symmetry."""
SAME_PLACE = 1e-3
"""Å; ends whose atoms are nearer to each other are one structure."""
BESIDE = 0.15
"""Of the way from the middle to an end, where the energy must be lower than in the middle, or the atom rests there."""


class NebDocument(AnswerDocument):
    """The path of lowest energy between two structures in one cell."""

    formula: str = Field(description="Reduced formula")
    n_atoms: int = Field(description="Atoms of each image")
    barrier: float | None = shown("Barrier", "eV", 3, "from the start, 0 K, no zero point", goal="min")
    barrier_back: float | None = shown("Barrier back", "eV", 3, "from the end, 0 K")
    kra: float | None = shown(
        "KRA", "eV", 3, "kinetically resolved activation: above the mean of both ends", detail=True
    )
    length: float | None = shown("Longest way", "Å", 2, "of one atom", detail=True)
    method: str = shown(
        "Found by",
        note="middle: a symmetric path",
        detail=True,
        default="",
        description="middle, of a symmetric path, relaxed alone; or band",
    )
    energy: float | None = Field(None, description="Of the start, uncorrected, eV")
    energies: list[float] = Field(default_factory=list, description="Of the images above the start, eV")
    distances: list[float] = Field(
        default_factory=list, description="Along the path, of all atoms together (root of the sum of squares), Å"
    )
    converged: bool = Field(False, description="Whether both ends and the band came to rest")
    fmax: float | None = Field(None, description="Largest force across the path at the end, eV/Å")
    n_steps: int = Field(0, description="Optimiser steps of the band, or of the middle")
    images: list[dict[str, Any]] = Field(
        default_factory=list, description="From end to end as pymatgen dictionaries, where they are kept"
    )
    doubts: list[Reason] = Field(default_factory=list)

    @property
    def further(self) -> dict[str, dict[str, Any]]:
        return {f"image {i}": image for i, image in enumerate(self.images)}


@dataclass(frozen=True)
class OnPaths(Property[D]):
    """Base of properties that rest on paths between two structures.

    Attributes:
        n_images: between both.
        fmax: eV/Å, across the path.
        max_steps: optimiser steps of the band, and of each end.
        climb: let the highest image climb to the saddle.
        spring: eV/Å², between neighbouring images.
        end_fmax: eV/Å, to which both ends and the middle of a symmetric path relax.
        symmetric: of a path that a symmetry of the crystal takes to its reverse, relax one end and the middle alone, if
            the way goes down from there.
    """

    n_images: int = 5
    fmax: float = 0.05
    max_steps: int = 300
    climb: bool = True
    spring: float = 1.0
    end_fmax: float = 0.02
    symmetric: bool = True

    def check(self) -> None:
        check_counts(self, "n_images")
        self.band()
        self.rest()

    def rest(self, *, keep_symmetry: bool = False) -> RelaxOptions:
        """How an end, or the middle of a symmetric path, comes to rest."""
        # an end that went down elsewhere would be the end of another path
        return RelaxOptions(
            fmax=self.end_fmax,
            max_steps=self.max_steps,
            relax_cell=False,
            keep_symmetry=keep_symmetry,
            check_minimum=False,
        )

    def band(self) -> BandOptions:
        """How a path does."""
        return BandOptions(self.fmax, self.max_steps, self.climb, self.spring)


@dataclass(frozen=True)
class Neb(OnPaths[NebDocument]):
    """Barrier between a structure and another one with the same atoms in the same cell.

    Attributes:
        end: the other structure; its atoms may be in another order.
        keep_images: whether the document has the structures along the path.
    """

    name: ClassVar[str] = "neb"
    document: ClassVar[type[Document]] = NebDocument
    figures: ClassVar[str] = "dpa4_flows.report.figures_migration:paths"
    caveats: ClassVar[tuple[str, ...]] = (
        "Barriers are electronic energies at 0 K of a neutral cell: without zero point, entropy and charge.",
    )

    end: Structure | Molecule | None = None
    keep_images: bool = True

    def settings(self, model: ModelRef) -> dict[str, Any]:
        end = None if self.end is None else input_hash(self.end)
        return super().settings(model) | {"end": end}

    def plan(self, crystal: Crystal) -> Plan[NebDocument]:
        self.check()
        if self.end is None:
            raise PlanError("a path needs a second structure, where it ends", "no_end")
        start = crystal.structure
        end = matched_end(start, self.end)
        if np.abs(to_system(end).positions - to_system(start).positions).max(initial=0.0) < SAME_PLACE:
            raise PlanError(
                "both ends of the path are the same structure; give two between which an atom moves", "no_path"
            )
        mirror = mirror_of(start, end) if self.symmetric else None
        ends = {"start": start} if mirror else {"start": start, "end": end}
        found = yield {name: Relax(one, self.rest()) for name, one in ends.items()}
        first = checked(found["start"], "the start of the path")
        if mirror is not None:
            other = mirror.other_end(first.structure)
            middle = band_path(first.structure, other, 1, in_order=True)[1]
            held = (yield {"middle": Relax(middle, self.rest(keep_symmetry=True))})["middle"]
            images = (first.structure, held.structure, other)
            if held.converged and held.energy > first.energy and _half_way(images):
                beside = _moved(held.structure, first.structure, BESIDE)
                lower = checked((yield {"beside": Static(beside)})["beside"], "the energy beside the middle")
                if lower.energy < held.energy:
                    energies = (first.energy, held.energy, first.energy)
                    return self._found(crystal, "middle", images, energies, first.converged, held)
            last_energy, all_converged = first.energy, first.converged
        else:
            last = checked(found["end"], "the end of the path")
            other, last_energy = last.structure, last.energy
            all_converged = first.converged and last.converged
        path = band_path(first.structure, other, self.n_images, in_order=True)
        asked = Band(path, (first.energy, last_energy), self.band())
        band = checked((yield {"band": asked})["band"], "the band")
        return self._found(crystal, "band", band.images, band.energies, all_converged and band.converged, band)

    def _found(
        self, crystal: Crystal, method: str, images: Sequence[Any], energies: Sequence[float], converged: bool, end: Any
    ) -> NebDocument:
        top, first, last = max(energies), energies[0], energies[-1]
        steps = np.diff([image.cart_coords for image in images], axis=0)
        ways = np.linalg.norm(steps, axis=2).sum(axis=0)
        return NebDocument(
            formula=images[0].composition.reduced_formula,
            n_atoms=len(images[0]),
            barrier=top - first,
            barrier_back=top - last,
            kra=top - (first + last) / 2,
            length=float(ways.max()),
            method=method,
            energy=first,
            energies=[energy - first for energy in energies],
            distances=[0.0, *np.cumsum(np.linalg.norm(steps, axis=(1, 2))).tolist()],
            converged=converged,
            fmax=end.fmax,
            n_steps=end.n_steps,
            images=[plain_structure(image).as_dict() for image in images] if self.keep_images else [],
            doubts=small_cell(images[0]),
            provenance=self.origin(crystal),
        )

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return super().facts(crystal, error) | {"n_atoms": len(crystal.structure)}


def small_cell(cell: Structure | Molecule) -> list[Reason]:
    """The doubt about a cell in which what moves meets its image."""
    words = too_small(cell)
    return [Reason(code="small_cell", sentence=words)] if words else []


def _moved(structure: Any, towards: Any, part: float) -> Any:
    """A structure with its atoms a part of the way to where they are in another one; its cell stays."""
    here = to_system(structure)
    way = to_system(towards).positions - here.positions
    return from_system(structure, replace(here, positions=here.positions + part * way))


def _half_way(images: Sequence[Any]) -> bool:
    """Whether the middle of three images has not slid down to one of the ends."""
    before, after = (float(np.linalg.norm(one)) for one in np.diff([image.cart_coords for image in images], axis=0))
    return abs(before - after) < OFF_MIDDLE * (before + after)
