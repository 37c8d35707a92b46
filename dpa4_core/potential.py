"""From energies to forces, virial and stress: the only place that differentiates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from dpa4_core.compiled import CompiledNetwork
from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.memory import memory_share
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.footprint import footprint
from dpa4_core.model.info import ModelInfo
from dpa4_core.nn.edges import PLAIN, EdgeStrategy
from dpa4_core.nn.segment import segment_sum
from dpa4_core.nn.strategies import Lean, Tiled
from dpa4_core.nn.tiling import cut
from dpa4_core.shares import Shareable
from dpa4_core.threads import one_thread

_SMALL = 30_000
"""Edges of a graph whose memory, 1.5 GB with DPA4-Neo, is not worth the question how much is free."""

FEW_EDGES = 10_000
"""Below, outside of the tiles, an operation is so short that to wake a second thread takes longer than it saves.

A force call of DPA4-Neo on two cores (`benchmarks/force_call.py`): with threads that sleep while they wait, 4 to 8
atoms take 0.4 of the time so, 32 atoms 0.65, 108 atoms 0.8; with threads that spin 1.1, 1.05, 1.05.
"""

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Members(NamedTuple):
    """What each member of a committee says: ``energy`` [n_systems, n_members], ``forces`` [n_atoms, n_members, 3] and
    ``stress`` [n_systems, n_members, 3, 3], in the units of `Output`.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor


class Output(NamedTuple):
    """What a potential says about a batch; detached float64 tensors on the potential's device.

    Attributes:
        energy: [n_systems] eV.
        atom_energies: [n_atoms] eV.
        forces: [n_atoms, 3] eV/Å.
        virial: [n_systems, 3, 3] eV, first index of the gradient.
        stress: [n_systems, 3, 3] eV/Å³, symmetric, positive under tension; NaN without periodicity. Zero along
            open axes: strains of a slab or chain are those of its periodic vectors. The volume is that of the cell,
            also where it holds vacuum; a missing vector counts as 1 Å (see `Graph.volume`), so that the stress of a
            slab without a third vector is its energy per area and strain in eV/Å².
        members: of a committee, whose means the others are; None for a single model.
    """

    energy: Tensor
    atom_energies: Tensor
    forces: Tensor
    virial: Tensor
    stress: Tensor
    members: Members | None = None

    @classmethod
    def join(cls, parts: Sequence[Output]) -> Output:
        """Outputs of systems that follow each other as one."""
        single = parts[0].members is None
        members = None if single else Members(*map(torch.cat, zip(*(part.each() for part in parts), strict=True)))
        whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls._fields[:-1]}
        return cls(**whole, members=members)

    def each(self) -> Members:
        """What each member says; there are none of a single model."""
        if self.members is not None:
            return self.members
        n_atoms, n_systems = len(self.forces), len(self.energy)
        empty = self.energy.new_zeros
        return Members(empty(n_systems, 0), empty(n_atoms, 0, 3), empty(n_systems, 0, 3, 3))


@runtime_checkable
class PotentialLike(Protocol):
    """What `predict`, `relax`, the calculator and the physics suite ask of a potential."""

    cutoff: float
    device: torch.device
    elements: frozenset[int]

    def compute(self, graph: Graph) -> Output:
        """Energies, forces, virial and stress of every system in ``graph``."""
        ...


def strategy_for(model: DPA4, dst: Tensor, n_atoms: int) -> EdgeStrategy:
    """How the network takes sums over edges for energies and forces, with constant weights.

    On a GPU the plain formula makes better use of the device.

    Args:
        model: on its device.
        dst: [n_edges], sorted.
        n_atoms: of the graph.

    Raises:
        MemoryError: less memory is free than a CPU needs.
    """
    if dst.device.type != "cpu" or model.block_precision is not None:
        return PLAIN
    kind = Tiled if _fits(model, n_atoms, len(dst)) else Lean
    return kind(cut(dst, n_atoms))


def _fits(model: DPA4, n_atoms: int, n_edges: int) -> bool:
    """Whether the intermediates of a large graph may be kept, or are computed twice to save memory.

    Raises:
        MemoryError: not even the latter fits. A system that runs out of memory ends processes without asking.
    """
    if n_edges < _SMALL:
        return True
    need = footprint(model.config, model.dtype, n_atoms, n_edges)
    free = memory_share(torch.device("cpu"))
    if need.lean > 0.9 * free:
        raise MemoryError(
            f"{n_atoms} atoms with {n_edges} neighbours need about {need.lean / 1e9:.1f} GB, and {free / 1e9:.1f} GB "
            "are free"
        )
    return need.keep < 0.5 * free


def derive(atom_energies: Tensor, edge_vec: Tensor, graph: Graph, *, create_graph: bool = False) -> Output:
    """Forces, virial and stress by one gradient of the total energy with respect to the edge vectors.

    F_k = Σ_{dst=k} g_e − Σ_{src=k} g_e, W = −Σ g_e ⊗ v_e, stress = −P (W + Wᵀ) P/2V with g_e = ∂E/∂v_e and the
    projection P onto the span of the periodic vectors.

    Args:
        atom_energies: [n_atoms] eV, a function of ``edge_vec`` [n_edges, 3] float64, which requires grad.
        create_graph: keep the results differentiable with respect to the weights, for training.
    """
    gradient = torch.zeros_like(edge_vec)
    if graph.n_edges:
        (gradient,) = torch.autograd.grad(atom_energies.sum(), edge_vec, create_graph=create_graph)
    if not create_graph:
        atom_energies, edge_vec = atom_energies.detach(), edge_vec.detach()
    return assemble(atom_energies, gradient, edge_vec, graph)


