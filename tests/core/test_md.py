"""Molecular dynamics: ensembles, conservation, restarts that change nothing, and runs that go wrong."""

import csv
import json

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixCom
from pymatgen.core import Lattice, Molecule, Structure

import dpa4_core
from dpa4_core import DPA4Error, StructureError
from dpa4_core.data.graph import Graph
from dpa4_core.md import MDSettings, md, run
from dpa4_core.md.files import Checkpoint
from dpa4_core.md.integrators import degrees_of_freedom, draw_velocities
from dpa4_core.md.result import Average, Drift, Thermo
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential

INTEGRATORS = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "npt-full": {"ensemble": "npt", "barostat_fs": 300.0},
    "npt-isotropic": {"ensemble": "npt", "barostat_fs": 300.0, "barostat": "isotropic"},
}


@pytest.fixture(scope="module")
def morse():
    return MorsePotential(cutoff=4.0)


@pytest.fixture(scope="module")
def copper(morse):
    """8 atoms at the minimum, in a skewed cell."""
    return dpa4_core.relax(bulk("Cu") * (2, 2, 2), morse, fmax=1e-4)[0].structure


@pytest.fixture(scope="module")
def big_copper(copper):
    return bulk("Cu", cubic=True, a=(copper.get_volume() / 2) ** (1 / 3)) * (2, 2, 2)


class NamedMorse(MorsePotential):
    """With an identity card, so that two instances are one model."""

    info = ModelInfo(name="morse", sha256="0" * 64, level_of_theory="pairs")

    def __init__(self) -> None:
        super().__init__(cutoff=4.0)


