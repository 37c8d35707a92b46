"""Thermal expansion: phonons at several volumes, whose displaced supercells share force calls with everything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions
from dpa4_flows.analysis.equation_of_state import MIN_POINTS, Form, scaled
from dpa4_flows.analysis.force_constants import DISPLACEMENT, PhononCalculation
from dpa4_flows.analysis.phonons import PhononBands, dynamical_stability
from dpa4_flows.analysis.quasi_harmonic import acoustic_gruneisen, quasi_harmonic
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Plan, PlanError, Property, checked
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import cells_not_converged, whole_crystal
from dpa4_flows.properties.phonons import LOOSE_FMAX, Phonons, not_at_rest, requests, set_forces, supercells

STRAINED_MODES = "imaginary_when_strained"
"""Code of modes that are imaginary at a volume: the free energy there lacks them, and jumps where they become so."""
_VOID = (STRAINED_MODES, "cells_not_converged")
VOLUME_STRAINS = (-0.03, -0.015, 0.0, 0.015, 0.03, 0.045, 0.06)
"""Of the volume: aluminium at 900 K has grown by 6 %."""
TEMPERATURES = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1000.0)
"""K."""
ROOM_K = 300.0


class TemperatureRow(Document):
    """A crystal at one temperature and no pressure."""

    temperature_k: float = Field(description="K")
    volume: float = Field(description="Å³/atom")
    gibbs_energy: float = Field(description="With the uncorrected energy of the model, eV/atom")
    bulk_modulus_gpa: float = Field(description="Isothermal, GPa")
    linear_expansion_per_k: float = Field(description="A third of that of the volume, 1/K")
    heat_capacity_j_mol_k: float = Field(description="At constant pressure, J/K per mole of atoms")
    entropy_j_mol_k: float = Field(description="J/K per mole of atoms")
    gruneisen: float | None = Field(None, description="α B V / C_V, dimensionless; null at 0 K")


class QuasiHarmonicDocument(AnswerDocument):
    """Thermal expansion of one crystal in the quasi-harmonic approximation; cells keep their shape."""

    formula: str = Field(description="Reduced formula")
    rows: list[TemperatureRow] = Field(default_factory=list, description="Up to where the approximation ends")
    expansion_300k: float | None = shown(
        "Expansion",
        "10⁻⁶/K",
        1,
        "linear, 300 K, quasi-harmonic",
        goal="min",
        scale=(0.0, 30.0),
        voided_by=_VOID,
        priority=13,
    )
    heat_capacity_300k: float | None = shown("Heat capacity", "J/K/mol", 1, "per mole of atoms, 300 K", voided_by=_VOID)
    bulk_modulus_300k_gpa: float | None = shown(
        "Bulk modulus 300 K", "GPa", 1, "isothermal", voided_by=_VOID, detail=True
    )
    gruneisen_300k: float | None = shown("Grüneisen parameter", "", 2, "thermodynamic, 300 K", voided_by=_VOID)
    gruneisen_acoustic: float | None = shown(
        "Acoustic Grüneisen",
        "",
        2,
        "root mean square of the three lowest branches",
        description="Root mean square over the three lowest branches; null if one is imaginary",
    )
    volumes: list[float] = Field(default_factory=list, description="Of the cells, Å³/atom")
    energies: list[float] = Field(default_factory=list, description="Of the cells at rest, eV/atom")
    n_supercell_atoms: int | None = Field(None, description="Atoms of the supercells")
    converged: bool = Field(False, description="Whether the atoms of every cell reached fmax")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class QuasiHarmonic(Property[QuasiHarmonicDocument]):
    """Thermal expansion, heat capacity at constant pressure and Gibbs energy of a relaxed crystal.

    Attributes:
        strains: of the volume, at least five.
        temperatures_k: K.
        min_length: Å, shortest distance between an atom and its image in the supercells.
        displacement: Å, of one atom.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        form: of the equation of state: birch-murnaghan or vinet.
        fmax: eV/Å, to which the atoms relax in each cell.
        max_steps: optimiser steps of each cell.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

    name: ClassVar[str] = "quasi_harmonic"
    example: ClassVar[str] = "Si.cif --temperatures-k 300,600,900"
    document: ClassVar[type[Document]] = QuasiHarmonicDocument
    version: ClassVar[int] = 3  # its codes are no longer those of other stages
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_phonons:expansions"

    strains: tuple[float, ...] = VOLUME_STRAINS
    temperatures_k: tuple[float, ...] = TEMPERATURES
    min_length: float = 10.0
    displacement: float = DISPLACEMENT
    mesh_length: float = 60.0
    form: Form = "vinet"
    fmax: float = 1e-3
    max_steps: int = 500
    max_supercell_atoms: int = field(default=1000, metadata=NO_NUMBER)

    def check(self) -> None:
        check_positive(self, "min_length", "displacement", "mesh_length", "max_supercell_atoms")
        require_extra("phonons", "a calculation of phonons")
        self._options()
        if len(set(self.strains)) < MIN_POINTS:
            raise DPA4Error(f"thermal expansion needs at least {MIN_POINTS} strains, not {len(set(self.strains))}")
        if min(self.temperatures_k, default=-1.0) < 0:
            raise DPA4Error("temperatures_k must be temperatures of 0 K or more")

    def _options(self) -> RelaxOptions:
        # a cell that went down elsewhere would have the energy of another structure
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        one = Phonons(self.min_length, self.displacement, max_supercell_atoms=self.max_supercell_atoms).cost(crystal)
        return len(self.strains) * (1 + one[0]), len(self.strains) * (len(crystal.structure) + one[1])

    def plan(self, crystal: Crystal) -> Plan[QuasiHarmonicDocument]:
        self.check()
        structure = primitive_cell(whole_crystal(crystal))
        cells = scaled(structure, sorted(self.strains))
        at_rest = yield {str(i): Relax(cell, self._options()) for i, cell in enumerate(cells)}
        relaxed = [checked(at_rest[str(i)], "one of the cells") for i in range(len(cells))]
        structures = [result.structure for result in relaxed]
        calculations = self._calculations(structures)
        wanted = [requests(calculation) for calculation in calculations]
        found = yield {f"{i} {name}": one for i, named in enumerate(wanted) for name, one in named.items()}
        rests = [
            set_forces(calculation, [found[f"{i} {name}"] for name in named])
            for i, (calculation, named) in enumerate(zip(calculations, wanted, strict=True))
        ]
        # the same wave vectors at each volume, so that a mode is compared with itself
        lengths = [self.mesh_length * (one.volume / structures[0].volume) ** (1 / 3) for one in structures]
        meshes = [calculation.mesh(length) for calculation, length in zip(calculations, lengths, strict=True)]
        volumes = [one.volume / len(one) for one in structures]
        energies = [result.energy / len(one) for result, one in zip(relaxed, structures, strict=True)]
        doubts = _imaginary(volumes, calculations, meshes)
        doubts += not_at_rest(max(rests), "choose a smaller fmax")
        doubts += cells_not_converged(relaxed, self.fmax)
        rows, ended = quasi_harmonic(volumes, energies, meshes, sorted(self.temperatures_k), self.form)
        if ended is not None:
            doubts.append(Reason(code=ended.code, sentence=ended.sentence))
        if not rows:
            raise PlanError(doubts[-1].sentence, doubts[-1].code)
        table = [_row(dataclasses.asdict(row)) for row in rows]
        room = next((row for row in table if row.temperature_k == ROOM_K), None)
        middle = int(np.argmin(np.abs(np.array(sorted(self.strains)))))
        low, high = max(middle - 1, 0), min(middle + 1, len(cells) - 1)
        return QuasiHarmonicDocument(
            formula=structure.composition.reduced_formula,
            rows=table,
            expansion_300k=None if room is None else 1e6 * room.linear_expansion_per_k,
            heat_capacity_300k=None if room is None else room.heat_capacity_j_mol_k,
            bulk_modulus_300k_gpa=None if room is None else room.bulk_modulus_gpa,
            gruneisen_300k=None if room is None else room.gruneisen,
            gruneisen_acoustic=acoustic_gruneisen([volumes[low], volumes[high]], [meshes[low], meshes[high]]),
            volumes=volumes,
            energies=energies,
            n_supercell_atoms=calculations[0].n_atoms,
            converged=all(result.converged for result in relaxed) and max(rests) <= LOOSE_FMAX,
            doubts=doubts,
            provenance=self.origin(crystal),
        )

    def _calculations(self, structures: Sequence[Structure]) -> list[PhononCalculation]:
        """Of the same supercell, so that free energies differ by volume alone."""
        how = self.min_length, self.displacement, self.max_supercell_atoms
        first = supercells(structures[0], *how)
        others = [first.scaled(one) or supercells(one, *how, first.supercell_matrix) for one in structures[1:]]
        return [first, *others]


def _row(facts: dict[str, Any]) -> TemperatureRow:
    return TemperatureRow(linear_expansion_per_k=facts.pop("expansion_per_k") / 3, **facts)


def _imaginary(
    volumes: Sequence[float], calculations: Sequence[PhononCalculation], meshes: Sequence[PhononBands]
) -> list[Reason]:
    """Modes that have no harmonic free energy, and are left out of it."""
    verdicts = [
        dynamical_stability(mesh, one.commensurate(), one.near_gamma).verdict
        for one, mesh in zip(calculations, meshes, strict=True)
    ]
    bad = [volume for volume, verdict in zip(volumes, verdicts, strict=True) if verdict != "stable"]
    if not bad:
        return []
    words = (
        f"imaginary modes at {len(bad)} of {len(volumes)} volumes ({bad[0]:.2f} Å³/atom first) are left out of free "
        "energies, which mean nothing then"
    )
    return [Reason(code=STRAINED_MODES, sentence=words)]
