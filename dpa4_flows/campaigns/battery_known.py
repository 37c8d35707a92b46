"""Known insertion electrodes to compare a run with: a broken model, setting or code path shows here first."""

from __future__ import annotations

from typing import NamedTuple

from dpa4_flows.analysis.levels import DPA4_NEO_SHA256, voltage_error

LITERATURE_SOURCE = (
    "PBE+U: Zhou et al., Phys. Rev. B 70, 235121 (2004) and Materials Project (LiTiS2: PBE, no U metal); experiment: "
    "usual textbook plateaus. Error bars of the model for each redox couple: docs/levels-of-theory.md."
)
STORED_SOURCE = (
    "DPA4-Neo (OMat24, v20260704, sha256 " + DPA4_NEO_SHA256[:12] + "…), float32, fmax 0.02 eV/Å, push of 0.02 Å, full "
    "removal of the ion, which leaves the host in its basin, uncorrected energies"
)

SAME_MODEL_TOLERANCE = 0.02
"""Volts by which a run of this code with DPA4-Neo may differ from the stored value."""

LAYERS_TOLERANCE = 0.1
"""The same where nothing holds the layers of the empty host together: its voltage moves with where they stop."""


class KnownVoltage(NamedTuple):
    """Average voltage against the working-ion metal, V; ranges as (low, high).

    The structure is recognised by its space-group number: that of the ideal crystal, or of a distorted one that
    relaxes to the same minimum.
    """

    formula: str
    working_ion: str
    redox_metal: str
    structure: str
    space_groups: tuple[int, ...]
    stored: float
    pbe_u: tuple[float, float]
    experiment: tuple[float, float]
    tolerance: float = SAME_MODEL_TOLERANCE


KNOWN_VOLTAGES: tuple[KnownVoltage, ...] = (
    KnownVoltage("LiCoO2", "Li", "Co", "layered O3", (166,), 3.66, (3.8, 4.0), (3.9, 4.2), LAYERS_TOLERANCE),
    KnownVoltage("LiNiO2", "Li", "Ni", "layered, C2/m", (166, 12), 4.04, (3.9, 4.1), (3.85, 3.9)),
    KnownVoltage("LiMn2O4", "Li", "Mn", "spinel", (227,), 3.82, (3.9, 4.2), (4.0, 4.15)),
    KnownVoltage("LiFePO4", "Li", "Fe", "olivine", (62,), 3.43, (3.47, 3.5), (3.45, 3.45)),
    KnownVoltage("LiMnPO4", "Li", "Mn", "olivine", (62,), 3.82, (3.9, 4.04), (4.1, 4.1)),
    KnownVoltage("NaCoO2", "Na", "Co", "layered O3", (166,), 2.93, (2.8, 3.0), (2.8, 3.0), LAYERS_TOLERANCE),
    KnownVoltage("LiTiS2", "Li", "Ti", "layered 1T", (164,), 1.86, (1.8, 1.9), (2.1, 2.1)),
)


class Verdict(NamedTuple):
    """A few words; ``good`` is None where nothing can be said."""

    words: str
    good: bool | None


def code_verdict(known: KnownVoltage, voltage: float, sha256: str | None) -> Verdict:
    """Whether code, settings and model give what this code gave with the same weights."""
    if sha256 != DPA4_NEO_SHA256:
        return Verdict("no stored value for this model", None)
    off = voltage - known.stored
    if abs(off) <= known.tolerance + 1e-9:
        return Verdict("reproduced", True)
    return Verdict(f"{off:+.2f} V against the stored value".replace("-", "−"), False)


def experiment_verdict(known: KnownVoltage, voltage: float) -> Verdict:
    """Whether the model agrees with what was measured, within its error bar for the redox couple."""
    error = voltage_error(known.redox_metal)
    low, high = known.experiment
    off = min(max(voltage, low), high) - voltage  # to the nearest end of the range
    if not off:
        return Verdict(f"within experiment (±{error:.2f} V)", True)
    words = f"{-off:+.2f} V, error bar ±{error:.2f} V".replace("+−", "−").replace("-", "−")
    return Verdict(f"agrees: {words}" if abs(off) <= error + 1e-9 else f"outside: {words}", abs(off) <= error + 1e-9)


def range_text(bounds: tuple[float, float]) -> str:
    """A voltage range with as many digits as its ends have, at least one."""
    low, high = bounds
    digits = 1 if all(abs(round(v, 1) - v) < 1e-9 for v in bounds) else 2
    return f"{low:.{digits}f}" if low == high else f"{low:.{digits}f}–{high:.{digits}f}"
