"""How ions move through a crystal: barriers of the distinct hops by vacancies, and how far their network leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

from pydantic import Field
from pymatgen.core import Structure

from dpa4_flows.analysis.diffusion import hopping_diffusivity
from dpa4_flows.analysis.migration import (
    Edge,
    HopKind,
    Network,
    bottleneck,
    direction,
    ends_of,
    hop_kinds,
    network,
    primitive_crystal,
    supercell_of,
    vector,
)
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystal, Plan, PlanError
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.limits import check_counts, check_positive
from dpa4_flows.properties.neb import Neb, NebDocument, OnPaths, small_cell
from dpa4_flows.properties.part import check_ion, whole_crystal

SAME_BARRIER = 0.1
"""eV; barriers of universal potentials are no better than that, so ways that differ by less are equally easy."""

REST_BETWEEN = 0.02
"""eV, by which an image must be below both ends to be worth a word."""


class HopDocument(Document):
    """Hops that are the same by symmetry; numbers are those of one of them."""

    start: str = Field(description="Element and number of the site of the primitive cell, from 1")
    end: str = Field(description="The same where it ends")
    direction: str = Field(description="In terms of the lattice vectors that were given")
    distance: float = Field(description="Between the sites, Å")
    n_hops: int = Field(description="Of this kind in the primitive cell")
    bottleneck: float = Field(description="Radius of the largest sphere that fits through between ions at rest, Å")
    barrier: float | None = Field(None, description="Of the ion on its way, eV")
    barrier_back: float | None = Field(None, description="Of the way back, eV")
    kra: float | None = Field(None, description="Above the mean of both ends, eV")
    length: float | None = Field(None, description="Of the way of the ion, Å")
    method: str = Field("", description="middle or band, see NebDocument; empty where nothing was computed")
    energies: list[float] = Field(default_factory=list, description="Along the path above the start, eV")
    distances: list[float] = Field(default_factory=list, description="Along the path, of all atoms together, Å")
    converged: bool | None = Field(None, description="Whether ends and path came to rest")
    error: str | None = Field(None, description="Why it has no barrier")


class MigrationDocument(AnswerDocument):
    """Hops of one ion through one crystal by vacancies."""

    formula: str = Field(description="Reduced formula")
    working_ion: str = Field(description="Element that moves")
    migration_barrier: float | None = shown(
        "Migration barrier",
        "eV",
        2,
        "lowest at which vacancies get through the crystal, dilute, 0 K; no polarons",
        short="E migr.",
        error=0.1,
        goal="min",
        scale=(0.2, 0.8),  # 0.3 of good conductors; micrometre particles at 1 C need less than 0.525
        voided_by=("no_network", "hops_missing"),
        priority=15,
    )
    dimensionality: int | None = shown(
        "Paths", "D", 0, "directions with a barrier within 0.1 eV of the lowest", priority=16
    )
    barrier_2d: float | None = shown("Barrier 2D", "eV", 2, "along two directions", detail=True)
    barrier_3d: float | None = shown("Barrier 3D", "eV", 2, "along three directions", detail=True)
    path: str | None = shown("Hop", note="that decides about the barrier", detail=True)
    bottleneck: float | None = shown("Bottleneck", "Å", 2, "of this hop, between ions at rest", goal="max", detail=True)
    vacancy_diffusivity: float | None = shown(
        "D of vacancies", "cm²/s", note="length² ν exp(−E/kT) of this hop, ν assumed", detail=True
    )
    hops: list[HopDocument] = Field(default_factory=list, description="The shortest first")
    n_supercell_atoms: int | None = Field(None, description="Atoms of the supercells, without the vacancy")
    converged: bool = Field(False, description="Whether everything came to rest that has a barrier")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class Migration(OnPaths[MigrationDocument]):
    """Barriers of an ion that hops from site to site of a relaxed crystal, and how far its hops lead.

    Attributes:
        working_ion: element that moves, into vacancies of its own sites.
        max_hop: Å, longest hop between sites.
        min_bottleneck: Å; hops through which no sphere of this radius gets between the ions at rest are not computed.
        min_length: Å, shortest distance between a vacancy and its image.
        max_hops: kinds of hops that are computed at most, the shortest first.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
        temperature_k: K, of the diffusion coefficient.
        attempt_frequency_thz: THz, assumed in the diffusion coefficient.
    """

    name: ClassVar[str] = "migration"
    example: ClassVar[str] = "LiFePO4.cif -o run"
    document: ClassVar[type[Document]] = MigrationDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_migration:hops"
    caveats: ClassVar[tuple[str, ...]] = (
        "Migration barriers are those of one vacancy in an otherwise full crystal, in a neutral cell and without the "
        "electron (polaron) that a vacancy leaves on a neighbour; published errors of universal potentials are 0.08 to "
        "0.2 eV.",
    )

    working_ion: str = "Li"
    max_hop: float = 5.0
    min_bottleneck: float = 0.0
    min_length: float = 9.0
    max_hops: int = 8
    max_supercell_atoms: int = field(default=300, metadata=NO_NUMBER)
    temperature_k: float = 300.0
    attempt_frequency_thz: float = 10.0

    def check(self) -> None:
        super().check()
        check_positive(self, "max_hop", "min_length", "max_hops", "temperature_k", "attempt_frequency_thz")
        check_counts(self, "max_supercell_atoms")

    def admit(self, crystal: Crystal) -> None:
        check_ion(crystal, self.working_ion)

    def cost(self, crystal: Crystal) -> tuple[int, int] | None:
        """As if a band were needed wherever the way back is not the way there; else one end and the middle twice."""
        ways = self._ways(crystal)
        n_relaxed = sum(3 if way.kind.both_ways and self.symmetric else 2 + self.n_images for way in ways.computed)
        return n_relaxed, n_relaxed * (len(ways.supercell) - 1)

    def plan(self, crystal: Crystal) -> Plan[MigrationDocument]:
        self.check()
        given, ways = whole_crystal(crystal), self._ways(crystal)
        pairs = [ends_of(way.kind.hops[0], ways.primitive, ways.supercell) for way in ways.computed]
        asks = {
            str(way.number): Ask(self._path(end), Crystal(start, crystal.name))
            for way, (start, end) in zip(ways.computed, pairs, strict=True)
        }
        answers: Mapping[str, NebDocument] = (yield asks) if asks else {}
        found = {way.number: answers[str(way.number)] for way in ways.computed}
        missing = [one for one in found.values() if one.error is not None]
        if missing and len(missing) == len(found):
            raise PlanError(f"no hop has a barrier: {missing[0].error}", missing[0].error_code or "not_computed")
        document = MigrationDocument(
            formula=ways.primitive.composition.reduced_formula,
            working_ion=self.working_ion,
            hops=[_hop(way, ways.primitive, given, found.get(way.number)) for way in ways.all],
            n_supercell_atoms=len(ways.supercell) - 1,
            converged=all(one.converged for one in found.values() if one.error is None),
            doubts=small_cell(ways.supercell),
            provenance=self.origin(crystal),
        )
        edges, numbers = _edges(ways.all, found)
        self._conclude(document, network(edges), numbers)
        if deep := [hop for hop in document.hops if hop.energies and _depth(hop) > REST_BETWEEN]:
            words = f"on a hop along {deep[0].direction} the ion rests {_depth(deep[0]):.2f} eV below both its sites"
            document.doubts.append(Reason(code="rests_between", sentence=words))
        if missing:
            words = f"{len(missing)} of {len(found)} kinds of hops have no barrier: {missing[0].error}"
            document.doubts.append(Reason(code="hops_missing", sentence=words))
        return document

    def _path(self, end: Structure) -> Neb:
        given = {one.name: getattr(self, one.name) for one in fields(OnPaths)}
        return Neb(**given, end=end, keep_images=False)

    def _conclude(self, document: MigrationDocument, through: Network, numbers: list[int]) -> None:
        if not through.barriers:
            known, ion = sum(hop.barrier is not None for hop in document.hops), self.working_ion
            words = f"{known} of {len(document.hops)} kinds of hops of {ion} have a barrier, and they lead nowhere"
            document.doubts.append(Reason(code="no_network", sentence=words))
            return
        hop = document.hops[numbers[through.limiting[0]]]
        padded = [*through.barriers, None, None]
        document.migration_barrier, document.barrier_2d, document.barrier_3d = padded[:3]
        document.dimensionality = through.dimensions(SAME_BARRIER)
        document.path, document.bottleneck = hop.direction, hop.bottleneck
        document.vacancy_diffusivity = hopping_diffusivity(
            hop.distance, through.barriers[0], self.attempt_frequency_thz, self.temperature_k
        )
        if not document.converged:
            words = "a path did not come to rest within max_steps: its barrier may be too high or too low"
            document.doubts.append(Reason(code="path_not_converged", sentence=words))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"formula": crystal.structure.composition.reduced_formula, "working_ion": self.working_ion}

    def _ways(self, crystal: Crystal) -> _Ways:
        """The kinds of hops, and those of them that are computed.

        Raises:
            PlanError: there are none.
        """
        primitive = primitive_crystal(whole_crystal(crystal))
        ion, formula = self.working_ion, primitive.composition.reduced_formula
        self.admit(crystal)
        kinds = hop_kinds(primitive, ion, self.max_hop)
        if not kinds:
            raise PlanError(f"no sites of {ion} in {formula} are within {self.max_hop:g} Å: raise max_hop", "no_hop")
        try:
            supercell = supercell_of(primitive, self.min_length, self.max_supercell_atoms)
        except ValueError as error:
            raise PlanError(str(error), "too_large") from error
        ways = [_Way(i, kind, bottleneck(primitive, kind.hops[0])) for i, kind in enumerate(kinds)]
        wide = [way for way in ways if way.bottleneck >= self.min_bottleneck]
        return _Ways(primitive, supercell, ways, wide[: self.max_hops])


def _depth(hop: HopDocument) -> float:
    """Of the lowest image below both ends, eV."""
    return min(hop.energies[0], hop.energies[-1]) - min(hop.energies)


class _Way(NamedTuple):
    number: int
    kind: HopKind
    bottleneck: float


class _Ways(NamedTuple):
    primitive: Structure
    supercell: Structure
    all: list[_Way]
    computed: list[_Way]


def _hop(way: _Way, primitive: Structure, given: Structure, found: NebDocument | None) -> HopDocument:
    hop = way.kind.hops[0]
    start, end = (f"{primitive[site].specie.symbol}{site + 1}" for site in (hop.start, hop.end))
    document = HopDocument(
        start=start,
        end=end,
        direction=direction(vector(primitive, hop), given.lattice),
        distance=way.kind.length,
        n_hops=len(way.kind.hops) // (2 if way.kind.both_ways else 1),
        bottleneck=way.bottleneck,
    )
    if found is None:
        return document
    same = {name for name in HopDocument.model_fields if name in NebDocument.model_fields}
    return document.model_copy(update={name: getattr(found, name) for name in same})


def _edges(ways: list[_Way], found: Mapping[int, NebDocument]) -> tuple[list[Edge], list[int]]:
    """All hops with a barrier, and the number of the kind of each."""
    edges: list[Edge] = []
    numbers: list[int] = []
    for way in ways:
        one = found.get(way.number)
        if one is None or one.energy is None:
            continue
        high, low = one.energy + max(one.energies), one.energy + min(one.energies)
        edges += [Edge(hop, high, low) for hop in way.kind.hops]
        numbers += [way.number] * len(way.kind.hops)
    return edges, numbers
