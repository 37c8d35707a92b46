"""The physics suite passes a sound potential and finds each of these faults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from dpa4_core import testing
from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output, PotentialLike, derive
from dpa4_core.testing import (
    MorsePotential,
    check_forces_against_differences,
    check_rotation,
    run_physics_suite,
    sample_systems,
)
from dpa4_core.testing.samples import evaluate


def failed(potential: PotentialLike) -> dict[str, str]:
    return {result.name: result.message for result in run_physics_suite(potential) if not result.passed}


def test_morse_potential_passes_every_check() -> None:
    results = run_physics_suite(MorsePotential())
    assert [result.message for result in results if not result.passed] == []
    assert len(results) == 14


def test_morse_potential_is_a_potential() -> None:
    potential = MorsePotential()
    assert isinstance(potential, PotentialLike)
    assert 8 in potential.elements
    assert 2 not in potential.elements
    assert 95 not in potential.elements


def test_suite_runs_on_structures_of_the_user() -> None:
    rattled = bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
    rattled.rattle(0.1, seed=3)
    slab = rattled.copy()
    slab.pbc = (True, False, True)
    results = run_physics_suite(MorsePotential(), [rattled, molecule("CH3OH"), slab])
    assert all(result.passed for result in results), "\n".join(map(str, results))


@pytest.mark.parametrize("elements", [{14}, {26, 92}])
def test_samples_consist_of_known_elements(elements: set[int]) -> None:
    potential = MorsePotential()
    potential.elements = frozenset(elements)
    for system in sample_systems(potential).values():
        assert set(system.numbers.tolist()) <= elements
    assert failed(potential) == {}


def test_samples_have_no_symmetry_and_many_neighbours() -> None:
    for name, system in sample_systems(MorsePotential()).items():
        distances = np.linalg.norm(system.positions[:, None] - system.positions[None, :], axis=2)
        assert distances[np.triu_indices_from(distances, 1)].min() > 0.8, name
        if system.periodic:
            lengths = np.linalg.norm(system.cell, axis=1)
            assert len(np.unique(lengths.round(3))) == 3
            assert np.abs(np.linalg.det(system.cell)) < 30 * len(system.numbers)


class Faulty(MorsePotential):
    """A Morse potential with a term added to the atomic energies, or its output spoiled."""

    def __init__(
        self,
        term: Callable[[Graph, Tensor], Tensor] | None = None,
        spoil: Callable[[Graph, Output], Output] | None = None,
    ) -> None:
        super().__init__()
        self.term = term
        self.spoil = spoil

    def compute(self, graph: Graph) -> Output:
        out = super().compute(graph)
        if self.term is not None:
            edge_vec = graph.edge_vectors().detach().requires_grad_()
            pair = self.term(graph, edge_vec) + 0.0 * edge_vec.sum(1)
            extra = derive(torch.zeros(graph.n_atoms).double().index_add(0, graph.dst, pair), edge_vec, graph)
            out = Output(*(a + b for a, b in zip(out[:5], extra[:5], strict=True)))
        return out if self.spoil is None else self.spoil(graph, out)


def length(edge_vec: Tensor) -> Tensor:
    return torch.linalg.vector_norm(edge_vec, dim=1)


def near_pole(graph: Graph, edge_vec: Tensor) -> Tensor:
    """A spike so narrow around +z that only edges on the axis see it."""
    tilt = 1 - edge_vec[:, 2] / length(edge_vec)
    return 1e-6 * torch.exp(-tilt / 1e-12) * (6.0 - length(edge_vec)) ** 4


def envelope(power: int) -> Callable[[Graph, Tensor], Tensor]:
    return lambda graph, edge_vec: 1e-2 * (6.0 - length(edge_vec)) ** power


def without_own_images(graph: Graph, edge_vec: Tensor) -> Tensor:
    return torch.where(graph.src == graph.dst, 1e-3 * (6.0 - length(edge_vec)) ** 4, 0.0)


def along_z(graph: Graph, edge_vec: Tensor) -> Tensor:
    return 1e-6 * edge_vec[:, 2] ** 2 * (6.0 - length(edge_vec)) ** 4


def by_index(graph: Graph, edge_vec: Tensor) -> Tensor:
    return torch.where(graph.dst == 0, 1e-6 * (6.0 - length(edge_vec)) ** 4, 0.0)


def by_position(graph: Graph, edge_vec: Tensor) -> Tensor:
    return 1e-6 * graph.positions[graph.dst, 0] * (6.0 - length(edge_vec)) ** 4


def across_batch(graph: Graph, out: Output) -> Output:
    return out._replace(forces=out.forces + 1e-3 * out.forces.abs().mean() * graph.n_systems)


def change_input(graph: Graph, out: Output) -> Output:
    graph.positions.add_(1e-12)
    return out


FAULTS = {
    "anisotropic energy": (Faulty(along_z), "rotation", "energy of rotated"),
    "energy depends on origin": (Faulty(by_position), "translation", "energy of translated"),
    "energy depends on order": (Faulty(by_index), "permutation", "energy of permuted"),
    "forces too large by 1e-4": (
        Faulty(spoil=lambda graph, out: out._replace(forces=1.0001 * out.forces)),
        "forces_against_differences",
        "force along",
    ),
    "sign of stress": (
        Faulty(spoil=lambda graph, out: out._replace(stress=-out.stress)),
        "stress_against_differences",
        "stress of",
    ),
    "transposed virial with rotation": (
        Faulty(spoil=lambda graph, out: out._replace(virial=out.virial.flip(1))),
        "stress_against_differences",
        "virial of",
    ),
    "batch matters": (Faulty(spoil=across_batch), "batch_equals_single", "in a batch"),
    "systems couple": (Faulty(spoil=across_batch), "systems_do_not_couple", "beside"),
    "energy not extensive": (
        Faulty(spoil=lambda graph, out: out._replace(energy=out.energy + 1e-6)),
        "extensivity",
        "supercell",
    ),
    "own images differ": (Faulty(without_own_images), "self_images", "supercell of cell of one atom"),
    "jump at the cutoff": (Faulty(envelope(0)), "continuity_through_cutoff", "energy just behind"),
    "kink at the cutoff": (Faulty(envelope(1)), "continuity_through_cutoff", "force just behind"),
    "curvature jumps at the cutoff": (Faulty(envelope(2)), "continuity_through_cutoff", "curvature"),
    "singular at the pole": (Faulty(near_pole), "continuity_at_polar_axis", "an edge along +z"),
    "NaN without neighbours": (
        Faulty(spoil=lambda graph, out: out._replace(forces=out.forces / min(graph.n_edges, 1))),
        "isolated_atom",
        "nan",
    ),
    "input changed": (
        Faulty(spoil=change_input),
        "input_untouched",
        "computing changed positions of the graph",
    ),
    "output attached": (
        Faulty(spoil=lambda graph, out: out._replace(energy=out.energy.requires_grad_())),
        "input_untouched",
        "requires grad",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_suite_finds(fault: str) -> None:
    potential, check, sentence = FAULTS[fault]
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        getattr(testing, f"check_{check}")(potential)


def test_a_third_continuous_derivative_is_not_asked_for() -> None:
    assert failed(Faulty(envelope(3))) == {}


def test_failure_is_a_sentence_with_numbers() -> None:
    potential = Faulty(spoil=lambda graph, out: out._replace(forces=1.01 * out.forces))
    with pytest.raises(AssertionError, match=r"force along [xyz] on atom \d+ of .* is .*, expected .* eV/Å exceeds"):
        check_forces_against_differences(potential)


def test_tolerance_for_single_precision() -> None:
    class Single(MorsePotential):
        def compute(self, graph: Graph) -> Output:
            return Output(*(value.float().double() for value in super().compute(graph)[:5]))

    with pytest.raises(AssertionError):
        check_rotation(Single())
    assert all(result.passed for result in run_physics_suite(Single(), tolerance=1e-4))


def test_reflections_are_not_asked_for() -> None:
    """DPA4 tells left from right; such a potential must pass."""

    def handedness(graph: Graph, edge_vec: Tensor) -> Tensor:
        """The triple product of three moments of the neighbours of an atom, shared among its edges."""
        weight = (6.0 - length(edge_vec)) ** 4 / 6.0**4
        moments = []
        for power in (1, 2, 3):
            moment = torch.zeros_like(graph.positions).index_add(0, graph.dst, (weight**power)[:, None] * edge_vec)
            moments.append(moment)
        count = torch.bincount(graph.dst, minlength=graph.n_atoms).clamp(min=1)
        return 1e3 * (torch.linalg.det(torch.stack(moments, dim=1)) / count)[graph.dst]

    potential = Faulty(handedness)
    assert failed(potential) == {}
    system = sample_systems(potential)["triclinic crystal"]
    mirrored = dataclasses.replace(system, positions=-system.positions, cell=-system.cell)
    one, two = evaluate(potential, [system, mirrored])
    assert abs(one.energy - two.energy) > 1e-4
