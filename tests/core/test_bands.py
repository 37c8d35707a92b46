"""Nudged elastic bands in the batch in flight, on the toy potential."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import FIRE

import dpa4_core as dpa4
from dpa4_core.testing.morse import MorsePotential

POTENTIAL = MorsePotential()
LATTICE = 3.73  # Å, of aluminium at rest


def vacancy_hop(symbol: str = "Al", shuffle: int | None = None) -> tuple[Atoms, Atoms]:
    """A vacancy in 32 sites of an fcc crystal before and after a neighbour has jumped into it, not relaxed."""
    crystal = bulk(symbol, "fcc", a=LATTICE, cubic=True).repeat(2)
    near = int(np.argsort(crystal.get_distances(0, range(32), mic=True))[1])
    start, end = crystal[1:], crystal.copy()
    end.positions[near] = crystal.positions[0]
    end = end[1:]
    if shuffle is not None:
        end = end[np.random.default_rng(shuffle).permutation(len(end))]
        end.wrap()
    return start, end


@pytest.fixture(scope="module")
def ends() -> tuple[Any, Any]:
    options = {"relax_cell": False, "fmax": 1e-3, "check_minimum": False}
    return tuple(dpa4.relax(list(vacancy_hop()), POTENTIAL, **options))


def run(requests: dict[str, Any], potential: Any = POTENTIAL, budget: int | None = None) -> dict[str, Any]:
    flight, results = dpa4.InFlight(potential, budget), {}
    flight.put(requests.items())
    while flight:
        results |= dict(flight.step())
    return results


def band_between(ends: tuple[Any, Any], n_images: int = 3, **options: Any) -> dpa4.Band:
    images = dpa4.band_path(ends[0].structure, ends[1].structure, n_images)
    return dpa4.Band(images, (ends[0].energy, ends[1].energy), dpa4.BandOptions(**options))


@pytest.mark.parametrize("climb", [False, True])
def test_a_band_makes_the_steps_of_ase(ends: tuple[Any, Any], climb: bool) -> None:
    band = band_between(ends, max_steps=12, fmax=1e-3, climb=climb, optimizer="fire")
    for image in band.images:
        image.positions[5] = band.images[0].positions[5]
        image.set_constraint(FixAtoms([5]))
    images = [image.copy() for image in band.images]
    for image in images:
        image.calc = dpa4.DPA4Calculator(POTENTIAL)
    FIRE(NEB(images, k=1.0, climb=climb, method="improvedtangent"), logfile=None).run(fmax=1e-3, steps=12)
    found = run({"band": band})["band"]
    assert found.reason == "max_steps" and found.n_steps == 12 and found.n_force_calls == 3 * 13
    for ours, theirs in zip(found.images, images, strict=True):
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-9)
    np.testing.assert_allclose(found.energies[1:-1], [image.get_potential_energy() for image in images[1:-1]])


class Counting(MorsePotential):
    """Counts structures."""

    n_structures = 0

    def compute(self, graph: Any) -> Any:
        self.n_structures += graph.n_systems
        return super().compute(graph)


@pytest.mark.parametrize("climb", [False, True])
def test_a_band_comes_to_the_barrier_of_fire_with_half_of_the_force_calls(ends: tuple[Any, Any], climb: bool) -> None:
    counting = Counting()
    slow = run({"band": band_between(ends, 5, climb=climb, optimizer="fire", fmax=0.02)})["band"]
    fast = run({"band": band_between(ends, 5, climb=climb, fmax=0.02)}, counting)["band"]
    assert fast.converged and slow.converged and max(fast.fmax, slow.fmax) < 0.02
    assert fast.barrier == pytest.approx(slow.barrier, abs=1e-3)
    assert fast.n_force_calls == counting.n_structures < 0.5 * slow.n_force_calls
    assert fast.n_force_calls < 5 * (fast.n_steps + 1)  # images that rest are not computed


def test_the_climbing_image_is_the_saddle_that_symmetry_holds(ends: tuple[Any, Any]) -> None:
    """The highest point of the hop lies half way, where a mirror plane holds the atom: found without a band, too."""
    found = run({"band": band_between(ends, n_images=4, fmax=0.02)})["band"]
    middle = ends[0].structure.copy()
    middle.positions = (middle.positions + dpa4.band_path(middle, ends[1].structure, 1)[-1].positions) / 2
    held = dpa4.relax([middle], POTENTIAL, relax_cell=False, keep_symmetry=True, fmax=0.001)[0]
    assert found.converged and found.fmax < 0.02 and found.error is None
    assert found.highest in (2, 3)  # none of four images starts half way
    assert found.barrier == pytest.approx(held.energy - ends[0].energy, abs=2e-4)
    assert found.barrier_back == pytest.approx(found.barrier, abs=1e-5)
    lower = run({"band": band_between(ends, n_images=4, fmax=0.1, climb=False)})["band"]
    assert lower.barrier < found.barrier - 0.02


def test_a_band_does_not_depend_on_its_company(ends: tuple[Any, Any]) -> None:
    band = band_between(ends, fmax=0.1)
    alone = run({"band": band})["band"]
    pair = dpa4.Relax(Atoms("N2", [[0, 0, 0], [0, 0, 1.6]]), dpa4.RelaxOptions(check_minimum=False))
    other = band_between(ends, n_images=2, fmax=0.2)
    crystal = dpa4.Static(bulk("Cu", cubic=True))
    together = run({"pair": pair, "other": other, "band": band, "crystal": crystal}, budget=300)
    assert together["other"].converged and together["pair"].converged and together["crystal"].error is None
    assert together["band"].energies == pytest.approx(alone.energies, abs=1e-9)
    assert together["band"].n_steps == alone.n_steps
    squeezed = run({"other": other, "band": band}, budget=40)["band"]  # larger than the budget, and alone in it
    assert squeezed.energies == pytest.approx(alone.energies, abs=1e-9)


class OneBadImage(MorsePotential):
    """Gives no energy of the first system that holds lithium."""

    def compute(self, graph: Any) -> Any:
        out = super().compute(graph)
        ill = graph.system_idx[graph.atomic_numbers == 3]
        if len(ill):
            out.energy[ill[0]] = float("nan")
        return out


class LittleMemory(MorsePotential):
    """Has room for two bands of three images, not for three."""

    def compute(self, graph: Any) -> Any:
        if graph.n_atoms > 200:
            raise MemoryError
        return super().compute(graph)


def test_a_broken_band_fails_alone(ends: tuple[Any, Any]) -> None:
    good, bad = band_between(ends, fmax=0.2), band_between(ends, fmax=0.2)
    for image in bad.images:
        image.numbers[7] = 3
    asked = {"bad": bad, "good": good, "end": dpa4.Static(ends[0].structure)}
    found = run(asked, OneBadImage())
    assert found["bad"].error_code == "not_finite" and not found["bad"].converged
    assert found["good"].converged and found["end"].error is None
    assert found["good"].barrier == pytest.approx(run({"good": good})["good"].barrier, abs=1e-9)


def test_bands_wait_where_memory_is_short(ends: tuple[Any, Any]) -> None:
    asked = {str(i): band_between(ends, fmax=0.3) for i in range(3)}
    found = run(asked, LittleMemory())
    assert all(one.converged for one in found.values()) and len({one.energies for one in found.values()}) == 1
    alone = run({"large": band_between(ends, n_images=7)}, LittleMemory())["large"]
    assert alone.error_code == "out_of_memory"


def test_atoms_are_matched_across_the_cell() -> None:
    start, end = vacancy_hop(shuffle=3)
    images = dpa4.band_path(start, end, 3)
    ways = np.linalg.norm(images[-1].positions - images[0].positions, axis=1)
    assert np.sum(ways > 0.1) == 1 and ways.max() == pytest.approx(LATTICE / 2**0.5)
    moved = np.abs(np.diff([image.positions for image in images], axis=0)).max()
    assert moved < ways.max() / 2  # evenly spaced
    assert all((image.numbers == start.numbers).all() for image in images)


def test_ends_with_atoms_in_another_order_are_no_band_in_order() -> None:
    start = bulk("NaCl", "rocksalt", a=5.6)
    with pytest.raises(dpa4.StructureError, match="in another order"):
        dpa4.band_path(start, start[::-1], 1, in_order=True)


def test_the_path_leads_around_atoms() -> None:
    """Two atoms that swap ends with a third in the middle of the straight line."""
    start = Atoms("CO", [[0.0, 0.0, 0.0], [1.5, 0.02, 0.0]], cell=[9, 9, 9], pbc=True)
    end = Atoms("CO", [[3.0, 0.0, 0.0], [1.5, 0.02, 0.0]], cell=[9, 9, 9], pbc=True)
    distances = [image.get_distance(0, 1) for image in dpa4.band_path(start, end, 5)]
    assert min(distances) > 1.2  # 0.02 on the straight line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda end: end[:-1], "different atoms"),
        (lambda end: end.set_cell(end.cell * 1.1) or end, "their cells differ"),
        (lambda end: end.set_pbc([True, True, False]) or end, "different axes"),
    ],
)
def test_ends_that_do_not_belong_together_are_refused(change: Any, words: str) -> None:
    start, end = vacancy_hop()
    with pytest.raises(dpa4.StructureError, match=words):
        dpa4.band_path(start, change(end))
    band = dpa4.Band([start, start, change(end.copy())], (0.0, 0.0))
    found = run({"band": band})["band"]
    assert found.error_code == "refused" and words in found.error


def test_a_fixed_atom_that_moves_is_refused() -> None:
    start, end = vacancy_hop()
    moving = int(np.argmax(np.linalg.norm(end.positions - start.positions, axis=1)))
    start.set_constraint(FixAtoms([moving]))
    with pytest.raises(dpa4.StructureError, match="a fixed atom is 2.6 Å elsewhere"):
        dpa4.band_path(start, end)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(dpa4.DPA4Error, match="spring must be a positive number"):
        dpa4.BandOptions(spring=0.0)
    with pytest.raises(dpa4.DPA4Error, match="fmax must be a positive number"):
        dpa4.BandOptions(fmax=-1.0)
