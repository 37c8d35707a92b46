"""Dynamics of many structures whose steps share force calls, each with files of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths, FixCom

from dpa4_core import DPA4Error, MDSettings, StructureError
from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.graph import Graph
from dpa4_core.files import WriteError
from dpa4_core.md import md, md_many, run
from dpa4_core.md.files import Checkpoint
from dpa4_core.md.integrators import prepare, start
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential

WAYS: dict[str, dict[str, Any]] = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover", "thermostat_fs": 30.0},
}


class NamedMorse(MorsePotential):
    """With an identity card, so that two instances are one model.

    Args:
        calls: the force call after these is Ctrl-C.
        room: atoms for which there is memory.
    """

    info = ModelInfo(name="morse", sha256="0" * 64)

    def __init__(self, calls: int = 10**9, room: int = 10**9) -> None:
        super().__init__(cutoff=4.0)
        self.calls, self.room, self.n_calls, self.largest = calls, room, 0, 0

    def compute(self, graph: Graph) -> Output:
        if graph.n_atoms > self.room:
            raise MemoryError
        self.n_calls, self.largest = self.n_calls + 1, max(self.largest, graph.n_systems)
        if self.n_calls > self.calls:
            raise KeyboardInterrupt
        return super().compute(graph)


@pytest.fixture(scope="module")
def company() -> list[Atoms]:
    """A crystal, a skewed one with fixed atoms, a slab without a third vector, a molecule."""
    held = bulk("Cu", a=3.68) * (2, 2, 1)
    held.set_cell(held.cell @ [[1.02, 0.01, 0.0], [0.0, 0.99, 0.03], [0.01, 0.0, 1.0]], scale_atoms=True)
    held.set_constraint(FixAtoms([0, 3]))
    sheet = bulk("Cu", cubic=True, a=3.68)
    sheet.cell[2], sheet.pbc = 0.0, (True, True, False)
    molecule = Atoms("OCO", [[0, 0, -1.4], [0, 0, 0], [0, 0.1, 1.4]])
    return [bulk("MgO", "rocksalt", a=4.0, cubic=True), held, sheet, molecule]


def together(*given: Any, **how: Any) -> list[Any]:
    return list(md_many(*given, **how))


def results(outcomes: list[Any]) -> list[Any]:
    assert not [one.error for one in outcomes if one.error]
    return [one.result for one in outcomes]


def read(path: Path) -> list[Any]:
    return list(ase.io.iread(path, ":"))


def contents(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.glob("*.csv")}


@pytest.mark.parametrize("way", WAYS)
def test_company_changes_no_trajectory_and_costs_no_force_call(way: str, company: list[Atoms]) -> None:
    settings = MDSettings(**WAYS[way], time_ps=0.03, timestep_fs=2.0, every=5)
    potential = NamedMorse()
    for atoms, found in zip(company, results(together(company, potential, settings)), strict=True):
        alone = md(atoms, NamedMorse(), settings)
        np.testing.assert_allclose(found.structure.positions, alone.structure.positions, atol=1e-9)
        assert not np.allclose(found.structure.positions, atoms.positions, atol=1e-3)
        assert len(found.structure.constraints) == len(atoms.constraints)
        for name in ("conserved_energy", "temperature", "pressure_gpa", "volume"):
            expected = getattr(alone.thermo, name)
            np.testing.assert_allclose(getattr(found.thermo, name), expected, atol=1e-7)
        assert np.isfinite(found.thermo.pressure_gpa).all() == atoms.pbc.all()
    assert (potential.n_calls, potential.largest) == (16, 4)


@pytest.mark.parametrize("way", ["nve", "nose-hoover"])
def test_steps_and_what_they_conserve_are_those_of_ase(way: str) -> None:
    atoms = bulk("Cu", cubic=True, a=3.7) * (2, 1, 1)
    settings = MDSettings(**WAYS[way], time_ps=0.03, timestep_fs=2.0, every=1)
    found = md(atoms, NamedMorse(), settings)
    atoms.calc = DPA4Calculator(NamedMorse())
    prepare(atoms, settings)
    motion = start(atoms, settings)
    for conserved in found.thermo.conserved_energy[:-1]:
        assert conserved == pytest.approx(motion.conserved_energy(), abs=1e-9)
        motion.step()
    np.testing.assert_allclose(found.structure.positions, atoms.positions, atol=1e-9)
    np.testing.assert_allclose(found.structure.get_momenta(), atoms.get_momenta(), atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_a_continued_batch_is_the_uninterrupted_one(
    way: str, company: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory ran out in between, and where a kill left the runs at different steps."""
    monkeypatch.setattr(run, "CHECKPOINT_S", 0.0)
    settings = MDSettings(**WAYS[way], time_ps=0.04, timestep_fs=2.0, every=4)
    whole, parts = ([tmp_path / name / f"{i}.traj" for i in range(4)] for name in ("whole", "parts"))
    together(company, NamedMorse(), settings, outputs=whole)
    write, left = Checkpoint.write, [4 + 4 + 4 + 2]  # new, at steps 0 and 4, and half of them at step 8

    def dies(self: Checkpoint, path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, path)

    with monkeypatch.context() as kill, pytest.raises(KeyboardInterrupt):
        kill.setattr(Checkpoint, "write", dies)
        together(company, NamedMorse(), settings, outputs=parts)
    assert len({Checkpoint.read(path.with_suffix(".restart.npz")).step for path in parts}) == 2
    with pytest.raises(KeyboardInterrupt):
        together(company, NamedMorse(calls=6), settings, outputs=parts)
    results(together(company, NamedMorse(room=8), settings, outputs=parts))
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    for one, other in zip(whole, parts, strict=True):
        frames, same = read(one), read(other)
        assert (
            [frame.info["step"] for frame in frames] == [frame.info["step"] for frame in same] == [0, 4, 8, 12, 16, 20]
        )
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(frames, same, strict=True))
        assert np.array_equal(frames[-1].get_momenta(), same[-1].get_momenta())
    assert [one.n_steps for one in results(together(company, NamedMorse(0), settings, outputs=parts))] == [20] * 4


