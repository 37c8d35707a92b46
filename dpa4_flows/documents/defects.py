"""Documents on neutral point defects: supercells as computed, and what they cost beside other phases."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dpa4_flows.analysis.defects import Kind
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document

_NEUTRAL = "neutral only"


class DefectCell(Document):
    """One defect in its supercell; no chemical potentials enter."""

    name: str = shown(
        "Defect", default=..., description="v_O, P_Si, Si_i1, v_Si+P_Si: element, or v for nothing, and site"
    )
    kind: Kind = Field(description="vacancy, antisite, interstitial, substitution, dopant_interstitial or complex")
    added: dict[str, int] = Field(description="Atoms by element that were added; negative for those taken out")
    density: float = Field(description="Places for it, 1/Å³")
    n_atoms: int = Field(description="Of the supercell")
    energy_change: float | None = Field(
        None, description="Energy of the supercell less that of the perfect one, uncorrected, eV; of the lowest start"
    )
    relaxation_energy: float | None = Field(None, description="By which it lies below the unrelaxed defect, eV")
    relaxation_volume_a3: float | None = Field(
        None, description="By which a crystal grows for each defect, Å³: V (p - p0) / B of the cell that was held"
    )
    strain_energy: float | None = Field(
        None, description="What holding the cell adds at most, eV: B (relaxation volume)² / 2 V"
    )
    starts: list[float | None] = Field(
        default_factory=list, description="Where each start ended, eV above the lowest; null if it failed"
    )
    structure: dict[str, Any] | None = Field(None, description="Lowest relaxed supercell")
    converged: bool = Field(False, description="Whether its lowest start reached fmax")
    reasons: list[Reason] = Field(default_factory=list, description="Why it has no energy, or what to know of it")


class DefectCellsDocument(AnswerDocument):
    """All defects of one crystal, in supercells."""

    formula: str = Field(description="Reduced formula")
    cells: list[DefectCell] = Field(default_factory=list)
    n_atoms: int = Field(0, description="Of the perfect supercell")
    length: float = Field(0.0, description="Between a defect and its image, Å")
    energy_per_atom: float | None = Field(None, description="Of the perfect supercell, eV/atom")
    volume_per_atom: float | None = Field(None, description="Of the crystal, Å³")
    bulk_modulus_gpa: float | None = Field(None, description="That relaxation volumes take, GPa")
    converged: bool = Field(False, description="Whether the lowest start of each defect reached fmax")


class GrowthConditions(Document):
    """Chemical potentials at one corner of the region where a crystal is stable, in eV from the elements."""

    name: str = Field(description="Phases that it is in equilibrium with there")
    potentials: dict[str, float] = Field(description="Of its own elements and, at the highest, of the dopants, eV")
    limited_by: dict[str, str] = Field(default_factory=dict, description="Phase that forms with more of a dopant")


class DefectRow(DefectCell):
    """What one defect costs."""

    energies: list[float] = Field(
        default_factory=list, description="Formation energy at each of the growth conditions, eV"
    )
    lowest: float | None = shown("Formation energy", "eV", 2, "lowest of all growth conditions", error=0.3)
    from_elements: float | None = shown(
        "From elements",
        "eV",
        2,
        description="With dopants from their elements, which may not be in equilibrium with the crystal, eV",
    )
    concentration_cm3: float | None = shown(
        "Concentration",
        "cm⁻³",
        note="N exp(-E/kT)",
        description="N exp(-E/kT) at the lowest energy, 1/cm³; null where that is not positive",
    )
    binding_energy: float | None = shown(
        "Binding", "eV", 2, description="Of a complex from its two parts, eV; positive if bound"
    )
    size_misfit_percent: float | None = shown("Misfit", "%", 1, "linear, for each fraction")


class DefectsDocument(AnswerDocument):
    """Neutral point defects of one crystal."""

    formula: str = Field(description="Reduced formula")
    temperature_k: float = Field(0.0, description="Of the concentrations, K")
    native_defect: str | None = shown("Native defect", note=f"lowest where that is highest; {_NEUTRAL}", detail=True)
    native_energy: float | None = shown(
        "Native defect",
        "eV",
        2,
        f"lowest formation energy under the best growth conditions; {_NEUTRAL}",
        error=0.3,
        goal="max",
        scale=(0.0, 3.0),
        priority=16,
    )
    dopant: str | None = shown("Dopant", note=f"that dissolves best; {_NEUTRAL}", detail=True)
    dopant_energy: float | None = shown(
        "Dopant",
        "eV",
        2,
        f"formation energy beside the phase that limits it; {_NEUTRAL}",
        error=0.3,
        goal="min",
        scale=(0.0, 3.0),
        priority=17,
    )
    dopant_log10_cm3: float | None = shown(
        "Dopant solubility", "log₁₀ cm⁻³", 1, f"N exp(-E/kT); {_NEUTRAL}", goal="max"
    )
    dopant_misfit_percent: float | None = shown(
        "Dopant misfit", "%", 1, "linear, for each fraction", goal="zero", detail=True
    )
    conditions: list[GrowthConditions] = Field(default_factory=list, description="Corners of its stability region")
    defects: list[DefectRow] = Field(default_factory=list, description="Lowest first; those without energy last")
    n_atoms: int = Field(0, description="Of the perfect supercell")
    length: Annotated[float, Unit("Å")] = Field(0.0, description="Between a defect and its image, Å")
    bulk_modulus_gpa: float | None = Field(None, description="That relaxation volumes take, GPa")
    converged: bool = Field(False, description="Whether the lowest start of each defect reached fmax")
    doubts: list[Reason] = Field(default_factory=list)
    warnings: list[Reason] = Field(default_factory=list, description="What to know of single defects")

    @property
    def further(self) -> dict[str, dict[str, Any]]:
        return {row.name: row.structure for row in self.defects if row.structure is not None}
