"""What a run made of the weights that it started from, and part of it.

On the straight line from a base to the weights of a run, errors that fell on the whole fall from the start, and those
that rose may fall at first: a change that is half noise is best taken by half. So where the end of a run is worse than
the base in something, a part of its change may be better in everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpa4_core.train.optimizer import load_tensors


class Change:
    """That of the trainable weights of ``module`` from now on.

    Attributes:
        start: the first weights by the name of the parameter.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.start = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    def begun_at(self, tensors: Mapping[str, Tensor]) -> Change:
        """The same from other first weights.

        Raises:
            DPA4Error: a tensor is missing, left over or of another shape.
        """
        load_tensors(self.start, tensors, "first weights")
        return self

    @contextmanager
    def part(self, share: float) -> Iterator[None]:
        """Within, the weights are the first ones and ``share`` of the change; outside, as they were."""
        if share == 1.0:
            yield
            return
        parameters = dict(self._module.named_parameters())
        live = [parameters[name].detach() for name in self.start]
        own = [value.clone() for value in live]
        try:
            torch._foreach_copy_(live, torch._foreach_lerp(list(self.start.values()), own, share))
            yield
        finally:
            torch._foreach_copy_(live, own)
