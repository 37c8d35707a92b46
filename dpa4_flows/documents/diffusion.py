"""What is stored of ions that diffuse: at one temperature, and what several temperatures say together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument

VOID = ("superionic_jump",)
"""Codes of what makes an extrapolation meaningless though a line fits."""


class DiffusionDocument(AnswerDocument):
    """Ions of one crystal in motion at one temperature."""

    formula: str = Field(description="Reduced formula")
    working_ion: str = Field(description="Element that diffuses")
    temperature_k: float = Field(description="Of the thermostat, K")
    mean_temperature_k: float | None = Field(None, description="Of the motion, K")
    time_ps: float = Field(0.0, description="That counts, ps")
    n_atoms: int = Field(0, description="Of the cell")
    n_ions: int = Field(0, description="Of them, those that diffuse")
    density: float | None = Field(None, description="Ions per Å³")
    diffusivity: float | None = Field(None, description="Of single ions, cm²/s; null where refused says why")
    diffusivity_std: float | None = Field(None, description="Standard error of it, cm²/s")
    collective_diffusivity: float | None = Field(None, description="Of the charge that all ions carry, cm²/s")
    collective_diffusivity_std: float | None = Field(None, description="Standard error of it, cm²/s")
    haven_ratio: float | None = Field(None, description="Of single ions over collective; 1 for ions that hop alone")
    haven_ratio_std: float | None = Field(None, description="Standard error of it")
    hop_length: float | None = Field(None, description="From a site of the ion to the nearest other one, Å")
    n_hops: float | None = Field(None, description="Of all ions, of a random walk that gets as far")
    framework_msd: float | None = Field(
        None, description="Mean square displacement of the element of the framework that moves most, Å²"
    )
    lags_ps: list[float] = Field(default_factory=list, description="Of the curve, ps")
    msd: list[float] = Field(default_factory=list, description="Mean square displacement of the ions at the lags, Å²")
    fit_from_ps: float | None = Field(None, description="Lag from which the slope is taken, ps")
    refused: Reason | None = Field(None, description="Why it has no diffusivity")


class DiffusivityDocument(AnswerDocument):
    """Diffusion of one ion through one crystal at several temperatures, and what follows for room temperature."""

    formula: str = Field(description="Reduced formula")
    working_ion: str = Field(description="Element that diffuses")
    charge: Annotated[float | None, Unit()] = Field(None, description="Of the ion, elementary charges")
    activation_energy: float | None = shown(
        "Activation energy",
        "eV",
        3,
        "of diffusion, by dynamics at several temperatures",
        short="E act.",
        goal="min",
        scale=(0.2, 0.6),
        voided_by=VOID,
        priority=14,
        description="Slope of ln D over 1/kT, eV; null where doubts say why",
    )
    activation_energy_std: float | None = shown(
        "Error of the activation energy", "eV", 3, "standard error", goal="min", detail=True
    )
    conductivity_300k: float | None = shown(
        "Conductivity 300 K",
        "mS/cm",
        -1,
        "extrapolated, by Nernst and Einstein: ions that hop alone",
        goal="max",
        scale=(0.01, 10.0),
        voided_by=VOID,
        priority=14,
        description="Of the ion at 300 K, mS/cm; null where doubts say why",
    )
    conductivity_300k_low: float | None = shown(
        "Conductivity, low", "mS/cm", -1, "one standard error below", detail=True
    )
    conductivity_300k_high: float | None = shown(
        "Conductivity, high", "mS/cm", -1, "one standard error above", detail=True
    )
    diffusivity_300k: float | None = shown("D 300 K", "cm²/s", -1, "extrapolated", voided_by=VOID, detail=True)
    r2: float | None = shown("R²", "", 3, "of the line through ln D over 1/kT", detail=True)
    n_temperatures: int | None = shown("Temperatures", "", 0, "that the line goes through", detail=True)
    ln_prefactor: Annotated[float | None, Unit()] = Field(None, description="Of the line, logarithm of D₀ in cm²/s")
    runs: list[DiffusionDocument] = Field(default_factory=list, description="At each temperature, the coldest first")
    n_atoms: int = Field(0, description="Of the cell")
    doubts: list[Reason] = Field(default_factory=list)