class Spoilt(NamedMorse):
    """No energy for what has gold in it, once it has moved."""

    def compute(self, graph: Graph) -> Output:
        out = super().compute(graph)
        gold = graph.system_idx[graph.atomic_numbers == 79].unique()
        if self.n_calls > 3:
            out.energy[gold] = np.nan
        return out


def test_what_goes_wrong_takes_no_companion_along(company: list[Atoms], tmp_path: Path) -> None:
    crushed = Atoms("Cu2", [[0, 0, 0], [0, 0, 1.5]])
    crushed.set_velocities([[0, 0, 5.6], [0, 0, -5.6]])
    far = Atoms("HCu", [[0, 0, 0], [0, 0, 1.2]])  # flies beyond all systems
    far.set_velocities([[0, 0, -9e4], [0, 0, 0]])
    collides = Atoms("Cu2", [[0, 0, 0], [0, 0, 3.9]])
    collides.set_velocities([[0, 0, 18.8], [0, 0, -18.8]])
    good, gold = bulk("Cu", cubic=True, a=3.68), bulk("Au", cubic=True, a=4.1)
    for atoms in (good, gold):
        atoms.set_velocities(np.random.default_rng(1).normal(scale=0.02, size=(4, 3)))
    settings = MDSettings(ensemble="nve", time_ps=0.012, every=4, keep_velocities=True, max_temperature=1e15)
    structures = [good, crushed, far, collides, gold, bulk("Ar") * (2, 1, 1)]
    outputs = [tmp_path / f"{i}.traj" for i in range(len(structures))]
    potential = Spoilt()
    found = together(structures, potential, settings, outputs=outputs)
    alone = md(good, NamedMorse(), settings)
    assert found[0].result.error is None and found[0].result.n_steps == 12
    np.testing.assert_allclose(found[0].result.structure.positions, alone.structure.positions, atol=1e-9)
    words = ["a force reached", "longer than", "overlap", "not finite"]
    for outcome, sentence in zip(found[1:5], words, strict=True):
        assert sentence in outcome.result.error and "shorter time step" in outcome.result.error
        assert outcome.result.n_steps < 12
    assert "element Ar" in found[5].error
    assert all(len(read(output)) >= 1 for output in outputs[:5])
    assert json.loads(outputs[3].with_suffix(".json").read_text())["result"]["error"] == found[3].result.error
    hot = MDSettings(ensemble="nve", time_ps=0.004, max_temperature=200.0)
    assert [one.n_steps for one in results(together([good, good], NamedMorse(), hot))] == [1, 1]