def assemble(atom_energies: Tensor, gradient: Tensor, edge_vec: Tensor, graph: Graph) -> Output:
    """The output from energies [n_atoms] and g = ∂E/∂v [n_edges, 3], see `derive`."""
    forces = segment_sum(gradient, graph.dst, graph.n_atoms) - segment_sum(gradient, graph.src, graph.n_atoms)
    pair = -gradient[:, :, None] * edge_vec[:, None, :]
    virial = segment_sum(pair, graph.system_idx[graph.dst], graph.n_systems)
    stress = within_span(-0.5 * (virial + virial.transpose(1, 2)) / graph.volume()[:, None, None], graph)
    energy = segment_sum(atom_energies, graph.system_idx, graph.n_systems)
    return Output(energy, atom_energies, forces, virial, stress)


def within_span(stress: Tensor, graph: Graph) -> Tensor:
    """The part of ``stress`` [n_systems, 3, 3] within the span of the periodic vectors; all of it for a crystal."""
    span = graph.span()
    return torch.where(graph.pbc.all(1)[:, None, None], stress, span @ stress @ span)


def species_table(config: DPA4Config) -> Tensor:
    """Position in the type map by atomic number, [120] int64; −1 for an element that is not in it."""
    lookup = torch.full((120,), -1, dtype=torch.int64)
    lookup[torch.tensor(config.atomic_numbers)] = torch.arange(len(config.elements))
    return lookup


def known_elements(config: DPA4Config, info: ModelInfo) -> frozenset[int]:
    """Atomic numbers that training has seen, as far as that is known; else those that the network has a row for."""
    return frozenset(info.elements or config.atomic_numbers)


def species_in(table: Tensor, graph: Graph, name: str) -> Tensor:
    """Positions in the type map of the atoms of ``graph``, [n_atoms]; ``table`` is that of model ``name``.

    Raises:
        DPA4Error: an element that is not in it.
    """
    species = table[graph.atomic_numbers]
    if graph.n_atoms and bool((species < 0).any()):
        number = int(graph.atomic_numbers[species < 0][0])
        raise DPA4Error(f"element with atomic number {number} is not in the type map of {name}")
    return species


def conditioning_of(config: DPA4Config, graph: Graph) -> Tensor | None:
    """Charge and spin multiplicity of the system of each atom for a conditioned model, [n_atoms, 2]."""
    default = config.charge_spin
    if default is None or graph.charge_spin is None:
        return None  # an unconditioned model knows no charge; a conditioned one takes its default
    given = graph.charge_spin
    given = torch.where(given[:, 1:] < 0, given.new_tensor(default), given)
    charge, spin = given[:, 0], given[:, 1]
    if bool(((charge < -100) | (charge > 99) | (spin > 99)).any()):
        raise DPA4Error(f"charge and spin {given.tolist()} exceed what the model can take, −100…99 and 0…99")
    return given[graph.system_idx]


def repulsion_energy(model: DPA4, graph: Graph) -> Tensor:
    """The part of the energies that is nuclear repulsion, [n_systems] float64, eV; zero without zone bridging.

    ``graph`` is on the device of the model. Offsets per element are fitted to labels less this energy.
    """
    species = species_in(species_table(model.config).to(graph.device), graph, "the model")
    atom_energies = model.repulsion(graph.edge_vectors(), graph.src, graph.dst, species)
    return segment_sum(atom_energies, graph.system_idx, graph.n_systems)


class Potential(Shareable[Output]):
    """A DPA4 model ready for prediction, with its identity card.

    Attributes:
        model: the network; `load` freezes its weights, a model under training keeps its state.
        info: name, checksum, level of theory, licence, observed elements.

    Args:
        fixed: whether the weights stay as they are, so that other processes may hold them, too.
    """

    def __init__(
        self,
        model: DPA4,
        info: ModelInfo | None = None,
        device: str | torch.device = "cpu",
        *,
        compile: bool | str = "auto",
        fixed: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self._compiled = CompiledNetwork(self.model, compile)
        self.shared = fixed and self.device.type == "cpu" and self._compiled.mode is not True
        info = info or ModelInfo(elements=model.config.atomic_numbers)
        self.info = dataclasses.replace(info, n_parameters=sum(p.numel() for p in model.parameters()))
        self.cutoff = model.config.cutoff
        self.dtype = model.dtype
        # a species row that training never saw holds noise: such elements are refused, not guessed
        self.elements = known_elements(model.config, self.info)
        self._species_of = species_table(model.config).to(self.device)

    def compute_alone(self, graph: Graph) -> Output:
        """As `compute`, in this process; ``graph`` is on the potential's device."""
        species = species_in(self._species_of, graph, self.info.name)
        conditioning = conditioning_of(self.model.config, graph)
        with torch.inference_mode(False), torch.enable_grad():  # forces need a graph whatever the caller has set
            edge_vec = graph.edge_vectors().detach().clone().requires_grad_()
            src, dst, species = graph.src.clone(), graph.dst.clone(), species.clone()
            if self._compiled.wanted(self.device):
                result = self._compiled(edge_vec.detach(), src, dst, species, conditioning)
                if result is not None:
                    return assemble(*result, edge_vec.detach(), graph)
            # first, so that tiles find their threads, whatever becomes of the others
            strategy = strategy_for(self.model, graph.dst, graph.n_atoms)
            with one_thread() if self.device.type == "cpu" and graph.n_edges < FEW_EDGES else nullcontext():
                atom_energies = self.model(edge_vec, src, dst, species, conditioning, strategy=strategy)
                return derive(atom_energies, edge_vec, graph)

    def __repr__(self) -> str:
        return f"Potential({self.info.name!r}, device={str(self.device)!r}, dtype={str(self.dtype)!r})"
