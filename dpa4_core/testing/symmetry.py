"""Exact invariances: what must not change, or in a known way, when a structure is written differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.system import System, complete_cell
from dpa4_core.potential import PotentialLike
from dpa4_core.testing.compare import TOLERANCE, assert_close, assert_same
from dpa4_core.testing.samples import (
    Evaluation,
    as_systems,
    evaluate,
    moved,
    open_system,
    random_rotation,
    sample_elements,
    sample_systems,
    supercell,
)


def check_rotation(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Energies are invariant, forces, virial and stress turn with the structure; proper rotations only."""
    rng = np.random.default_rng(1)
    for label, system in as_systems(structures, potential).items():
        turns = [random_rotation(rng) for _ in range(3)]
        rotated = [moved(system, system.positions @ turn.T, system.cell @ turn.T) for turn in turns]
        (before,) = evaluate(potential, [system])
        for turn, after in zip(turns, evaluate(potential, rotated), strict=True):
            expected = before._replace(
                forces=before.forces @ turn.T,
                virial=turn @ before.virial @ turn.T,
                stress=None if before.stress is None else turn @ before.stress @ turn.T,
            )
            assert_same(after, expected, tolerance, f"rotated {label}")


def check_translation(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Nothing changes when all atoms move together, or when single atoms move by lattice vectors."""
    rng = np.random.default_rng(2)
    for label, system in as_systems(structures, potential).items():
        shifted = moved(system, system.positions + rng.normal(scale=3.0, size=3))
        hops = (rng.integers(-2, 3, size=(len(system.numbers), 3)) * system.pbc) @ system.cell
        before, after, hopped = evaluate(potential, [system, shifted, moved(system, system.positions + hops)])
        assert_same(after, before, tolerance, f"translated {label}")
        assert_same(hopped, before, tolerance, f"{label} with atoms moved by lattice vectors")


def check_permutation(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Reordering atoms reorders their energies and forces and changes nothing else."""
    rng = np.random.default_rng(3)
    for label, system in as_systems(structures, potential).items():
        order = rng.permutation(len(system.numbers))
        shuffled = dataclasses.replace(
            system,
            numbers=system.numbers[order],
            positions=system.positions[order],
            fixed=system.fixed[order],
        )
        before, after = evaluate(potential, [system, shuffled])
        expected = before._replace(atom_energies=before.atom_energies[order], forces=before.forces[order])
        assert_same(after, expected, tolerance, f"permuted {label}")


def check_batch_equals_single(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """A structure has the same results alone and among others, in any order."""
    systems = as_systems(structures, potential)
    alone = [evaluate(potential, [system])[0] for system in systems.values()]
    together = evaluate(potential, list(systems.values()))
    backwards = evaluate(potential, list(systems.values())[::-1])[::-1]
    for label, one, two, three in zip(systems, alone, together, backwards, strict=True):
        assert_same(two, one, tolerance, f"{label} in a batch")
        assert_same(three, one, tolerance, f"{label} in a batch of reversed order")


def check_systems_do_not_couple(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """What happens to one system of a batch leaves the others alone, also when they share coordinates."""
    rng = np.random.default_rng(4)
    for label, system in as_systems(structures, potential).items():
        other = moved(system, system.positions + rng.normal(scale=0.05, size=system.positions.shape))
        atom = open_system(system.numbers[:1].tolist(), system.positions[:1])
        reference = evaluate(potential, [system, system])
        assert_same(reference[1], reference[0], tolerance, f"{label} twice in a batch")
        for neighbour, what in ((other, "a rattled copy"), (atom, "a single atom")):
            for result in (
                evaluate(potential, [system, neighbour])[0],
                evaluate(potential, [neighbour, system])[1],
            ):
                assert_same(result, reference[0], tolerance, f"{label} beside {what}")


def check_extensivity(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """A supercell has the energy of its cells, the same forces in each and the same stress."""
    for label, system in as_systems(structures, potential, only_crystals=True).items():
        for repeats in ((2, 1, 1), (1, 2, 2)):
            _compare_supercell(potential, system, repeats, tolerance, label)


def check_open_axes(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """An open axis sees no images: a slab or chain in any cell is that in a crystal with wide gaps."""
    for label, crystal in as_systems(structures, potential, only_crystals=True).items():
        for pbc in ((True, True, False), (False, True, True), (False, False, True)):
            _compare_with_gaps(potential, crystal, np.array(pbc), tolerance, label)


def check_self_images(potential: PotentialLike, *, tolerance: float = TOLERANCE) -> None:
    """Cells so small that atoms are their own neighbours equal supercells; a lone atom has no force."""
    pair = sample_systems(potential)["small cell"]
    # The cell of one atom keeps the volume per atom of the pair.
    one = dataclasses.replace(
        pair,
        numbers=pair.numbers[:1],
        positions=pair.positions[:1],
        fixed=pair.fixed[:1],
        cell=pair.cell * 0.5 ** (1 / 3),
    )
    for system, label in ((one, "cell of one atom"), (pair, "cell of two atoms")):
        _compare_supercell(potential, system, (3, 3, 3), tolerance, label)
    assert_close(evaluate(potential, [one])[0].forces, 0.0, tolerance, "force on the atom of a one-atom cell", "eV/Å")


def check_isolated_atom(potential: PotentialLike, *, tolerance: float = TOLERANCE) -> None:
    """An atom without neighbours has a finite energy, the same open, boxed and batched, and no force."""
    crystal = sample_systems(potential)["triclinic crystal"]
    for number in sorted(set(sample_elements(potential))):
        atom = open_system([number], np.array([[0.3, -0.2, 0.1]]))
        boxed = dataclasses.replace(atom, cell=2.5 * potential.cutoff * np.eye(3), pbc=np.ones(3, dtype=bool))
        (alone,) = evaluate(potential, [atom])
        expected = Evaluation(alone.energy, np.array([alone.energy]), np.zeros((1, 3)), np.zeros((3, 3)), None)
        label = f"isolated atom Z = {number}"
        assert_same(alone, expected, tolerance, label)
        in_box, _, in_batch = evaluate(potential, [boxed, crystal, atom])
        assert_same(in_batch, expected, tolerance, f"{label} in a batch")
        assert_same(in_box, expected._replace(stress=np.zeros((3, 3))), tolerance, f"{label} in a large cell")


def check_input_untouched(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Computing changes no tensor of the graph, returns detached tensors, and gives the same again."""
    graph = build_graph(list(as_systems(structures, potential).values()), potential.cutoff, device=potential.device)
    before = {name: tensor.clone() for name, tensor in _tensors(graph).items()}
    first, second = potential.compute(graph), potential.compute(graph)
    for name, tensor in _tensors(graph).items():
        if not torch.equal(tensor, before[name]):
            raise AssertionError(f"computing changed {name} of the graph")
        if tensor.requires_grad:
            raise AssertionError(f"computing left requires_grad on {name} of the graph")
    for name, one, two in zip(first._fields[:5], first[:5], second[:5], strict=True):
        if one.requires_grad:
            raise AssertionError(f"{name} of the output requires grad; it should be detached")
        values, again = one.cpu().numpy(), two.cpu().numpy()
        assert_close(again, values, tolerance, f"{name} computed twice", "eV, Å", nan_ok=True)


def _tensors(graph: Graph) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def _compare_with_gaps(
    potential: PotentialLike, crystal: System, pbc: np.ndarray, tolerance: float, label: str
) -> None:
    """``crystal`` repeated along ``pbc`` [3] alone, with its vectors along the other axes and without them."""
    tight = dataclasses.replace(crystal, pbc=pbc)
    bare = dataclasses.replace(tight, cell=np.where(pbc[:, None], crystal.cell, 0.0))
    normals = complete_cell(bare.cell)
    gap = 2.5 * potential.cutoff + np.ptp(crystal.positions @ normals.T, axis=0)
    apart = dataclasses.replace(crystal, cell=np.where(pbc[:, None], crystal.cell, gap[:, None] * normals))
    in_gaps, in_cell, without = evaluate(potential, [apart, tight, bare])
    assert in_gaps.stress is not None
    span = np.linalg.pinv(crystal.cell[pbc]) @ crystal.cell[pbc]
    stress = span @ in_gaps.stress @ span
    axes = " and ".join("abc"[axis] for axis in np.flatnonzero(~pbc))
    for result, system, how in ((in_cell, tight, "in a tight cell"), (without, bare, "without a vector there")):
        expected = in_gaps._replace(stress=stress * (apart.volume / system.volume))
        assert_same(result, expected, tolerance, f"{label} open along {axes} {how}")


def _compare_supercell(
    potential: PotentialLike, system: Any, repeats: tuple[int, int, int], tolerance: float, label: str
) -> None:
    one, many = evaluate(potential, [system, supercell(system, repeats)])
    copies = int(np.prod(repeats))
    expected = Evaluation(
        copies * one.energy,
        np.tile(one.atom_energies, copies),
        np.tile(one.forces, (copies, 1)),
        copies * one.virial,
        one.stress,
    )
    assert_same(many, expected, tolerance, f"{repeats[0]}×{repeats[1]}×{repeats[2]} supercell of {label}")
