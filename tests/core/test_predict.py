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
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential as ASEMorse
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.ase_potential import ASEPotential
from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.frames import read_frames
from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.evaluate import evaluate
from dpa4_core.loaded import as_potential
from dpa4_core.memory import is_out_of_memory
from dpa4_core.potential import Output, PotentialLike
from dpa4_core.predict import predict
from dpa4_core.relax import relax
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

    potential = ASEPotential(EnergyOnly(MorsePotential()))
    (prediction,) = predict(bulk("Cu"), potential)
    assert prediction.error is None
    assert prediction.stress is None and prediction.atom_energies is None
    (relaxed,) = relax(bulk("Cu"), potential, relax_cell=False)
    assert relaxed.converged and relaxed.stress is None


class Stubborn(Calculator):
    """Float32 results as of many networks; raises ``error`` for aluminium; notes the ``info`` of all atoms."""

    implemented_properties = ["energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.seen: list[dict[str, Any]] = []

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        super().calculate(atoms, properties, system_changes)
        self.seen.append(dict(self.atoms.info))
        if self.error is not None and "Al" in self.atoms.symbols:
            raise self.error
        n = len(self.atoms)
        self.results = {
            "energy": np.float32(1.5),
            "energies": np.full(n, 1.5 / n, np.float32),
            "forces": np.zeros((n, 3), np.float32),
            "stress": np.zeros(6, np.float32),
        }


def test_results_of_calculators_in_single_precision_become_double() -> None:
    output = ASEPotential(Stubborn()).compute(build_graph([to_system(bulk("Cu"))], 1.0))
    assert {value.dtype for value in output[:5]} == {torch.float64}
    assert [result.error for result in relax([bulk("Cu"), bulk("Al")], Stubborn())] == [None, None]


def test_relaxations_with_a_calculator_stretch_bonds_beyond_any_length_and_know_their_stiffness() -> None:
    """A bond passes 1 Å, and springs between atoms save two of five force calls, as with any potential."""
    bond = Atoms("H2", positions=[[0, 0, 0], [0.9, 0, 0]])
    (stretched,) = relax(bond, ASEMorse(r0=1.1, epsilon=4.0, rho0=6.0))
    assert stretched.converged and stretched.structure.get_distance(0, 1) == pytest.approx(1.1, abs=1e-3)
    crystal = bulk("Cu", cubic=True, a=3.7) * (2, 1, 1)
    crystal.rattle(0.12, seed=1)
    (relaxed,) = relax(crystal, EMT(), check_minimum=False)
    assert relaxed.converged and relaxed.n_force_calls <= 7


@pytest.mark.parametrize(
    "error",
    [DPA4Error("no"), RuntimeError("no"), OSError("no"), ValueError("no"), ZeroDivisionError("no"), KeyError("no")],
    ids=repr,
)
def test_structure_for_which_a_calculator_raises_stays_alone(error: Exception) -> None:
    good, bad = predict([bulk("Cu"), bulk("Al")], ASEPotential(Stubborn(error)))
    assert good.error is None and good.energy == 1.5
    assert "no finite energy" in str(bad.error)


def test_memory_that_runs_out_in_a_calculator_is_told() -> None:
    calculator = Stubborn(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    good, bad = predict([bulk("Cu"), bulk("Al")], ASEPotential(calculator))
    assert good.error is None
    assert bad.error == "out of memory for 1 atoms on cpu"


@pytest.mark.parametrize(
    "sentence",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: resource allocation failed when calling `cusolverDnCreate`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cudaErrorMemoryAllocation: out of memory",
        "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
        "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes",
    ],
)
def test_memory_runs_out_in_many_words(sentence: str) -> None:
    assert is_out_of_memory(RuntimeError(sentence))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))


def test_calculators_see_only_a_charge_and_spin_that_were_given() -> None:
    water = molecule("H2O")
    water.info["charge"] = 1
    calculator = Stubborn()
    predict([water, bulk("Cu")], ASEPotential(calculator))
    assert {"charge": 1, "spin": 2} in calculator.seen and {} in calculator.seen
    assert all(info.get("spin") != -1 for info in calculator.seen)


