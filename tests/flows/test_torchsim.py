"""The adapter for torch-sim, by torch-sim's own checks and against our calculator."""

import importlib.util

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from dpa4_core import DPA4Calculator, StructureError, relax
from dpa4_core.testing import MorsePotential

if importlib.util.find_spec("torch_sim") is None:
    pytest.skip("torch-sim is not installed (extra torchsim, Python 3.12 or later)", allow_module_level=True)

import torch_sim as ts
from torch_sim.models.interface import validate_model_outputs

from dpa4_core.data.neighbours_cuda import AVAILABLE
from dpa4_flows.torchsim import TorchSimModel, batched_graph

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def morse():
    return MorsePotential(cutoff=4.0)


def skewed(seed: int) -> Atoms:
    """A triclinic crystal off its minimum, so that rows and columns, and signs, all matter."""
    atoms = bulk("Cu", a=3.7) * (2, 2, 1)
    strain = np.eye(3) + 0.08 * np.random.default_rng(seed).standard_normal((3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_torch_sim_validates_the_model(dtype, morse):
    validate_model_outputs(TorchSimModel(morse, dtype=dtype), CPU, dtype)


def test_energies_forces_and_stress_are_those_of_the_calculator(morse):
    crystals = [skewed(1), skewed(2), bulk("MgO", "rocksalt", a=4.0)]
    output = TorchSimModel(morse)(ts.io.atoms_to_state(crystals, CPU, torch.float64))
    begin = 0
    for i, atoms in enumerate(crystals):
        atoms.calc = DPA4Calculator(morse)
        mine = slice(begin, begin + len(atoms))
        begin = mine.stop
        assert output["energy"][i].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        assert np.allclose(output["forces"][mine], atoms.get_forces(), atol=1e-10)
        assert np.allclose(output["stress"][i], atoms.get_stress(voigt=False), atol=1e-12)
        assert np.allclose(output["energies"][mine], atoms.get_potential_energies(), atol=1e-10)
    assert output["stress"][:2].abs().min() > 1e-4  # all nine components are there to be compared


def test_molecules_have_no_stress_and_do_not_see_images(morse):
    benzene = molecule("C6H6")
    output = TorchSimModel(morse)(ts.io.atoms_to_state([benzene], CPU, torch.float64))
    benzene.calc = DPA4Calculator(morse)
    assert output["energy"].item() == pytest.approx(benzene.get_potential_energy(), abs=1e-10)
    assert output["stress"].isnan().all()


def slab(seed: int) -> Atoms:
    """A crystal that is open along its second axis, in a cell as thick as itself."""
    atoms = skewed(seed)
    atoms.pbc = (True, False, True)
    return atoms


def test_slabs_see_no_images_along_their_open_axis(morse):
    slabs = [slab(1), slab(2)]
    output = TorchSimModel(morse)(ts.io.atoms_to_state(slabs, CPU, torch.float64))
    for i, atoms in enumerate(slabs):
        atoms.calc = DPA4Calculator(morse)
        assert output["energy"][i].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(output["stress"][i].numpy(), atoms.get_stress(voigt=False), atol=1e-12)


@pytest.mark.skipif(not AVAILABLE, reason="nvalchemi-toolkit-ops 0.5 is not installed")
@pytest.mark.parametrize(
    "systems",
    [[skewed(1), skewed(2)], [slab(1), slab(2)], [molecule("C6H6"), molecule("H2O")]],
    ids=["pbc", "slabs", "open"],
)
def test_the_search_for_gpus_finds_the_same_neighbours(systems, morse):
    """It runs on the CPU, too, so that its conventions can be compared here."""
    state = ts.io.atoms_to_state(systems, CPU, torch.float64)
    expected, found = TorchSimModel(morse)(state), morse.compute(batched_graph(state, morse.cutoff))
    assert torch.allclose(found.energy, expected["energy"], atol=1e-10)
    assert torch.allclose(found.forces, expected["forces"], atol=1e-10)
    assert torch.allclose(found.stress, expected["stress"], atol=1e-12, equal_nan=True)


def test_charge_and_spin_reach_the_potential():
    class Listening(MorsePotential):
        heard = None

        def compute(self, graph):
            self.heard = graph.charge_spin
            return super().compute(graph)

    potential = Listening(cutoff=4.0)
    model = TorchSimModel(potential)
    model(ts.io.atoms_to_state([skewed(1)], CPU, torch.float64))
    assert potential.heard is None
    crystals = [skewed(1), skewed(2)]
    for atoms, charge, spin in zip(crystals, (1, -2), (2, 1), strict=True):
        atoms.info.update(charge=charge, spin=spin)
    names = {"charge": "charge", "spin": "spin"}
    model(ts.io.atoms_to_state(crystals, CPU, torch.float64, system_extras_map=names))
    assert potential.heard.tolist() == [[1, 2], [-2, 1]]


def test_an_unknown_element_is_named(morse):
    with pytest.raises(StructureError, match="element Ar"):
        TorchSimModel(morse)(ts.io.atoms_to_state([bulk("Ar")], CPU, torch.float64))


def test_batched_dynamics_of_torch_sim_conserves_energy(morse):
    crystals = [skewed(3) * (2, 1, 1), bulk("Cu", cubic=True, a=3.68) * (2, 1, 1)]
    model = TorchSimModel(morse)
    state = ts.io.atoms_to_state(crystals, CPU, torch.float64)
    state.rng = 0
    timestep = 2e-3 * ts.units.MetalUnits.time  # ps
    state = ts.nve_init(state, model, kT=torch.tensor(300.0 * float(ts.units.MetalUnits.temperature)))
    total, moving = [], []
    for _ in range(60):
        state = ts.nve_step(state, model, dt=torch.tensor(float(timestep)))
        kinetic = ts.calc_kinetic_energy(masses=state.masses, momenta=state.momenta, system_idx=state.system_idx)
        total.append((state.energy + kinetic).numpy())
        moving.append(kinetic.numpy())
    assert (np.ptp(total, axis=0) < 0.02 * np.ptp(moving, axis=0)).all()


def test_torch_sim_relaxes_to_where_we_relax(morse):
    atoms = skewed(4)
    state = ts.optimize(
        system=ts.io.atoms_to_state([atoms], CPU, torch.float64),
        model=TorchSimModel(morse),
        optimizer=ts.Optimizer.fire,
        convergence_fn=ts.generate_force_convergence_fn(force_tol=1e-2, include_cell_forces=False),
        max_steps=200,
    )
    ours = relax(atoms, morse, fmax=1e-2, relax_cell=False)[0]
    assert state.energy.item() == pytest.approx(ours.energy, abs=1e-3)


@pytest.mark.network
def test_neo_runs_in_torch_sim(neo_path):
    crystals = [bulk("Si"), bulk("NaCl", "rocksalt", a=5.6)]
    model = TorchSimModel(neo_path)
    output = model(ts.io.atoms_to_state(crystals, CPU, torch.float64))
    for i, atoms in enumerate(crystals):
        atoms.calc = DPA4Calculator(model.potential)
        assert output["energy"][i].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
