"""What stops a run from outside (a kill, a disk that takes no more) costs what was in flight, and needs no hand."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from python_process import PythonProcess, run_python
from toy_campaign import MORSE, write_campaign

from dpa4_core.locks import holder
from dpa4_flows.campaigns.run import LOCK_FILE, TABLE_FILE, open_run
from dpa4_flows.store.table import ResultsError


def dpa4(*arguments: object, largest_file: int | None = None) -> PythonProcess:
    """A command, on a disk that takes files of so many bytes at most; the system then answers as it does when full."""
    return run_python("-m", "dpa4_flows.cli", *arguments, largest_file=largest_file)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_campaign_that_was_killed_goes_on_with_what_it_had(tmp_path: Path, number: int) -> None:
    campaign, run = write_campaign(tmp_path, model={"name": "toy_potentials:SlowMorse"}), tmp_path / "run"
    process = PythonProcess("-m", "dpa4_flows.cli", "screen", campaign, "--out", run)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not _n_computed(run):
        time.sleep(0.05)
    assert holder(run / LOCK_FILE).pid == process.pid
    process.end_by(number)
    before = _n_computed(run)
    assert before and open_run(run).get_meta("state") == "running"
    assert holder(run / LOCK_FILE) is None
    done = dpa4("resume", run)
    assert done.returncode == 0, done.stderr
    assert open_run(run).get_meta("state") == "complete" and open_run(run).ranking()
    assert _n_computed(run) > before


def _n_computed(run: Path) -> int:
    if not (run / TABLE_FILE).is_file():
        return 0
    try:
        return sum(1 for _ in open_run(run).iter_calculations())
    except ResultsError:  # just being made
        return 0


def campaign(folder: Path) -> tuple[object, ...]:
    return "screen", write_campaign(folder), "--out", folder / "run"


def library(folder: Path) -> tuple[object, ...]:
    return "reference", "build", "Li-Co-O", "--model", MORSE, "--library", folder / "run"


def large_run(folder: Path) -> tuple[object, ...]:
    ase.io.write(folder / "in.extxyz", [bulk("Cu", a=3.6 + 0.001 * i) for i in range(30)])
    return "relax", folder / "in.extxyz", "-o", folder / "run", "--model", MORSE


def dynamics(folder: Path) -> tuple[object, ...]:
    bulk("Cu", cubic=True, a=3.68).write(folder / "copper.vasp")
    long = ("--time", "0.2", "--every", "1", "--threads", "1")
    return "md", folder / "copper.vasp", "-o", folder / "run.extxyz", "--model", MORSE, *long


def structures(folder: Path) -> tuple[object, ...]:
    ase.io.write(folder / "in.extxyz", [bulk("Cu", a=3.6 + 0.001 * i) for i in range(30)])
    return "relax", folder / "in.extxyz", "-o", folder / "run.extxyz", "--model", MORSE


@pytest.mark.parametrize(
    ("arguments", "largest_file"),
    [
        (campaign, 60_000),  # the table has just been made
        pytest.param(campaign, 400_000, marks=pytest.mark.slow),
        pytest.param(library, 40_000, marks=pytest.mark.slow),
        pytest.param(large_run, 1_500, marks=pytest.mark.slow),
        pytest.param(dynamics, 20_000, marks=pytest.mark.slow),
        pytest.param(structures, 3_000, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_gets_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, arguments: Callable[[Path], tuple[object, ...]], largest_file: int
) -> None:
    whole = arguments(tmp_path)
    refused = dpa4(*whole, largest_file=largest_file)
    said = " ".join(refused.stderr.split())
    assert refused.returncode == 1, refused.stderr
    assert said.count("error: ") == 1, said
    assert "Traceback" not in said and "Error" not in said and "Errno" not in said
    again = dpa4(*whole)
    assert again.returncode == 0, again.stderr
