"""Edges of a whole batch at once on the GPU, by nvalchemi-toolkit-ops (Warp kernels; the extra ``cuda``)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor


def _is_installed() -> bool:
    if importlib.util.find_spec("nvalchemiops") is None:
        return False
    major, minor = importlib.metadata.version("nvalchemi-toolkit-ops").split(".")[:2]
    return (int(major), int(minor)) >= (0, 5)  # the first version that tells by how much its buffer was too small


AVAILABLE = _is_installed()


class Edges(NamedTuple):
    """Edges sorted by ``dst``: [n_edges] int64, [n_edges] int64, [n_edges, 3] float64."""

    src: Tensor
    dst: Tensor
    shift: Tensor


def batched_edges(
    positions: Tensor, cell: Tensor, pbc: Tensor, system_idx: Tensor, radius: float, min_length: float
) -> Edges:
    """Every directed edge with ``min_length`` < length <= ``radius``, on the device of ``positions``.

    Args:
        positions: [n_atoms, 3] float64, Å.
        cell: [n_systems, 3, 3] float64, Å; vectors along axes without periodicity are ignored.
        pbc: [n_systems, 3] bool.
        system_idx: [n_atoms] int64, ascending; no system may be empty.
        radius: Å.
        min_length: Å.
    """
    boxed, box = positions, cell
    if not bool(pbc.all()):
        boxed, box = _boxes_for_open_axes(positions, cell, pbc, system_idx, radius)
    counts = torch.bincount(system_idx, minlength=len(pbc))
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    pairs, shift = _search(boxed, box, pbc, system_idx.int(), ends.int(), radius * (1 + 1e-12))
    dst, src, shift = pairs[0].long(), pairs[1].long(), shift.double()
    vectors = positions[src] - positions[dst] + torch.einsum("ei,eij->ej", shift, cell[system_idx[dst]])
    kept = torch.nonzero(vectors.square().sum(1) > min_length**2).squeeze(1)
    if len(kept) < len(dst):
        src, dst, shift = src[kept], dst[kept], shift[kept]
    return Edges(src, dst, shift)


def _search(
    positions: Tensor, cell: Tensor, pbc: Tensor, system_idx: Tensor, ends: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Pairs [2, n_edges] (centre, neighbour) sorted by centre, and images [n_edges, 3]."""
    # not at the top: importing Warp takes a while and, without a GPU, prints a warning into every command
    search = importlib.import_module("nvalchemiops.torch.neighbors")
    capacity = None  # neighbours per atom; the library's first guess suits a density of 0.2 atoms/Å³
    while True:
        try:
            pairs, _, shift = search.neighbor_list(
                positions,
                radius,
                cell=cell,
                pbc=pbc,
                batch_idx=system_idx,
                batch_ptr=ends,
                return_neighbor_list=True,
                max_neighbors=capacity,
            )
            return pairs, shift
        except search.NeighborOverflowError as overflow:
            capacity = -(-overflow.num_neighbors // 16) * 16


def _boxes_for_open_axes(
    positions: Tensor, cell: Tensor, pbc: Tensor, system_idx: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Positions moved into a box that ends around them along open axes: the kernels bin atoms by cell.

    Its vectors along open axes are perpendicular to the periodic ones and to each other.
    """
    repeats = torch.where(pbc[:, :, None], cell, 0.0)
    # the last right singular vectors are perpendicular to the periodic vectors; one for each open axis
    place = (pbc.sum(1, keepdim=True) + (~pbc).cumsum(1) - 1).clamp(min=0)
    normals = torch.linalg.svd(repeats).Vh.gather(1, place[:, :, None].expand(-1, -1, 3))
    heights = torch.einsum("nj,nij->ni", positions, normals[system_idx])
    low = positions.new_full((len(pbc), 3), torch.inf)
    high = -low
    index = system_idx[:, None].expand(-1, 3)
    low = low.scatter_reduce(0, index, heights, "amin")
    high = high.scatter_reduce(0, index, heights, "amax")
    origin = torch.einsum("ni,nij->nj", torch.where(pbc, 0.0, low - radius), normals)
    box = (high - low + 2 * radius)[:, :, None] * normals
    return positions - origin[system_idx], torch.where(pbc[:, :, None], cell, box)
