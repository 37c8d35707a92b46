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
    positions: Tensor, cell: Tensor, periodic: Tensor, system_idx: Tensor, radius: float, min_length: float
) -> Edges:
    """Every directed edge with ``min_length`` < length <= ``radius``, on the device of ``positions``.

    Args:
        positions: [n_atoms, 3] float64, Å.
        cell: [n_systems, 3, 3] float64, Å; ignored where not periodic.
        periodic: [n_systems] bool.
        system_idx: [n_atoms] int64, ascending; no system may be empty.
        radius: Å.
        min_length: Å.
    """
    boxed, box = _boxes_for_open_systems(positions, cell, periodic, system_idx, radius)
    counts = torch.bincount(system_idx, minlength=len(periodic))
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    pairs, shift = _search(boxed, box, periodic, system_idx.int(), ends.int(), radius * (1 + 1e-12))
    dst, src, shift = pairs[0].long(), pairs[1].long(), shift.double()
    vectors = positions[src] - positions[dst] + torch.einsum("ei,eij->ej", shift, cell[system_idx[dst]])
    kept = torch.nonzero(vectors.square().sum(1) > min_length**2).squeeze(1)
    if len(kept) < len(dst):
        src, dst, shift = src[kept], dst[kept], shift[kept]
    return Edges(src, dst, shift)


def _search(
    positions: Tensor, cell: Tensor, periodic: Tensor, system_idx: Tensor, ends: Tensor, radius: float
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
                pbc=periodic[:, None].expand(-1, 3).contiguous(),
                batch_idx=system_idx,
                batch_ptr=ends,
                return_neighbor_list=True,
                max_neighbors=capacity,
            )
            return pairs, shift
        except search.NeighborOverflowError as overflow:
            capacity = -(-overflow.num_neighbors // 16) * 16


def _boxes_for_open_systems(
    positions: Tensor, cell: Tensor, periodic: Tensor, system_idx: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Where there is no cell, positions moved into a box around them: the kernels bin atoms by cell."""
    low = positions.new_full((len(periodic), 3), torch.inf)
    high = -low
    index = system_idx[:, None].expand(-1, 3)
    low = low.scatter_reduce(0, index, positions, "amin")
    high = high.scatter_reduce(0, index, positions, "amax")
    is_periodic = periodic[:, None]
    origin = torch.where(is_periodic, 0.0, low - radius)
    box = torch.diag_embed(high - low + 2 * radius)
    return positions - origin[system_idx], torch.where(is_periodic[:, :, None], cell, box)
