"""Exponential moving average of the weights, which is what a training run hands out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.train.optimizer import load_tensors


class EMA:
    """Averages a ← a + (1 − d)(p − a) of the trainable parameters.

    Args:
        named_parameters: as a module lists them; the averages start from their values.
        decay: d in the long run.
        warmup: use d = min(decay, (1 + t)/(10 + t)) in update t = 0, 1, ..., so that the initial weights are
            forgotten early in short runs.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], decay: float = 0.999, *, warmup: bool = True
    ) -> None:
        if not 0 <= decay < 1:
            raise DPA4Error(f"the decay of the average must be in [0, 1), got {decay}")
        self.decay, self.warmup, self.n_updates = decay, warmup, 0
        self.averages = {name: p.detach().clone() for name, p in named_parameters if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the averages towards the present weights."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates)) if self.warmup else self.decay
        self.n_updates += 1
        torch._foreach_lerp_(list(self.averages.values()), self._live(model), 1 - decay)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """The model has the averages as weights inside, and its own again outside, also after an exception."""
        live = self._live(model)
        own = [p.clone() for p in live]
        try:
            # values are copied rather than tensors exchanged, so that compiled graphs keep their addresses
            torch._foreach_copy_(live, list(self.averages.values()))
            yield
        finally:
            torch._foreach_copy_(live, own)

    def _live(self, model: nn.Module) -> list[Tensor]:
        parameters = dict(model.named_parameters())
        return [parameters[name].detach() for name in self.averages]

    def state_tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name as ``parameter/average``, and the number of updates as ``step``."""
        tensors = {f"{name}/average": average for name, average in self.averages.items()}
        return tensors | {"step": torch.tensor(self.n_updates)}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy in what `state_tensors` gave.

        Raises:
            DPA4Error: a tensor is missing, left over or of another shape.
        """
        load_tensors(self.state_tensors(), tensors, "averaged weights")
        self.n_updates = int(tensors["step"])
