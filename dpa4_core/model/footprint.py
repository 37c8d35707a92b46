"""How much memory an evaluation with tiles takes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from dpa4_core.model.config import DPA4Config


class Footprint(NamedTuple):
    """Bytes at the peak, with intermediates kept for the derivative and without."""

    keep: float
    lean: float


def footprint(config: DPA4Config, dtype: torch.dtype, n_atoms: int, n_edges: int) -> Footprint:
    """Peak memory of energy and forces on a CPU beside the graph, to about a quarter.

    Every block keeps the features of an edge once and once more for each gated layer of the mixing stack, and what the
    grid products of a node need. What comes before the blocks was fitted to DPA4-Neo: 10 kB
    per edge in float32, of which 10,648 silicon atoms with 474,000 edges took 8.7 kB.
    """
    size, width = torch.finfo(dtype).bits // 8, config.channels * config.n_focus
    gated = config.mixing_layers - 1
    mixing = (3 * config.lmax + 1) * width * (1 + gated) + config.lmax * width * gated + width
    nodes = 8 * (3 * config.lmax + 1) ** 2 * config.hidden
    before = 17 * (config.lmax + 1) * config.channels
    lean = n_edges * before + n_atoms * 10 * (config.lmax + 1) ** 2 * width
    return Footprint(
        keep=size * float(lean + config.n_blocks * (n_edges * mixing + n_atoms * nodes)), lean=size * float(lean)
    )
