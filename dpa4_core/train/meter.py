"""Sums over the steps since the last record of the log, and the means that the next one shows."""

from __future__ import annotations

import resource
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from dpa4_core.train.distributed import Processes
from dpa4_core.train.loss import SUMS, Errors, errors_from_sums


class Means(NamedTuple):
    """Of the steps since the last record: errors, loss, norm of the gradient, and rates as the log names them."""

    errors: Errors
    loss: float
    gradient_norm: float
    timing: dict[str, float]


class Meter:
    """What one process has measured.

    Attributes:
        sums: of the errors, the loss and the counts of labels, [len(SUMS) + 4] float64.
        values: steps, atoms, edges and padded edges, seconds of waiting and of work, norms of gradients.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(SUMS) + 4, dtype=torch.float64, device=device)
        self.values: dict[str, float] = {}

    def restore(self, values: dict[str, float], sums: Tensor) -> None:
        """Go on where another process stopped."""
        lacking = len(self.sums) - len(sums)  # a sum that earlier versions did not know
        sums = torch.cat([sums[: len(SUMS) - lacking], sums.new_zeros(lacking), sums[len(SUMS) - lacking :]])
        self.values, self.sums = dict(values), sums.to(self.sums.device)

    def count(self, **values: float) -> None:
        """Add numbers to ``values``."""
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + value

    def take(self, processes: Processes) -> Means:
        """The means over all processes; the sums begin anew."""
        totals, values = processes.sum(self.sums).cpu(), self.values
        self.sums, self.values = torch.zeros_like(self.sums), {}
        n, got = len(SUMS), values.get
        # every process counted the labels of the whole step
        errors = errors_from_sums(totals[:n], totals[n + 1 :] / processes.size)
        steps = max(got("steps", 0.0), 1.0)
        seconds = max(got("wait", 0.0) + got("busy", 0.0), 1e-9)
        timing = {
            "steps_per_s": got("steps", 0.0) / seconds,
            "atoms_per_s": got("atoms", 0.0) / seconds,
            "edges_per_s": got("edges", 0.0) / seconds,
            "wait_fraction": got("wait", 0.0) / seconds,
            "padding_fraction": 1 - got("edges", 0.0) / max(got("padded", 0.0), 1.0),
            "memory_gib": _peak_memory_gib(processes.device),
        }
        return Means(errors, float(totals[n]) / steps, got("norm", 0.0) / steps, timing)


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
