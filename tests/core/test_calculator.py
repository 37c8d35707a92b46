"""The ASE calculator: what it offers, when it computes, and how it is copied."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.mep import NEB
from ase.optimize import FIRE

from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.graph import Graph
from dpa4_core.data.structures import StructureError
from dpa4_core.potential import Output
from dpa4_core.predict import predict
from dpa4_core.testing import MorsePotential


class Counter(MorsePotential):
    def __init__(self) -> None:
        super().__init__(cutoff=5.0)
        self.graphs: list[Graph] = []

    def compute(self, graph: Graph) -> Output:
        self.graphs.append(graph)
        return super().compute(graph)


def _rattled() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    return atoms


def test_properties_equal_those_of_predict_and_are_computed_once() -> None:
    potential = Counter()
    atoms = _rattled()
    atoms.calc = DPA4Calculator(potential)
    (expected,) = predict(_rattled(), MorsePotential(cutoff=5.0))
    assert expected.stress is not None
    assert atoms.get_potential_energy() == pytest.approx(expected.energy)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(expected.energy)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected.atom_energies)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress)
    assert len(potential.graphs) == 1


def test_forces_and_stress_are_derivatives_of_the_energy() -> None:
    atoms = _rattled()
    atoms.calc = DPA4Calculator(MorsePotential(cutoff=5.0))
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_there_is_no_stress_without_periodicity() -> None:
    water = molecule("H2O")
    water.calc = DPA4Calculator(MorsePotential())
    water.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        water.get_stress()
    slab = fcc111("Al", (2, 2, 2), vacuum=8.0)
    slab.calc = DPA4Calculator(MorsePotential())
    assert slab.get_stress().shape == (6,)


def test_changes_of_charge_and_spin_are_noticed() -> None:
    potential = Counter()
    water = molecule("H2O")
    water.calc = DPA4Calculator(potential)
    water.get_potential_energy()
    water.info["charge"] = 1
    water.get_potential_energy()
    water.get_forces()
    assert len(potential.graphs) == 2
    assert potential.graphs[0].charge_spin is None
    assert potential.graphs[1].charge_spin is not None
    assert potential.graphs[1].charge_spin.tolist() == [[1, 2]]


def test_labels_of_other_codes_do_not_stop_a_crystal() -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.info["charge"] = np.array([1.2, -1.2])
    atoms.calc = DPA4Calculator(MorsePotential())
    assert np.isfinite(atoms.get_potential_energy())
    assert np.isfinite(atoms.get_forces()).all()


def test_copies_share_the_potential() -> None:
    potential = MorsePotential()
    calculator = DPA4Calculator(potential)
    atoms = bulk("Cu")
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    twin = copy.deepcopy(calculator)
    assert twin is not calculator and twin.potential is potential
    twin.results["energy"] = 0.0
    assert atoms.get_potential_energy() == energy
    assert copy.deepcopy([calculator, calculator])[0].potential is potential


@pytest.mark.parametrize(
    ("atoms", "sentence"),
    [
        (Atoms("Kr"), "element Kr is not in this potential"),
        (Atoms("H2", positions=[[0, 0, 0], [0, 0, 1e-3]]), "overlap"),
        (Atoms("H", positions=[[np.nan, 0, 0]]), "NaN"),
        (Atoms("H", cell=[3, 3, 0], pbc=True), "singular"),
    ],
)
def test_atoms_that_cannot_be_computed_raise(atoms: Atoms, sentence: str) -> None:
    atoms.calc = DPA4Calculator(MorsePotential())
    with pytest.raises(StructureError, match=sentence):
        atoms.get_potential_energy()


class Sick(MorsePotential):
    """NaN in place of one part of its output."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    def compute(self, graph: Graph) -> Output:
        output = super().compute(graph)
        return output._replace(**{self.part: torch.full_like(getattr(output, self.part), float("nan"))})


@pytest.mark.parametrize("part", ["energy", "forces"])
def test_energies_and_forces_that_are_not_finite_raise(part: str) -> None:
    atoms = bulk("Cu")
    atoms.calc = DPA4Calculator(Sick(part))
    for ask in (atoms.get_potential_energy, atoms.get_forces):
        with pytest.raises(CalculationFailed, match="no finite energy and forces here: Cu"):
            ask()


@pytest.mark.parametrize("part, quantity", [("stress", "stress"), ("atom_energies", "energies")])
def test_a_potential_without_stress_or_energies_per_atom_says_so(part: str, quantity: str) -> None:
    atoms = bulk("Cu")
    atoms.calc = DPA4Calculator(Sick(part))
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property(quantity, atoms)


def test_models_by_name_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, str, str]] = []

    def load(name: str, device: str, dtype: str, compile: bool | str = "auto") -> MorsePotential:
        loaded.append((name, device, dtype))
        return MorsePotential()

    monkeypatch.setattr("dpa4_core.loaded.load", load)
    monkeypatch.setattr("dpa4_core.loaded._potentials", {})
    first = DPA4Calculator("dpa4-neo", device="cpu", dtype="float64")
    second = DPA4Calculator("dpa4-neo", "cpu", "float64")
    assert first.potential is second.potential
    assert loaded == [("dpa4-neo", "cpu", "float64")]


def test_ase_relaxes_cells_and_writes_results(tmp_path: Path) -> None:
    atoms = _rattled()
    atoms.calc = DPA4Calculator(MorsePotential(cutoff=5.0))
    assert FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=300)
    write(tmp_path / "final.extxyz", atoms)
    stored = read(tmp_path / "final.extxyz")
    assert stored.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def test_images_of_a_band_may_have_copies() -> None:
    initial = molecule("H2O")
    final = initial.copy()
    final.rotate(40, "z")
    images = [initial, initial.copy(), final]
    band = NEB(images, method="improvedtangent")
    band.interpolate()
    calculator = DPA4Calculator(MorsePotential())
    for image in images:
        image.calc = copy.deepcopy(calculator)
    assert np.isfinite(band.get_forces()).all()
