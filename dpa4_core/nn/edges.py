"""The edges of a graph as every block sees them, and how sums over them are taken: one value, the strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpa4_core.nn.messages import Messages
from dpa4_core.nn.segment import segment_sum


class EdgeStrategy:
    """How sums over the edges of a centre are taken: here by the formulas as they are written.

    These are differentiable as often as wanted, in the weights too. The strategies of `strategies` give the same
    numbers faster or in less memory.
    """

    def outer(self, left: Tensor, right: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        """Σ left[e] ⊗ right[e]: [n_edges, a], [n_edges, b] → [n_atoms, a, b]."""
        return segment_sum(left[:, :, None] * right[:, None, :], dst, n_atoms)

    def by_degree(self, left: Tensor, right: Tensor, degrees: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        """Σ left[e, i] right[e, degrees[i]]: [n_edges, a], [n_edges, L+1, C] → [n_atoms, a, C]."""
        return segment_sum(left[:, :, None] * right.index_select(1, degrees), dst, n_atoms)

    def messages(self, messages: Messages, *tensors: Tensor) -> Tensor:
        """``messages(*tensors)``."""
        return messages(*tensors)

    def on_nodes(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """``function(*tensors)``, whose rows, one for each atom, do not depend on each other."""
        return function(*tensors)


class ProductStrategy(EdgeStrategy):
    """Where `outer` is one product for each centre, and what else can be is a part of it."""

    def by_degree(self, left: Tensor, right: Tensor, degrees: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        # every row of ``left`` with every degree is more than is needed, but one product
        everything = self.outer(left, right.flatten(1), dst, n_atoms)
        rows = torch.arange(len(degrees), device=degrees.device)
        return everything.view(n_atoms, len(rows), *right.shape[1:])[:, rows, degrees]


PLAIN = EdgeStrategy()


@dataclass(frozen=True)
class EdgeData:
    """What every block knows about the edges.

    Attributes:
        src, dst: [n_edges] int64.
        rotation: rows m = 0, −1, +1 of D, global → edge frame, as `Harmonics.rows` gives them, [n_edges, 3, D].
        condition: ρ + T[src] + T[dst], [n_edges, L+1, C].
        weight: envelope w, [n_edges, 1].
        gate: η of the source atom under zone bridging, [n_edges, 1], or None.
        strategy: how sums over them are taken.
    """

    src: Tensor
    dst: Tensor
    rotation: Tensor
    condition: Tensor
    weight: Tensor
    gate: Tensor | None
    strategy: EdgeStrategy = PLAIN
