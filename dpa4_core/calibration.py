"""What the deviations of a committee are worth: how they compare with errors on frames of known energies and forces."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dpa4_core.batches import Prediction
from dpa4_core.data.frames import Frame
from dpa4_core.uncertainty import MIN_COUNT

Array = NDArray[np.float64]


def calibration(pairs: Iterable[tuple[Frame, Prediction]]) -> dict[str, dict[str, float]]:
    """Errors against deviations; empty for a single model.

    Args:
        pairs: frames with what a committee says about them.

    Returns:
        For ``energy`` (per atom, of frames), ``force`` (of atoms) and ``stress`` (of frames), where there are labels:
        ``rmse`` and ``std``, root mean squares of the norms of errors and deviations in eV/atom, eV/Å, eV/Å³;
        ``ratio`` of the two, 1 if deviations are as large as errors; ``spearman``, the rank correlation of the two, 1
        if the largest errors are where the largest deviations are, missing where it is not defined; ``n`` values.
    """
    found: dict[str, list[tuple[Array, Array]]] = {"energy": [], "force": [], "stress": []}
    for frame, said in pairs:
        n = frame.system.n_atoms
        if said.energy_std is not None and frame.energy is not None:
            found["energy"].append((np.array([abs(said.energy - frame.energy) / n]), np.array([said.energy_std / n])))
        if said.forces_std is not None and said.forces is not None and frame.forces is not None:
            error = np.linalg.norm(said.forces - frame.forces, axis=1)
            found["force"].append((error, np.linalg.norm(said.forces_std, axis=1)))
        if said.stress_std is not None and said.stress is not None and frame.stress is not None:
            norms = (np.linalg.norm(said.stress - frame.stress), np.linalg.norm(said.stress_std))
            found["stress"].append((np.array([norms[0]]), np.array([norms[1]])))
    return {
        name: _compared(*(np.concatenate(parts) for parts in zip(*values, strict=True)))
        for name, values in found.items()
        if values
    }


def _compared(errors: Array, deviations: Array) -> dict[str, float]:
    rmse, std = (float(np.sqrt(np.square(values).mean())) for values in (errors, deviations))
    out = {"n": float(len(errors)), "rmse": rmse, "std": std}
    if std > 0:
        out["ratio"] = rmse / std
    if len(errors) >= MIN_COUNT and np.ptp(errors) > 0 and np.ptp(deviations) > 0:
        out["spearman"] = float(np.corrcoef(rankdata(errors), rankdata(deviations))[0, 1])
    return out
