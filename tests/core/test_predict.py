"""Prediction and evaluation: order, batches, failures, memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.ase_potential import ASEPotential
from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.graph import Graph
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.loaded import as_potential
from dpa4_core.potential import Output
from dpa4_core.predict import evaluate, predict
from dpa4_core.testing import MorsePotential


class Recorder(MorsePotential):
    """Notes the sizes of batches; has memory for ``capacity`` atoms."""

    def __init__(self, capacity: int = 10**9) -> None:
        super().__init__(cutoff=5.0)
        self.capacity = capacity
        self.batches: list[int] = []

    def compute(self, graph: Graph) -> Output:
        self.batches.append(graph.n_atoms)
        if graph.n_atoms > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().compute(graph)


def _mixture() -> list[Any]:
    water = Molecule(["O", "H", "H"], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return [bulk("Cu").repeat(2), water, rocksalt, bulk("Al"), molecule("CH4"), to_system(bulk("Fe"))]


def test_results_keep_the_order_and_equal_single_ones() -> None:
    structures, potential = _mixture(), MorsePotential(cutoff=5.0)
    together = predict(structures, potential, max_atoms_per_batch=9)
    for structure, prediction in zip(structures, together, strict=True):
        (alone,) = predict(structure, potential)
        assert prediction.error is None
        assert prediction.energy == pytest.approx(alone.energy, abs=1e-12)
        n_atoms = to_system(structure).n_atoms
        assert prediction.forces is not None and prediction.forces.shape == (n_atoms, 3)
        assert prediction.atom_energies is not None
        assert prediction.atom_energies.sum() == pytest.approx(prediction.energy)
        np.testing.assert_allclose(prediction.forces, alone.forces, atol=1e-12)


def test_stress_is_there_for_crystals_only() -> None:
    stresses = [prediction.stress is not None for prediction in predict(_mixture(), MorsePotential())]
    assert stresses == [True, False, True, True, False, True]


def test_inputs_are_untouched() -> None:
    atoms = molecule("H2O")
    atoms.info["charge"] = 1
    before = atoms.copy()
    predict([atoms], MorsePotential())
    assert atoms == before and atoms.info == before.info and atoms.calc is None


def test_failures_are_recorded_and_do_not_disturb_the_others() -> None:
    overlapping = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]])
    structures = [bulk("Cu"), Atoms("Kr"), Atoms(), overlapping, "LiCoO2", None, molecule("H2O")]
    predictions = predict(structures, MorsePotential())
    assert [prediction.error is None for prediction in predictions] == [True, *[False] * 5, True]
    assert "element Kr" in str(predictions[1].error)
    assert "no atoms" in str(predictions[2].error)
    assert "overlap" in str(predictions[3].error)
    assert np.isnan(predictions[3].energy) and predictions[3].forces is None
    assert predict(overlapping, MorsePotential(), min_distance_ratio=0)[0].error is None


def test_strict_raises_with_index_and_formula() -> None:
    with pytest.raises(StructureError, match=r"structure 1 \(Kr\): element Kr"):
        predict([bulk("Cu"), Atoms("Kr")], MorsePotential(), strict=True)


def test_batches_respect_the_budget() -> None:
    potential = Recorder()
    predict([bulk("Cu").repeat((1, 1, n)) for n in (1, 2, 3, 4, 9)], potential, max_atoms_per_batch=6)
    assert potential.batches == [9, 4, 6]


def test_batches_shrink_when_memory_runs_out() -> None:
    potential = Recorder(capacity=10)
    predictions = predict([bulk("Cu").repeat((1, 1, n)) for n in (3, 30, 4, 2, 3, 5)], potential)
    assert [prediction.error is None for prediction in predictions] == [True, False, True, True, True, True]
    assert predictions[1].error == "out of memory for 30 atoms on cpu"
    assert len(potential.batches) < 10


def test_other_errors_of_a_potential_are_not_hidden() -> None:
    class Broken(MorsePotential):
        def compute(self, graph: Graph) -> Output:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        predict(bulk("Cu"), Broken())


def test_numbers_that_are_not_finite_become_errors() -> None:
    class Sick(MorsePotential):
        def compute(self, graph: Graph) -> Output:
            output = super().compute(graph)
            output.energy[0] = torch.nan
            return output

    first, second = predict([bulk("Cu").repeat(2), bulk("Al")], Sick())
    assert "no finite energy" in str(first.error)
    assert second.error is None


def test_what_a_potential_does_not_offer_is_none() -> None:
    class EnergyOnly(DPA4Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

    (prediction,) = predict(bulk("Cu"), ASEPotential(EnergyOnly(MorsePotential())))
    assert prediction.error is None
    assert prediction.stress is None and prediction.atom_energies is None


def test_nothing_in_gives_nothing_out() -> None:
    assert predict([], MorsePotential()) == []


def test_progress_counts_failures_too(capsys: pytest.CaptureFixture[str]) -> None:
    predict([bulk("Cu"), Atoms()], MorsePotential(), progress=True)
    assert "2/2" in capsys.readouterr().err


def test_a_model_named_twice_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[tuple[str, str, str]] = []

    def load(name: str | Path, device: str, dtype: str) -> MorsePotential:
        loads.append((str(name), device, dtype))
        return MorsePotential()

    monkeypatch.setattr("dpa4_core.loaded.load", load)
    monkeypatch.setattr("dpa4_core.loaded._potentials", {})
    file = tmp_path / "mine.dpa4"
    file.write_text("1")
    assert as_potential("toy") is as_potential("toy")
    assert as_potential("toy", dtype="float64") is not as_potential("toy")
    assert as_potential(file) is as_potential(str(file))
    assert len(loads) == 3
    before = as_potential(file)
    file.write_text("2")
    os.utime(file, ns=(1, 1))
    assert as_potential(file) is not before


def _labelled(potential: MorsePotential) -> list[Atoms]:
    frames = []
    rng = np.random.default_rng(5)
    for i in range(4):
        atoms = bulk("Cu", cubic=True).repeat((1, 1, i + 1))
        atoms.rattle(0.1, rng=rng)
        (truth,) = predict(atoms, potential)
        assert truth.forces is not None and truth.stress is not None
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=truth.energy + 0.01 * len(atoms) * (-1) ** i,
            forces=truth.forces + 0.02,
            stress=(truth.stress + 1e-3).ravel()[[0, 4, 8, 5, 2, 1]],
        )
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("from_file", [False, True])
def test_errors_are_per_atom_per_component_and_per_stress(tmp_path: Path, from_file: bool) -> None:
    potential = MorsePotential(cutoff=5.0)
    frames: Any = _labelled(potential)
    if from_file:
        ase.io.write(tmp_path / "test.extxyz", frames)
        frames = tmp_path / "test.extxyz"
    metrics = evaluate(frames, potential)
    assert (metrics.n_structures, metrics.n_atoms) == (4, 40)
    assert (metrics.n_energies, metrics.n_forces, metrics.n_stresses) == (4, 120, 4)
    assert metrics.energy_mae == pytest.approx(0.01, rel=1e-4)
    assert metrics.energy_rmse == pytest.approx(0.01, rel=1e-4)
    assert metrics.force_mae == pytest.approx(0.02, rel=1e-4)
    assert metrics.force_rmse == pytest.approx(0.02, rel=1e-4)
    assert metrics.stress_mae == pytest.approx(1e-3, rel=1e-4)
    assert metrics.errors == []


def test_frames_without_reference_are_listed() -> None:
    potential = MorsePotential()
    labelled = _labelled(potential)[0]
    unknown = Atoms("Kr")
    unknown.calc = SinglePointCalculator(unknown, energy=0.0)
    metrics = evaluate([bulk("Cu"), labelled, unknown], potential)
    assert metrics.n_structures == 1
    assert [name for name, _ in metrics.errors] == ["frame 0", "frame 2"]
    nothing = evaluate([], potential)
    assert nothing.energy_mae is None and nothing.force_rmse is None


def test_a_virial_stands_in_for_the_stress() -> None:
    potential = MorsePotential()
    atoms = _labelled(potential)[0]
    stress = atoms.calc.results.pop("stress")
    atoms.info["virial"] = -atoms.get_volume() * stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    assert evaluate([atoms], potential).stress_mae == pytest.approx(1e-3, rel=1e-4)
