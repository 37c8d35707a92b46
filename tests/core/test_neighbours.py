"""The edge list against ASE's, for every kind of cell."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list
from torch import Tensor

from dpa4_core.data import neighbours_cuda
from dpa4_core.data.batching import pack
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN, Graph
from dpa4_core.data.neighbours import MIN_EDGE_LENGTH, build_graph
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.data.system import complete_cell, extent_problem


def _frames() -> dict[str, Atoms]:
    rng = np.random.default_rng(3)
    skewed = [[3.0, 0.0, 0.0], [2.9, 3.4, 0.0], [-4.0, 2.0, 5.0]]
    return {
        "one atom per cell": bulk("Al"),
        "skewed, atoms far outside": Atoms("NaCl", positions=[[30, -20, 0], [1.3, 2.0, 55.4]], cell=skewed, pbc=True),
        "cell shorter than cutoff": Atoms("O3", positions=rng.normal(size=(3, 3)), cell=[2.5, 3.0, 9.0], pbc=True),
        "left-handed": Atoms("H", cell=[[4, 0, 0], [0, -4, 0], [0, 0, 4.0]], pbc=True),
        "cluster": molecule("CH3CH2OH"),
        "lonely atom": Atoms("H"),
        "chain": Atoms("H5", positions=rng.normal(size=(5, 3)), cell=[3, 4, 20], pbc=[True, False, False]),
        "chain along the third axis, others missing": Atoms(
            "H5",
            positions=rng.normal(size=(5, 3)) * 3,
            cell=[[0, 0, 0], [0, 0, 0], [1, 2, 2]],
            pbc=[False, False, True],
        ),
        "slab thicker than its cell": Atoms(
            "C9", positions=rng.normal(size=(9, 3)) * 5 - 80, cell=skewed, pbc=[True, False, True]
        ),
        "slab without a third vector": Atoms(
            "C4", positions=rng.normal(size=(4, 3)) * 4, cell=[[2, 0, 0], [1, 2, 0], [0, 0, 0]], pbc=[True, True, False]
        ),
        "slab whose third vector lies in the plane": Atoms("C", cell=[[2, 0, 0], [1, 2, 0], [4, 1, 0]], pbc=[1, 1, 0]),
        "cluster with a cell": Atoms("O9", positions=rng.normal(size=(9, 3)) * 3 + 50, cell=[2, 2, 2]),
        "supercell": bulk("Cu").repeat(3),
        "two atoms in one place": Atoms("HH", positions=[[0, 0, 0], [0, 0, 0]], cell=[5, 5, 5], pbc=True),
    }


def _edges_of(graph: Graph, k: int) -> list[tuple[int, ...]]:
    first = int((graph.system_idx < k).sum())
    mine = graph.system_idx[graph.dst] == k
    ends = torch.stack([graph.dst[mine] - first, graph.src[mine] - first], dim=1)
    return sorted(map(tuple, torch.cat([ends, graph.shift[mine].long()], dim=1).tolist()))


def _edges_of_ase(atoms: Atoms, cutoff: float) -> list[tuple[int, ...]]:
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    i, j, shift, distance = primitive_neighbor_list("ijSd", atoms.pbc, cell, atoms.positions, cutoff * (1 + 1e-14))
    kept = distance > MIN_EDGE_LENGTH
    return sorted(map(tuple, np.column_stack([i, j, shift])[kept].tolist()))


@pytest.mark.parametrize("cutoff", [2.0, 6.0])
@pytest.mark.parametrize("name", _frames())
def test_edges_equal_those_of_ase(name: str, cutoff: float) -> None:
    atoms = _frames()[name]
    graph = build_graph([to_system(atoms)], cutoff)
    assert _edges_of(graph, 0) == _edges_of_ase(atoms, cutoff)


def test_batch_holds_the_edges_of_every_system_sorted_by_centre() -> None:
    frames = list(_frames().values())
    graph = build_graph([to_system(atoms) for atoms in frames], 5.0)
    for k, atoms in enumerate(frames):
        assert _edges_of(graph, k) == _edges_of_ase(atoms, 5.0)
    assert (graph.dst.diff() >= 0).all()
    assert (graph.system_idx[graph.src] == graph.system_idx[graph.dst]).all()
    assert graph.n_systems == len(frames)
    assert graph.n_atoms == sum(map(len, frames))


def test_vectors_point_from_centre_to_neighbour_within_the_cutoff() -> None:
    graph = build_graph([to_system(bulk("NaCl", "rocksalt", a=5.6))], 6.0)
    vectors = graph.edge_vectors()
    assert vectors.dtype == graph.shift.dtype == torch.float64
    lengths = vectors.norm(dim=1)
    assert lengths.max() <= 6.0
    pair = build_graph([to_system(Atoms("HF", positions=[[0, 0, 0], [0, 0, 1.0]]))], 6.0)
    to_fluorine = pair.edge_vectors()[(pair.dst == 0) & (pair.src == 1)]
    torch.testing.assert_close(to_fluorine, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))


def test_cutoff_itself_is_inside() -> None:
    pair = to_system(Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.0]]))
    assert build_graph([pair], 2.0).n_edges == 2
    assert build_graph([pair], 1.999999).n_edges == 0


def test_self_images_are_edges_of_an_atom_to_itself() -> None:
    graph = build_graph([to_system(bulk("Po", "sc", a=3.0))], 3.1)
    assert graph.n_edges == 6
    assert (graph.src == graph.dst).all()


def test_skin_adds_edges_beyond_the_cutoff() -> None:
    pair = to_system(Atoms("H2", positions=[[0, 0, 0], [0, 0, 2.4]]))
    assert build_graph([pair], 2.0).n_edges == 0
    assert build_graph([pair], 2.0, skin=0.5).n_edges == 2


def test_no_systems_make_an_empty_graph() -> None:
    graph = build_graph([], 6.0)
    assert (graph.n_systems, graph.n_atoms, graph.n_edges) == (0, 0, 0)


def test_charge_and_spin_are_carried_where_one_system_has_them() -> None:
    neutral, cation = molecule("H2O"), molecule("NH3")
    assert build_graph([to_system(neutral)], 3.0).charge_spin is None
    cation.info["charge"] = 1
    graph = build_graph([to_system(neutral), to_system(cation)], 3.0)
    assert graph.charge_spin is not None
    assert graph.charge_spin.tolist() == [list(UNSPECIFIED_CHARGE_SPIN), [1, 2]]


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("H2", positions=[[0, 0, 0], [0, 0, 1e7]]),
        Atoms("H", cell=[4, 4, 1e8], pbc=True),
        Atoms("H2", positions=[[0, 0, -6000], [0, 0, 6000]], cell=[4, 4, 4], pbc=[True, True, False]),
    ],
)
def test_systems_that_would_crash_the_search_are_refused(atoms: Atoms) -> None:
    """Each one alone, before it meets others in a batch."""
    with pytest.raises(StructureError, match="longer than"):
        build_graph([to_system(atoms)], 6.0)
    assert extent_problem(to_system(atoms)) is not None


def _batched(device: str, cutoff: float) -> tuple[list[Atoms], Graph]:
    frames = list(_frames().values())
    graph = build_graph([to_system(atoms) for atoms in frames], cutoff).to(device)
    edges = neighbours_cuda.batched_edges(
        graph.positions, graph.cell, graph.pbc, graph.system_idx, cutoff, MIN_EDGE_LENGTH
    )
    return frames, dataclasses.replace(graph, src=edges.src, dst=edges.dst, shift=edges.shift)


def test_list_of_the_gpu_puts_boxes_around_atoms_along_open_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(positions: Tensor, cell: Tensor, pbc: Tensor, system_idx: Tensor, ends: Tensor, radius: float) -> Any:
        pairs, shifts = [], []
        for k, (begin, end) in enumerate(pairwise(ends.tolist())):
            mine, box, open_axes = positions[begin:end].numpy(), cell[k].numpy(), ~pbc[k].numpy()
            inside = (mine @ np.linalg.inv(box))[:, open_axes]
            assert ((inside > 0) & (inside < 1)).all()  # nothing needs to be wrapped
            np.testing.assert_allclose((box @ box.T)[open_axes][:, ~open_axes], 0.0, atol=1e-9)
            i, j, shift = primitive_neighbor_list("ijS", ~open_axes, box, mine, radius)
            pairs.append(torch.from_numpy(np.stack([i, j]) + begin))
            shifts.append(torch.from_numpy(shift))
        return torch.cat(pairs, dim=1), torch.cat(shifts)

    monkeypatch.setattr(neighbours_cuda, "_search", search)
    frames, graph = _batched("cpu", 4.0)
    for k, atoms in enumerate(frames):
        assert _edges_of(graph, k) == _edges_of_ase(atoms, 4.0)


@pytest.mark.skipif(not neighbours_cuda.AVAILABLE, reason="the extra 'cuda' is not installed")
@pytest.mark.parametrize("cutoff", [2.0, 6.0])
def test_batched_list_equals_that_of_ase(cutoff: float) -> None:
    frames, graph = _batched("cpu", cutoff)  # the same kernels, compiled for the CPU
    for k, atoms in enumerate(frames):
        assert _edges_of(graph, k) == _edges_of_ase(atoms, cutoff)


@pytest.mark.gpu
@pytest.mark.parametrize("cutoff", [2.0, 6.0])
def test_graph_on_the_gpu_equals_that_on_the_cpu(cutoff: float) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    systems = [to_system(atoms) for atoms in _frames().values()]
    here, there = build_graph(systems, cutoff), build_graph(systems, cutoff, device="cuda")
    assert there.device.type == "cuda"
    assert (there.dst.diff() >= 0).all()
    for k in range(len(systems)):
        assert _edges_of(there.to("cpu"), k) == _edges_of(here, k)


def test_packing_keeps_every_index_once_and_the_budget() -> None:
    costs = [3, 8, 1, 8, 20, 2, 5]
    batches = pack(costs, 10)
    assert sorted(index for batch in batches for index in batch) == list(range(len(costs)))
    assert all(len(batch) == 1 or sum(costs[i] for i in batch) <= 10 for batch in batches)
    assert [costs[i] for batch in batches for i in batch] == sorted(costs, reverse=True)
    assert pack([], 10) == []
    with pytest.raises(ValueError, match="at least 1"):
        pack([1], 0)