def test_what_memory_has_no_room_for_fails_alone(company: list[Atoms]) -> None:
    settings = MDSettings(time_ps=0.006, every=3)
    large = bulk("Cu", cubic=True, a=3.68) * (2, 2, 1)
    *small, lone = together([*company, large], NamedMorse(room=12), settings)
    assert "out of memory after 0 steps with 16 atoms" in lone.result.error
    for found, atoms in zip(results(small), company, strict=True):
        expected = md(atoms, NamedMorse(), settings).structure.positions
        np.testing.assert_allclose(found.structure.positions, expected, atol=1e-9)
    potential = NamedMorse()
    results(together(company, potential, settings, max_atoms_per_batch=8))
    assert potential.largest < 4
    with pytest.raises(DPA4Error, match="at least 1"):
        together(company, potential, settings, max_atoms_per_batch=0)


def test_the_sentence_is_of_the_run_that_broke_and_not_of_one_that_has_left() -> None:
    """The first one explodes at once; the result of the other ends where its structure is, at its last frame."""
    crushed, lone = Atoms("Cu2", [[0, 0, 0], [0, 0, 1.5]]), bulk("Cu", cubic=True, a=3.68)
    crushed.set_velocities([[0, 0, 5.6], [0, 0, -5.6]])
    lone.set_velocities(np.random.default_rng(1).normal(scale=0.02, size=(4, 3)))

    class Shrinks(NamedMorse):
        def compute(self, graph: Graph) -> Output:
            self.room = 0 if self.n_calls == 8 else 10**9
            return super().compute(graph)

    settings = MDSettings(ensemble="nve", time_ps=0.012, every=3, keep_velocities=True)
    first, second = together([crushed, lone], Shrinks(), settings, max_atoms_per_batch=512)
    assert "a force reached" in first.result.error and first.result.n_steps < 7
    assert second.result.error.startswith("out of memory after 7 steps with 4 atoms")
    assert second.result.n_steps == second.result.thermo.step[-1] == 6


@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_a_run_that_cannot_be_written_fails_alone(
    ensemble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_S", 0.0)
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.68, 3.7)]
    outputs = [tmp_path / f"{i}.traj" for i in range(3)]
    write = Checkpoint.write

    def full(self: Checkpoint, path: Path) -> None:
        if path.name.startswith("0") and self.step:
            raise WriteError(f"{path} cannot be written: the disk is full")
        write(self, path)

    monkeypatch.setattr(Checkpoint, "write", full)
    settings = MDSettings(ensemble=ensemble, time_ps=0.004, every=2)
    bad, *good = together(crystals, NamedMorse(), settings, outputs=outputs)
    assert bad.result is None and "the disk is full" in bad.error
    assert [one.n_steps for one in results(good)] == [4, 4]
    with pytest.raises(WriteError, match="disk is full"):
        md(crystals[0], NamedMorse(), settings, output=outputs[0])


