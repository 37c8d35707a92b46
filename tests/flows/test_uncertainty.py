"""Committees in documents, tables and commands."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner, Result

import dpa4_flows
from dpa4_core import DPA4Calculator, Static, predict, read_frames
from dpa4_core.locks import locked
from dpa4_core.testing import MorsePotential, morse_committee
from dpa4_core.train.config import CommitteeConfig
from dpa4_flows.cli import app
from dpa4_flows.compute.parts import part_of_text, text_of_part

MORSE, COMMITTEE = "dpa4_core.testing:MorsePotential", "dpa4_core.testing:morse_committee"


def dpa4(*arguments: object, code: int = 0) -> Result:
    environment = {"COLUMNS": "200", "TERM": "dumb"}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)
    assert result.exit_code == code, result.output
    return result


def test_documents_of_a_committee_carry_deviations_and_tables_show_them():
    copper = bulk("Cu", cubic=True)
    found = dpa4_flows.relax([copper], model=COMMITTEE)
    (document,) = found
    assert len(document.member_energies) == 3 and document.energy == pytest.approx(sum(document.member_energies) / 3)
    assert document.energy_per_atom_std > 0 and document.worst_force_std < 1e-6  # symmetry
    shown = repr(found)
    assert "±" in shown and "Largest force deviation" in shown
    assert found.records()[0]["energy_per_atom_std"] == document.energy_per_atom_std
    single = dpa4_flows.relax([copper], model=MORSE)
    assert single[0].member_energies is None and single[0].energy_per_atom_std is None
    assert "±" not in repr(single) and "deviation" not in repr(single)


def test_parts_of_a_plan_that_was_stopped_keep_what_each_member_said():
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1)
    (found,) = predict([copper], morse_committee())
    again = part_of_text(text_of_part(found), Static(copper))
    assert (again.member_energies == found.member_energies).all() and (again.stress_std == found.stress_std).all()
    assert again.worst_force_std == found.worst_force_std


def rattled(folder, amplitudes=(0.02, 0.3, 0.1)):
    path = folder / "candidates.extxyz"
    frames = [bulk("Cu", cubic=True) for _ in amplitudes]
    for seed, (atoms, amplitude) in enumerate(zip(frames, amplitudes, strict=True)):
        atoms.rattle(amplitude, seed=seed)
    ase.io.write(path, frames)
    return path


def test_predict_writes_deviations_and_what_to_label_next(tmp_path):
    files, out, chosen = rattled(tmp_path), tmp_path / "all.extxyz", tmp_path / "to_label.extxyz"
    shown = dpa4("predict", files, "-m", COMMITTEE, "-o", out)
    assert "±" in shown.output and "largest force deviation" in shown.output
    frames = ase.io.read(out, ":")
    largest = [np.linalg.norm(atoms.arrays["forces_std"], axis=1).max() for atoms in frames]
    assert largest == pytest.approx([atoms.info["worst_force_std"] for atoms in frames])
    assert frames[0].info["stress_std"].shape == (3, 3) and frames[0].info["energy_per_atom_std"] > 0

    dpa4("predict", files, "-m", COMMITTEE, "--most-uncertain", 2, "-o", chosen)
    kept = ase.io.read(chosen, ":")
    order = np.argsort(largest)[::-1][:2]
    assert [atoms.info["worst_force_std"] for atoms in kept] == pytest.approx([largest[i] for i in order])
    assert all(atoms.calc is None and "forces" not in atoms.arrays for atoms in kept)
    assert not any(frame.has_labels for frame in read_frames(chosen))

    refused = dpa4("predict", files, "-m", MORSE, "--most-uncertain", 2, code=1)
    assert "needs a committee" in refused.output
    assert "±" not in dpa4("predict", files, "-m", MORSE, "-o", tmp_path / "single.json").output
    assert "forces_std" not in (tmp_path / "single.json").read_text()


def test_a_committee_is_trained_shown_and_used_from_the_command_line(tmp_path):
    frames = []
    for seed in range(10):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    for atoms in frames:
        truth = DPA4Calculator(MorsePotential(cutoff=3.6))
        energy, forces = truth.get_potential_energy(atoms), truth.get_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    tiny = ["model.channels=8", "model.lmax=1", "model.n_blocks=1", "model.cutoff=3.6", "run.validate_every=1"]
    settings = [part for one in tiny for part in ("--set", one)]
    run = tmp_path / "run"
    train = ("train", tmp_path / "frames.extxyz", "--preset", "nano", "--committee", 2, "--steps", 1, "-o", run)
    done = dpa4(*train, *settings, "--device", "cpu")
    assert "member 2 of 2" in done.output and "rank correlation" in done.output
    answer = json.loads(dpa4("status", run, "--json").output)
    assert answer["kind"] == "committee" and answer["state"] == "complete" and answer["n_done"] == 2
    assert "nothing was computed" in dpa4("resume", run).output
    dpa4("report", run)
    assert "What deviations are worth" in (run / "report.html").read_text()
    dpa4("export", run, "-o", tmp_path / "errors.csv")
    assert "committee" in (tmp_path / "errors.csv").read_text()
    shown = dpa4("evaluate", run / "model.dpa4", tmp_path / "frames.extxyz", "--device", "cpu")
    assert "deviation, RMS" in shown.output
    told = dpa4("info", run / "model.dpa4").output
    assert "members" in told and "validation: energy" in told and "{" not in told
    status_is_true_at_every_moment(run)


def status_is_true_at_every_moment(run: Path) -> None:
    """Of a committee of two; takes away what it wrote, the last first."""

    def state() -> tuple[str, int, int]:
        assert "committee" in dpa4("status", run, "--json").output and dpa4("status", run).output
        answer = json.loads(dpa4("status", run, "--json").output)
        return answer["state"], answer["n_done"], answer["n_total"]

    shutil.copytree(run / "member-1", run / "member-1-kept")
    assert state() == ("complete", 2, 2)
    (run / "metrics.json").unlink()
    assert state() == ("stopped", 2, 2)
    with locked(run / ".lock", "a model is being trained"):
        assert state() == ("running", 2, 2)
    assert not (run / "metrics.json").exists()  # who looks on does not compute what the run is computing
    (run / "model.dpa4").unlink()
    log = run / "member-2" / "log.jsonl"
    log.write_text(log.read_text()[:100])  # of a first record that is being written
    assert state() == ("stopped", 1, 2)
    shutil.rmtree(run / "member-2")
    assert state() == ("stopped", 1, 2)
    shutil.rmtree(run / "member-1")
    assert "is not a run folder" in dpa4("status", run, code=1).output
    with locked(run / ".lock", "a model is being trained"):
        assert "no step was taken" in dpa4("status", run, code=1).output


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "uncertainty.md").read_text(encoding="utf-8")
    (example,) = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    exec(compile(example, "uncertainty.md", "exec"), values := {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and all("±" in line for line in printed)
    assert [values["structures"].index(atoms) for atoms in values["to_label"]] == [3, 2]
    (settings,) = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    assert CommitteeConfig(**tomllib.loads(settings)["committee"]).is_whole
