"""Whether the energies of a data set come from calculations of one setting: cutoff, k-points, smearing, functional.

Two settings differ by meV to eV per atom in a way that no model can learn. Where a set holds nearly the same structure
twice, once of each, a base model tells: it sees nearly one structure, and the labels jump by more than the structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.batches import Prediction
from dpa4_core.data.frame import Frame

ALIKE = 2e-2
"""eV, root mean square difference of the energies of atoms, of structures that are nearly one to a base model."""

APART, SHARE = 3e-3, 0.5
"""eV/atom by which the errors of the base differ between two such structures if their labels are of two settings, and
that as a share of the difference of their atoms: repeated calculations agree better, and so does the base with itself.
Shares over 3 meV/atom are 0.8 to 1.8 between As2SO6 at cutoffs of 520 and 700 eV, and at most 0.11 in strained Li3N and
in alloys."""


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
        f"{one} and {other} are nearly one structure to the base model, and their energies differ by {1e3 * gap:.2g} "
        f"meV/atom more than it says ({n_frames} frames have such a twin): calculations of two settings, such as "
        "another cutoff or other k-points, which no model can learn together; train on those of one"
    )
    return [{"quantity": "energies", "code": "two_settings", "unit": "", "factor": 1.0, "text": text}]


def _pairs(rows: list[tuple[float, NDArray[np.float64], float, str]]) -> Iterator[tuple[float, str, str]]:
    """Differences of the errors of the base in structures that are nearly one, eV/atom, and the names of the frames."""
    rows = sorted(rows, key=lambda row: row[0])
    said = np.array([row[0] for row in rows])
    for i, (energy, atoms, error, name) in enumerate(rows):
        for _, others, other_error, other in rows[i + 1 : int(np.searchsorted(said, energy + ALIKE))]:
            gap, unlike = abs(error - other_error), float(np.sqrt(np.mean((atoms - others) ** 2)))
            if unlike < ALIKE and gap > max(APART, SHARE * unlike):
                yield gap, name, other
