"""Conductivity of a lattice by the phonons that scatter each other: third-order force constants in the common batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Static
from dpa4_flows.analysis.force_constants import DISPLACEMENT, PhononCalculation
from dpa4_flows.analysis.lattice_conductivity import ROOM_K
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.analysis.phonon_scattering import LatticeConductivity, ScatteringCalculation, scattering_cutoff
from dpa4_flows.analysis.phonons import DynamicalStability, dynamical_stability
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Plan, PlanError
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.field_response import NAMES_RESPONSES, PolarProperty
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.properties.phonons import LOOSE_FMAX, forces_of, not_at_rest, requests, set_forces, supercells

TEMPERATURES = (200.0, 300.0, 400.0, 500.0, 600.0, 800.0)
"""K."""
COARSER = (0.75, 0.5)
"""Of the mesh, for others that tell how far from its limit it is: two alone may agree by chance."""
UNSETTLED_PERCENT = 10.0
"""Change from the first of them. What is missing falls with the mesh as 1/n, so that the second may differ by three
times as much.
"""
SOFT = 0.25
"""Of the highest frequency: optical modes at Γ below it are soft. Rock salt has 0.6, GaAs 0.95, PbTe 0.19."""
_AXES = ("xx", "yy", "zz")

Solution = Literal["rta", "direct"]


class ScatteringRow(Document):
    """A lattice at one temperature."""

    temperature_k: float = Field(description="K")
    conductivity_w_mk: float = Field(description="Mean over the directions, W/(m K)")
    tensor_w_mk: list[list[float]] = Field(description="[3, 3], in the axes of the crystal, W/(m K)")


def _along(axis: str) -> Any:
    return shown(f"κ {axis}", "W/(m K)", 1, "lattice, 300 K, in the axes of the crystal", detail=True)


class PhononScatteringDocument(AnswerDocument):
    """Thermal conductivity of one crystal's lattice from the Boltzmann equation of its phonons."""

    formula: str = Field(description="Reduced formula")
    conductivity_w_mk: float | None = shown(
        "κ of phonons", "W/(m K)", 1, "lattice, 300 K, three-phonon and isotope scattering", priority=11, goal="max"
    )
    xx_w_mk: float | None = _along("xx")
    yy_w_mk: float | None = _along("yy")
    zz_w_mk: float | None = _along("zz")
    anisotropy: float | None = shown("Anisotropy of κ", "", 2, "largest over smallest principal value", detail=True)
    half_path_nm: float | None = shown(
        "Half mean free path", "nm", 0, "modes below it carry half of the heat", detail=True
    )
    rows: list[ScatteringRow] = Field(default_factory=list, description="By temperature")
    paths_nm: list[float] = Field(default_factory=list, description="Mean free paths, 300 K, nm")
    cumulative_w_mk: list[float] = Field(default_factory=list, description="Heat by modes up to each of them, W/(m K)")
    mesh: list[int] = Field(default_factory=list, description="Wave vectors along each axis")
    mesh_change_percent: float | None = shown(
        "Change with the mesh", "%", 1, "from three quarters of its wave vectors, at 300 K or the lowest", detail=True
    )
    cutoff: Annotated[float | None, Unit("Å")] = Field(None, description="As far as three atoms scatter, Å")
    n_supercells: int | None = Field(None, description="With all atoms displaced")
    n_supercell_atoms: int | None = Field(None, description="Of each of them")
    converged: bool = Field(False, description="Whether the crystal was at rest and the mesh was fine enough")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class PhononScattering(PolarProperty[PhononScatteringDocument]):
    """Lattice conductivity of a relaxed crystal by three-phonon scattering (phono3py; ``pip install
    'dpa4-flows[kappa]'``).

    Second-order force constants are those of `Phonons` with the same settings, and are computed once for both.

    Attributes:
        solution: rta, relaxation times, or direct, the whole collision matrix, which takes much longer and gives more
            where most collisions keep the heat going, as in diamond.
        temperatures_k: K; single numbers are those at 300 K.
        min_length: Å, shortest distance between an atom and its image in the supercells of the second order.
        displacement: Å, of one atom in those.
        scattering_length: Å, as ``min_length``, of the supercells of the third order.
        cutoff: Å, as far as three atoms scatter; None for 2.2 distances of neighbours, and at least 4 Å.
        excess: equations for each third-order force constant, about.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        isotopes: natural abundances scatter too.
        field_response: TOML file with Born charges and dielectric constants, for the splitting of polar modes (LO-TO).
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

    name: ClassVar[str] = "phonon_scattering"
    example: ClassVar[str] = "Si.cif --temperatures-k 300"
    document: ClassVar[type[Document]] = PhononScatteringDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_phonons:scattering"
    caveats: ClassVar[tuple[str, ...]] = (
        "Conductivities are those of a perfect lattice with three-phonon scattering: no fourth order, no grain "
        "boundaries, defects or electrons.",
    )

    solution: Solution = "rta"
    temperatures_k: tuple[float, ...] = TEMPERATURES
    min_length: float = 10.0
    displacement: float = DISPLACEMENT
    scattering_length: float = 10.0
    cutoff: float | None = None
    excess: float = 8.0
    mesh_length: float = 48.0
    isotopes: bool = True
    field_response: str | None = field(default=None, metadata=NAMES_RESPONSES)
    max_supercell_atoms: int = field(default=1000, metadata=NO_NUMBER)

    def check(self) -> None:
        lengths = ("min_length", "displacement", "scattering_length", "mesh_length")
        check_positive(self, *lengths, "max_supercell_atoms")
        require_extra("kappa", "the scattering of phonons")
        if min(self.temperatures_k, default=0.0) <= 0:
            raise DPA4Error("temperatures_k must be temperatures above 0 K")
        _ = self.responses
        if self.excess < 2:
            raise DPA4Error(f"excess must be 2 or more, not {self.excess:g}: forces have to decide the force constants")

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        self.check()
        second = self._second(crystal)
        third = self._third(second)
        n_second, n_third = len(second.displaced), len(third.displaced)
        return 1 + n_second + n_third, len(second.primitive) + n_second * second.n_atoms + n_third * third.n_atoms

    def _second(self, crystal: Crystal) -> PhononCalculation:
        return supercells(whole_crystal(crystal), self.min_length, self.displacement, self.max_supercell_atoms)

    def _third(self, phonons: PhononCalculation) -> ScatteringCalculation:
        """Raises:
        PlanError: its supercells would be too large.
        """
        try:
            return ScatteringCalculation(
                phonons,
                min_length=self.scattering_length,
                cutoff=self.cutoff or scattering_cutoff(phonons.primitive),
                excess=self.excess,
                max_atoms=self.max_supercell_atoms,
            )
        except ValueError as error:
            raise PlanError(str(error), "no_supercell") from error

    def plan(self, crystal: Crystal) -> Plan[PhononScatteringDocument]:
        self.check()
        phonons = self._second(crystal)
        found = yield requests(phonons)
        rest = set_forces(phonons, list(found.values()))
        split = self.responses.put_into(phonons)
        verdict = dynamical_stability(phonons.mesh(self.mesh_length), phonons.commensurate(), phonons.near_gamma)
        if verdict.verdict == "unstable":
            raise PlanError(f"{verdict.reason}, so that there are no phonons to scatter", "imaginary_modes")
        third = self._third(phonons)
        answers = yield {str(i): Static(cell) for i, cell in enumerate(third.displaced)}
        third.set_forces(forces_of(list(answers.values())), forces_of([next(iter(found.values()))])[0])
        direct = self.solution == "direct"
        fine = third.conductivity(self.mesh_length, self.temperatures_k, direct=direct, isotopes=self.isotopes)
        at = ROOM_K if ROOM_K in self.temperatures_k else min(self.temperatures_k)
        coarser = [
            third.conductivity(part * self.mesh_length, (at,), direct=direct, isotopes=self.isotopes)
            for part in COARSER
        ]
        doubts = not_at_rest(rest)
        changes, unsettled = mesh_changes(fine, coarser)
        if unsettled:
            doubts.append(Reason(code="mesh_unsettled", sentence=f"{unsettled}: raise mesh_length"))
        if verdict.verdict == "marginal":
            doubts.append(Reason(code="phonons_undecided", sentence=verdict.reason))
        doubts += _of_polar_modes(phonons.primitive, verdict, split)
        return PhononScatteringDocument(
            formula=crystal.structure.composition.reduced_formula,
            rows=[
                ScatteringRow(temperature_k=t, conductivity_w_mk=float(mean), tensor_w_mk=tensor.round(6).tolist())
                for t, mean, tensor in zip(fine.temperatures_k, fine.means_w_mk, fine.tensors_w_mk, strict=True)
            ],
            mesh=list(fine.mesh),
            cutoff=third.cutoff,
            n_supercells=len(third.displaced),
            n_supercell_atoms=third.n_atoms,
            mesh_change_percent=changes[0] if math.isfinite(changes[0]) else None,
            converged=rest <= LOOSE_FMAX and not unsettled,
            doubts=doubts,
            provenance=self.origin(crystal),
            **self._at_room(fine),
        )

    def _at_room(self, fine: LatticeConductivity) -> dict[str, Any]:
        """What the document says of 300 K, if that is among the temperatures."""
        if ROOM_K not in fine.temperatures_k:
            return {}
        at = fine.temperatures_k.index(ROOM_K)
        tensor, mean = fine.tensors_w_mk[at], float(fine.means_w_mk[at])
        principal = np.linalg.eigvalsh(tensor)
        paths, heat = fine.cumulative(at)
        half = None if not len(heat) else float(np.interp(heat[-1] / 2, heat, paths))
        return {
            "conductivity_w_mk": mean,
            **{f"{axis}_w_mk": float(tensor[i, i]) for i, axis in enumerate(_AXES)},
            "anisotropy": float(principal[-1] / principal[0]) if principal[0] > 0 else None,
            "half_path_nm": half,
            "paths_nm": paths.tolist(),
            "cumulative_w_mk": heat.tolist(),
        }


def _of_polar_modes(primitive: Structure, verdict: DynamicalStability, split: bool) -> Iterator[Reason]:
    """What optical modes make doubtful."""
    if not split and guess_oxidation_states(primitive.composition.element_composition):
        words = "its ions have no Born charges here, so that optical modes lack their splitting (field_response)"
        yield Reason(code="no_splitting", sentence=words)
    softest = min(verdict.gamma_optical_thz, default=verdict.f_max_thz)
    if 0 < softest < SOFT * verdict.f_max_thz:
        words = (
            f"an optical mode at Γ has {softest:.2f} THz only, which heat and volume change most: the order of "
            "conductivities holds, the size does not"
        )
        yield Reason(code="soft_mode", sentence=words)


def mesh_changes(fine: LatticeConductivity, coarser: Sequence[LatticeConductivity]) -> tuple[list[float], str]:
    """Changes of a conductivity from coarser meshes of `COARSER`, in %, and how they say that it is not settled.

    Args:
        fine: on the mesh that counts.
        coarser: on the others, at one of its temperatures.
    """
    mean = float(fine.means_w_mk[fine.temperatures_k.index(coarser[0].temperatures_k[0])])
    with np.errstate(divide="ignore"):
        changes = [100 * float(mean / one.means_w_mk[0] - 1) for one in coarser]
    for one, change, slack in zip(coarser, changes, (1, 3), strict=True):
        if any(n == m > 1 for n, m in zip(one.mesh, fine.mesh, strict=True)):
            return changes, f"{one.mesh} and {fine.mesh} wave vectors are too few to tell whether κ is settled"
        if not abs(change) <= slack * UNSETTLED_PERCENT:
            return changes, f"κ changed by {change:+.0f} % from {one.mesh} to {fine.mesh} wave vectors"
    return changes, ""