class StoppingMorse(NamedMorse):
    """A process that ends in the middle: the force call after ``calls`` raises what Ctrl-C raises."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def compute(self, graph: Graph) -> Output:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return super().compute(graph)


class EinsteinCrystal:
    """Every atom in a harmonic well of its own, 5 eV/Å²: no neighbours, and all averages are known."""

    cutoff, device, elements = 1.0, torch.device("cpu"), frozenset({29})

    def __init__(self, sites: np.ndarray) -> None:
        self.sites = torch.from_numpy(sites)

    def compute(self, graph: Graph) -> Output:
        away = graph.positions - self.sites
        atom_energies = 2.5 * (away**2).sum(dim=1)
        nothing = torch.zeros(1, 3, 3, dtype=torch.float64)
        return Output(atom_energies.sum()[None], atom_energies, -5.0 * away, nothing, nothing)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_what_each_integrator_conserves_does_not_drift(name, copper, morse):
    result = md(copper, morse, MDSettings(**INTEGRATORS[name], time_ps=0.4, timestep_fs=2.0, every=2))
    assert result.error is None
    assert abs(result.drift) < 0.5  # meV/atom/ps, with 2 fs and 8 atoms
    if name == "nve":
        assert np.array_equal(result.thermo.conserved_energy, result.thermo.total_energy)
    else:
        assert result.ripple < 0.05 * 1000 * np.std(result.thermo.total_energy) / len(copper)


def test_energy_error_of_nve_is_quadratic_in_the_time_step(copper, morse):
    ripple = [
        md(copper, morse, MDSettings(ensemble="nve", time_ps=0.4, timestep_fs=step, every=1)).ripple
        for step in (4.0, 2.0)
    ]
    assert 3.0 < ripple[0] / ripple[1] < 5.0


def test_equipartition_halves_the_temperature_of_a_cold_crystal(big_copper, morse):
    settings = MDSettings(ensemble="nve", temperature=200.0, time_ps=1.2, timestep_fs=4.0)
    result = md(big_copper, morse, settings)
    assert result.thermo.temperature[0] == pytest.approx(200.0)
    assert result.temperature.mean == pytest.approx(100.0, rel=0.1)
    assert abs(result.drift) < 0.2


def test_langevin_keeps_its_temperature_within_the_statistical_error(copper):
    atoms = copper * (2, 2, 2)
    settings = MDSettings(temperature=400.0, time_ps=2.0, timestep_fs=2.0, friction_per_ps=50.0, every=2)
    result = md(atoms, EinsteinCrystal(atoms.positions.copy()), settings)
    late = slice(100, None)  # 1.6 ps
    # fluctuations of T·√(2/189) = 41 K, half of them forgotten in 20 fs and the others faster: 40 independent samples
    error = 41.0 / np.sqrt(2 * 40)
    assert abs(result.thermo.temperature[late].mean() - 400.0) < 3 * error
    # as much in the wells as in the motion, over the 3N - 3 directions that are free
    wells = 2 * result.thermo.potential_energy[late].mean() / (degrees_of_freedom(atoms) * units.kB)
    assert abs(wells - 400.0) < 3 * error
    assert abs(result.drift) < 1e-6  # the trapezoid is exact here


def test_nose_hoover_counts_the_degrees_of_freedom_that_are_there(copper, morse):
    """With 3N in place of 3N - 3 eight atoms are 14 % too hot."""
    settings = MDSettings(thermostat="nose-hoover", temperature=300.0, time_ps=2.4, timestep_fs=4.0, thermostat_fs=40.0)
    result = md(copper, morse, settings)
    assert result.thermo.temperature.mean() == pytest.approx(300.0, rel=0.05)


@pytest.mark.parametrize("barostat", ["full", pytest.param("isotropic", marks=pytest.mark.slow)])
def test_npt_reaches_its_pressure(barostat, big_copper, morse):
    settings = MDSettings(
        ensemble="npt", barostat=barostat, pressure_gpa=5.0, time_ps=2.0, timestep_fs=4.0, barostat_fs=200.0, every=4
    )
    result = md(big_copper, morse, settings)
    assert abs(result.pressure_gpa.mean - 5.0) < max(3 * result.pressure_gpa.error, 0.1)
    assert result.thermo.volume[-1] < result.thermo.volume[0]
    assert abs(result.drift) < 0.5


def test_the_full_barostat_moves_the_shape_of_a_strained_cell_and_the_isotropic_one_keeps_it(big_copper, morse):
    long = big_copper.copy()
    long.set_cell(long.cell * [[1.0], [1.0], [1.03]], scale_atoms=True)
    ratio = {}
    for barostat in ("full", "isotropic"):
        settings = MDSettings(
            ensemble="npt", barostat=barostat, temperature=50.0, time_ps=0.2, timestep_fs=4.0, barostat_fs=200.0
        )
        result = md(long, morse, settings)
        assert result.error is None
        a, _, c = result.structure.cell.lengths()
        ratio[barostat] = c / a
    assert ratio["isotropic"] == pytest.approx(1.03, abs=1e-9)
    assert ratio["full"] < 1.025


@pytest.mark.parametrize("suffix", [".traj", ".extxyz"])
@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_continued_run_is_the_uninterrupted_one(name, suffix, copper, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_S", 0.0)
    settings = MDSettings(**INTEGRATORS[name], time_ps=0.06, timestep_fs=2.0, every=4)
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    expected = md(copper, NamedMorse(), settings, output=whole)
    for calls in (7, 9):  # between two frames
        with pytest.raises(KeyboardInterrupt):
            md(copper, StoppingMorse(calls), settings, output=parts)
    found = md(copper, NamedMorse(), settings, output=parts)
    assert np.array_equal(found.structure.positions, expected.structure.positions)
    assert np.array_equal(found.structure.get_momenta(), expected.structure.get_momenta())
    assert np.array_equal(np.array(found.structure.cell), np.array(expected.structure.cell))
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    frames, same = ase.io.read(parts, ":"), ase.io.read(whole, ":")
    assert [frame.info["step"] for frame in frames] == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(frames, same, strict=True))


@pytest.mark.parametrize("suffix", [".traj", ".extxyz"])
def test_frames_behind_the_last_state_are_not_there_twice(suffix, copper, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CHECKPOINT_S", 0.0)
    settings = MDSettings(time_ps=0.02, timestep_fs=1.0, every=2)
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    md(copper, NamedMorse(), settings, output=whole)
    write, left = Checkpoint.write, [4]

    def dies(self, path):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt  # after the frame and the row
        write(self, path)

    monkeypatch.setattr(Checkpoint, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        md(copper, NamedMorse(), settings, output=parts)
    monkeypatch.setattr(Checkpoint, "write", write)
    if suffix == ".extxyz":
        with parts.open("a") as stream:
            stream.write("8\nLattice=torn")
    md(copper, NamedMorse(), settings, output=parts)
    assert len(ase.io.read(parts, ":")) == len(ase.io.read(whole, ":")) == 11
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_more_time_prolongs_a_finished_run(copper, morse, tmp_path):
    path, other = tmp_path / "a.traj", tmp_path / "b.traj"
    md(copper, morse, MDSettings(time_ps=0.01, every=5), output=path)
    longer = md(copper, morse, MDSettings(time_ps=0.02, every=5), output=path)
    at_once = md(copper, morse, MDSettings(time_ps=0.02, every=5), output=other)
    assert np.array_equal(longer.structure.positions, at_once.structure.positions)
    assert longer.n_steps == 20
    with pytest.raises(DPA4Error, match="0.02 ps long already"):
        md(copper, morse, MDSettings(time_ps=0.01, every=5), output=path)


def test_a_finished_run_computes_nothing_again(copper, tmp_path):
    settings, path = MDSettings(time_ps=0.01, every=5), tmp_path / "a.traj"
    first = md(copper, NamedMorse(), settings, output=path)
    again = md(copper, StoppingMorse(0), settings, output=path)
    assert again.n_steps == first.n_steps
    assert np.isnan(again.steps_per_s)
    assert np.array_equal(again.thermo.conserved_energy, first.thermo.conserved_energy)


def test_a_run_of_other_settings_is_not_continued(copper, morse, tmp_path):
    path = tmp_path / "a.traj"
    md(copper, morse, MDSettings(time_ps=0.002), output=path)
    with pytest.raises(DPA4Error, match=r"another run \(temperature 300.0, not 400.0\)"):
        md(copper, morse, MDSettings(time_ps=0.002, temperature=400.0), output=path)
    moved = copper.copy()
    moved.rattle(0.01, seed=1)
    with pytest.raises(DPA4Error, match="another structure"):
        md(moved, morse, MDSettings(time_ps=0.002), output=path)
    md(moved, morse, MDSettings(time_ps=0.002), output=path, overwrite=True)
    assert len(ase.io.read(path, ":")) == 2


def test_foreign_files_are_not_overwritten(copper, morse, tmp_path):
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(DPA4Error, match=r"a\.csv exists"):
        md(copper, morse, MDSettings(time_ps=0.002), output=tmp_path / "a.traj")
    (tmp_path / "b.restart.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DPA4Error, match="no restart file"):
        md(copper, morse, MDSettings(time_ps=0.002), output=tmp_path / "b.traj")
    with pytest.raises(DPA4Error, match=r"\.traj, \.extxyz"):
        md(copper, morse, MDSettings(time_ps=0.002), output=tmp_path / "a.cif")
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_frames_and_summary_say_what_they_are(copper, morse, tmp_path):
    copper.info["name"] = "crystal"
    result = md(copper, morse, MDSettings(time_ps=0.01, every=5, ensemble="nve"), output=tmp_path / "a.extxyz")
    last = ase.io.read(tmp_path / "a.extxyz", -1)
    assert last.info["step"] == 10
    assert last.info["name"] == "crystal"
    assert last.get_potential_energy() == pytest.approx(result.thermo.potential_energy[-1])
    assert last.get_kinetic_energy() == pytest.approx(result.thermo.kinetic_energy[-1], rel=1e-4)
    assert last.get_stress().shape == (6,)
    assert not last.constraints
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["model"]["level_of_theory"] == "unknown"
    assert content["model"]["name"] == "MorsePotential"
    assert content["settings"]["ensemble"] == "nve"
    assert content["result"]["n_steps"] == 10
    with (tmp_path / "a.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 5, 10]


def test_pressure_is_minus_the_trace_of_the_stress_with_the_kinetic_part(copper, morse):
    result = md(copper, morse, MDSettings(ensemble="nve", temperature=300.0, time_ps=0.001))
    static = dpa4_core.predict(copper, morse)[0].stress
    ideal = 2 * result.thermo.kinetic_energy[0] / 3 / copper.get_volume()
    expected = (ideal - np.trace(static) / 3) * 160.2176634
    assert result.thermo.pressure_gpa[0] == pytest.approx(expected, rel=1e-9)


def test_initial_velocities_are_maxwell_boltzmann_without_momentum(copper):
    atoms = Atoms("Cu4000Au4000", positions=np.zeros((8000, 3)))
    draw_velocities(atoms, 500.0, np.random.default_rng(3))
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-9
    for symbol in ("Cu", "Au"):
        mine = atoms.symbols == symbol
        speeds = atoms.get_velocities()[mine]
        mass = atoms.get_masses()[mine][0]
        assert mass * (speeds**2).mean() / units.kB == pytest.approx(500.0, rel=0.03)
        assert (speeds**4).mean() / (speeds**2).mean() ** 2 == pytest.approx(3.0, rel=0.05)  # Gaussian


def test_the_seed_decides(copper, morse):
    first, same, other = (
        md(copper, morse, MDSettings(time_ps=0.005, seed=seed)).structure.positions for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)


def test_velocities_are_kept_on_demand(copper, morse):
    moving = md(copper, morse, MDSettings(ensemble="nve", time_ps=0.01)).structure
    on = md(moving, morse, MDSettings(ensemble="nve", time_ps=0.01, keep_velocities=True)).structure
    whole = md(copper, morse, MDSettings(ensemble="nve", time_ps=0.02)).structure
    assert np.allclose(on.positions, whole.positions, atol=1e-10)
    with pytest.raises(DPA4Error, match="no velocities"):
        md(copper, morse, MDSettings(keep_velocities=True))


@pytest.mark.parametrize("name", ["nve", "langevin", "nose-hoover"])
def test_fixed_atoms_stay_and_the_rest_has_the_temperature(name, copper, morse):
    held = copper.copy()
    held.set_constraint(FixAtoms([0, 3]))
    result = md(held, morse, MDSettings(**INTEGRATORS[name], time_ps=0.02))
    assert np.array_equal(result.structure.positions[[0, 3]], held.positions[[0, 3]])
    assert not np.allclose(result.structure.positions[1], held.positions[1])
    assert result.thermo.temperature[0] == pytest.approx(300.0)
    assert len(result.structure.constraints) == 1
    with pytest.raises(DPA4Error, match="fixed atoms"):
        md(held, morse, MDSettings(ensemble="npt"))


def test_the_centre_of_mass_rests_under_langevin(copper, morse):
    result = md(copper, morse, MDSettings(time_ps=0.05))
    assert np.allclose(result.structure.get_center_of_mass(), copper.get_center_of_mass(), atol=1e-9)
    assert not any(isinstance(constraint, FixCom) for constraint in result.structure.constraints)
    assert degrees_of_freedom(copper) == 21


def test_pymatgen_comes_out_as_it_went_in(morse):
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.68), ["Cu"], [[0, 0, 0]])
    result = md(crystal, morse, MDSettings(time_ps=0.005))
    assert isinstance(result.structure, Structure)
    assert not np.allclose(result.structure.cart_coords, crystal.cart_coords)
    molecule = Molecule(["O", "C", "O"], [[0, 0, -1.4], [0, 0, 0], [0, 0, 1.4]])
    result = md(molecule, morse, MDSettings(ensemble="nve", time_ps=0.005))
    assert isinstance(result.structure, Molecule)
    assert np.isnan(result.pressure_gpa.mean)
    assert result.summary()["pressure_gpa"] is None


def test_an_explosion_ends_the_run_and_keeps_what_was_written(copper, morse, tmp_path):
    settings = MDSettings(ensemble="nve", temperature=3000.0, time_ps=20.0, timestep_fs=40.0, every=1)
    result = md(copper, morse, settings, output=tmp_path / "a.traj")
    assert result.error is not None
    assert "shorter time step" in result.error
    assert 0 < result.n_steps < 500
    frames = ase.io.read(tmp_path / "a.traj", ":")
    assert len(frames) == len(result.thermo.step) >= 1
    assert json.loads((tmp_path / "a.json").read_text())["result"]["error"] == result.error


def test_a_temperature_beyond_the_limit_ends_the_run(copper, morse):
    result = md(copper, morse, MDSettings(ensemble="nve", time_ps=1.0, max_temperature=200.0))
    assert "temperature reached" in result.error
    assert result.n_steps == 1


def test_a_potential_that_gives_no_number_ends_the_run(copper):
    class Broken(MorsePotential):
        def compute(self, graph: Graph) -> Output:
            output = super().compute(graph)
            return output._replace(energy=output.energy * np.nan)

    result = md(copper, Broken(cutoff=4.0), MDSettings(time_ps=0.01))
    assert "broke after 0 steps" in result.error
    assert np.isnan(result.drift)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "nph"}, "unknown ensemble"),
        ({"thermostat": "andersen"}, "unknown thermostat"),
        ({"barostat": "shape"}, "unknown barostat"),
        ({"ensemble": "nve", "thermostat": "langevin"}, "no thermostat"),
        ({"ensemble": "npt", "thermostat": "langevin"}, "nose-hoover"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"temperature": -1.0, "ensemble": "nve"}, "temperature must be"),
        ({"timestep_fs": 0.0}, "timestep_fs must be"),
        ({"time_ps": 0.0001}, "less than one time step"),
        ({"time_ps": float("inf")}, "time_ps must be"),
        ({"pressure_gpa": float("nan")}, "pressure must be"),
        ({"every": 0}, "every must be"),
        ({"every": float("inf")}, "every must be"),
        ({"seed": float("inf")}, "seed must be"),
        ({"time_ps": 1e308}, "too many time steps"),
        ({"seed": -1}, "seed must be"),
        ({"max_temperature": 0.0}, "max_temperature must be"),
    ],
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(DPA4Error, match=message):
        MDSettings(**options)


def test_structures_that_cannot_move_as_asked_are_refused(copper, morse):
    with pytest.raises(StructureError, match="element He"):
        md(Atoms("He2", [[0, 0, 0], [0, 0, 3]]), morse)
    with pytest.raises(DPA4Error, match="not periodic in all directions"):
        md(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]]), morse, MDSettings(ensemble="npt"))
    with pytest.raises(DPA4Error, match="make a supercell"):
        md(bulk("Cu", a=3.68, cubic=False), morse)
    fixed = copper.copy()
    fixed.set_constraint(FixAtoms(range(8)))
    with pytest.raises(DPA4Error, match="nothing can move"):
        md(fixed, morse)


def test_averages_and_drift_are_those_of_textbooks():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(20000)
    average = Average.of(noise)
    assert average.error == pytest.approx(1 / np.sqrt(10000), rel=0.8)
    assert abs(average.mean) < 5 * average.error
    assert np.isnan(Average.of(noise[:6]).error)
    columns = np.zeros((11, 8))
    columns[:, 1] = np.arange(11) * 0.1
    columns[:, 4] = 5.0 + 0.008 * columns[:, 1]
    drift = Drift.of(Thermo.of([tuple(row) for row in columns]), 8)
    assert drift.slope == pytest.approx(1.0)  # 8 meV/ps in 8 atoms
    assert drift.ripple == pytest.approx(0.0, abs=1e-9)


@pytest.mark.network
def test_neo_silicon_keeps_its_energy(neo_path):
    potential = dpa4_core.load(neo_path)
    result = md(bulk("Si", cubic=True), potential, MDSettings(ensemble="nve", temperature=600.0, time_ps=0.03, every=1))
    assert result.error is None
    assert np.ptp(result.thermo.conserved_energy) / 8 < 2e-4  # eV/atom, float32
    assert np.ptp(result.thermo.kinetic_energy) / 8 > 5e-3