def test_ase_calculators_are_potentials() -> None:
    assert isinstance(as_potential(EMT()), ASEPotential)
    assert predict(bulk("Cu"), EMT())[0].error is None
    morse = MorsePotential()
    assert as_potential(DPA4Calculator(morse)) is morse  # not one structure after the other
    with pytest.raises(DPA4Error, match="is no potential; pass a name"):
        as_potential(EMT)


@pytest.mark.parametrize("verb", [predict, relax])
@pytest.mark.parametrize("wrong", ["POSCAR", Path("folder/a.cif")])
def test_paths_are_no_structures(verb: Any, wrong: Any) -> None:
    with pytest.raises(StructureError, match=r"'.*(POSCAR|a.cif)' is text.*read_structures\(path\)\]$"):
        verb(wrong, MorsePotential())
    with pytest.raises(StructureError, match="NoneType is neither"):
        verb(None, MorsePotential())


@pytest.mark.parametrize("budget", [0, -3])
def test_batches_without_room_are_refused(budget: int) -> None:
    with pytest.raises(DPA4Error, match=f"max_atoms_per_batch must be at least 1, not {budget}"):
        predict(bulk("Cu"), MorsePotential(), max_atoms_per_batch=budget)


def test_nothing_in_gives_nothing_out() -> None:
    assert predict([], MorsePotential()) == []


def test_progress_counts_failures_too(capsys: pytest.CaptureFixture[str]) -> None:
    predict([bulk("Cu"), Atoms()], MorsePotential(), progress=True)
    assert "2/2" in capsys.readouterr().err


def test_a_model_named_twice_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[tuple[str, str, str]] = []

    def load(name: str | Path, device: str, dtype: str, compile: bool | str = "auto") -> MorsePotential:
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


def test_branches_of_a_file_are_reloaded_and_old_versions_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def load(name: str | Path, device: str, dtype: str, compile: bool | str = "auto") -> MorsePotential:
        loads.append(str(name))
        return MorsePotential()

    cache: dict[Any, Any] = {}
    monkeypatch.setattr("dpa4_core.loaded.load", load)
    monkeypatch.setattr("dpa4_core.loaded._potentials", cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "mine.pt"
    file.write_text("1")
    first = as_potential(f"{file}#a")
    assert as_potential("~/mine.pt#a") is first
    assert as_potential("~/mine.pt#b") is not first
    file.write_text("22")
    assert as_potential("~/mine.pt#a") is not first
    assert loads == [f"{file}#a", f"{file}#b", f"{file}#a"]
    assert len(cache) == 2
    assert all(isinstance(potential, PotentialLike) and potential is not first for _, potential in cache.values())


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


def test_labels_that_cannot_be_used_are_left_out_and_told() -> None:
    potential = MorsePotential(cutoff=5.0)
    frames = _labelled(potential)
    frames[0].calc.results["forces"][0, 0] = np.nan
    frames[1].calc.results["stress"] = np.zeros(5)
    frames[2].calc.results["energy"] = np.inf
    frames[3].calc.results = {"forces": np.zeros((2, 3))}
    metrics = evaluate(frames, potential)
    assert (metrics.n_structures, metrics.n_energies, metrics.n_forces, metrics.n_stresses) == (3, 2, 60, 2)
    assert metrics.energy_mae == pytest.approx(0.01)
    assert metrics.force_mae == pytest.approx(0.02)
    assert metrics.stress_mae == pytest.approx(1e-3)
    assert metrics.errors == [
        ("frame 0", "forces: the reference is not finite and was left out"),
        ("frame 1", "stress: the reference has the wrong shape and was left out"),
        ("frame 2", "energy: the reference is not finite and was left out"),
        ("frame 3", "forces: the reference has the wrong shape and was left out"),
    ]


def test_a_single_frame_is_evaluated() -> None:
    potential = MorsePotential(cutoff=5.0)
    assert evaluate(_labelled(potential)[0], potential).energy_mae == pytest.approx(0.01)


def test_files_and_frames_of_any_format_are_evaluated_together(tmp_path: Path) -> None:
    potential = MorsePotential(cutoff=5.0)
    frames = _labelled(potential)
    ase.io.write(tmp_path / "a.extxyz", frames[:2])
    ase.io.write(tmp_path / "b.traj", frames[2:])
    metrics = evaluate([tmp_path / "a.extxyz", tmp_path / "b.traj"], potential)
    assert (metrics.n_structures, metrics.n_atoms, metrics.errors) == (4, 40, [])
    assert evaluate(list(read_frames(tmp_path)), potential).energy_mae == pytest.approx(metrics.energy_mae)
    (tmp_path / "a.extxyz").write_text("2\n\nCu 0 0 0\n")
    broken = evaluate(tmp_path, potential)
    assert broken.n_structures == 2
    assert [name for name, _ in broken.errors] == ["a:0"]


def test_force_errors_are_also_told_as_vectors() -> None:
    potential = MorsePotential(cutoff=5.0)
    frames = _labelled(potential)
    assert evaluate(frames, potential).force_norm_mae == pytest.approx(0.02 * np.sqrt(3), rel=1e-4)
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0]])  # in the plane, by 90°
    truth = predict(frames, potential)
    for atoms, prediction in zip(frames, truth, strict=True):
        assert prediction.forces is not None
        atoms.calc.results["forces"] = 2 * prediction.forces
    assert evaluate(frames, potential).force_cosine == pytest.approx(1)
    for atoms, prediction in zip(frames, truth, strict=True):
        assert prediction.forces is not None
        atoms.calc.results["forces"] = prediction.forces @ turned.T
    assert evaluate(frames, potential).force_cosine == pytest.approx(0, abs=1e-12)
    still = bulk("Cu")
    still.calc = SinglePointCalculator(still, forces=np.zeros((1, 3)))
    assert evaluate(still, potential).force_cosine is None


