"""Vacuum in a cell that is periodic along all axes: slabs, chains and molecules in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.structures import System

MIN_GAP = 8.0
"""Å between the planes through atoms on both sides. Layers of graphite are 3.4 Å apart, of swollen hosts up to 7 Å."""


def gaps(system: System) -> NDArray[np.float64]:
    """Thickest slice without atoms across each lattice vector, [3] Å, between its faces; zeros if an axis is open."""
    widths = np.zeros(3)
    if not system.pbc.all():
        return widths
    inverse = np.linalg.inv(system.cell)
    heights = 1 / np.linalg.norm(inverse, axis=0)  # between opposite faces
    fractional = np.sort((system.positions @ inverse) % 1.0, axis=0)
    around = np.concatenate([fractional, fractional[:1] + 1.0])
    return np.asarray(heights * np.diff(around, axis=0).max(axis=0))


def vacuum_axes(system: System) -> NDArray[np.bool_]:
    """Which lattice vectors [3] cross a gap of more than `MIN_GAP`."""
    return np.asarray(gaps(system) > MIN_GAP)
