"""Crystals of everything that a base knows, which hold a run to what the base says about them.

Steps of a fine-tune move the energies of all elements. By offsets, the elements that a run does not train are kept on
the zero of the base; by the weights, what offsets cannot say is taken back: of all changes of the weights that bring
the crystals back to first order, the shortest one, δ = −Gᵀ (G Gᵀ + λ)⁻¹ r, with the gradients G of their energies per
atom and r what became of these. It moves the trained systems little, since in a million weights their gradients point
elsewhere (orthogonal gradient descent, M. Farajtabar et al., arXiv 1910.07104, and kernel regression).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.nn.segment import segment_sum
from dpa4_core.potential import conditioning_of, species_in, species_table, strategy_for
from dpa4_core.train.forgetting import TOLERABLE, other_systems
from dpa4_core.train.step import full_precision, trained_strategy

_TOGETHER = 40
"""Crystals of a batch: some 200 atoms."""

_STIFF, _FREE = 0.3, 1e-3
"""Penalties on what an offset of its own adds to the common level, beside squares of shares of an element: with 0.3 the
crystals that measure, which are others, come closest to the base."""

_RIDGE = 1.0
"""λ over the mean of the squared gradients."""

_LEFT = 0.5 * TOLERABLE
"""eV/atom, median change of the crystals that is left to a run; without any the energies of KCl come down slower."""

_SKETCH = 2**14
"""Numbers that a gradient is hashed to for its products with others: right to a percent."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Moved:
    """Changes of the energies per atom, eV: what is common, by element, and of each crystal what that leaves."""

    level: float
    own: Array
    left: Array
    left_out: Array
    """The same, the crystal itself left out of the fit."""


class Others:
    """The crystals beside a run.

    Args:
        model: network under training, before the first step unless ``before`` is given.
        known: atomic numbers that the base knows.
        trained: those in the training frames.
        before: eV/atom, what the base says, of a run that goes on.
        products: what `prepare` found, of a run that goes on.
    """

    def __init__(
        self,
        model: DPA4,
        known: Set[int],
        trained: Set[int],
        before: Sequence[float] | None = None,
        products: Tensor | None = None,
    ) -> None:
        self._model, numbers = model, model.config.atomic_numbers
        self._species = species_table(model.config).to(model.out_bias.device)
        self.systems = other_systems("level", known)
        self._shares = np.array([[np.mean(atoms.numbers == z) for z in numbers] for atoms in self.systems])
        self._trained = np.array([z in trained for z in numbers])
        # without trained elements
        self._apart = ~(self._shares[:, self._trained] > 0).any(axis=1) if self.systems else np.zeros(0, dtype=bool)
        cut = range(0, len(self.systems), _TOGETHER)
        self._graphs = [self._graph(self.systems[i : i + _TOGETHER]) for i in cut]
        self.before = self._energies().tolist() if before is None else list(before)
        self.products = products

    def prepare(self) -> None:
        """Find the products [n, n] of the gradients of the crystals without trained elements, before the first step.

        Without the mean of the gradients, which the common level takes. A backward pass for each: seconds on a CPU.
        """
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        if not parameters or not self._apart.any():
            return
        generator, size = torch.Generator().manual_seed(0), sum(p.numel() for p in parameters)
        place = torch.randint(_SKETCH, (size,), generator=generator)
        sign = 2.0 * torch.randint(2, (size,), generator=generator) - 1.0
        rows = []
        for i in np.flatnonzero(self._apart):
            energy = self._per_atom(self._graph([self.systems[i]])).sum()
            flat = torch.cat([g.flatten() for g in _gradient(energy, parameters)]).cpu().double()
            rows.append(torch.zeros(_SKETCH, dtype=torch.float64).index_add_(0, place, sign * flat))
        gradients = torch.stack(rows)
        gradients = gradients - gradients.mean(0)
        self.products = gradients @ gradients.T

    def hold(self) -> float:
        """Move the offsets of the elements that are not trained; nothing where every crystal holds a trained one.

        Returns:
            eV/atom, median of what then is left of the change of a crystal without trained elements, the crystal itself
            left out of the fit: 0.6 to 1.2 of what `forgetting` measures.
        """
        moved = self._moved()
        if moved is None:
            return 0.0
        shift = moved.level + moved.own[~self._trained]
        self._model.out_bias.view(-1)[~self._trained] -= torch.from_numpy(shift).to(self._model.out_bias)
        return float(np.median(np.abs(moved.left_out[self._apart])))

    def way_back(self, parameters: Sequence[Parameter]) -> list[Tensor] | None:
        """The shortest change of the weights that takes back what goes beyond `_LEFT`; None where nothing does.

        Held back by `_RIDGE` it takes back a third. Once more brings these crystals nearer to the base, but no others:
        on Li10GeP2S12 six turns halve the change of these, and leave that of 20 others where it was.
        """
        moved = self._moved()
        if moved is None or self.products is None:
            return None
        beyond = 1.0 - _LEFT / max(float(np.median(np.abs(moved.left_out[self._apart]))), _LEFT)
        if not beyond:
            return None
        left = torch.from_numpy(beyond * moved.left[self._apart])
        ridge = _RIDGE * self.products.diagonal().mean() * torch.eye(len(left), dtype=left.dtype)
        weights = np.zeros(len(self.systems))
        weights[self._apart] = -torch.linalg.solve(self.products + ridge, left - left.mean())
        total = torch.zeros((), dtype=torch.float64, device=self._model.out_bias.device)
        for i, graph in enumerate(self._graphs):
            part = torch.from_numpy(weights[i * _TOGETHER : (i + 1) * _TOGETHER]).to(total)
            total = total + (self._per_atom(graph) * part).sum()
        return _gradient(total, parameters)

    def _moved(self) -> _Moved | None:
        """None without crystals apart, or in a run that an older version began with others."""
        if len(self.before) != len(self.systems) or not self._apart.any():
            return None
        moved = self._energies() - self.before
        level = float(np.median(moved[self._apart]))
        # what the offsets of trained elements did is fitted, not used
        stiff = np.diag(np.where(self._trained, _FREE, _STIFF))
        fit = np.linalg.solve(self._shares.T @ self._shares + stiff, self._shares.T)
        own, reach = fit @ (moved - level), np.einsum("ij,ji->i", self._shares, fit)
        left = moved - level - self._shares @ own
        return _Moved(level, own, left, left / (1 - reach))

    def _graph(self, systems: Sequence[Atoms]) -> Graph:
        return build_graph([to_system(atoms) for atoms in systems], self._model.config.cutoff)

    def _energies(self) -> Array:
        """EV/atom, without forces: this is asked at every validation that is the best so far."""
        with torch.no_grad():
            said = [self._per_atom(graph) for graph in self._graphs]
        return torch.cat(said).cpu().numpy() if said else np.zeros(0)

    def _per_atom(self, graph: Graph) -> Tensor:
        """Energies [n_systems] float64, eV/atom."""
        model = self._model
        graph = graph.to(model.out_bias.device)
        species, conditioning = species_in(self._species, graph, "the model"), conditioning_of(model.config, graph)
        chosen = trained_strategy if torch.is_grad_enabled() else strategy_for
        with full_precision(model):
            strategy = chosen(model, graph.dst, graph.n_atoms)
            atoms = model(graph.edge_vectors(), graph.src, graph.dst, species, conditioning, strategy=strategy)
        return segment_sum(atoms.double(), graph.system_idx, graph.n_systems) / graph.system_idx.bincount()


def _gradient(value: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    """Of ``value``, zero for what it does not depend on."""
    found = torch.autograd.grad(value, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
