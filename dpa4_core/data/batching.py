"""Which structures are computed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import free_memory

ATOMS_PER_BATCH_CPU = 256
"""36 small cells take 1.14, 1.08, 1.03 and 1 times as long at 32, 64, 128 and 256 atoms on one core, 0.95 at 512."""
ATOMS_PER_CORE = 128
"""Where more than two cores share a batch, see `dpa4_core.shares`."""
ATOMS_PER_BATCH_GPU = 4096

_BYTES_PER_ATOM = 5e6
"""Of DPA4-Neo with 60 neighbours and the plain formula; tiles on a CPU need half of it."""


def default_budget(device: torch.device | str) -> int:
    """Atoms per batch when the user names none: more would gain nothing, or not fit into half of the free memory.

    A batch that turns out too large all the same is computed in smaller ones.
    """
    place = torch.device(device)
    on_cpu = max(ATOMS_PER_BATCH_CPU, ATOMS_PER_CORE * torch.get_num_threads())
    enough = on_cpu if place.type == "cpu" else ATOMS_PER_BATCH_GPU
    return max(1, int(min(enough, 0.5 * free_memory(place) / _BYTES_PER_ATOM)))


def check_budget(max_atoms_per_batch: int | None) -> None:
    """Refuse a number of atoms per batch that no structure fits into; None leaves it to `default_budget`."""
    if max_atoms_per_batch is not None and not max_atoms_per_batch >= 1:
        raise DPA4Error(f"max_atoms_per_batch must be at least 1, not {max_atoms_per_batch}")


def pack(costs: Sequence[int], budget: int) -> list[list[int]]:
    """Batches of indices, the largest structures first, so that neighbours in a batch have similar sizes.

    Args:
        costs: cost of each structure, for example its number of atoms.
        budget: largest sum of costs in a batch; a structure that exceeds it alone gets a batch of its own.

    Returns:
        Every index of ``costs`` exactly once; equal costs keep their order.
    """
    if budget < 1:
        raise ValueError(f"the budget of a batch must be at least 1, not {budget}")
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        if not batches or costs[index] > room:
            batches.append([])
            room = budget
        batches[-1].append(index)
        room -= costs[index]
    return batches