def test_errors_are_broken_down_by_element_and_group() -> None:
    potential = MorsePotential(cutoff=5.0)
    frames = []
    for name, kind in (("MgO", "a"), ("MgO", "b"), ("NaCl", "a")):
        atoms = bulk(name, "rocksalt", a=4.3 if name == "MgO" else 5.6, cubic=True)
        atoms.rattle(0.1, seed=len(frames))
        (truth,) = predict(atoms, potential)
        assert truth.forces is not None
        shift = np.where(atoms.symbols == "Mg", 0.1, 0.0)[:, None]
        energy = truth.energy + len(atoms) * 0.01 * len(frames)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=truth.forces + shift)
        atoms.info["config_type"] = kind
        frames.append(atoms)
    metrics = evaluate(frames, potential, keep=True)
    assert list(metrics.by_element) == ["O", "Na", "Mg", "Cl"]
    assert metrics.by_element["Mg"] == {
        "force_mae": pytest.approx(0.1),
        "force_rmse": pytest.approx(0.1),
        "n_atoms": 8.0,
    }
    assert metrics.by_element["O"]["force_mae"] == pytest.approx(0, abs=1e-12)
    assert list(metrics.by_group) == ["NaCl a", "OMg a", "OMg b"]
    assert metrics.by_group["OMg b"] == {
        "energy_mae": pytest.approx(0.01),
        "force_mae": pytest.approx(0.05),
        "n_structures": 1.0,
    }
    parity = metrics.parity
    assert parity is not None
    assert parity.energy.shape == (2, 3) and parity.force.shape == (2, 72) and parity.stress.shape == (2, 0)
    assert np.abs(parity.force[1] - parity.force[0]).mean() == pytest.approx(metrics.force_mae)
    assert [frame.name for frame in parity.frames] == ["frame 0", "frame 1", "frame 2"]
    assert parity.frames[2].energy == pytest.approx(-0.02) and parity.frames[2].stress_mae is None
    assert parity.frames[0].force_max == pytest.approx(0.1 * np.sqrt(3))
    assert evaluate(frames, potential).parity is None
