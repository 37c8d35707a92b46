"""Tensors of many structures that share rows, and how structures leave and join them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchState:
    """Base of dataclasses of tensors, of such dataclasses again, or of tuples of these.

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
        return self._map(lambda per_atom, own: own[keep_atoms if per_atom else keep_systems])

    def join(self, other: Self) -> Self:
        """The rows of both, those of ``other`` behind."""
        return self._map(lambda _per_atom, own, others: torch.cat((own, others)), other)

    def replace_where(self, other: Self, atoms: Tensor, systems: Tensor) -> Self:
        """The rows of ``other`` where the masks [n_atoms] and [n_systems] hold, else those of ``self``."""

        def merge(per_atom: bool, own: Tensor, others: Tensor) -> Tensor:
            mask = atoms if per_atom else systems
            return torch.where(mask.view(-1, *(1,) * (own.dim() - 1)), others, own)

        return self._map(merge, other)

    def _map(self, function: Callable[..., Tensor], *others: Self) -> Self:
        """``function`` of whether rows are atoms and of the tensors that stand in the same place."""

        def of(per_atom: bool, own: Any, *rest: Any) -> Any:
            if isinstance(own, BatchState):
                return own._map(function, *rest)
            if isinstance(own, tuple):
                return tuple(of(per_atom, *values) for values in zip(own, *rest, strict=True))
            return function(per_atom, own, *rest)

        return dataclasses.replace(
            self,
            **{
                field.name: of(field.name in self._per_atom, *(getattr(one, field.name) for one in (self, *others)))
                for field in dataclasses.fields(self)
            },
        )
