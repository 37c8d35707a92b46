"""One batch from edge vectors to the loss, in a form that compiles to a single graph.

Forces are a gradient inside the objective, so the weights need second derivatives. `torch.func.grad_and_value` keeps
the inner gradient a plain function, which `torch.compile` takes whole; batches padded to one size compile once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import is_out_of_memory
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.property import PropertyModel
from dpa4_core.nn.by_hand import ByHand
from dpa4_core.nn.edges import PLAIN, EdgeStrategy
from dpa4_core.nn.segment import segment_sum
from dpa4_core.nn.tiling import cut
from dpa4_core.potential import strategy_for
from dpa4_core.train.loss import Labels, LossConfig, energy_loss, property_loss


class Batch(NamedTuple):
    """Frames of one batch as the network takes them; padding atoms and edges come last and touch nothing else.

    Attributes:
        edge_vec: [n_edges, 3] Å, in the precision of the model.
        src, dst: [n_edges] int64.
        species: [n_atoms] int64.
        system_idx: [n_atoms] int64.
        conditioning: [n_atoms, 2] int64 charge and spin multiplicity, or None.
        roll: [n_edges, 1] radians, or None.
        labels: reference values.
        n_real: atoms, edges and frames that are no padding.
    """

    edge_vec: Tensor
    src: Tensor
    dst: Tensor
    species: Tensor
    system_idx: Tensor
    conditioning: Tensor | None
    roll: Tensor | None
    labels: Labels
    n_real: tuple[int, int, int]

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        if self.edge_vec.device == device:
            return self

        def there(value: Any) -> Any:
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        fields: dict[str, Any] = {name: there(value) for name, value in self._asdict().items()}
        return Batch(**fields | {"labels": Labels(*(there(value) for value in self.labels))})


class Step:
    """Loss of a batch; ``backward`` on it gives the gradient of the weights.

    Args:
        model: network under training, on its device.
        config: objective.
        compiled: compile with Inductor; every batch must then have the same padded size.
        mixed_precision: run the interaction blocks in bfloat16.
    """

    def __init__(
        self, model: nn.Module, config: LossConfig, *, compiled: bool = False, mixed_precision: bool = False
    ) -> None:
        self.model, self.config, self._compiled = model, config, compiled
        self._backbone = cast(DPA4, model.backbone if isinstance(model, PropertyModel) else model)
        self._backbone.block_precision = torch.bfloat16 if mixed_precision else None
        self._run: Callable[..., tuple[Tensor, Tensor]] = self._compute
        self._gradient = _gradient
        if compiled:
            self._gradient = _gradient_as_function
            self._run = torch.compile(self._compute, fullgraph=True, dynamic=False)

    def __call__(self, batch: Batch, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [] and sums of errors of one batch; see `dpa4_core.train.loss.energy_loss`.

        Raises:
            DPA4Error: the batch does not fit into memory, or cannot be compiled.
        """
        with _told(batch):
            return self._run(*batch[:7], batch.labels, counts)

    def learn(self, batch: Batch, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same, with the derivative added to the gradients of the weights; the loss has none any more.

        Raises:
            DPA4Error: as a call.
        """
        loss, sums = self(batch, counts)
        with _told(batch):
            loss.backward()
        return loss.detach(), sums

    def evaluate(self, batch: Batch, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same without a derivative of the weights; never compiled, in the precision that models are used in."""
        edge_vec, energies, gradient = self._energies(batch, derivatives=True)
        with torch.no_grad():
            return energy_loss(
                self.config,
                batch.labels,
                counts,
                energies,
                gradient,
                edge_vec,
                batch.src,
                batch.dst,
                batch.system_idx,
            )

    def answers(self, batch: Batch, *, derivatives: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Energies [n_systems] float64 eV, forces [n_atoms, 3] eV/Å and virials [n_systems, 3, 3] eV, the latter two
        zeros if not asked for; as `evaluate`.
        """
        edge_vec, energies, gradient = self._energies(batch, derivatives=derivatives)
        n_systems, n_atoms = batch.labels.energy.shape[0], energies.shape[0]
        energy = segment_sum(energies.detach().double(), batch.system_idx, n_systems)
        forces = segment_sum(gradient, batch.dst, n_atoms) - segment_sum(gradient, batch.src, n_atoms)
        pair = -gradient[:, :, None] * edge_vec.detach()[:, None, :]
        return energy, forces, segment_sum(pair, batch.system_idx[batch.dst], n_systems)

    def _energies(self, batch: Batch, *, derivatives: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Edge vectors, energies [n_atoms] and ∂ΣE/∂v [n_edges, 3], zeros if not asked for, as a potential has them."""
        edge_vec = batch.edge_vec.detach().requires_grad_(derivatives)
        gradient = torch.zeros_like(edge_vec)
        with _told(batch), full_precision(self._backbone):
            strategy = strategy_for(self._backbone, batch.dst, len(batch.species))
            with torch.set_grad_enabled(derivatives):
                energies = self.model(
                    edge_vec, batch.src, batch.dst, batch.species, batch.conditioning, strategy=strategy
                )
            if derivatives:
                (gradient,) = torch.autograd.grad(energies.sum(), edge_vec)
        return edge_vec, energies, gradient

    def _compute(
        self,
        edge_vec: Tensor,
        src: Tensor,
        dst: Tensor,
        species: Tensor,
        system_idx: Tensor,
        conditioning: Tensor | None,
        roll: Tensor | None,
        labels: Labels,
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        strategy = PLAIN if self._compiled else trained_strategy(self._backbone, dst, len(species))

        def energies_of(vectors: Tensor) -> Tensor:
            energies: Tensor = self.model(vectors, src, dst, species, conditioning, roll, strategy)
            return energies

        gradient, energies = self._gradient(energies_of, edge_vec)
        return energy_loss(self.config, labels, counts, energies, gradient, edge_vec, src, dst, system_idx)


def trained_strategy(model: DPA4, dst: Tensor, n_atoms: int) -> EdgeStrategy:
    """How the network takes sums over edges where the weights have gradients; arguments as of `strategy_for`.

    A GPU makes better use of the plain formula, and a compiler fuses it.
    """
    plain = dst.device.type != "cpu" or model.block_precision is not None
    return PLAIN if plain else ByHand(cut(dst, n_atoms))


@contextmanager
def full_precision(model: DPA4) -> Iterator[None]:
    """All of the network in the precision of the weights, as whoever loads the model runs it."""
    products, before = torch.get_float32_matmul_precision(), model.block_precision
    torch.set_float32_matmul_precision("highest")
    model.block_precision = None
    try:
        yield
    finally:
        model.block_precision = before
        torch.set_float32_matmul_precision(products)


@contextmanager
def _told(batch: Batch) -> Iterator[None]:
    """Say what to do about a batch that does not fit into memory, or cannot be compiled."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            atoms, edges, _ = batch.n_real
            raise DPA4Error(
                f"out of memory in a batch of {atoms} atoms and {edges} edges; lower batch.max_atoms and "
                "batch.max_edges (and raise batch.accumulate to keep the step as large)"
            ) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):  # slow to import for its names
            reason = str(error).strip().splitlines()[-1]
            raise DPA4Error(f"the step could not be compiled ({reason}); train with run.compile = false") from error
        raise


def _gradient(energies_of: Callable[[Tensor], Tensor], edge_vec: Tensor) -> tuple[Tensor, Tensor]:
    """∂ΣE/∂v [n_edges, 3] and E [n_atoms], both differentiable in the weights."""
    edge_vec = edge_vec.detach().requires_grad_()
    energies = energies_of(edge_vec)
    (gradient,) = torch.autograd.grad(energies.sum(), edge_vec, create_graph=True)
    return gradient, energies


def _gradient_as_function(energies_of: Callable[[Tensor], Tensor], edge_vec: Tensor) -> tuple[Tensor, Tensor]:
    """The same in the form that compiles; run eagerly it takes 1.4 times as long."""

    def total(vectors: Tensor) -> tuple[Tensor, Tensor]:
        energies = energies_of(vectors)
        return energies.sum(), energies

    gradient, (_, energies) = torch.func.grad_and_value(total, has_aux=True)(edge_vec)
    return gradient, energies


class PropertyStep(Step):
    """Loss of a property head: the deviation of its value in units of its spread over the training frames."""

    def evaluate(self, batch: Batch, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The same without a derivative of the weights; never compiled, in the precision that models are used in."""
        with torch.no_grad(), _told(batch), full_precision(self._backbone):
            return self._compute(*batch[:7], batch.labels, counts)

    def _compute(
        self,
        edge_vec: Tensor,
        src: Tensor,
        dst: Tensor,
        species: Tensor,
        system_idx: Tensor,
        conditioning: Tensor | None,
        roll: Tensor | None,
        labels: Labels,
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        model = cast(PropertyModel, self.model)
        n_systems = labels.energy.shape[0]
        value = model(edge_vec, src, dst, species, system_idx, n_systems, conditioning)
        head = model.config
        return property_loss(self.config, labels, counts, value, head.scale, per_atom=head.kind == "extensive")
