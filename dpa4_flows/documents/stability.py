"""Documents of stability: one part for each question, and one document that holds them together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer, model_validator

from dpa4_core.verdicts import Minimum
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.documents.hull import HullValues
from dpa4_flows.documents.quantities import Listing, Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import FOR_READERS, AnswerDocument, Document, HullDocument, Provenance

PartVerdict = Literal["stable", "metastable", "marginal", "unstable", "unknown", "not asked"]
"""`marginal`: the calculation cannot decide; `metastable`: above the hull, but within reach of synthesis; `unknown`: it
failed, or nothing is known that competes."""
OverallVerdict = Literal["stable", "metastable", "undecided", "unstable"]


class StabilityPart(AnswerDocument):
    """Base of the parts: what was concluded, and what it rests on."""

    verdict: PartVerdict = shown("Verdict", priority=10, default=...)
    reason: str = Field(description="One sentence; the error if the part could not be computed")
    converged: bool = Field(description="Whether every relaxation of the part reached its fmax")
    warnings: list[str] = Field(default_factory=list)

    @property
    def unsettled(self) -> list[Reason]:
        """The doubt that it raises if something did not come to rest."""
        if self.converged or self.failed:
            return []
        words = "; ".join(self.warnings) or "something that it rests on did not come to rest"
        return [Reason(code="not_at_rest", sentence=words)]


class RelaxedPart(Document):
    """The structure that everything else is about."""

    structure: dict[str, Any] = Field(description="Relaxed structure as a pymatgen dictionary")
    energy_per_atom: Annotated[float, Unit("eV/atom")] = Field(description="Uncorrected energy, eV/atom")
    fmax: Annotated[float, Unit("eV/Å")] = Field(description="Largest generalised force, eV/Å")
    converged: bool
    volume_change_percent: float | None = Field(None, description="Volume change on relaxation, %")
    space_group_before: str = Field(description="Of the input, Hermann-Mauguin symbol")
    space_group: str = shown(
        "Space group", default=..., detail=True, description="After relaxation, Hermann-Mauguin symbol"
    )
    minimum: Minimum = Field("not_checked", description="Whether a way down was looked for; phonons look for it, too")
    provenance: Provenance


class HullPart(HullValues, StabilityPart):
    """Against decomposition into other phases."""

    document: HullDocument | None = Field(None, description="Energy above hull and what it rests on")


class ElasticPart(StabilityPart):
    """Against homogeneous strain. Voigt order xx, yy, zz, yz, xz, xy; IEEE orientation."""

    crystal_system: str | None = None
    c_ij_gpa: list[list[float]] | None = Field(None, description="[6, 6] elastic tensor, symmetrised, GPa")
    eigenvalues_gpa: list[float] = Field(default_factory=list, description="Of the tensor in Kelvin notation, GPa")
    failed_criteria: list[str] = Field(default_factory=list, description="Born criteria that do not hold")
    k_voigt_gpa: float | None = Field(None, description="Bulk modulus, Voigt, GPa")
    k_reuss_gpa: float | None = Field(None, description="Bulk modulus, Reuss, GPa")
    k_vrh_gpa: float | None = shown("Bulk modulus", "GPa", 1, "Voigt-Reuss-Hill", short="K")
    g_voigt_gpa: float | None = Field(None, description="Shear modulus, Voigt, GPa")
    g_reuss_gpa: float | None = Field(None, description="Shear modulus, Reuss, GPa")
    g_vrh_gpa: float | None = shown("Shear modulus", "GPa", 1, "Voigt-Reuss-Hill", short="G")
    e_vrh_gpa: float | None = shown("Young's modulus", "GPa", 1, "of a polycrystal without texture")
    poisson_ratio: float | None = shown("Poisson ratio", "", 3)
    universal_anisotropy: float | None = shown(
        "Anisotropy", "", 2, "0 for an isotropic crystal", description="5 G_V/G_R + K_V/K_R - 6, dimensionless"
    )
    pugh_ratio: float | None = shown("K/G", "", 2, "above 1.75 a metal tends to be ductile")
    vickers_hardness_gpa: float | None = shown("Vickers hardness", "GPa", 1, "model of Chen")
    debye_temperature_k: float | None = shown("Debye temperature", "K", 0, "from the mean sound velocity")
    asymmetry_gpa: float | None = Field(None, description="Largest change of a component by symmetrising, GPa")
    nonlinearity: Annotated[float | None, Unit()] = Field(
        None, description="Largest deviation of a stress from linear elasticity, relative to the largest stress"
    )


class ThermalRow(Document):
    """Harmonic vibrations at one temperature."""

    temperature_k: float = Field(description="K")
    free_energy_ev_per_atom: float = Field(description="Zero-point energy included, eV/atom")
    entropy_j_mol_k: float = Field(description="J/K per mole of atoms")
    heat_capacity_j_mol_k: float = Field(description="At constant volume, J/K per mole of atoms")


class PhononPart(StabilityPart):
    """Against displacements of atoms. Frequencies in THz, imaginary ones negative, without LO-TO splitting."""

    f_min_thz: float | None = shown(
        "Lowest frequency",
        "THz",
        2,
        "imaginary ones negative",
        short="f min",
        description="Lowest frequency away from Γ, and of optical modes at Γ, THz",
    )
    f_min_near_gamma_thz: float | None = Field(None, description="Lowest of waves twice the supercell or longer, THz")
    f_min_commensurate_thz: float | None = Field(None, description="Lowest where the supercell holds the wave, THz")
    f_max_thz: float | None = shown("Highest frequency", "THz", 2)
    gamma_optical_thz: list[float] = Field(default_factory=list, description="Optical frequencies at Γ, THz")
    imaginary_fraction: float | None = shown(
        "Imaginary modes", "", 4, "share of all modes", description="Share of the modes below -0.1 THz"
    )
    lowest_q: list[float] | None = Field(None, description="Wave vector of the lowest commensurate mode")
    acoustic_noise_thz: float | None = Field(
        None, description="Largest frequency of a translation before the sum rules are enforced, THz"
    )
    n_displacements: int | None = Field(None, description="Supercells with one displaced atom")
    n_supercell_atoms: int | None = shown("Supercell", "atoms", 0)
    supercell_length: Annotated[float | None, Unit("Å")] = Field(
        None, description="Shortest distance between an atom and its image, Å"
    )
    supercell_matrix: list[list[int]] | None = Field(
        None, description="Rows of the supercell in terms of rows of the primitive cell"
    )
    thermal: list[ThermalRow] = Field(
        default_factory=list, description="Empty for an unstable crystal, which has no harmonic free energy"
    )
    along_mode: list[dict[str, Any]] = Field(
        default_factory=list, description="Structures displaced along the lowest imaginary mode, to start from"
    )

    @model_serializer(mode="wrap")
    def _for_readers(self, whole: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Cells to start from are of no use to readers."""
        fields: dict[str, Any] = whole(self)
        if info.context is FOR_READERS:
            fields.pop("along_mode", None)
        return fields