@pytest.mark.parametrize("output", ["file/run.traj", "folder.traj"])
def test_a_run_whose_files_have_no_place_fails_alone(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.traj").mkdir()
    outputs = [tmp_path / output, tmp_path / "good.traj"]
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.68)]
    bad, good = together(crystals, NamedMorse(), MDSettings(time_ps=0.002), outputs=outputs, overwrite=True)
    assert bad.result is None and "a folder" in bad.error
    assert results([good])[0].n_steps == 2


def test_what_came_to_an_end_in_a_step_that_failed_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.68, 3.7)]
    record, left = run.Run.record, [3 + 1]  # at step 0, and the first of them at the end

    def record_or_fail(self: run.Run) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise MemoryError
        record(self)

    monkeypatch.setattr(run.Run, "record", record_or_fail)
    found = results(together(crystals, NamedMorse(), MDSettings(time_ps=0.005, every=5)))
    assert [one.thermo.step.tolist() for one in found] == [[0, 5]] * 3


def test_slow_writing_stays_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run.Run(bulk("Cu", cubic=True), NamedMorse(), MDSettings())
    monkeypatch.setattr(run.time, "monotonic", lambda: one.saved + 3.0)
    assert run.states_are_due([one])
    one.saving_s = 0.1
    assert run.states_are_due([one]) and not run.states_are_due([one] * 2)


def test_npt_runs_one_after_another() -> None:
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.7)]
    potential = NamedMorse()
    found = results(together(crystals, potential, MDSettings(ensemble="npt", time_ps=0.004)))
    assert [one.n_steps for one in found] == [4, 4] and potential.largest == 1


def test_constraints_that_are_no_fixed_coordinates_are_refused() -> None:
    pair = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    pair.set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(StructureError, match="FixBondLengths"):
        md(pair, NamedMorse(), MDSettings(time_ps=0.002))
    pair.set_constraint(FixCom())
    assert md(pair, NamedMorse(), MDSettings(time_ps=0.002)).error is None


def begun_by(engine: str, path: Path) -> None:
    """Let the restart file say who integrates."""
    found = Checkpoint.read(path)
    found._replace(identity=found.identity | {"engine": engine}).write(path)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_ase_began_goes_on_with_ase(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_S", 0.0)
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.7)]
    outputs = [tmp_path / "a.traj", tmp_path / "b.traj"]
    settings = MDSettings(**WAYS[way], time_ps=0.008, every=2)
    with monkeypatch.context() as earlier:
        earlier.setattr(run, "engine_of", lambda _: "ase")
        whole = md(crystals[0], NamedMorse(), settings)
        with pytest.raises(KeyboardInterrupt):
            md(crystals[0], NamedMorse(calls=5), settings, output=outputs[0])
    found = results(together(crystals, NamedMorse(), settings, outputs=outputs))
    assert np.array_equal(found[0].structure.positions, whole.structure.positions)
    assert np.array_equal(found[0].thermo.conserved_energy, whole.thermo.conserved_energy)
    engines = [Checkpoint.read(path.with_suffix(".restart.npz")).identity["engine"] for path in outputs]
    assert engines == ["ase", "dpa4"]


def test_a_run_of_an_engine_that_is_gone_is_told(tmp_path: Path) -> None:
    crystals = [bulk("Cu", cubic=True, a=a) for a in (3.66, 3.7)]
    outputs = [tmp_path / "a.traj", tmp_path / "b.traj"]
    together(crystals, NamedMorse(), MDSettings(time_ps=0.002), outputs=outputs)
    begun_by("torch-sim", outputs[0].with_suffix(".restart.npz"))
    before = contents(tmp_path)
    longer = MDSettings(time_ps=0.004)
    old, new = together(crystals, NamedMorse(), longer, outputs=outputs)
    assert "was begun with torch-sim" in old.error and "overwrite" in old.error
    assert new.result.n_steps == 4 and contents(tmp_path)["a"] == before["a"]
    again = together(crystals, NamedMorse(), longer, outputs=outputs, overwrite=True)
    assert [one.n_steps for one in results(again)] == [4, 4]
