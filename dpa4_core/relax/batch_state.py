"""Tensors of many structures that share rows, and how structures leave and join them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchState:
    """Base of dataclasses of tensors, or of such dataclasses again.

    The first axis of the fields named by ``per_atom`` runs over the atoms of all systems, that of the others
    over the systems:

        @dataclass(frozen=True)
        class Motion(BatchState, per_atom=("velocities",)):
            velocities: Tensor
            time_step: Tensor
    """

    _per_atom: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, per_atom: tuple[str, ...] = ()) -> None:
        cls._per_atom = per_atom

    def select(self, keep_atoms: Tensor, keep_systems: Tensor) -> Self:
        """The rows where the masks [n_atoms] and [n_systems] hold."""
        return self._map(
            lambda name, tensor: tensor[keep_atoms if name in self._per_atom else keep_systems],
            lambda name, part: part.select(keep_atoms, keep_systems),
        )

    def join(self, other: Self) -> Self:
        """The rows of both, those of ``other`` behind."""
        return self._map(
            lambda name, tensor: torch.cat((tensor, getattr(other, name))),
            lambda name, part: part.join(getattr(other, name)),
        )

    def replace_where(self, other: Self, atoms: Tensor, systems: Tensor) -> Self:
        """The rows of ``other`` where the masks [n_atoms] and [n_systems] hold, else those of ``self``."""

        def merge(name: str, tensor: Tensor) -> Tensor:
            mask = atoms if name in self._per_atom else systems
            return torch.where(mask.view(-1, *(1,) * (tensor.dim() - 1)), getattr(other, name), tensor)

        return self._map(merge, lambda name, part: part.replace_where(getattr(other, name), atoms, systems))

    def _map(
        self,
        on_tensor: Callable[[str, Tensor], Tensor],
        on_part: Callable[[str, BatchState], BatchState],
    ) -> Self:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {
            name: on_part(name, value) if isinstance(value, BatchState) else on_tensor(name, value)
            for name, value in values.items()
        }
        return dataclasses.replace(self, **changed)
