"""The fast path of inference against the plain formula."""

from functools import partial

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from oracle_data import ORACLE

import dpa4_core as dpa4
from dpa4_core import memory
from dpa4_core import potential as dpa4_potential
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.model.footprint import footprint
from dpa4_core.nn import chunked
from dpa4_core.nn.edges import PLAIN
from dpa4_core.nn.strategies import Lean, Tiled
from dpa4_core.nn.tiling import cut
from dpa4_core.potential import derive, species_in, species_table, strategy_for

REFUSED = {"mmax2_heads_widefocus", "scatter_gaussian_noseed"}  # options outside of the released models
TINY = sorted(path.stem for path in (ORACLE / "tiny").glob("*.pt") if path.stem not in REFUSED)


def rattled(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=5)
    return atoms


@pytest.fixture(scope="module")
def systems():
    lonely = Atoms("H", positions=[(0, 0, 0)])  # an atom without edges has no tile
    crystals = [rattled(bulk("Si", cubic=True)), rattled(bulk("Cu"))]
    return [to_system(atoms) for atoms in (crystals[0], lonely, rattled(molecule("CH3CH2OH")), crystals[1])]


def outputs(potential, graph, strategy):
    model = potential.model
    species = species_in(species_table(model.config), graph, "test")
    edge_vec = graph.edge_vectors().requires_grad_()
    return derive(model(edge_vec, graph.src, graph.dst, species, strategy=strategy), edge_vec, graph)


@pytest.mark.parametrize("name, threads", [*((name, 1) for name in TINY), ("neo_like", 2), ("nano_like", 2)])
def test_every_strategy_gives_the_energies_forces_and_virials_of_the_plain_formula(name, threads, systems, monkeypatch):
    potential = dpa4.load(ORACLE / "tiny" / f"{name}.pt", dtype="float64")
    graph = build_graph(systems, potential.cutoff)
    expected = outputs(potential, graph, PLAIN)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        monkeypatch.setattr(chunked, "ROWS", 5)
        for strategy, edges_per_tile in ((Tiled, 50), (Lean, 50), (Tiled, 10**6)):
            tiling = cut(graph.dst, graph.n_atoms, edges_per_tile=edges_per_tile)
            assert edges_per_tile == 10**6 or len(tiling.tiles) > 4
            found = outputs(potential, graph, strategy(tiling))
            for key in ("energy", "atom_energies", "forces", "virial"):
                torch.testing.assert_close(getattr(found, key), getattr(expected, key), rtol=1e-11, atol=1e-11)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("few, expected", [(10**9, 1), (0, 2)])
def test_tiles_share_the_threads_and_small_operations_between_them_take_one(few, expected, systems, monkeypatch):
    potential = dpa4.load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    graph = build_graph(systems, potential.cutoff)
    seen, forward = [], potential.model.forward

    def watched(*args, strategy, **options):
        seen.append((torch.get_num_threads(), strategy.tiling.n_workers))
        return forward(*args, strategy=strategy, **options)

    monkeypatch.setattr(dpa4_potential, "FEW_EDGES", few)
    monkeypatch.setattr(dpa4_potential, "cut", partial(cut, edges_per_tile=50))
    monkeypatch.setattr(potential.model, "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        potential.compute_alone(graph)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(expected, 2)]


def test_buffers_of_one_evaluation_do_not_leak_into_the_next(systems):
    potential = dpa4.load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    large, small = (build_graph(part, potential.cutoff) for part in (systems, systems[2:3]))
    first = potential.compute(small)
    potential.compute(large)
    torch.testing.assert_close(potential.compute(small).forces, first.forces, rtol=0, atol=0)


def test_a_trainable_model_is_evaluated_without_touching_its_gradients(systems):
    potential = dpa4.load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    graph = build_graph(systems, potential.cutoff)
    frozen = potential.compute(graph)
    potential.model.requires_grad_(True)
    torch.testing.assert_close(potential.compute(graph).forces, frozen.forces, rtol=1e-11, atol=1e-11)
    assert all(parameter.grad is None for parameter in potential.model.parameters())


def test_every_edge_is_in_one_tile_and_centres_are_not_cut():
    counts = [3, 0, 40, 7, 7, 1]
    dst = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    tiling = cut(dst, len(counts), edges_per_tile=10)
    assert [(tile.start, tile.stop) for tile in tiling.tiles] == [(0, 3), (3, 43), (43, 50), (50, 58)]
    seen = [
        (atom, tile.start + first, tile.start + last) for tile in tiling.tiles for atom, first, last in tile.centres
    ]
    assert seen == [(0, 0, 3), (2, 3, 43), (3, 43, 50), (4, 50, 57), (5, 57, 58)]
    assert [tile.number for tile in tiling.tiles] == [0, 1, 2, 3]


def test_no_atoms_have_no_energy():
    assert dpa4.load(ORACLE / "tiny" / "neo_like.pt").compute(build_graph([], 6.0)).energy.shape == (0,)


def test_no_edges_are_no_tiles():
    assert cut(torch.zeros(0, dtype=torch.int64), 3).tiles == ()


def test_a_large_system_is_computed_in_little_memory_or_refused_by_number(systems, monkeypatch):
    monkeypatch.setattr(dpa4_potential, "_SMALL", 0)
    potential = dpa4.load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    graph = build_graph(systems, potential.cutoff)
    need = footprint(potential.model.config, potential.dtype, graph.n_atoms, graph.n_edges)
    results, strategies = [], []
    for free in (3 * need.keep, need.keep):
        monkeypatch.setattr(dpa4_potential, "memory_share", lambda _device, free=free: free)
        results.append(potential.compute(graph))
        strategies.append(type(strategy_for(potential.model, graph.dst, graph.n_atoms)))
    assert strategies == [Tiled, Lean]
    torch.testing.assert_close(results[0].forces, results[1].forces, rtol=1e-11, atol=1e-11)
    monkeypatch.setattr(dpa4_potential, "memory_share", lambda _device: need.lean)
    with pytest.raises(MemoryError, match="19 atoms with 288 neighbours need about .* GB are free"):
        potential.compute(graph)


def test_what_does_not_fit_together_is_computed_in_smaller_batches_and_alone_it_is_named(monkeypatch):
    monkeypatch.setattr(dpa4_potential, "_SMALL", 0)
    potential = dpa4.load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    cells = [rattled(bulk("Si", cubic=True)), rattled(bulk("Si")), rattled(bulk("Si"))]
    alone = dpa4.predict(cells, potential)
    edges = [build_graph([to_system(cell)], potential.cutoff).n_edges for cell in cells]
    room = footprint(potential.model.config, potential.dtype, 4, 1.2 * (edges[1] + edges[2])).lean / 0.9
    monkeypatch.setattr(dpa4_potential, "memory_share", lambda _device: room)
    together = dpa4.predict(cells, potential)
    assert together[0].error == "out of memory for 8 atoms on cpu"
    assert [p.energy for p in together[1:]] == pytest.approx([p.energy for p in alone[1:]], abs=1e-11)


def test_the_memory_of_a_control_group_is_what_it_leaves_with_the_files_that_it_keeps(tmp_path):
    assert memory._group_memory(tmp_path) is None
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 700\nfile 300\nactive_file 100\ninactive_file 200\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._group_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory._group_memory(tmp_path) == 4300.0
    assert 1e6 < memory.free_memory(torch.device("cpu")) < 1e16
