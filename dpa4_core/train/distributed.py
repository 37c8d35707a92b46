"""Several processes, started by ``torchrun``: what they share and how they stay in step.

Gradients are added up in one flat buffer after the backward pass. Every process normalises its loss by the counts of
the whole step, so the sum is the gradient of the step however it was cut.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from dpa4_core.errors import DPA4Error


@dataclass(frozen=True)
class Processes:
    """One process among those of the run.

    Attributes:
        rank: number of this process.
        size: number of processes.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process reads the data, writes the files and decides."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Parameter], signals: Tensor) -> Tensor:
        """Add up the gradients over all processes, in place, and ``signals`` [k] with them.

        A parameter without a gradient counts as zero, so that all processes send the same.

        Returns:
            The sum of ``signals``.
        """
        if self.size == 1:
            return signals
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), signals.to(gradients[0].dtype)])
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        *parts, summed = flat.split([*sizes, len(signals)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return summed

    def sum(self, values: Tensor) -> Tensor:
        """``values`` added up over all processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def of_first(self, values: Sequence[float]) -> list[float]:
        """``values`` of the first process, on all of them."""
        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        return [float(value) for value in self.sum(own if self.is_first else torch.zeros_like(own))]

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.destroy_process_group()


def join(device: str) -> Processes:
    """Find this process and the others, as ``torchrun`` announces them in the environment; alone without it.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1"; with several processes on GPUs each takes the one of its local
            rank.

    Raises:
        DPA4Error: no such device.
    """
    rank, size = _rank(), int(os.environ.get("WORLD_SIZE", "1"))
    n_gpus = torch.cuda.device_count()
    kind = ("cuda" if n_gpus else "cpu") if device == "auto" else device
    if kind.startswith("cuda") and not n_gpus:
        raise DPA4Error(f"device {device!r} was asked for but torch sees no CUDA device; use device = 'cpu'")
    if kind.partition(":")[0] not in ("cpu", "cuda"):
        raise DPA4Error(f"device {device!r} is not supported for training; use 'cpu' or 'cuda'")
    place = torch.device(kind)
    if size > 1:
        if place.type == "cuda":
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        # the others wait for the first one to read the data, which may take hours
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=timedelta(days=2))
    return Processes(rank, size, place)


def is_first_process() -> bool:
    """Whether this is the first of the processes, before they have joined."""
    return _rank() == 0


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))
