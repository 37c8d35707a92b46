"""Trajectories are requests like others: they share a batch, go on where they stopped, and hold their temperature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms

from dpa4_core import DPA4Error, Dynamics, DynamicsResult, InFlight, MDSettings, Relax, Static
from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.graph import Graph
from dpa4_core.md.integrators import prepare, start
from dpa4_core.potential import Output, PotentialLike
from dpa4_core.relax import Phase
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential(cutoff=4.0)
WARM = MDSettings(temperature=400.0, timestep_fs=3.0, time_ps=0.06, every=4, seed=3)
WAYS = {
    "nve": replace(WARM, ensemble="nve"),
    "langevin": WARM,
    "nose-hoover": replace(WARM, thermostat="nose-hoover", thermostat_fs=30.0),
}


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.7) * (2, 1, 1)
    atoms.rattle(0.02, seed=1)
    return atoms


def run(requests: dict[str, Any], potential: PotentialLike = MORSE, budget: int = 64) -> dict[str, Any]:
    flight = InFlight(potential, budget)
    flight.put(requests.items())
    found: dict[str, Any] = {}
    while flight:
        found.update(flight.step())
    return found


@pytest.mark.parametrize("way", ["nve", "nose-hoover"])
def test_steps_are_those_of_ase(way: str) -> None:
    atoms = crystal()
    atoms.calc = DPA4Calculator(MORSE)
    prepare(atoms, WAYS[way])
    motion = start(atoms, WAYS[way])
    places = []
    for step in range(1, WARM.n_steps + 1):
        motion.step()
        if step % WARM.every == 0:
            places.append(atoms.positions.copy())
    found: DynamicsResult = run({"one": Dynamics(crystal(), WAYS[way])})["one"]
    np.testing.assert_allclose(found.positions, places, atol=1e-5)
    assert found.end is not None and found.n_steps == WARM.n_steps and found.n_force_calls == WARM.n_steps + 1
    np.testing.assert_allclose(found.end.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(found.end.velocities, atoms.get_velocities(), atol=1e-9)
    assert found.energies[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_a_trajectory_goes_on_as_if_it_had_never_stopped_whatever_shares_its_batch(way: str) -> None:
    requests = {"moves": Dynamics(crystal(), WAYS[way]), "rests": Relax(crystal()), "point": Static(crystal())}
    found = run(requests | {"hot": Dynamics(crystal(), replace(WAYS[way], temperature=900.0, seed=1))})
    alone = run({"rests": requests["rests"]})["rests"]
    assert (found["rests"].n_steps, found["rests"].minimum) == (alone.n_steps, alone.minimum)
    assert found["rests"].energy == pytest.approx(alone.energy, abs=1e-9)
    whole = found["moves"]
    assert whole.error is None and not np.allclose(whole.positions, found["hot"].positions, atol=0.01)
    begin: Phase | None = None
    pieces: list[DynamicsResult] = []
    for n_steps in (7, 9, 4):
        pieces.append(run({"one": Dynamics(crystal(), WAYS[way], begin, n_steps)})["one"])
        begin = pieces[-1].end
    np.testing.assert_allclose(np.concatenate([one.positions for one in pieces]), whole.positions, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([one.temperatures for one in pieces]), whole.temperatures, rtol=1e-6)
    assert begin is not None and begin.step == WARM.n_steps
    np.testing.assert_allclose(begin.chain, whole.end.chain, atol=1e-9)


class Springs:
    """Every atom on a spring of its own, to where it belongs in a simple cubic lattice."""

    cutoff, device, elements = 1.0, torch.device("cpu"), frozenset(range(1, 95))

    def __init__(self, spring: float, spacing: float) -> None:
        self.spring, self.spacing = spring, spacing

    def compute(self, graph: Graph) -> Output:
        away = graph.positions - self.spacing * torch.round(graph.positions / self.spacing)
        energies = 0.5 * self.spring * away.square().sum(1)
        none = torch.zeros(graph.n_systems, 3, 3, dtype=torch.float64)
        total = torch.zeros(graph.n_systems, dtype=torch.float64).index_add(0, graph.system_idx, energies)
        return Output(total, energies, -self.spring * away, none, none)


def test_springs_at_a_temperature_hold_half_of_it_each() -> None:
    """<x²> = kT/k along each axis, of many atoms on springs, and the motion has the temperature."""
    spring, temperature, spacing = 2.0, 500.0, 5.0
    atoms = Atoms("Ne400", cell=[50, 50, 20], pbc=True)
    atoms.positions = spacing * np.stack(np.meshgrid(*map(np.arange, (10, 10, 4)), indexing="ij"), -1).reshape(-1, 3)
    settings = MDSettings(temperature=temperature, timestep_fs=3.0, friction_per_ps=10.0, time_ps=1.8, every=2, seed=1)
    found = run({"one": Dynamics(atoms, settings)}, Springs(spring, spacing), 400)["one"]
    late = found.positions[len(found.positions) // 4 :] - atoms.positions
    assert np.mean(late**2) == pytest.approx(units.kB * temperature / spring, rel=0.03)
    assert found.temperatures[75:].mean() == pytest.approx(temperature, rel=0.03)


def test_fixed_atoms_stay_and_the_whole_does_not_drift() -> None:
    held = crystal()
    held.set_constraint(FixAtoms([0]))
    found = run({"held": Dynamics(held, WARM), "free": Dynamics(crystal(), WARM)})
    np.testing.assert_array_equal(found["held"].end.positions[0], held.positions[0])
    assert np.abs(found["held"].end.positions[1:] - held.positions[1:]).max(axis=1).min() > 1e-3
    np.testing.assert_allclose(found["free"].end.positions.mean(axis=0), crystal().positions.mean(axis=0), atol=1e-9)


def test_what_explodes_is_refused_or_lacks_memory_fails_alone() -> None:
    hot = replace(WARM, temperature=1e5, timestep_fs=20.0, max_temperature=2e5)
    one = Atoms("Cu", cell=[5, 5, 5], pbc=True)
    found = run({"hot": Dynamics(crystal(), hot), "one": Dynamics(one, WARM), "good": Dynamics(crystal(), WARM)})
    assert found["hot"].error_code in ("exploded", "large_force", "dissociated") and found["hot"].end is None
    assert "make a supercell" in found["one"].error and found["one"].positions.shape == (0, 1, 3)
    assert found["good"].error is None
    for settings, words in (
        (replace(WARM, ensemble="npt"), "keep their cell"),
        (replace(WARM, keep_velocities=True), "phase"),
    ):
        with pytest.raises(DPA4Error, match=words):
            Dynamics(crystal(), settings)

    class Small(MorsePotential):
        def compute(self, graph: Graph) -> Output:
            if graph.n_atoms > 12:
                raise MemoryError
            return super().compute(graph)

    two = {"a": Dynamics(crystal(), WARM), "b": Dynamics(crystal(), replace(WARM, seed=4))}
    short, alone = run(two, Small(cutoff=4.0)), run(two)
    for name in two:
        np.testing.assert_allclose(short[name].positions, alone[name].positions, atol=1e-6)
    large = run({"large": Dynamics(crystal() * (1, 1, 2), WARM)}, Small(cutoff=4.0))["large"]
    assert large.error_code == "out_of_memory"
