"""Frames that are one structure: turned, mirrored, shifted, with atoms in another order, or repeated in a supercell.

Each frame has a short vector of numbers that none of this changes; frames of one composition whose vectors agree are
twins. Vectors of a network's own neighbours, so that two frames which it cannot tell apart are twins as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dpa4_core.data.graph import Graph

Array = NDArray[np.float64]

N_INVARIANTS = 24
_CELL, _GRIDS = 2e-4, 8
"""Twins share a cell of this width in one of the grids, each shifted at random: the invariants of copies with six
digits or more differ by far less, those of atoms displaced at random by 0.001 Å mostly by more."""
_GOLDEN = 0.6180339887498949
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def invariants(graph: Graph, cutoff: float) -> Array:
    """Numbers [24] of one system that do not depend on how it is written down.

    The neighbourhood of an atom is told by Σ_j q_j f_k(r_ij), with f_k = (1 − x²)² cos(kπx), x = r/cutoff, k = 0..3,
    and q a number of the element, by the square of Σ_j q_j f_0 û_ij, and by the square of the tensor Σ_j q_j f_0 û û.
    A structure has the means of these six over its atoms, plain and times q, and the smallest and the largest of them.
    The largest change in first order of a displacement, where the means of a symmetric structure do not.

    Args:
        graph: of one system.
        cutoff: Å; neighbours beyond it are not in ``graph``.
    """
    n_atoms = graph.n_atoms
    if not graph.n_edges:
        return np.zeros(N_INVARIANTS)
    vectors = graph.edge_vectors().cpu().numpy()
    x = np.sqrt(np.einsum("ei,ei->e", vectors, vectors)) / cutoff
    mark = 0.5 + (graph.atomic_numbers.cpu().numpy() * _GOLDEN) % 1.0
    src, dst = graph.src.cpu().numpy(), graph.dst.cpu().numpy()
    unit = (vectors / (cutoff * x[:, None])).T
    weight = mark[src] * np.square(1 - np.square(x))
    c = np.cos(np.pi * x)
    bent = weight * np.array([np.ones_like(c), c, 2 * c * c - 1, (4 * c * c - 3) * c])
    along = weight * unit
    terms = [*bent, *along, *(along[i] * unit[j] for i, j in _PAIRS)]
    first = np.flatnonzero(np.diff(dst, prepend=-1))  # of each atom that has neighbours; edges are sorted by atom
    sums = np.zeros((len(terms), n_atoms))
    sums[:, dst[first]] = np.add.reduceat(np.array(terms), first, axis=1)
    dipole, tensor = np.square(sums[4:7]).sum(0), np.square(sums[7:10]).sum(0) + 2 * np.square(sums[10:13]).sum(0)
    atoms = np.array([*sums[:4], dipole, tensor])
    values = [atoms.mean(1), (mark * atoms).mean(1), atoms.min(1), atoms.max(1)]
    return np.arcsinh(np.concatenate(values))


def twin_classes(vectors: Array, compositions: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each frame, the same for twins.

    Args:
        vectors: [n_frames, 24] of `invariants`.
        compositions: [n_frames, n_elements] atoms of each element.
    """
    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    reduced = compositions // np.gcd.reduce(compositions, axis=1, keepdims=True).clip(min=1)
    _, kind = np.unique(reduced, axis=0, return_inverse=True)
    points = np.column_stack([kind.ravel().astype(np.float64), vectors / _CELL])
    random = np.random.default_rng(0)
    mixer = random.integers(1, 2**62, points.shape[1], dtype=np.uint64)
    ends = []
    for _ in range(_GRIDS):
        cells = np.floor(points + np.append(0.0, random.random(N_INVARIANTS))).astype(np.int64).astype(np.uint64)
        _, first, inverse = np.unique((cells * mixer).sum(1), return_index=True, return_inverse=True)
        ends.append(first[inverse])
    every = np.tile(np.arange(len(points)), _GRIDS)
    links = coo_array((np.ones(len(every), dtype=np.int8), (every, np.concatenate(ends))), shape=(len(points),) * 2)
    classes: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return classes
