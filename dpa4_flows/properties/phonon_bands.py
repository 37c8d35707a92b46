"""Phonons to look at: bands, density of states, velocities, thermal displacements, splitting of polar modes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import Field

from dpa4_flows.analysis.force_constants import DISPLACEMENT
from dpa4_flows.analysis.phonon_spectrum import band_lines, density_of_states, sound_velocities
from dpa4_flows.analysis.phonons import IMAGINARY_THZ, NOISE_THZ
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Plan
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.field_response import NAMES_RESPONSES, PolarProperty
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.properties.phonons import LOOSE_FMAX, not_at_rest, requests, set_forces, supercells


class BandSegment(Document):
    """Bands between two points of high symmetry; where the next one begins with another label, the path jumps."""

    start: str = Field(description="Label of the first point, Γ for the centre of the zone")
    end: str = Field(description="Label of the last point")
    distances: list[float] = Field(description="[n] from the start of the path, 1/Å without 2π")
    frequencies_thz: list[list[float]] = Field(description="[n, n_modes], THz, imaginary ones negative")
    velocities_m_s: list[list[float]] = Field(description="[n, n_modes], magnitude of the group velocity, m/s")


class DisplacementRow(Document):
    """How far atoms are from their places at one temperature."""

    temperature_k: float = Field(description="K")
    by_element: dict[str, float] = Field(description="Mean square displacement along an axis (U_iso), Å²")


class PhononBandsDocument(AnswerDocument):
    """Phonons of one crystal along lines and by frequency. Frequencies in THz, imaginary ones negative."""

    formula: str = Field(description="Reduced formula")
    segments: list[BandSegment] = Field(default_factory=list)
    frequencies_thz: list[float] = Field(default_factory=list, description="Of the density of states, THz")
    density: list[float] = Field(default_factory=list, description="Modes per THz of the primitive cell")
    density_by_element: dict[str, list[float]] = Field(default_factory=dict, description="Its shares")
    lowest_thz: float | None = shown("Lowest frequency", "THz", 2, "on the path; imaginary ones negative", detail=True)
    highest_thz: float | None = shown("Highest frequency", "THz", 2)
    sound_velocity_m_s: float | None = shown(
        "Sound velocity",
        "m/s",
        0,
        "Debye mean of directions",
        description="Debye mean over directions and branches, m/s; null if a long wave is imaginary",
    )
    longitudinal_velocity_m_s: float | None = Field(None, description="Mean over directions, m/s")
    transverse_velocity_m_s: float | None = Field(None, description="Mean over directions, m/s")
    displacements: list[DisplacementRow] = Field(default_factory=list, description="Without imaginary modes")
    polar_splitting: bool = Field(False, description="Whether Born charges and a dielectric tensor were given (LO-TO)")
    converged: bool = Field(False, description="Whether the crystal was at rest before it was displaced")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class PhononBands(PolarProperty[PhononBandsDocument]):
    """Bands, density of states and what follows from them, of a relaxed crystal (phonopy, seekpath).

    Its displaced supercells are those of `Phonons` with the same settings, and are computed once for both.

    Attributes:
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å, of one atom.
        mesh_length: Å; the density of states has about ``mesh_length`` / (lattice constant) wave vectors along an axis.
        temperatures_k: K, of the thermal displacements.
        field_response: TOML file with Born charges and dielectric constants, for the splitting of polar modes (LO-TO).
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
    """

    name: ClassVar[str] = "phonon_bands"
    example: ClassVar[str] = "Si.cif GaAs.cif --report bands.html"
    document: ClassVar[type[Document]] = PhononBandsDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_phonons:bands_and_states"

    min_length: float = 10.0
    displacement: float = DISPLACEMENT
    mesh_length: float = 30.0
    temperatures_k: tuple[float, ...] = (0.0, 300.0, 600.0)
    field_response: str | None = field(default=None, metadata=NAMES_RESPONSES)
    max_supercell_atoms: int = field(default=1000, metadata=NO_NUMBER)

    def check(self) -> None:
        check_positive(self, "min_length", "displacement", "mesh_length", "max_supercell_atoms")
        require_extra("phonons", "a calculation of phonons")
        _ = self.responses

    def plan(self, crystal: Crystal) -> Plan[PhononBandsDocument]:
        self.check()
        calculation = supercells(whole_crystal(crystal), self.min_length, self.displacement, self.max_supercell_atoms)
        found = yield requests(calculation)
        rest = set_forces(calculation, list(found.values()))
        split = self.responses.put_into(calculation)
        lines = band_lines(calculation)
        states = density_of_states(calculation, self.mesh_length, self.temperatures_k)
        sound = sound_velocities(calculation)
        lowest = min(float(line.frequencies_thz.min()) for line in lines)
        return PhononBandsDocument(
            formula=crystal.structure.composition.reduced_formula,
            segments=[
                BandSegment(
                    start=line.start,
                    end=line.end,
                    distances=line.distances.round(6).tolist(),
                    frequencies_thz=line.frequencies_thz.round(5).tolist(),
                    velocities_m_s=line.velocities_m_s.round(1).tolist(),
                )
                for line in lines
            ],
            frequencies_thz=states.frequencies_thz.round(5).tolist(),
            density=states.total.round(6).tolist(),
            density_by_element={element: share.round(6).tolist() for element, share in states.by_element.items()},
            lowest_thz=lowest,
            highest_thz=max(float(line.frequencies_thz.max()) for line in lines),
            sound_velocity_m_s=None if sound is None else sound.mean_m_s,
            longitudinal_velocity_m_s=None if sound is None else sound.longitudinal_m_s,
            transverse_velocity_m_s=None if sound is None else sound.transverse_m_s,
            displacements=[
                DisplacementRow(
                    temperature_k=temperature,
                    by_element={element: float(squares[i]) for element, squares in states.displacements.items()},
                )
                for i, temperature in enumerate(self.temperatures_k)
            ],
            polar_splitting=split,
            converged=rest <= LOOSE_FMAX,
            doubts=_doubts(lowest, rest),
            provenance=self.origin(crystal),
        )


def _doubts(lowest: float, rest: float) -> list[Reason]:
    found = []
    if lowest < -IMAGINARY_THZ:
        words = f"imaginary modes down to {lowest:.2f} THz: no minimum, thermal displacements leave them out"
        found.append(Reason(code="imaginary_modes", sentence=words))
    elif lowest < -NOISE_THZ:
        words = f"lowest frequency {lowest:.2f} THz, within the noise of -{NOISE_THZ} to -{IMAGINARY_THZ} THz"
        found.append(Reason(code="imaginary_within_noise", sentence=words))
    return [*found, *not_at_rest(rest)]
