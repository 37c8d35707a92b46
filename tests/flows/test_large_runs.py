"""Runs of any size: what survives a kill, who computes what, and what a run refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from python_process import PythonProcess
from toy_campaign import MORSE
from toy_potentials import ForbiddenMorse
from typer.testing import CliRunner, Result

from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output
from dpa4_core.relax import relax
from dpa4_core.testing import MorsePotential
from dpa4_flows.cli import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import relax_settings, static_settings
from dpa4_flows.large import claims as claims_module
from dpa4_flows.large import worker as worker_module
from dpa4_flows.large.claims import Claims, Worker
from dpa4_flows.large.folder import RunFolder, RunFolderError, Task, open_folder, prepare_folder
from dpa4_flows.large.launch import Ended, Resources, run_workers, share
from dpa4_flows.large.rows import Row, Rows, error_code, read_journal, read_shard
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.model_ref import ModelRef

SLOW = "toy_potentials:SlowMorse"
NO_COPPER = "toy_potentials:WithoutCopper"
TESTS = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def _tests_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the toy potentials."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))


def crystals(n: int) -> list[Atoms]:
    """Strained metals, all different."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(n):
        atoms = bulk(["Cu", "Ni", "Ag"][i % 3], "fcc", a=[3.6, 3.5, 4.1][i % 3] * (0.97 + 0.06 * rng.random()))
        frames.append(atoms)
    return frames


def write_input(path: Path, n: int) -> Path:
    ase.io.write(path, crystals(n), format="extxyz")
    return path


def relaxation(model: str = MORSE, **changes: Any) -> Task:
    reference = ModelRef(model).resolve()
    options: dict[str, Any] = {"fmax": 0.05, "max_steps": 200, "relax_cell": True, "pressure_gpa": 0.0}
    return Task("relax", reference, relax_settings(**{**options, **changes}, dtype="float32"), with_forces=False)


def single_points() -> Task:
    return Task("static", ModelRef(MORSE).resolve(), static_settings(dtype="float32"), with_forces=True)


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def rows_of(run: RunFolder) -> dict[int, Row]:
    rows = list(run.rows())
    assert len({row["index"] for row in rows}) == len(rows)
    return {row["index"]: row for row in rows}


# ---- results


def test_a_run_gives_what_relax_gives_under_the_same_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpa4_flows.large.folder._SLICES", 12)
    path = write_input(tmp_path / "in.extxyz", 23)
    run = prepare_folder(tmp_path / "run", relaxation(), [path])
    assert run.slice_size == 2 and run.n_slices == 12
    RunWorker(run, [path], MorsePotential()).work()
    rows = rows_of(run)
    expected = relax(crystals(23), MorsePotential(), fmax=0.05, max_steps=200)
    maker = BatchRelaxMaker(property=Relaxed(fmax=0.05, max_steps=200), model=ModelRef(MORSE))
    for i, result in enumerate(expected):
        row = rows[i]
        assert row["source"] == f"{path}:{i}"
        assert row["converged"] and row["error"] is None and row["n_steps"] == result.n_steps
        assert row["energy"] == pytest.approx(result.energy, abs=1e-6)
        np.testing.assert_allclose(np.reshape(row["cell"], (3, 3)), result.structure.cell, atol=1e-6)
        assert row["volume"] == pytest.approx(result.structure.get_volume(), rel=1e-6)
    structure = AseAtomsAdaptor.get_structure(ase.io.read(path, "3"))
    assert rows[3]["key"] == maker.key(structure)
    assert not list((run.path / "journal").iterdir()) and not list((run.path / "claims").iterdir())


