"""Requests of any kind share a batch, each with its own options, and come and go while it moves."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms

from dpa4_core import InFlight, Relax, RelaxOptions, RelaxResult, Static, predict, relax
from dpa4_core.data.graph import Graph
from dpa4_core.md.settings import MDSettings
from dpa4_core.potential import Output
from dpa4_core.predict import Prediction
from dpa4_core.relax import Dynamics, DynamicsResult
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()


class Counting(MorsePotential):
    """Records the atoms of every force call; can run out of memory beyond a number of them."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.atoms: list[int] = []
        self.most = most

    def compute(self, graph: Graph) -> Output:
        if self.most is not None and graph.n_atoms > self.most:
            raise MemoryError
        self.atoms.append(graph.n_atoms)
        return super().compute(graph)


def crystal(seed: int, n: int = 2) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Mg", "fcc", a=4.5) * (n, 1, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def run(requests: dict[str, Relax | Static], potential: MorsePotential = MORSE, budget: int = 64) -> dict:
    flight = InFlight(potential, budget)
    flight.put(requests.items())
    found: dict = {}
    while flight:
        found.update(flight.step())
    return found


OPTIONS = {
    "default": RelaxOptions(),
    "tight": RelaxOptions(fmax=1e-4),
    "few steps": RelaxOptions(max_steps=2),
    "fixed cell": RelaxOptions(cell="fixed"),
    "mask": RelaxOptions(cell=[1, 1, 0, 0, 0, 0]),
    "pressed": RelaxOptions(pressure_gpa=5.0),
    "symmetric": RelaxOptions(keep_symmetry=True),
    "fire": RelaxOptions(optimizer="fire", max_step=0.1),
    "short steps": RelaxOptions(max_step=0.05),
    "unchecked": RelaxOptions(check_minimum=False),
    "recorded": RelaxOptions(keep_trajectory=True),
}


@pytest.fixture(scope="module")
def together() -> dict:
    requests = {name: Relax(crystal(5), options) for name, options in OPTIONS.items()}
    held = crystal(5)
    held.set_constraint(FixAtoms([0]))
    return run({**requests, "held": Relax(held), "point": Static(crystal(5))})


@pytest.mark.parametrize("name", OPTIONS)
def test_a_relaxation_has_its_own_options_whatever_it_shares_a_batch_with(together: dict, name: str) -> None:
    flight = InFlight(MORSE)
    flight.put([(name, Relax(crystal(5), OPTIONS[name]))])
    alone: dict = {}
    while flight:
        alone.update(flight.step())
    one, other = together[name], alone[name]
    assert isinstance(one, RelaxResult)
    assert (one.reason, one.n_steps, one.n_force_calls, one.minimum) == (
        other.reason,
        other.n_steps,
        other.n_force_calls,
        other.minimum,
    )
    assert one.energy == pytest.approx(other.energy, abs=1e-9)
    assert (one.trajectory is None) == (name != "recorded")


def test_results_are_those_of_relax_and_predict(together: dict) -> None:
    (expected,) = relax([crystal(5)], MORSE)
    assert together["default"].energy == pytest.approx(expected.energy, abs=1e-9)
    (point,) = predict([crystal(5)], MORSE)
    found = together["point"]
    assert isinstance(found, Prediction)
    assert found.energy == pytest.approx(point.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces, point.forces, atol=1e-9)
    np.testing.assert_allclose(found.stress, point.stress, atol=1e-12)


def test_a_single_point_takes_one_force_call_and_any_forces() -> None:
    potential = Counting()
    close = bulk("Mg", "fcc", a=2.2)  # forces that no relaxation would accept are still a single point
    found = run({"far": Static(crystal(0)), "close": Static(close)}, potential)
    assert len(potential.atoms) == 1
    assert found["far"].error is None and found["close"].error is None


def test_a_broken_request_comes_out_alone_with_its_reason() -> None:
    twice = Atoms("Mg2", positions=[[0, 0, 0], [0, 0, 0.01]], cell=[5, 5, 5], pbc=True)
    found = run({"relax": Relax(twice), "point": Static(twice), "good": Static(crystal(1))})
    assert found["relax"].error and found["point"].error and found["good"].error is None


def test_what_is_put_later_joins_the_batch_at_once() -> None:
    potential = Counting()
    flight = InFlight(potential, 64)
    flight.put([("slow", Relax(crystal(5), RelaxOptions(fmax=1e-4)))])
    results = list(flight.step())
    flight.put([("late", Static(crystal(1)))])
    results += flight.step()
    assert [key for key, _ in results] == ["late"]
    assert potential.atoms == [2, 4]


def test_requests_of_mixed_size_keep_the_batch_full() -> None:
    potential = Counting()
    requests = {str(i): Relax(crystal(i, n=1 + i * 7 % 23)) for i in range(45)}
    flight = InFlight(potential, 64)
    flight.put(requests.items())
    full = []
    while flight:
        list(flight.step())
        if flight.n_atoms_waiting:
            full.append(potential.atoms[-1])
    assert np.mean(full) >= 0.9 * 64


def test_a_large_request_is_not_overtaken_forever() -> None:
    flight = InFlight(MORSE, 32)
    small = iter(range(10_000))
    flight.put([(i, Relax(crystal(i, 3))) for i in (next(small) for _ in range(12))])
    flight.put([("large", Static(crystal(0, 31)))])
    finished: list = []
    while "large" not in finished:
        flight.put([(i, Static(crystal(i, 1))) for i in (next(small) for _ in range(5))])
        finished += [key for key, _ in flight.step()]
    assert len(finished) < 400


def test_want_of_memory_halves_the_batch_and_loses_nothing() -> None:
    potential = Counting(most=10)
    requests: dict[str, Relax | Static] = {str(i): Static(crystal(i, 3)) for i in range(8)}
    found = run({**requests, "huge": Static(crystal(0, 12)), "relaxed": Relax(crystal(3, 4))}, potential)
    assert found["huge"].error == "out of memory for 12 atoms on cpu"
    assert [name for name, result in found.items() if result.error] == ["huge"]
    assert len(found) == 10


@pytest.mark.parametrize("nothing", [None, Atoms(), "Cu.cif"])
def test_dynamics_of_what_is_no_structure_come_out_with_an_error(nothing: object) -> None:
    flight = InFlight(MORSE)
    flight.put([("nothing", Dynamics(nothing, MDSettings()))])
    ((_, result),) = flight.step()
    assert isinstance(result, DynamicsResult) and result.error_code == "refused"
    assert result.end is None and result.positions.shape[0] == 0
