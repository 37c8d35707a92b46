"""The network and its gradient compiled to one graph, for many force calls on a GPU."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from rich.console import Console
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import is_out_of_memory
from dpa4_core.model.dpa4 import DPA4

CALLS_BEFORE = 100
"""Force calls on a GPU after which "auto" compiles: a minute or two of compilation must come back."""

MODES = ("auto", True, False)


class CompiledNetwork:
    """Atomic energies and their gradient by ``torch.compile``, once for all sizes of graphs.

    Args:
        model: frozen network on its device.
        mode: True compiles at once, "auto" on a GPU after `CALLS_BEFORE` calls, False never. The environment variable
            DPA4_COMPILE, 0 or 1, takes the place of "auto".

    Raises:
        DPA4Error: another mode.
    """

    def __init__(self, model: DPA4, mode: bool | str) -> None:
        if mode == "auto":
            mode = {"0": False, "1": True}.get(os.environ.get("DPA4_COMPILE", ""), "auto")
        if mode not in MODES:
            raise DPA4Error(f"compile must be 'auto', True or False, not {mode!r}")
        self.model, self.mode = model, mode
        self._n_calls = 0
        self._ready = self._broken = False

    @cached_property
    def _run(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """Made at its first use: the compiler takes a second to import, which most processes need not spend."""
        return torch.compile(self._energy_and_gradient, fullgraph=True, dynamic=True)

    def wanted(self, device: torch.device) -> bool:
        """Whether this force call is a compiled one; counts it."""
        self._n_calls += 1
        if self.mode == "auto":
            return not self._broken and device.type == "cuda" and self._n_calls > CALLS_BEFORE
        return bool(self.mode) and not self._broken

    def __call__(
        self, edge_vec: Tensor, src: Tensor, dst: Tensor, species: Tensor, conditioning: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Energies [n_atoms] float64 and their gradient [n_edges, 3] float64; None where it cannot be compiled.

        Arguments as in `DPA4.forward`. A failure is said once, and the plain network takes over.
        """
        n_atoms, n_edges = species.shape[0], src.shape[0]
        padded = self._pad(edge_vec, src, dst, species, conditioning)
        try:
            with _message(shown=not self._ready), torch.enable_grad():
                energies, gradient = self._run(*padded)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch.fx")):
                raise
            self._broken = True
            reason = " ".join(str(error).strip().splitlines()[:2])
            warnings.warn(f"the network cannot be compiled here and runs as it is ({reason})", stacklevel=2)
            return None
        self._ready = True
        return energies.detach()[:n_atoms], gradient.detach()[:n_edges]

    def _energy_and_gradient(
        self, edge_vec: Tensor, src: Tensor, dst: Tensor, species: Tensor, conditioning: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        def total(vectors: Tensor) -> tuple[Tensor, Tensor]:
            energies: Tensor = self.model(vectors, src, dst, species, conditioning)
            return energies.sum(), energies

        gradient, (_, energies) = torch.func.grad_and_value(total, has_aux=True)(edge_vec)
        return energies, gradient

    def _pad(
        self, edge_vec: Tensor, src: Tensor, dst: Tensor, species: Tensor, conditioning: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Two atoms and two edges more, beyond the cutoff: sizes of 0 and 1 would each be compiled anew."""
        beyond = edge_vec.new_tensor([[0.0, 0.0, 2.0 * self.model.config.cutoff]] * 2)
        last = torch.full((2,), species.shape[0], dtype=src.dtype, device=src.device)
        if conditioning is not None:
            conditioning = torch.cat([conditioning, conditioning.new_zeros(2, conditioning.shape[1])])
        return (
            torch.cat([edge_vec, beyond]),
            torch.cat([src, last]),
            torch.cat([dst, last]),
            torch.cat([species, species.new_zeros(2)]),
            conditioning,
        )


@contextlib.contextmanager
def _message(*, shown: bool) -> Iterator[None]:
    if not shown:
        yield
        return
    console = Console(stderr=True)
    with console.status("compiling the network, a minute or more ...") if sys.stderr.isatty() else _line(console):
        yield


@contextlib.contextmanager
def _line(console: Console) -> Iterator[None]:
    console.print("compiling the network, a minute or more ...")
    yield
