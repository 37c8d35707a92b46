"""Known insertion electrodes to compare a run with: a broken model, setting or code path shows here first."""

from __future__ import annotations

from typing import NamedTuple

LITERATURE_SOURCE = (
    "PBE+U: Zhou et al., Phys. Rev. B 70, 235121 (2004) and Materials Project (LiTiS2: PBE, no U metal); "
    "experiment: usual textbook plateaus. Literature values are rounded and meant for plausibility."
)
DPA4_SOURCE = "DPA4-Neo (OMat24, v20260704), float32, fmax 0.02 eV/Å, full removal of the ion, uncorrected energies"

SAME_MODEL_TOLERANCE = 0.05
"""Volts by which a run with DPA4-Neo may differ from the stored DPA4-Neo value."""

EXPERIMENT_TOLERANCE = 0.5
"""Volts outside the measured range beyond which something is wrong rather than inaccurate."""


class KnownVoltage(NamedTuple):
    """Average voltage against the working-ion metal, V; ranges as (low, high).

    The structure is recognised by its space-group number: that of the ideal crystal, or of a distorted one that
    relaxes to the same minimum.
    """

    formula: str
    working_ion: str
    structure: str
    space_groups: tuple[int, ...]
    dpa4_neo: float
    pbe_u: tuple[float, float]
    experiment: tuple[float, float]


KNOWN_VOLTAGES: tuple[KnownVoltage, ...] = (
    KnownVoltage("LiCoO2", "Li", "layered O3", (166,), 3.66, (3.8, 4.0), (3.9, 4.2)),
    KnownVoltage("LiNiO2", "Li", "layered, C2/m", (166, 12), 4.04, (3.9, 4.1), (3.85, 3.9)),
    KnownVoltage("LiMn2O4", "Li", "spinel", (227,), 3.79, (3.9, 4.2), (4.0, 4.15)),
    KnownVoltage("LiFePO4", "Li", "olivine", (62,), 3.44, (3.47, 3.5), (3.45, 3.45)),
    KnownVoltage("LiMnPO4", "Li", "olivine", (62,), 3.82, (3.9, 4.04), (4.1, 4.1)),
    KnownVoltage("NaCoO2", "Na", "layered O3", (166,), 2.93, (2.8, 3.0), (2.8, 3.0)),
    KnownVoltage("LiTiS2", "Li", "layered 1T", (164,), 1.87, (1.8, 1.9), (2.1, 2.1)),
)


def range_text(bounds: tuple[float, float]) -> str:
    """A voltage range with as many digits as its ends have, at least one."""
    low, high = bounds
    digits = 1 if all(abs(round(v, 1) - v) < 1e-9 for v in bounds) else 2
    return f"{low:.{digits}f}" if low == high else f"{low:.{digits}f}–{high:.{digits}f}"


DPA4_NEO_SHA256 = "0777cc770defc4d6d2656e2dc66fd0b72baf23108ad4128d92f51f83e9bc4dd2"
"""Checkpoint behind the stored DPA4-Neo values; other models are compared with the literature only."""