def test_three_lines_of_pandas_and_pymatgen_read_a_run(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 5)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    RunWorker(run, [path], MorsePotential()).work()
    table = pd.read_parquet(run.path / "shards")
    row = table.iloc[1]
    structure = Structure(row.cell.reshape(3, 3), row.numbers, row.positions.reshape(-1, 3), coords_are_cartesian=True)
    assert structure.composition.reduced_formula == row.formula == "Ni"
    assert len(table) == 5 and row.forces.shape == (3,)


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 20)
    run = prepare_folder(tmp_path / "run", relaxation(), [path])
    RunWorker(run, [path], MorsePotential()).work()
    again = prepare_folder(tmp_path / "run", relaxation(), [path])
    RunWorker(again, [path], ForbiddenMorse()).work()


def test_a_thousand_malformed_structures_give_a_thousand_sentences(tmp_path: Path) -> None:
    path = tmp_path / "broken.tar.gz"
    broken = [
        b"3\nshort\nCu 0 0 0\n",
        b"2\n\nCu 0 0 0\nQq 1 1 1\n",
        b'1\nLattice="0 0 0 0 0 0 0 0 0" pbc="T T T"\nCu 0 0 0\n',
        b'2\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nCu 0 0 0\nCu 0 0 0.1\n',
        b"1\n\nHe 0 0 0\n",  # not known to the potential
        b"hello\n",
        b"\x00\xff\x00",
        b'2\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nCu 0 0 0\nCu nan 2 2\n',
        b"",
        b"1\n\nCu zero 0 0\n",
    ]
    with tarfile.open(path, "w:gz") as archive:
        for i in range(1000):
            info = tarfile.TarInfo(f"set/{i}.xyz")
            info.size = len(broken[i % 10])
            archive.addfile(info, io.BytesIO(broken[i % 10]))
        archive.add(write_input(tmp_path / "good.xyz", 1), "set/good.xyz")
    run = prepare_folder(tmp_path / "run", relaxation(), [path])
    RunWorker(run, [path], MorsePotential()).work()
    rows = rows_of(run)
    assert len(rows) == 1001 and rows[1000]["converged"]
    for i in range(1000):
        error = rows[i]["error"]
        assert error and "\n" not in error and len(error) < 300, error
        assert rows[i]["source"] == f"{path}/set/{i}.xyz" and not rows[i]["converged"]
    summary = json.loads(dpa4("status", run.path, "--json").stdout)
    assert summary["n_failed"] == 1000 and summary["state"] == "complete"


def test_structures_are_read_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_input(tmp_path / "in.extxyz", 400)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    read = written = ahead = 0
    original = worker_module.numbered_entries

    def counted(*arguments: Any) -> Iterator[Any]:
        nonlocal read, ahead
        for item in original(*arguments):
            read += 1
            ahead = max(ahead, read - written)
            yield item

    def count(row: Row) -> None:
        nonlocal written
        written += 1

    monkeypatch.setattr(worker_module, "numbered_entries", counted)
    RunWorker(run, [path], MorsePotential(), max_atoms_per_batch=8, on_result=count).work()
    assert written == 400
    assert ahead <= 4 * 8 + 1


def test_every_kind_of_structure_becomes_a_row_and_comes_back(tmp_path: Path) -> None:
    water = Atoms("OHH", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], info={"charge": 1, "spin": 2})
    slab = Atoms("MgOMgO", [[0, 0, 0], [2.1, 0, 0], [2.1, 2.1, 0], [0, 2.1, 0]], cell=[4.2, 4.2, 15], pbc=[1, 1, 0])
    rock = Structure([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]], ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    ase.io.write(tmp_path / "a.extxyz", [water, slab])
    rock.to(str(tmp_path / "b.json"))
    files = [tmp_path / "a.extxyz", tmp_path / "b.json"]
    run = prepare_folder(tmp_path / "run", single_points(), files)
    RunWorker(run, files, MorsePotential()).work()
    rows = rows_of(run)
    assert [rows[i]["error"] for i in range(3)] == [None] * 3
    assert [rows[i]["formula"] for i in range(3)] == ["H2O", "MgO", "MgO"]
    assert [rows[i]["pbc"] for i in range(3)] == [[False] * 3, [True, True, False], [True] * 3]
    assert rows[0]["cell"] is None and rows[0]["stress"] is None and rows[0]["volume"] is None
    assert (rows[0]["charge"], rows[0]["spin"]) == (1, 2)
    for i, atoms in enumerate([water, slab, AseAtomsAdaptor.get_atoms(rock)]):
        back = flat_atoms(rows[i])
        np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(back.cell, atoms.cell, atol=1e-8)
        assert back.get_chemical_symbols() == atoms.get_chemical_symbols()


