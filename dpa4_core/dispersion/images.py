"""Pairs of atoms with all their periodic images: sums over a long range without a list of neighbours.

At 20 Å an atom of a crystal has thousands of neighbours. A list of them would take longer to search and to read than
the sum itself, so the images of a pair are its vector plus a table of lattice vectors, and moments of a sum over the
images are products of matrices.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.data.graph import Graph, dual_vectors

_FAR = 1e4  # Å; where images are that fill up a table
_IMAGES_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Pairs times images: what stays in the cache of a core, or fills a GPU in some 100 MB for each intermediate."""


@dataclass(frozen=True)
class Pairs:
    """Some pairs of atoms of some systems, filled up with pairs of weight 0.

    Attributes:
        systems: [s] their places in the graph.
        first, second: [s, p] atoms; every pair of atoms is there once, and every atom with itself.
        weight: [s, p] 1; ½ for an atom with itself, since each of its images is an image of the other.
        vector: [s, p, 3] Å, from the first atom to the nearest cell's image of the second.
        table: [s, t, 10] moments of the lattice vectors T: 1, T, and T⊗T in the order xx, yy, zz, yz, xz, xy.
    """

    systems: Tensor
    first: Tensor
    second: Tensor
    weight: Tensor
    vector: Tensor
    table: Tensor

    def squares(self) -> Tensor:
        """Squared distances of all images, [s, p, t] Å²; exactly 0 for an atom and itself."""
        lattice = self.table[:, :, 1:4]
        squares = torch.matmul(2 * self.vector, lattice.transpose(1, 2))
        squares += self.vector.square().sum(2, keepdim=True)
        squares += lattice.square().sum(2)[:, None]
        return squares

    def moments(self, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Σ h v [s, p, 3] of each pair and Σ h v⊗v [s, 3, 3] of each system over the images, v being their vectors.

        Args:
            slope: h of every image, [s, p, t].
        """
        total = torch.matmul(slope, self.table)  # [s, p, 10]: Σ h, Σ h T, Σ h T⊗T
        number, first, second = total[:, :, :1], total[:, :, 1:4], total[:, :, 4:].sum(1)
        along = number * self.vector + first
        # v⊗v with v = d + T: Σ h v⊗d + d⊗Σ h T + Σ h T⊗T
        square = along.transpose(1, 2) @ self.vector + self.vector.transpose(1, 2) @ first
        return along, square + second[:, _FULL].view(-1, 3, 3)


_FULL = [0, 5, 4, 5, 1, 3, 4, 3, 2]  # of xx, yy, zz, yz, xz, xy


class _Crystal(NamedTuple):
    """A system on the host: its place, its first atom, the number of its atoms, its lattice vectors [t, 3], and whether
    it repeats along all axes.
    """

    place: int
    start: int
    n_atoms: int
    lattice: NDArray[np.float64]
    periodic: bool

    @property
    def n_pairs(self) -> int:
        return self.n_atoms * (self.n_atoms + 1) // 2


def image_pairs(graph: Graph, cutoff: float, *, tail: bool = False) -> Iterator[Pairs]:
    """All pairs of atoms of all systems with their images within ``cutoff``, and some beyond, in parts; with ``tail``
    all those of crystals, whose images beyond are taken for uniform.
    """
    device, at_once = graph.device, _IMAGES_AT_ONCE[graph.device.type]
    dual = dual_vectors(graph.cell, graph.pbc)
    repeats = torch.where(graph.pbc[:, :, None], graph.cell, 0.0)
    for group in _groups(_crystals(graph, repeats, dual, cutoff), at_once):
        table = torch.from_numpy(_moment_table([one.lattice for one in group])).to(device)
        systems = torch.tensor([one.place for one in group], device=device)
        for index in _index_pairs(group, max(1, at_once // table.shape[1])):
            first, second = torch.from_numpy(index).to(device)
            present = first >= 0
            weight = torch.where(first == second, 0.5, 1.0).to(graph.positions) * present
            first, second = first.clamp(min=0), second.clamp(min=0)
            vector = graph.positions[second] - graph.positions[first]
            cells = (vector @ dual[systems].transpose(1, 2)).round()
            vector = vector - cells @ repeats[systems]
            if table.shape[1] == 1 and len(group) == 1 and not (tail and group[0].periodic):  # many out of reach
                near = (vector.square().sum(2) <= cutoff**2)[0]
                first, second, weight, vector = first[:, near], second[:, near], weight[:, near], vector[:, near]
            yield Pairs(systems, first, second, weight, vector, table)


def _crystals(graph: Graph, repeats: Tensor, dual: Tensor, cutoff: float) -> list[_Crystal]:
    counts = torch.bincount(graph.system_idx, minlength=graph.n_systems).tolist()
    rows, duals, pbc = repeats.cpu().numpy(), dual.cpu().numpy(), graph.pbc.cpu().numpy()
    starts = itertools.accumulate(counts, initial=0)
    return [
        _Crystal(place, start, count, _lattice_vectors(rows[place], duals[place], cutoff), bool(pbc[place].all()))
        for place, (start, count) in enumerate(zip(starts, counts, strict=False))
        if count
    ]


_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))


def _lattice_vectors(rows: NDArray, dual: NDArray, cutoff: float) -> NDArray[np.float64]:
    """Lattice vectors T [t, 3] with |d + T| <= ``cutoff`` for some d between −½ and ½ of each of the ``rows``."""
    # |T · dual_k| is the number of steps along k, and at most half a step is in d
    steps = np.floor(cutoff * np.linalg.norm(dual, axis=1) + 0.5).astype(int)
    lattice = _grid(*steps.tolist()) @ rows
    reach = cutoff + np.linalg.norm(_CORNERS @ rows, axis=1).max()
    return lattice[np.einsum("ti,ti->t", lattice, lattice) <= reach**2]


@functools.lru_cache(maxsize=256)
def _grid(*steps: int) -> NDArray[np.float64]:
    return np.array(list(itertools.product(*(range(-n, n + 1) for n in steps))), dtype=np.float64)


def _groups(crystals: list[_Crystal], at_once: int) -> Iterator[list[_Crystal]]:
    """Systems that share a part: similar ones, so that little is filled up, and as many as fit."""
    group: list[_Crystal] = []
    n_pairs, n_images, used = 0, 0, 0
    for one in sorted(crystals, key=lambda c: (len(c.lattice), c.n_pairs)):
        pairs, images = max(n_pairs, one.n_pairs), max(n_images, len(one.lattice))
        whole = (len(group) + 1) * pairs * images
        used += one.n_pairs * len(one.lattice)
        if group and (whole > at_once or whole > 2 * used):
            yield group
            group, pairs, images, used = [], one.n_pairs, len(one.lattice), one.n_pairs * len(one.lattice)
        group.append(one)
        n_pairs, n_images = pairs, images
    if group:
        yield group


def _moment_table(lattices: list[NDArray]) -> NDArray[np.float64]:
    table = np.full((len(lattices), max(map(len, lattices)), 10), _FAR)
    for row, lattice in zip(table, lattices, strict=True):
        row[: len(lattice), 1:4] = lattice
    table[:, :, 0] = 1
    x, y, z = (table[:, :, k] for k in (1, 2, 3))
    for column, product in enumerate((x * x, y * y, z * z, y * z, x * z, x * y), start=4):
        table[:, :, column] = product
    return table


def _index_pairs(group: list[_Crystal], most: int) -> Iterator[NDArray[np.int64]]:
    """First and second atoms [2, s, p] of the pairs of a group, −1 where there is none; a large system in parts."""
    if len(group) > 1 or group[0].n_pairs <= most:
        found = np.full((2, len(group), max(one.n_pairs for one in group)), -1)
        for row, one in enumerate(group):
            found[:, row, : one.n_pairs] = np.array(np.triu_indices(one.n_atoms)) + one.start
        yield found
        return
    (one,) = group
    rows = max(1, most // one.n_atoms)
    for begin in range(0, one.n_atoms, rows):
        first, second = np.triu_indices(min(rows, one.n_atoms - begin), 0, one.n_atoms - begin)
        yield np.array((first, second))[:, None] + (begin + one.start)
