"""Dynamics of many structures at once through torch-sim, against one at a time through ASE."""

import importlib.util
import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms
from typer.testing import CliRunner

from dpa4_core import DPA4Error, MDSettings, md
from dpa4_core.data.graph import Graph
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.cli import app

if importlib.util.find_spec("torch_sim") is None:
    pytest.skip("torch-sim is not installed (extra torchsim, Python 3.12 or later)", allow_module_level=True)

from dpa4_flows import torchsim_md
from dpa4_flows.torchsim_md import md_batch

INTEGRATORS = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "npt-isotropic": {"ensemble": "npt", "barostat_fs": 300.0, "barostat": "isotropic"},
}


class NamedMorse(MorsePotential):
    """With an identity card, so that two instances are one model; the call after ``calls`` is Ctrl-C."""

    info = ModelInfo(name="morse", sha256="0" * 64)

    def __init__(self, calls: int = 10**9) -> None:
        super().__init__(cutoff=4.0)
        self.calls = calls

    def compute(self, graph: Graph) -> Output:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return super().compute(graph)


@pytest.fixture(scope="module")
def crystals():
    skewed = bulk("Cu", a=3.68) * (2, 2, 2)
    strained = [[1.02, 0.01, 0.0], [0.0, 0.99, 0.03], [0.01, 0.0, 1.0]]
    skewed.set_cell(skewed.cell @ strained, scale_atoms=True)
    return [bulk("Cu", cubic=True, a=3.68) * (2, 1, 1), bulk("MgO", "rocksalt", a=4.0, cubic=True), skewed]


def test_nve_together_is_nve_alone(crystals):
    settings = MDSettings(ensemble="nve", time_ps=0.04, timestep_fs=2.0, every=5)
    outcomes = md_batch(crystals, NamedMorse(), settings, [None] * 3)
    for atoms, outcome in zip(crystals, outcomes, strict=True):
        alone = md(atoms, NamedMorse(), settings)
        assert outcome.error is None
        assert np.allclose(outcome.result.structure.positions, alone.structure.positions, atol=1e-9)
        for name in ("conserved_energy", "temperature", "pressure_gpa", "volume"):
            assert np.allclose(getattr(outcome.result.thermo, name), getattr(alone.thermo, name), atol=1e-7)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_what_is_conserved_does_not_drift(name, crystals):
    settings = MDSettings(**INTEGRATORS[name], time_ps=0.3, timestep_fs=2.0, every=2)
    for atoms, outcome in zip(crystals, md_batch(crystals, NamedMorse(), settings, [None] * 3), strict=True):
        result = outcome.result
        assert result.error is None
        assert abs(result.drift) < 1.0
        if name != "nve":
            assert result.ripple < 0.1 * 1000 * np.std(result.thermo.total_energy) / len(atoms)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_continued_batch_is_the_uninterrupted_one(name, crystals, tmp_path, monkeypatch):
    monkeypatch.setattr(torchsim_md, "CHECKPOINT_S", 0.0)
    settings = MDSettings(**INTEGRATORS[name], time_ps=0.04, timestep_fs=2.0, every=4)
    whole = [tmp_path / f"whole{i}.traj" for i in range(3)]
    parts = [tmp_path / f"parts{i}.traj" for i in range(3)]
    md_batch(crystals, NamedMorse(), settings, whole)
    for calls in (7, 9):
        with pytest.raises(KeyboardInterrupt):
            md_batch(crystals, NamedMorse(calls), settings, parts)
    md_batch(crystals, NamedMorse(), settings, parts)
    for one, other in zip(whole, parts, strict=True):
        assert one.with_suffix(".csv").read_text() == other.with_suffix(".csv").read_text()
        frames, same = ase.io.read(one, ":"), ase.io.read(other, ":")
        assert [frame.info["step"] for frame in frames] == [0, 4, 8, 12, 16, 20]
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(frames, same, strict=True))
    again = md_batch(crystals, NamedMorse(0), settings, parts)  # nothing is computed
    assert [outcome.result.n_steps for outcome in again] == [20, 20, 20]


@pytest.mark.slow
def test_nvt_and_npt_reach_what_they_are_asked_for():
    atoms = bulk("Cu", cubic=True, a=3.68) * (2, 2, 2)
    hot = MDSettings(temperature=400.0, time_ps=2.0, timestep_fs=4.0, friction_per_ps=20.0, every=4)
    mean, error = md_batch([atoms], NamedMorse(), hot, [None])[0].result.temperature
    assert abs(mean - 400.0) < 3 * error
    pressed = MDSettings(
        ensemble="npt", barostat="isotropic", pressure_gpa=5.0, time_ps=2.0, timestep_fs=4.0, barostat_fs=200.0, every=4
    )
    result = md_batch([atoms], NamedMorse(), pressed, [None])[0].result
    assert abs(result.pressure_gpa.mean - 5.0) < max(3 * result.pressure_gpa.error, 0.2)
    assert result.thermo.volume[-1] < result.thermo.volume[0]


@pytest.mark.parametrize("name", ["nve", "nose-hoover"])
def test_an_explosion_takes_no_companion_along(name, crystals, tmp_path):
    crushed = bulk("Cu", cubic=True, a=2.4)
    crushed.rattle(0.2, seed=1)
    settings = MDSettings(**INTEGRATORS[name], time_ps=0.03, max_temperature=2000.0)
    outputs = [tmp_path / "good.traj", tmp_path / "bad.traj"]
    good, bad = md_batch([crystals[0], crushed], NamedMorse(), settings, outputs)
    assert "reached" in bad.result.error
    assert bad.result.n_steps < 30
    alone = md_batch([crystals[0]], NamedMorse(), settings, [None])[0].result
    assert good.result.error is None
    assert np.allclose(good.result.structure.positions, alone.structure.positions, atol=1e-9)
    assert len(ase.io.read(outputs[1], ":")) >= 1


def test_what_cannot_share_a_batch_is_told(crystals):
    held = crystals[0].copy()
    held.set_constraint(FixAtoms([0]))
    sheet = crystals[0].copy()
    sheet.cell[2], sheet.pbc = 0.0, (True, True, False)
    fine, fixed, argon, bare = md_batch(
        [crystals[0], held, bulk("Ar") * (2, 1, 1), sheet], NamedMorse(), MDSettings(time_ps=0.002), [None] * 4
    )
    assert fine.result.n_steps == 2
    assert "run this structure alone" in fixed.error
    assert "element Ar" in argon.error
    assert "a lattice vector is missing" in bare.error
    with pytest.raises(DPA4Error, match="no npt-full"):
        md_batch([crystals[0]], NamedMorse(), MDSettings(ensemble="npt"), [None])


def test_the_command_runs_several_files_together(crystals, tmp_path):
    for i, atoms in enumerate(crystals):
        ase.io.write(tmp_path / f"c{i}.vasp", atoms)
    files = [str(tmp_path / f"c{i}.vasp") for i in range(3)]
    toy = ["--model", "dpa4_core.testing:MorsePotential", "--time", "0.01"]
    result = CliRunner().invoke(app, ["md", *files, "-o", str(tmp_path / "runs"), *toy, "--json"])
    assert result.exit_code == 0, result.output
    assert "together" in result.stderr
    rows = json.loads(result.stdout)
    assert [row["n_steps"] for row in rows] == [10, 10, 10]
    assert len(list((tmp_path / "runs").glob("*.traj"))) == 3
