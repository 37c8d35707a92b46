"""`dpa4 md`: runs, figures, and a process that is killed."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from python_process import PythonProcess
from typer.testing import CliRunner

from dpa4_flows.cli import app

TOY = ["--model", "dpa4_core.testing:MorsePotential"]
SLOW = ["--model", "toy_potentials:SlowMorse"]
SHORT = ["--time", "0.02", "--every", "5", "--ensemble", "nve"]


@pytest.fixture
def copper(tmp_path):
    path = tmp_path / "copper.vasp"
    bulk("Cu", cubic=True, a=3.68).write(path)
    return path


@contextlib.contextmanager
def holding(lock):
    """Another process that holds ``lock``."""
    code = (
        f"import fcntl, sys; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        yield
    finally:
        process.communicate(b"\n")


def call(*arguments):
    return CliRunner().invoke(app, ["md", *map(str, arguments)])


def test_a_run_leaves_its_files_and_a_table(copper, tmp_path):
    out = tmp_path / "out" / "run.traj"
    result = call(copper, "-o", out, *TOY, *SHORT, "--plot", tmp_path / "drift.html")
    assert result.exit_code == 0, result.output
    assert "Cu" in result.output
    assert "20 steps of 1 fs, nve" in result.output
    assert len(ase.io.read(out, ":")) == 5
    visible = {path.name for path in out.parent.iterdir() if not path.name.startswith(".")}
    assert visible == {"run.traj", "run.csv", "run.json", "run.restart.npz"}
    content = json.loads(out.with_suffix(".json").read_text())
    assert content["model"]["name"] == "MorsePotential"
    page = (tmp_path / "drift.html").read_text()
    assert "temperature (K)" in page
    assert 'src="http' not in page


def test_the_figure_of_a_finished_run_needs_no_computing(copper, tmp_path):
    call(copper, "-o", tmp_path / "run.traj", *TOY, *SHORT)
    before = (tmp_path / "run.csv").read_text()
    result = call(copper, "-o", tmp_path / "run.traj", *TOY, *SHORT, "--plot", tmp_path / "drift.png", "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)[0]
    assert row["n_steps"] == 20
    assert row["steps_per_s"] is None
    assert row["drift_mev_per_atom_ps"] is not None
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run.csv").read_text() == before


def test_several_structures_go_into_a_folder_and_a_bad_one_fails_alone(copper, tmp_path):
    argon = tmp_path / "argon.cif"
    bulk("Ar", cubic=True).write(argon)
    result = call(copper, argon, copper, "-o", tmp_path / "runs", *TOY, *SHORT)
    assert result.exit_code == 3, result.output
    assert "element Ar" in result.output
    assert {path.name for path in (tmp_path / "runs").glob("*.traj")} == {"copper.traj", "copper_2.traj"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "run.cif"], "end it in .traj"),
        (["-o", "run.traj", "--ensemble", "nph"], "unknown ensemble 'nph'"),
        (["-o", "run.traj", "--plot", "a.pdf"], "end the name of the plot"),
        (["-o", "run.traj", "--temperature", "-3"], "temperature must be"),
        (["-o", "run.traj", "--keep-velocities"], "no velocities"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, message, copper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(copper, *arguments, *TOY, "--time", "0.01")
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert not list(tmp_path.glob("run*"))


def test_two_processes_do_not_write_one_run(copper, tmp_path):
    out = tmp_path / "run.traj"
    with holding(out.with_name(".run.lock")):
        result = call(copper, "-o", out, *TOY, *SHORT)
    assert result.exit_code == 1
    assert "another process" in " ".join(result.output.split())
    assert not out.exists()
    assert call(copper, "-o", out, *TOY, *SHORT).exit_code == 0


def test_an_explosion_is_told_and_its_frames_stay(copper, tmp_path):
    arguments = ["--ensemble", "nve", "--temperature", "3000", "--timestep", "60", "--time", "6", "--every", "1"]
    result = call(copper, "-o", tmp_path / "run.extxyz", *TOY, *arguments)
    assert result.exit_code == 1
    assert "shorter time step" in " ".join(result.output.split())
    assert len(ase.io.read(tmp_path / "run.extxyz", ":")) >= 1


@pytest.mark.slow
def test_a_killed_run_continues_as_if_nothing_had_been(copper, tmp_path):
    arguments = [*SLOW, "--time", "0.12", "--every", "2", "--threads", "1"]
    killed, log = tmp_path / "killed.extxyz", tmp_path / "killed.csv"
    process = PythonProcess("-m", "dpa4_flows.cli", "md", copper, *arguments, "-o", killed)
    deadline = time.monotonic() + 120
    while (not log.exists() or log.read_text().count("\n") < 40) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.end_by(signal.SIGKILL)
    assert call(copper, "-o", killed, *arguments).exit_code == 0
    assert call(copper, "-o", tmp_path / "whole.extxyz", *arguments).exit_code == 0
    assert log.read_text() == (tmp_path / "whole.csv").read_text()
    frames, whole = ase.io.read(killed, ":"), ase.io.read(tmp_path / "whole.extxyz", ":")
    assert len(frames) == 61
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(frames, whole, strict=True))
