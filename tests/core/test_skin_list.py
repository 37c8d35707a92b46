"""Neighbour lists with a skin give the edges of a fresh search, whatever moves, joins or leaves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.skin_list import SkinList
from dpa4_core.data.structures import System, to_system
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()
CPU = torch.device("cpu")


def systems() -> list[System]:
    water = molecule("H2O")
    water.info["charge"] = 1
    crystals: list[Atoms] = [bulk("Cu", a=3.6), bulk("MgO", "rocksalt", a=4.3, cubic=True), bulk("Ti"), water]
    return [to_system(atoms) for atoms in crystals]


def edges(graph: Graph) -> set[tuple[int, ...]]:
    return set(map(tuple, torch.cat((graph.src[:, None], graph.dst[:, None], graph.shift.long()), dim=1).tolist()))


def moved(system: System, rng: np.random.Generator, strain: float, step: float) -> System:
    deformation = np.eye(3) + strain * rng.normal(size=(3, 3))
    positions = system.positions @ deformation + step * rng.normal(size=system.positions.shape)
    return dataclasses.replace(system, positions=positions, cell=system.cell @ deformation)


def graph_of(skin_list: SkinList, members: list[System]) -> Graph:
    positions = torch.from_numpy(np.concatenate([system.positions for system in members]))
    return skin_list.graph(positions, torch.from_numpy(np.stack([system.cell for system in members])))


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.0])
def test_a_trajectory_has_the_edges_and_energies_of_a_fresh_search_at_every_step(skin: float) -> None:
    rng = np.random.default_rng(3)
    members = systems()
    skin_list = SkinList(MORSE.cutoff, skin, CPU)
    skin_list.join(members)
    n_graphs = 0
    for step in range(40):
        if step == 15:
            skin_list.leave(torch.tensor([True, False, True, True]))
            members.pop(1)
        if step == 25:
            skin_list.join(systems()[:2])
            members += systems()[:2]
        members = [moved(system, rng, 0.004, 0.02) for system in members]
        graph = graph_of(skin_list, members)
        fresh = build_graph(members, MORSE.cutoff)
        n_graphs += len(members)
        assert edges(graph) == edges(fresh)
        assert bool((graph.dst.diff() >= 0).all())
        assert torch.equal(graph.charge_spin, fresh.charge_spin)
        ours, theirs = MORSE.compute(graph), MORSE.compute(fresh)
        torch.testing.assert_close(ours.energy, theirs.energy, rtol=1e-14, atol=1e-13)
        torch.testing.assert_close(ours.forces, theirs.forces, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.stress, theirs.stress, rtol=0, atol=1e-12, equal_nan=True)
    if skin == 0:
        assert skin_list.n_searches == n_graphs
    if skin == 1.0:
        assert skin_list.n_searches < 0.25 * n_graphs


@pytest.mark.parametrize("seed", range(5))
def test_no_edge_is_missing_just_before_the_list_is_searched_again(seed: int) -> None:
    """Systems move along one direction in small steps, so that the last graphs before a search use the whole skin."""
    rng = np.random.default_rng(seed)
    (crystal,) = systems()[1:2]
    strain, direction = 0.002 * rng.normal(size=(3, 3)), 0.01 * rng.normal(size=(8, 3))
    if seed == 0:
        strain, direction = -0.004 * np.eye(3), 0 * direction  # pure compression brings neighbours in
    skin_list = SkinList(MORSE.cutoff, 0.4, CPU)
    skin_list.join([crystal])
    for step in range(60):
        deformation = np.eye(3) + step * strain
        now = dataclasses.replace(
            crystal, positions=crystal.positions @ deformation + step * direction, cell=crystal.cell @ deformation
        )
        assert edges(graph_of(skin_list, [now])) == edges(build_graph([now], MORSE.cutoff))
    assert 1 < skin_list.n_searches < 40


def test_the_latest_graph_follows_the_systems_that_leave() -> None:
    skin_list = SkinList(MORSE.cutoff, 0.5, CPU)
    members = systems()
    skin_list.join(members)
    graph_of(skin_list, members)
    skin_list.leave(torch.tensor([False, True, False, True]))
    fresh = build_graph([members[1], members[3]], MORSE.cutoff)
    assert edges(skin_list.latest) == edges(fresh)
    assert torch.equal(skin_list.latest.atomic_numbers, fresh.atomic_numbers)
    assert torch.equal(skin_list.latest.system_idx, fresh.system_idx)


def test_rigid_rotation_and_translation_keep_the_list_of_a_crystal() -> None:
    skin_list = SkinList(MORSE.cutoff, 0.5, CPU)
    (crystal,) = systems()[1:2]
    skin_list.join([crystal])
    graph_of(skin_list, [crystal])
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = dataclasses.replace(crystal, positions=crystal.positions @ turn, cell=crystal.cell @ turn)
    assert edges(graph_of(skin_list, [turned])) == edges(build_graph([turned], MORSE.cutoff))
    assert skin_list.n_searches == 1
