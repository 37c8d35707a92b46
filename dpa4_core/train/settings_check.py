"""Whether the energies of a data set come from calculations of one setting: cutoff, k-points, smearing, functional.

Two settings differ by meV to eV per atom in a way that no model can learn. Where a set holds nearly the same structure
twice, once of each, a base model tells: it sees one structure, and the labels are of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.batches import Prediction
from dpa4_core.data.frame import Frame

SAME_ATOM, SAME_ENERGY = 1e-2, 1e-3
"""eV: root mean square difference of the energies of atoms, and difference per atom in all, of structures that are one
to a base model."""

APART = 3e-3
"""eV/atom, by which labels of one structure differ that are of two settings; repeated calculations agree better."""


def compare_settings(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """A doubt where frames of one structure, as the base model sees it, have energies apart; as in `base_check`.

    Args:
        frames: with labels.
        predictions: what the base model says about them, with energies of atoms.
    """
    alike: dict[bytes, list[tuple[float, NDArray[np.float64], float, str]]] = {}
    for frame, said in zip(frames, predictions, strict=True):
        if frame.energy is None or said.error is not None or said.atom_energies is None:
            continue
        order = np.lexsort((said.atom_energies, frame.system.numbers))
        n_atoms = frame.system.n_atoms
        row = said.energy / n_atoms, said.atom_energies[order], (frame.energy - said.energy) / n_atoms, frame.name
        alike.setdefault(frame.system.numbers[order].tobytes(), []).append(row)
    apart = [pair for rows in alike.values() for pair in _pairs(rows)]
    if not apart:
        return []
    gap, one, other = max(apart)
    n_frames = len({name for _, *names in apart for name in names})
    text = (
        f"{one} and {other} are one structure to the base model, and their energies differ by {1e3 * gap:.2g} meV/atom "
        f"({n_frames} frames have such a twin): calculations of two settings, such as another cutoff or other "
        "k-points, which no model can learn together; train on those of one"
    )
    return [{"quantity": "energies", "code": "two_settings", "unit": "", "factor": 1.0, "text": text}]


def _pairs(rows: list[tuple[float, NDArray[np.float64], float, str]]) -> Iterator[tuple[float, str, str]]:
    """Differences of the labels of one structure, eV/atom, and the names of its two frames."""
    rows = sorted(rows, key=lambda row: row[0])
    said = np.array([row[0] for row in rows])
    for i, (energy, atoms, error, name) in enumerate(rows):
        for _, others, other_error, other in rows[i + 1 : int(np.searchsorted(said, energy + SAME_ENERGY))]:
            gap = abs(error - other_error)
            if gap > APART and np.sqrt(np.mean((atoms - others) ** 2)) < SAME_ATOM:
                yield gap, name, other
