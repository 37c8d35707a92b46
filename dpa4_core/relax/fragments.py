"""What a relaxed structure looks like beside the one that came in: pieces, distances, volume."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import covalent_radii

from dpa4_core.data.pairs import near_pairs
from dpa4_core.data.structures import System

BONDED_BEFORE, BONDED_AFTER = 1.3, 1.6
"""Sums of covalent radii up to which atoms are bonded: generous afterwards, so that a stretched bond is no break."""

CLOSE = 0.65
"""Of the sum of the covalent radii; the O–H bond of water has 1.0, the shortest metal–metal bonds 0.8."""

LARGE_VOLUME_CHANGE = 1.5
"""A factor, either way."""


class Pieces(NamedTuple):
    """How the atoms of a structure hang together.

    Attributes:
        n_pieces: connected pieces per cell.
        dimensions: directions, 0 to 3, in which the most extended one of them is endless.

    """

    n_pieces: int
    dimensions: int


def flags(before: System, after: System, volume_change: float) -> tuple[str, ...]:
    """What deserves a look in a relaxed structure; empty if nothing does.

    "dissociated": it has more pieces than before, or they are endless in fewer directions. "close_contact": two atoms
    are nearer than any chemistry puts them. "large_volume_change": by more than a factor of 1.5.
    """
    found = []
    old, new = pieces(before, BONDED_BEFORE), pieces(after, BONDED_AFTER)
    if new.n_pieces > old.n_pieces or new.dimensions < old.dimensions:
        found.append("dissociated")
    if closest(after) < CLOSE:
        found.append("close_contact")
    if max(1 + volume_change, 1 / (1 + volume_change)) > LARGE_VOLUME_CHANGE:
        found.append("large_volume_change")
    return tuple(found)


def pieces(system: System, bonded: float) -> Pieces:
    """Pieces of the graph of all pairs closer than ``bonded`` sums of covalent radii."""
    pairs, shifts, ratios = _pairs(system, bonded)
    near = ratios < bonded
    neighbours: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(system.n_atoms)]
    for (i, j), shift in zip(pairs[near], shifts[near], strict=True):
        neighbours[i].append((int(j), shift))
        neighbours[j].append((int(i), -shift))
    image: list[np.ndarray | None] = [None] * system.n_atoms  # cell in which each atom of a piece was reached
    n_pieces, dimensions = 0, 0
    for start in range(system.n_atoms):
        if image[start] is not None:
            continue
        n_pieces += 1
        image[start] = np.zeros(3, dtype=np.int64)
        waiting, loops = [start], [np.zeros(3, dtype=np.int64)]
        while waiting:
            atom = waiting.pop()
            here = image[atom]
            assert here is not None
            for other, shift in neighbours[atom]:
                there = image[other]
                if there is None:
                    image[other] = here + shift
                    waiting.append(other)
                else:  # a second way to the same atom, perhaps in another cell
                    loops.append(here + shift - there)
        dimensions = max(dimensions, int(np.linalg.matrix_rank(np.unique(loops, axis=0))))
    return Pieces(n_pieces, dimensions)


def closest(system: System) -> float:
    """The shortest distance in units of the sum of the covalent radii; infinite where all are long."""
    return float(_pairs(system, CLOSE)[2].min(initial=np.inf))


def _pairs(system: System, ratio: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs [n, 2] that may be within ``ratio``, their images [n, 3] and distances over sums of covalent radii [n]."""
    radii = covalent_radii[system.numbers]
    pairs, shifts, distances = near_pairs(system.positions, system.cell, system.pbc, 2 * ratio * float(radii.max()))
    return pairs, shifts, distances / radii[pairs].sum(axis=1)