# ---- kills


def _start(arguments: list[object]) -> PythonProcess:
    return PythonProcess("-m", "dpa4_flows.cli", *arguments)


def _wait(condition: Any, process: PythonProcess, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def _stored(folder: Path) -> dict[int, Row]:
    found = {}
    for shard in (folder / "shards").glob("0*.parquet"):
        found |= {row["index"]: row for row in read_shard(shard)}
    for journal in (folder / "journal").glob("*.jsonl"):
        found |= {row["index"]: row for row in read_journal(journal)}
    return found


@pytest.mark.usefixtures("_tests_on_path")
def test_a_killed_run_keeps_every_finished_structure(tmp_path: Path) -> None:
    path, folder = write_input(tmp_path / "in.extxyz", 60), tmp_path / "run"
    process = _start(["relax", path, "-o", folder, "-m", SLOW, "--fmax", 0.05, "--max-steps", 200,
                      "--max-atoms-per-batch", 4, "--threads", 1, "--optimizer", "fire"])  # fmt: skip
    try:
        _wait(lambda: len(_stored(folder)) >= 12, process)
    finally:
        process.end_by(signal.SIGKILL)
    before = _stored(folder)
    assert 12 <= len(before) < 60
    (folder / "shards" / ".000059.parquet.1.part").write_bytes(b"PAR1 half a shard")
    journal = folder / "journal" / "000059.0.jsonl"
    journal.write_bytes(b'{"index": 59, "energy": -1.0, "converg')
    assert len(_stored(folder)) == len(before)
    new: list[int] = []
    run = prepare_folder(folder, relaxation(SLOW, optimizer="fire"), [path])
    RunWorker(run, [path], MorsePotential(), on_result=lambda row: new.append(row["index"])).work()
    assert sorted([*before, *new]) == list(range(60))  # nothing lost, nothing computed again
    rows = rows_of(run)
    assert len(rows) == 60 and all(row["converged"] for row in rows.values())
    assert all(p.name[0] != "." for p in (folder / "shards").iterdir())
    assert all(rows[i]["energy"] == row["energy"] for i, row in before.items())


@pytest.mark.usefixtures("_tests_on_path")
def test_the_slices_of_a_killed_worker_are_taken_over(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 40)
    run = prepare_folder(tmp_path / "run", relaxation(SLOW, optimizer="fire"), [path])
    told: list[Ended] = []
    killed = 0

    def kill_one() -> None:
        nonlocal killed
        workers = [json.loads(p.read_text()) for p in (run.path / "workers").glob("*.json")]
        if not killed and len(workers) == 2 and len(_stored(run.path)) >= 6:
            killed = workers[0]["pid"]
            os.kill(killed, signal.SIGKILL)

    resources = share(Resources("cpu", threads=1, max_atoms_per_batch=4), 2)
    run_workers(run, [path], run.task.model, resources, look=kill_one, ended=told.append)
    assert killed and [ended.why[:17] for ended in told] == ["killed by SIGKILL"]
    rows = rows_of(run)
    assert sorted(rows) == list(range(40)) and all(row["converged"] for row in rows.values())


@pytest.mark.slow
@pytest.mark.usefixtures("_tests_on_path")
def test_workers_share_the_structures(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 32)
    run = prepare_folder(tmp_path / "run", relaxation(SLOW, optimizer="fire"), [path])
    run_workers(run, [path], run.task.model, share(Resources("cpu", threads=1, max_atoms_per_batch=4), 2))
    counts = [json.loads(p.read_text())["n_done"] for p in (run.path / "workers").glob("*.json")]
    assert sum(counts) == 32 == len(rows_of(run))
    assert min(counts) > 2


def test_processes_that_all_fail_are_told_in_one_sentence(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 4)
    run = prepare_folder(tmp_path / "run", relaxation(), [path])
    with pytest.raises(RunFolderError, match=r"all processes have ended.*no_such_module"):
        run_workers(run, [path], ModelRef("no_such_module:thing"), [Resources("cpu", threads=1)])


class Fragile(MorsePotential):
    """Cannot bear silver, and takes its whole batch down."""

    def compute(self, graph: Graph) -> Output:
        if (graph.atomic_numbers == 47).any():
            raise IndexError("silver")
        return super().compute(graph)


@pytest.mark.parametrize("task", [relaxation, single_points])
def test_a_structure_that_breaks_its_batch_fails_alone(tmp_path: Path, task: Any) -> None:
    path = write_input(tmp_path / "in.extxyz", 9)
    run = prepare_folder(tmp_path / "run", task(), [path])
    RunWorker(run, [path], Fragile()).work()
    rows = rows_of(run)
    assert {i for i, row in rows.items() if row["error"]} == {2, 5, 8}
    assert rows[2]["error"] == "the computation failed: silver"
    assert rows[0]["converged"] and rows[7]["converged"]


def test_a_structure_that_kills_its_process_fails_in_the_end(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 3)
    run = prepare_folder(tmp_path / "run", relaxation(), [path])
    for generation in range(4):  # owners of slice 1 that are gone
        (run.path / "claims" / f"000001.{generation}").write_text("gone")
    (run.path / "journal" / "000001.2.jsonl").write_text('{"attempt":1}\n')
    (run.path / "journal" / "000001.3.jsonl").write_text('{"attempt":1}\n')
    RunWorker(run, [path], MorsePotential()).work()
    rows = rows_of(run)
    assert "2 processes were killed while they computed this structure alone" in rows[1]["error"]
    assert rows[0]["converged"] and rows[2]["converged"]


# ---- leases


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Claims, Claims, Path]]:
    """Two workers of one run in this process, and the folder of their heartbeats."""
    for name in ("claims", "workers"):
        (tmp_path / name).mkdir()
    with Worker(tmp_path / "workers") as a, Worker(tmp_path / "workers") as b:
        yield (
            Claims(tmp_path / "claims", tmp_path / "workers", a),
            Claims(tmp_path / "claims", tmp_path / "workers", b),
            tmp_path / "workers",
        )