class FollowedMode(Document):
    """One step down along an imaginary mode."""

    q: list[float] = Field(description="Wave vector of the mode, reciprocal primitive vectors")
    frequency_thz: float = Field(description="THz, negative for imaginary")
    energy_gain_ev_per_atom: float = Field(description="How far the new structure lies below the one before, eV/atom")
    space_group_before: str
    space_group: str
    n_atoms: int = Field(description="Atoms in the new primitive cell")
    n_tried: int = Field(description="Directions of displacement that were relaxed")
    structure: dict[str, Any] = Field(description="The lower structure as a pymatgen dictionary")
    energy_per_atom: float = Field(description="Uncorrected energy, eV/atom")
    converged: bool
    phonons: PhononPart = Field(description="Of the new structure")


class FollowedPart(StabilityPart):
    """Where an unstable crystal goes: a lower structure, and whether that is a minimum."""

    steps: list[FollowedMode] = Field(default_factory=list)
    energy_gain_ev_per_atom: float = shown("Energy gain", "eV/atom", 4, "of all steps together", default=0.0)
    space_group_before: str
    space_group: str = Field(description="Of the last structure")
    structure: dict[str, Any] | None = Field(None, description="The last structure; None if nothing lower was found")


class StabilityDocument(AnswerDocument):
    """Is it stable? Against other phases, against strain, against displacements; each part only if it was asked for."""

    formula: str = Field(description="Reduced formula")
    verdict: OverallVerdict = Field(description="The worst part counts; undecided where one was not asked")
    answer: str | None = shown("Verdict", priority=10, description="The same in words, and what stands behind it")
    verdicts: dict[str, PartVerdict] = Field(
        default_factory=dict, description="Of hull, elastic and phonons; 'not asked' where a part was left out"
    )
    reasons: list[str] = Field(description="One sentence for each part, beginning with its name and verdict")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    relaxed: RelaxedPart | None = Field(None, description="None where there is an error")
    hull: HullPart | None = None
    elastic: ElasticPart | None = None
    phonons: PhononPart | None = None
    followed: FollowedPart | None = Field(None, description="Only where phonons are unstable")

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_version(cls, data: Any) -> Any:
        return {"answer": data.get("verdict"), **data} if isinstance(data, dict) else data

    @property
    def failed(self) -> bool:
        parts = (self.hull, self.elastic, self.phonons, self.followed)
        return super().failed or any(part.failed for part in parts if part is not None)

    @property
    def structure(self) -> dict[str, Any] | None:
        """What strains and phonons are of."""
        return None if self.relaxed is None else self.relaxed.structure

    @property
    def energy(self) -> float | None:
        """Of its cell, uncorrected, eV."""
        return None if self.relaxed is None else self.relaxed.energy_per_atom * len(self.relaxed.structure["sites"])

    @property
    def converged(self) -> bool:
        return self.relaxed is None or self.relaxed.converged

    @property
    def further(self) -> dict[str, dict[str, Any]]:
        """Structures for an export: the lower one at the end of imaginary modes."""
        lower = None if self.followed is None else self.followed.structure
        return {} if lower is None else {"lower": lower}

    @property
    def listings(self) -> list[Listing]:
        parts = {"hull": self.hull, "elastic": self.elastic, "phonons": self.phonons, "along the mode": self.followed}
        rows = [[name, str(part.verdict), part.reason] for name, part in parts.items() if part is not None]
        return [Listing("verdict", ("part", "verdict", "why"), rows)] if rows else []


class StabilitySet(Document):
    """Answers for some structures."""

    documents: list[StabilityDocument] = Field(description="One per structure, in order")
    warnings: list[str] = Field(default_factory=list, description="What holds for all of them")
    completeness: dict[str, HullCompleteness] = Field(
        default_factory=dict, description="What competes in each chemical system"
    )
