"""The strategies of inference on a CPU: edges in tiles, with what the derivative needs kept or computed again.

They are differentiable once, and weights are constants.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dpa4_core.nn.by_hand import AtCentre, collect
from dpa4_core.nn.chunked import chunked
from dpa4_core.nn.edges import ProductStrategy
from dpa4_core.nn.messages import Messages
from dpa4_core.nn.tiled import tiled_messages
from dpa4_core.nn.tiling import Tiling


class Tiled(ProductStrategy):
    """All intermediates are kept for the derivative.

    Args:
        tiling: of the edges, for one evaluation.
    """

    keep = True

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling

    def outer(self, left: Tensor, right: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        return collect(left[:, None], right[:, None], AtCentre(self.tiling), n_atoms)

    def messages(self, messages: Messages, *tensors: Tensor) -> Tensor:
        return tiled_messages(messages, self.tiling, self.keep, *tensors)


class Lean(Tiled):
    """Intermediates are computed again for the derivative: a third more time, little memory."""

    keep = False

    def on_nodes(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return chunked(function, *tensors)