def test_a_lease_is_held_by_one_and_can_be_given_back(two: tuple[Claims, Claims, Path]) -> None:
    a, b, _ = two
    assert a.take(3) == 0
    assert b.take(3) is None and b.free(range(5)) == {0, 1, 2, 4}
    a.give_back(3)
    assert b.take(3) == 0 and b.is_mine(3) and not a.is_mine(3)
    b.keep(3)
    assert a.take(3) is None


def test_a_silent_worker_of_another_machine_loses_its_leases(
    two: tuple[Claims, Claims, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, workers = two
    assert a.take(1) == 0
    (owner,) = {(workers.parent / "claims" / "000001.0").read_text()}
    heartbeat = workers / f"{owner}.json"
    facts = json.loads(heartbeat.read_text())
    heartbeat.write_text(json.dumps({**facts, "host": "elsewhere"}))
    assert b.take(1) is None
    os.utime(heartbeat, (0, time.time() - 2 * claims_module.LEASE_S))
    assert b.take(1) == 1
    assert not a.is_mine(1)  # and would see it before it publishes
    a.give_back(1)
    assert a.take(1) is None


def test_the_lease_of_a_process_that_is_gone_is_free_at_once(two: tuple[Claims, Claims, Path]) -> None:
    a, b, workers = two
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert a.take(1) == 0
    heartbeat = workers / f"{(workers.parent / 'claims' / '000001.0').read_text()}.json"
    facts = json.loads(heartbeat.read_text())
    heartbeat.write_text(json.dumps({**facts, "locked": False, "pid": process.pid}))  # where nothing can be locked
    assert b.take(1) == 1


def test_a_lease_ends_with_its_process_although_the_number_of_the_process_lives(
    two: tuple[Claims, Claims, Path],
) -> None:
    """As after the restart of a container, where the new process has the number of the old one."""
    a, b, workers = two
    assert a.take(1) == 0
    owner = (workers.parent / "claims" / "000001.0").read_text()
    (workers / f"{owner}.lock").rename(workers / "other")
    (workers / f"{owner}.lock").touch()
    assert json.loads((workers / f"{owner}.json").read_text())["pid"] == os.getpid()
    assert b.take(1) == 1


def test_nobody_waits_for_a_lease_of_its_own(two: tuple[Claims, Claims, Path]) -> None:
    a, b, _ = two
    assert a.take(1) == 0
    assert a.free([1]) == set() == b.free([1])
    a.keep(1)  # it no longer works on it
    assert a.free([1]) == {1} and b.free([1]) == set()


def test_names_that_are_no_text_and_results_that_fit_no_column_do_not_lose_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    structure = AseAtomsAdaptor.get_structure(bulk("Cu"))
    rows = [{"id": name, "structure": structure.as_dict()} for name in ("fine", "broken \ud83d", "also fine")]
    (folder / "rows.json").write_text(json.dumps(rows))
    ase.io.write(tmp_path / "nickel.extxyz", bulk("Ni"))
    (tmp_path / "nickel.extxyz").rename(folder / os.fsdecode(b"caf\xe9.extxyz"))
    run = prepare_folder(tmp_path / "run", single_points(), [folder])
    RunWorker(run, [folder], MorsePotential()).work()
    found = list(open_folder(run.path).rows())
    assert [row["error"] for row in found] == [None] * 4
    assert any("\\udce9" in row["source"] for row in found)
    assert any("ud83d" in row["name"] for row in found)
    assert Counter(row["formula"] for row in found) == {"Cu": 3, "Ni": 1}


def test_a_result_that_no_column_takes_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_input(tmp_path / "in.extxyz", 3)
    computed = Rows.computed

    def odd(self: Rows, index: int, *arguments: Any) -> Row:
        return computed(self, index, *arguments) | ({"charge": 10**9} if index == 1 else {})

    monkeypatch.setattr(Rows, "computed", odd)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    RunWorker(run, [path], MorsePotential()).work()
    errors = [row["error"] for row in run.rows()]
    assert errors[0] is None and errors[2] is None
    assert errors[1].startswith("the result cannot be stored: ")


def test_a_shard_that_cannot_be_written_ends_the_process_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_input(tmp_path / "in.extxyz", 3)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    calls = []

    def refuse(*arguments: Any) -> None:
        calls.append(arguments)
        raise ValueError("no such column")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "write_shard", refuse)
        with pytest.raises(RunFolderError, match="cannot be published"):
            RunWorker(run, [path], MorsePotential()).work()
    assert len(calls) == 1
    assert not list((run.path / "claims").iterdir())
    RunWorker(run, [path], MorsePotential()).work()
    assert [row["error"] for row in run.rows()] == [None] * 3


def test_a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing_that_was_done(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 40)
    code = f"""
import resource, signal, sys
from pathlib import Path
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_flows.large.folder import open_folder
from dpa4_flows.large.worker import RunWorker
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))  # of a file
try:
    RunWorker(open_folder(Path({str(tmp_path / "run")!r})), [Path({str(path)!r})], MorsePotential()).work()
except DPA4Error as error:
    sys.exit(str(error))
"""
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot be written: files may not become that large" in failed.stderr, failed.stderr
    assert failed.returncode == 1
    before = sum(len(run.journal_rows(n)) for n in run.unfinished())
    computed: list[Row] = []
    RunWorker(run, [path], MorsePotential(), on_result=computed.append).work()
    assert [row["error"] for row in run.rows()] == [None] * 40
    assert before + len(computed) <= 41


def test_a_process_that_lost_its_lease_publishes_nothing(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 1)
    run = prepare_folder(tmp_path / "run", single_points(), [path])

    def overtaken(row: Row) -> None:
        (run.path / "claims" / "000000.1").write_text("somebody-else")

    worker = RunWorker(run, [path], MorsePotential(), on_result=overtaken)
    worker_module.POLL_S, poll = 0.01, worker_module.POLL_S
    try:
        with pytest.raises(RunFolderError):  # and the second look is stopped here
            _stop_after(worker, run)
    finally:
        worker_module.POLL_S = poll
    assert not run.finished() and len(run.journal_rows(0)) == 1


def _stop_after(worker: RunWorker, run: RunFolder) -> None:
    original = run.unfinished
    calls = 0

    def unfinished() -> list[int]:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise RunFolderError("enough")
        return original()

    object.__setattr__(run, "unfinished", unfinished)
    worker.work()


# ---- refusals


def test_another_model_settings_calculation_or_input_is_refused(tmp_path: Path) -> None:
    path, folder = write_input(tmp_path / "in.extxyz", 3), tmp_path / "run"
    prepare_folder(folder, relaxation(), [path])
    with pytest.raises(RunFolderError, match=r"other settings \(fmax 0.05 there, 0.01 now\)"):
        prepare_folder(folder, relaxation(fmax=0.01), [path])
    with pytest.raises(RunFolderError, match=r"results of model dpa4_core.testing:MorsePotential"):
        prepare_folder(folder, relaxation(SLOW, optimizer="fire"), [path])
    with pytest.raises(RunFolderError, match="results of `dpa4 relax`"):
        prepare_folder(folder, single_points(), [path])
    other = write_input(tmp_path / "more.extxyz", 2)
    with pytest.raises(RunFolderError, match=r"another input \(.*more.extxyz is new\)"):
        prepare_folder(folder, relaxation(), [path, other])
    with pytest.raises(RunFolderError, match=r"another input \(.*in.extxyz then, .*more.extxyz now\)"):
        prepare_folder(folder, relaxation(), [tmp_path / "more.extxyz"])
    os.utime(path, (1, 1))
    with pytest.raises(RunFolderError, match=r"in.extxyz has changed"):
        prepare_folder(folder, relaxation(), [path])
    with pytest.raises(RunFolderError, match=r"holds other files"):
        prepare_folder(tmp_path, relaxation(), [path])


def test_input_that_changes_during_the_run_stops_it(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 3)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    write_input(path, 2)
    with pytest.raises(ValueError, match="has changed during the run: 2 structures, not 3"):
        RunWorker(run, [path], MorsePotential()).work()


# ---- failures again


class Forgetful(MorsePotential):
    """Has no memory for more than one silver atom at first."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def compute(self, graph: Graph) -> Output:
        self.calls += 1
        if (graph.atomic_numbers == 47).any():
            raise MemoryError
        return super().compute(graph)


def test_failures_are_computed_again_on_request_only(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 6)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    RunWorker(run, [path], Forgetful()).work()
    assert Counter(row["error"] is None for row in run.rows()) == {True: 4, False: 2}
    RunWorker(run, [path], ForbiddenMorse()).work()
    new: list[int] = []
    since = time.time() + 1
    later = since + 10
    for shard in (run.path / "shards").iterdir():
        os.utime(shard, (since - 5, since - 5))
    RunWorker(run, [path], MorsePotential(), retry_since=since - 2, on_result=lambda r: new.append(r["index"])).work()
    assert later and sorted(new) == [2, 5]
    assert all(row["error"] is None for row in rows_of(run).values())


def test_who_ends_first_leaves_alone_what_another_process_tries_again(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 6)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    RunWorker(run, [path], Forgetful()).work()
    since = time.time() + 1

    def end_meanwhile(row: Row) -> None:
        RunWorker(run, [path], ForbiddenMorse()).work()

    RunWorker(run, [path], MorsePotential(), retry_since=since, on_result=end_meanwhile).work()
    assert all(row["error"] is None for row in run.rows())
    assert not any((run.path / "claims").iterdir()) and not any((run.path / "journal").iterdir())


def test_want_of_memory_has_a_code_and_runs_of_earlier_versions_are_understood(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 6)
    run = prepare_folder(tmp_path / "run", single_points(), [path])
    RunWorker(run, [path], Forgetful()).work()
    told = [None, None, "out_of_memory"] * 2
    assert [row["error_code"] for row in run.rows()] == told
    for shard in (run.path / "shards").iterdir():
        pq.write_table(pq.read_table(shard).drop_columns(["error_code"]), shard)
    assert [error_code(row) for row in run.rows(["index", "error", "error_code"])] == told


# ---- the command line


def test_the_command_fills_a_folder_and_exports_it(tmp_path: Path) -> None:
    write_input(tmp_path / "in.extxyz", 6)
    (tmp_path / "bad.cif").write_text("data_x\n_atom_site_label\n")
    folder = tmp_path / "runs" / "big"
    done = dpa4("relax", tmp_path / "in.extxyz", tmp_path / "bad.cif", "-o", folder, "-m", MORSE, "--fmax", 0.05)
    assert done.exit_code == 3, done.output
    assert "7 of 7 structures done" in done.stdout and "6 fine, 0 not converged, 1 failed" in done.stdout
    assert "bad.cif" in done.stderr
    again = dpa4("relax", tmp_path / "in.extxyz", tmp_path / "bad.cif", "-o", folder, "-m", MORSE, "--fmax", 0.05)
    assert again.exit_code == 3 and "7 of 7 structures were computed before" in again.stderr
    other = dpa4("relax", tmp_path / "in.extxyz", "-o", folder, "-m", MORSE)
    assert other.exit_code == 1 and other.stderr.startswith("error: ") and len(other.stderr.strip().splitlines()) == 1
    status = dpa4("status", folder)
    assert status.exit_code == 0 and "7 of 7" in status.stdout and "fmax 0.05" in status.stdout
    for name in ("all.extxyz", "all.csv", "all.json", "all.parquet"):
        assert dpa4("export", folder, "-o", tmp_path / name).exit_code == 0
    frames = ase.io.read(tmp_path / "all.extxyz", ":")
    table = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    rows = json.loads((tmp_path / "all.json").read_text())
    parquet = pd.read_parquet(tmp_path / "all.parquet")
    assert len(frames) == 6 and len(table) == len(rows) == len(parquet) == 7
    assert frames[2].get_potential_energy() == pytest.approx(rows[2]["energy"]) == pytest.approx(parquet.energy[2])
    assert table[6]["error"] == rows[6]["error"] and table[6]["energy"] == ""
    wrong = dpa4("export", folder, "-o", tmp_path / "all.cif")
    assert wrong.exit_code == 1 and ".json, .extxyz, .xyz or .parquet, or a folder" in wrong.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("_tests_on_path")
def test_two_commands_on_one_folder_share_the_work(tmp_path: Path) -> None:
    """As two machines would, and one of them with two processes."""
    path, folder = write_input(tmp_path / "in.extxyz", 240), tmp_path / "run"
    arguments: list[object] = ["relax", path, "-o", folder, "-m", SLOW, "--fmax", 0.05, "--optimizer", "fire"]
    arguments += ["--max-atoms-per-batch", 4, "--threads", 1]
    commands = [_start(arguments), _start([*arguments, "--workers", 2])]
    assert [command.wait(240) for command in commands] == [0, 0]
    run = open_folder(folder)
    counts = [json.loads(p.read_text())["n_done"] for p in (folder / "workers").glob("*.json")]
    assert len(counts) == 3 and sum(counts) == 240 == len(rows_of(run)) and min(counts) > 0


def test_a_parquet_file_is_the_end_of_a_run_behind_it(tmp_path: Path) -> None:
    path, output = write_input(tmp_path / "in.extxyz", 4), tmp_path / "out.parquet"
    assert dpa4("predict", path, "-o", output, "-m", MORSE).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.extxyz", "out.parquet"]
    table = pd.read_parquet(output)
    assert len(table) == 4 and table.forces.notna().all()
    assert "is complete" in dpa4("predict", path, "-o", output, "-m", MORSE).stdout
    assert "other settings" in dpa4("relax", path, "-o", output, "-m", MORSE).stderr
    part = pq.read_table(output)
    pq.write_table(part.slice(0, 3), output)
    assert "holds 3 of 4 structures" in dpa4("predict", path, "-o", output, "-m", MORSE).stderr
    (tmp_path / "foreign.parquet").write_bytes(b"x")
    assert "not of this program" in dpa4("relax", path, "-o", tmp_path / "foreign.parquet", "-m", MORSE).stderr


def test_a_parquet_file_with_failures_says_so_each_time_and_tries_them_again(tmp_path: Path) -> None:
    path, output = write_input(tmp_path / "in.extxyz", 6), tmp_path / "out.parquet"
    for arguments in ([], []):
        done = dpa4("predict", path, "-o", output, "-m", NO_COPPER, *arguments)
        assert done.exit_code == 3 and "4 fine, 0 not converged, 2 failed" in done.stdout
        assert "in.extxyz:0: " in done.stderr
    counts = json.loads(dpa4("predict", path, "-o", output, "-m", NO_COPPER, "--json").stdout)
    assert counts["state"] == "complete" and (counts["n_done"], counts["n_failed"]) == (6, 2)
    before = pd.read_parquet(output)
    again = dpa4("predict", path, "-o", output, "-m", NO_COPPER, "--retry-errors")
    assert again.exit_code == 3 and "6 of 6 structures were computed before" in again.stderr
    pd.testing.assert_frame_equal(before, pd.read_parquet(output))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.extxyz", "out.parquet"]


def test_options_of_a_relaxation_reach_both_kinds_of_output(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 2)
    start = crystals(2)
    for output, options in ((tmp_path / "a.extxyz", ["--cell", "001000"]), (tmp_path / "run", ["--cell", "001000"])):
        options += ["--fmax", "0.05", "--optimizer", "fire", "--max-step", "0.1"]
        assert dpa4("relax", path, "-o", output, "-m", MORSE, *options).exit_code == 0
    frames = ase.io.read(tmp_path / "a.extxyz", ":")
    rows = rows_of(open_folder(tmp_path / "run"))
    for i in range(2):
        cell = np.reshape(rows[i]["cell"], (3, 3))
        np.testing.assert_allclose(cell, frames[i].cell, atol=1e-6)
        np.testing.assert_allclose(cell[:, :2], start[i].cell[:, :2], atol=1e-6)  # x and y are kept
        assert np.abs(cell[:, 2] - start[i].cell[:, 2]).max() > 1e-3
        assert rows[i]["flags"] == []
    settings = open_folder(tmp_path / "run").task.settings
    assert settings["cell"] == [0, 0, 1, 0, 0, 0] and settings["max_step"] == 0.1
    assert settings["keep_symmetry"] is False and settings["check_minimum"] is True
    wrong = dpa4("relax", path, "-o", tmp_path / "other", "-m", MORSE, "--cell", "fixed", "--pressure", 5)
    assert wrong.exit_code == 1 and "has no effect" in wrong.stderr and not (tmp_path / "other").exists()


def test_options_of_large_runs_need_a_folder(tmp_path: Path) -> None:
    path = write_input(tmp_path / "in.extxyz", 1)
    for option in (["--workers", 2], ["--forces"], ["--retry-errors"]):
        result = dpa4("relax", path, "-o", tmp_path / "out.cif", "-m", MORSE, *option)
        assert result.exit_code == 2 and "needs a run folder" in result.stderr
