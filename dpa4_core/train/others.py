"""Crystals of everything that a base knows, which hold a run to what the base says about them.

Steps of a fine-tune move the energies of all elements. By offsets, the elements that a run does not train are kept on
the zero of the base; by the weights, what offsets cannot say is taken back: of all changes of the weights that bring
the crystals back to first order, the shortest one, δ = −Gᵀ (G Gᵀ + λ)⁻¹ r, with the gradients G of their energies per
atom and r what became of these. It moves the trained systems little, since in a million weights their gradients point
elsewhere (orthogonal gradient descent, M. Farajtabar et al., arXiv 1910.07104, and kernel regression). That is done at
every validation by few crystals with the gradients of the base, and at the end, where others that were never asked
changed by more than is tolerable, by many more with their gradients of that moment. There the change is also one that
leaves the energies of some trained frames and of bent copies of them, and so their forces and stresses, as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import System, to_system
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.nn.segment import segment_sum
from dpa4_core.potential import conditioning_of, species_in, species_table, strategy_for
from dpa4_core.train.forgetting import TOLERABLE, distorted, other_systems
from dpa4_core.train.step import full_precision, trained_strategy

_TOGETHER = 40
"""Crystals of a batch: some 200 atoms."""

_STIFF, _FREE = 0.3, 1e-3
"""Penalties on what an offset of its own adds to the common level, beside squares of shares of an element: with 0.3 the
crystals that measure, which are others, come closest to the base."""

_RIDGE, _RIDGE_AT_END = 1.0, 0.02
"""λ over the mean of the squared gradients, of gradients that are older than what they take back and of fresh ones."""

_LEFT = 0.5 * TOLERABLE
"""eV/atom, median change of the crystals that is left to a run; without any the energies of KCl come down slower."""

_SKETCH = 2**16
"""Numbers that a gradient is hashed to for its products with others: right to half a percent."""

_HELD = 3.0
"""Weight of the frames that are to stay, their gradients scaled to the length of those of the crystals, which are
twenty times as long."""

_COPIES = ((0.0, 0.02), (0.0, 0.02), (0.0, 0.02), (0.03, 0.0))
"""Displacements (Å) and strains of the copies of such a frame."""

_TIMED = 4
"""Crystals whose gradients tell how long those of all others will take."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moved:
    """Changes of the energies per atom, eV.

    Attributes:
        level: what is common.
        own: [n_elements] what an element adds.
        left: [n_systems] of each crystal what that leaves.
        left_out: the same, the crystal itself left out of the fit.
        unseen: median of what it leaves of crystals that no fit and no gradient knows; 0 without any.
    """

    level: float
    own: Array
    left: Array
    left_out: Array
    unseen: float


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
        self._beside = known - trained
        level, judges = other_systems("level", known), other_systems("judge", self._beside)
        self.systems = level + judges
        self._judges = np.arange(len(self.systems)) >= len(level)
        self._trained = np.array([z in trained for z in numbers])
        self._shares = self._shares_of(self.systems)
        # those of the fit without trained elements
        self._apart = ~(self._judges | (self._shares[:, self._trained] > 0).any(axis=1))
        self._graphs = self._batches(self.systems)
        self.before = self._energies(self._graphs).tolist() if before is None else list(before)
        self.products, self._seconds_at_end = products, -1.0

    def prepare(self) -> None:
        """Find the products of the gradients of crystals without trained elements, before the first step."""
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        if parameters and self._apart.any():
            rows = self._sketches([to_system(self.systems[i]) for i in np.flatnonzero(self._apart)], parameters)
            rows -= rows.mean(0)  # which the common level takes
            self.products = (rows @ rows.T).double()

    def look(self) -> Moved | None:
        """How the crystals changed; None without any to fit, or in a run that an older version began with others."""
        if len(self.before) != len(self.systems) or not self._apart.any():
            return None
        moved = self._energies(self._graphs) - self.before
        return self._parts(moved, self._shares, ~self._judges, self._apart)

    def hold(self, moved: Moved) -> None:
        """Take back by the offsets of the elements that are not trained what moved all crystals, and each element."""
        shift = moved.level + moved.own[~self._trained]
        self._model.out_bias.view(-1)[~self._trained] -= torch.from_numpy(shift).to(self._model.out_bias)

    def way_back(self, parameters: Sequence[Parameter]) -> list[Tensor] | None:
        """The shortest change of the weights that takes back what goes beyond `_LEFT`; None where nothing does.

        Held back by `_RIDGE` it takes back a third. Once more brings these crystals nearer to the base, but no others:
        on Li10GeP2S12 six turns halve the change of these, and leave that of 20 others where it was.
        """
        moved = self.look()
        if moved is None or self.products is None:
            return None
        beyond = 1.0 - _LEFT / max(float(np.median(np.abs(moved.left_out[self._apart]))), _LEFT)
        if not beyond:
            return None
        weights = torch.zeros(len(self.systems), dtype=torch.float64)
        left, stiff = beyond * moved.left[self._apart], _RIDGE * float(self.products.diagonal().mean())
        weights[torch.from_numpy(self._apart)] = _solved(self.products, left - left.mean(), stiff)
        return self._sum_of_gradients(self._graphs, weights, parameters)

    def way_back_at_end(
        self,
        parameters: Sequence[Parameter],
        at_start: Callable[[], AbstractContextManager[None]],
        frames: Sequence[System],
        share: float,
    ) -> list[Tensor] | None:
        """The shortest change of the weights that brings these crystals and many more back, by gradients of now.

        Args:
            parameters: that are trained.
            at_start: within, the weights are those before the first step.
            frames: of the data, whose energies, forces and stresses are to stay as they are.
            share: of the additional crystals that are asked, for a run that has little time.
        """
        more = self._returning[: int(share * len(self._returning))]
        if not more or not parameters:
            return None
        systems = [self.systems[i] for i in np.flatnonzero(self._apart)] + more
        copies = [_copy(frame, k, *how) for k, frame in enumerate(frames) for how in enumerate(_COPIES)]
        graphs = self._batches(systems)
        with at_start():
            before = self._energies(graphs)
        everyone = np.ones(len(systems), dtype=bool)
        left = self._parts(self._energies(graphs) - before, self._shares_of(systems), everyone, everyone).left
        rows = self._sketches([to_system(atoms) for atoms in systems], parameters)
        rows -= rows.mean(0)
        scale = float((rows**2).sum(1).mean())
        own, moved = self._sketches(frames, parameters), self._sketches(copies, parameters)
        moved -= own.repeat_interleave(len(_COPIES), 0)
        own -= own.mean(0)
        factors = [_HELD * (scale / max(float((x**2).sum(1).mean()), 1e-6 * scale)) ** 0.5 for x in (own, moved)]
        rows = torch.cat([rows, factors[0] * own, factors[1] * moved])
        residual = np.concatenate([left - left.mean(), np.zeros(len(rows) - len(left))])
        found = _solved((rows @ rows.T).double(), residual, _RIDGE_AT_END * scale)
        weights, of_own, of_moved = found.split([len(systems), len(frames), len(copies)])
        of_moved = factors[1] * of_moved
        of_own = factors[0] * of_own - of_moved.view(len(frames), len(_COPIES)).sum(1)
        alone = [self._graph([system]) for system in [*frames, *copies]]
        return self._sum_of_gradients(graphs + alone, torch.cat([weights, of_own, of_moved]), parameters)

    def seconds_at_end(self, parameters: Sequence[Parameter], now: Callable[[], float]) -> float:
        """What `way_back_at_end` takes with all crystals by the clock ``now``: the gradients of some, which are asked
        once in a run, and nearly as much for the rest.
        """
        if self._seconds_at_end < 0:
            some = [to_system(atoms) for atoms in self._returning[:_TIMED]] if parameters else []
            self._sketches(some[:1], parameters)  # the first one fills caches
            began = now()
            self._sketches(some, parameters)
            self._seconds_at_end = 1.8 * len(self._returning) * (now() - began) / max(len(some), 1)
        return self._seconds_at_end

    @cached_property
    def _returning(self) -> list[Atoms]:
        """In any order, so that a part of them is of all kinds."""
        systems = other_systems("back", self._beside)
        return [systems[i] for i in np.random.default_rng(0).permutation(len(systems))]

    def _parts(self, moved: Array, shares: Array, fitted: NDArray[np.bool_], apart: NDArray[np.bool_]) -> Moved:
        """What changes of energies are made of.

        Args:
            moved: [n] eV/atom, of crystals.
            shares: [n, n_elements] of their atoms.
            fitted: by which the elements are found.
            apart: those of them without trained elements, which tell the common level.
        """
        level = float(np.median(moved[apart]))
        # what the offsets of trained elements did is fitted, not used
        stiff = np.diag(np.where(self._trained, _FREE, _STIFF))
        known = shares[fitted]
        fit = np.linalg.solve(known.T @ known + stiff, known.T)
        own = fit @ (moved[fitted] - level)
        left = moved - level - shares @ own
        left_out = left.copy()
        left_out[fitted] /= 1 - np.einsum("ij,ji->i", known, fit)
        unseen = np.abs(left[~fitted])
        return Moved(level, own, left, left_out, float(np.median(unseen)) if len(unseen) else 0.0)

    def _sketches(self, systems: Sequence[System], parameters: Sequence[Parameter]) -> Tensor:
        """[n, `_SKETCH`] of the gradients of energies per atom: a backward pass for each, 0.1 s on a CPU."""
        generator, size = torch.Generator().manual_seed(0), sum(p.numel() for p in parameters)
        place = torch.randint(_SKETCH, (size,), generator=generator)
        sign = 2.0 * torch.randint(2, (size,), generator=generator) - 1.0
        gradients = torch.zeros(len(systems), _SKETCH)
        for row, system in zip(gradients, systems, strict=True):
            found = _gradient(self._per_atom(self._graph([system])).sum(), parameters)
            row.index_add_(0, place, sign * torch.cat([g.flatten() for g in found]).cpu().float())
        return gradients

    def _sum_of_gradients(
        self, graphs: Sequence[Graph], weights: Tensor, parameters: Sequence[Parameter]
    ) -> list[Tensor]:
        """Of the energies per atom, each with its weight."""
        found = [torch.zeros_like(p) for p in parameters]
        for graph, part in zip(graphs, weights.split([graph.n_systems for graph in graphs]), strict=True):
            per_atom = self._per_atom(graph)
            torch._foreach_add_(found, _gradient((per_atom * part.to(per_atom)).sum(), parameters))
        return found

    def _shares_of(self, systems: Sequence[Atoms]) -> Array:
        """[n_systems, n_elements] of the atoms."""
        numbers = self._model.config.atomic_numbers
        return np.array([[np.mean(a.numbers == z) for z in numbers] for a in systems]).reshape(-1, len(numbers))

    def _batches(self, systems: Sequence[Atoms]) -> list[Graph]:
        cut = [systems[i : i + _TOGETHER] for i in range(0, len(systems), _TOGETHER)]
        return [self._graph([to_system(atoms) for atoms in together]) for together in cut]

    def _graph(self, systems: Sequence[System]) -> Graph:
        return build_graph(systems, self._model.config.cutoff)

    def _energies(self, graphs: Sequence[Graph]) -> Array:
        """EV/atom, without forces."""
        with torch.no_grad():
            said = [self._per_atom(graph) for graph in graphs]
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


def _solved(products: Tensor, residual: Array, stiff: float) -> Tensor:
    """Minus (G Gᵀ + λ)⁻¹ r, with λ = ``stiff``."""
    return -torch.linalg.solve(products + stiff * torch.eye(len(products)).double(), torch.from_numpy(residual))


def _copy(frame: System, number: int, copy: int, how: tuple[float, float]) -> System:
    """A distorted one, always the same."""
    positions, cell = distorted(frame.positions, frame.cell, *how, np.random.default_rng([number, copy]))
    return dataclasses.replace(frame, positions=positions, cell=cell)


def _gradient(value: Tensor, parameters: Sequence[Parameter]) -> list[Tensor]:
    """Of ``value``, zero for what it does not depend on."""
    found = torch.autograd.grad(value, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
