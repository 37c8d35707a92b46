"""Neighbour lists of systems that move little from one force call to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpa4_core.data.graph import Graph, dual_vectors
from dpa4_core.data.neighbours import MIN_EDGE_LENGTH, build_graph, graph_without_edges
from dpa4_core.data.structures import System


class SkinList:
    """Edges within ``cutoff + skin``, searched anew for a system when one within ``cutoff`` could be missing.

    With a deformation F of the cell since the last search and displacements u beyond that, a pair that was at r is
    now at σ_min(F) r − 2 max |u| or farther. Pairs beyond ``cutoff + skin`` were not listed, so the list holds while
    σ_min(F) (cutoff + skin) − 2 max |u| > cutoff. Every graph is cut down to ``cutoff`` before it is handed out: a
    potential works on the same edges as without a skin.

    Systems and atoms are in the order in which they joined. A graph has the same edges in the same order whenever the
    list was searched, so that what goes on from somewhere is, bit by bit, what never stopped there. Pairs closer than
    ``MIN_EDGE_LENGTH`` are judged when the list is searched.

    Args:
        cutoff: Å.
        skin: Å; 0 searches every time.
        device: where graphs shall be.

    Attributes:
        latest: the last graph, of the systems that are still there; not of those that joined since.
        n_searches: searches so far, each of one system.

    """

    def __init__(self, cutoff: float, skin: float, device: torch.device) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self.n_searches = 0
        self._systems: list[System] = []
        self._nodes = graph_without_edges([]).to(device)
        self._src, self._dst, self._shift = self._nodes.src, self._nodes.dst, self._nodes.shift
        self._old_positions, self._old_cell = self._nodes.positions, self._nodes.cell
        self.latest = self._nodes

    def join(self, systems: Sequence[System]) -> None:
        """Append systems; their edges are searched with the next graph."""
        n_atoms = sum(system.n_atoms for system in systems)
        self._take([*self._systems, *systems])
        unknown = self._old_positions.new_full
        self._old_positions = torch.cat((self._old_positions, unknown((n_atoms, 3), torch.nan)))
        self._old_cell = torch.cat((self._old_cell, unknown((len(systems), 3, 3), torch.nan)))

    def leave(self, keep: Tensor) -> None:
        """Remove the systems where ``keep`` [n_systems] does not hold."""
        atoms = keep[self._nodes.system_idx]
        self.latest = self.latest.select(keep)
        self._old_positions, self._old_cell = self._old_positions[atoms], self._old_cell[keep]
        number, stay = torch.cumsum(atoms, 0) - 1, atoms[self._dst]
        self._src, self._dst, self._shift = number[self._src[stay]], number[self._dst[stay]], self._shift[stay]
        self._take([system for system, stays in zip(self._systems, keep.tolist(), strict=True) if stays])

    def graph(self, positions: Tensor, cell: Tensor) -> Graph:
        """The graph at ``positions`` [n_atoms, 3] and ``cell`` [n_systems, 3, 3], Å."""
        nodes = dataclasses.replace(self._nodes, positions=positions, cell=cell)
        stale = self._stale(nodes)
        if bool(stale.any()):
            self._search(nodes, stale)
        graph = dataclasses.replace(nodes, src=self._src, dst=self._dst, shift=self._shift)
        if self.skin:
            length = torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
            near = torch.nonzero((length <= self.cutoff) & (length > MIN_EDGE_LENGTH))[:, 0]
            graph = dataclasses.replace(nodes, src=graph.src[near], dst=graph.dst[near], shift=graph.shift[near])
        self.latest = graph
        return graph

    def _stale(self, nodes: Graph) -> Tensor:
        """Which lists [n_systems] may lack an edge; also those that were never searched."""
        if not self.skin:
            return torch.ones_like(nodes.periodic)
        # the periodic rows h of a cell become h Fᵀ; nothing happens perpendicular to them
        eye = torch.eye(3, dtype=torch.float64, device=nodes.device)
        change = torch.where(nodes.pbc[:, :, None], nodes.cell - self._old_cell, 0.0)
        transposed = eye + dual_vectors(self._old_cell, nodes.pbc).transpose(1, 2) @ change
        affine = torch.einsum("ni,nij->nj", self._old_positions, transposed[nodes.system_idx])
        squares = (nodes.positions - affine).square().sum(1)
        farthest = torch.zeros_like(nodes.cell[:, 0, 0]).scatter_reduce(0, nodes.system_idx, squares, "amax").sqrt()
        compression = torch.linalg.svdvals(transposed.nan_to_num())[:, -1]
        return ~(compression * (self.cutoff + self.skin) - 2 * farthest > self.cutoff)

    def _search(self, nodes: Graph, stale: Tensor) -> None:
        """Replace the edges of the systems where ``stale`` [n_systems] holds."""
        places = np.flatnonzero(stale.cpu().numpy())
        systems = _moved(self._systems, nodes, places)
        found = build_graph(systems, self.cutoff, nodes.device, self.skin)
        self.n_searches += len(systems)
        moved = stale[nodes.system_idx]
        # the places of all atoms of stale systems, and the edges of the others
        atoms = torch.nonzero(moved)[:, 0]
        stay = torch.nonzero(~moved[self._dst])[:, 0]
        image = (found.shift.long() * torch.tensor([1 << 42, 1 << 21, 1], device=nodes.device)).sum(1)
        new = image.argsort(stable=True)
        new = new[found.src[new].argsort(stable=True)]
        self._dst, order = torch.cat((self._dst[stay], atoms[found.dst[new]])).sort(stable=True)
        self._src = torch.cat((self._src[stay], atoms[found.src[new]]))[order]
        self._shift = torch.cat((self._shift[stay], found.shift[new]))[order]
        self._old_positions = torch.where(moved[:, None], nodes.positions, self._old_positions)
        self._old_cell = torch.where(stale[:, None, None], nodes.cell, self._old_cell)

    def _take(self, systems: list[System]) -> None:
        self._systems = systems
        self._nodes = graph_without_edges(systems).to(self._nodes.device)


def _moved(systems: list[System], nodes: Graph, places: np.ndarray) -> list[System]:
    """The systems at ``places`` with the positions and cells of ``nodes``."""
    coordinates, cells = nodes.positions.cpu().numpy(), nodes.cell.cpu().numpy()
    ends = np.cumsum([system.n_atoms for system in systems])
    return [
        dataclasses.replace(
            systems[place], positions=coordinates[ends[place] - systems[place].n_atoms : ends[place]], cell=cells[place]
        )
        for place in places
    ]
