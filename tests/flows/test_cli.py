from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from jobflow import SETTINGS, JobStore
from maggma.stores import MemoryStore
from pymatgen.core import Structure
from test_fireworks import Site
from test_fireworks import site as site  # a fixture
from toy_campaign import MORSE, layered, write_campaign
from typer.testing import CliRunner, Result

from dpa4_core.data.graph import Graph
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.property import PropertyConfig, PropertyModel, write_property_model
from dpa4_core.potential import Output
from dpa4_core.properties import predict_property
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.sanity import check_candidate
from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.run import open_run, prepare_run, run_lock
from dpa4_flows.cli import app
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.makers.property import RETRY_SINCE
from dpa4_flows.store.table import ResultsTable

pytestmark = [
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),  # jobflow 0.4 with monty 2026
    pytest.mark.usefixtures("_cache"),
]

COMMANDS = (
    *("info", "fetch", "convert", "evaluate", "doctor", "predict", "relax", "compute"),
    *("train", "finetune", "init", "screen", "resume", "status", "report", "export"),
)


@pytest.fixture
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the weights that somebody fetched, and none fetches any."""
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Toy force calls are too small to share."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def refused(*arguments: object) -> str:
    """The one sentence on stderr of a command that must end with 1."""
    result = dpa4(*arguments)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: "), result.stderr
    assert "\n" not in sentence
    assert "Traceback" not in result.output
    return sentence


# ---- the group


def test_help_lists_every_command_without_heavy_imports() -> None:
    code = (
        "import sys\n"
        "from dpa4_flows.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'pymatgen', 'jobflow', 'atomate2', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 15  # 0.3 s on a free machine
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = dpa4(command, "--help")
    assert result.exit_code == 0
    if command != "doctor":
        assert f"dpa4 {command}" in result.stdout
        assert "For example:" in result.stdout


def test_version_and_unknown_command() -> None:
    assert dpa4("--version").stdout.startswith("dpa4 ")
    wrong = dpa4("scren")
    assert wrong.exit_code == 2
    assert "Did you mean 'screen'" in wrong.stderr.replace("\n", " ")


def test_debug_shows_the_error_itself(tmp_path: Path) -> None:
    result = dpa4("screen", tmp_path / "gone.toml", "--debug")
    assert isinstance(result.exception, ValueError)


def test_exit_codes_of_the_real_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpa4_flows.cli", "predict", str(tmp_path / "gone.cif"), "-m", MORSE]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: there is no file {tmp_path / 'gone.cif'}\n"
    assert done.stdout == ""


# ---- models


def test_info_lists_models_with_their_level_of_theory() -> None:
    rows = json.loads(dpa4("info", "--json").stdout)
    [neo] = [row for row in rows if row["name"] == "dpa4-neo"]
    assert neo["corrections"] == "OMat24"
    assert not neo["in_cache"]
    assert "dpa4-neo" in dpa4("info").stdout


def test_info_of_an_unfetched_model_does_not_fetch_it() -> None:
    facts = json.loads(dpa4("info", "dpa4-neo", "--json").stdout)
    assert facts["licence"]
    assert facts["sha256"].startswith("0777cc77")
    assert not any(Path(os.environ["DPA4_CACHE"]).iterdir())


def test_info_of_anything_that_computes() -> None:
    facts = json.loads(dpa4("info", MORSE, "--json").stdout)
    assert "Fe" in facts["elements"]
    assert "Xe" not in facts["elements"]


def test_wrong_models_are_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "si.cif", bulk("Si"))
    assert "unknown model 'dpa4-nea'" in refused("info", "dpa4-nea")
    assert "gone.pt" in refused("info", tmp_path / "gone.pt")
    bad = tmp_path / "pickle.pt"
    bad.write_bytes(pickle.dumps({"model": os.getcwd}))
    assert "pickle.pt" in refused("predict", tmp_path / "si.cif", "-m", bad)
    torch.save({"model": {"weight": torch.zeros(1000)}}, tmp_path / "whole.pt")
    cut = tmp_path / "cut.pt"
    cut.write_bytes((tmp_path / "whole.pt").read_bytes()[:700])
    assert "cut.pt" in refused("predict", tmp_path / "si.cif", "-m", cut)
    assert "cannot be imported" in refused("predict", tmp_path / "si.cif", "-m", "no_such_package:thing")
    assert ".pt or .dpa4" in refused("convert", tmp_path / "whole.pt", tmp_path / "out.xyz")


def test_doctor_reports_what_is_missing_and_passes() -> None:
    result = dpa4("doctor", "--json")
    assert result.exit_code == 0
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert checks["dpa4-neo"]["status"] == "note"
    assert "dpa4 fetch dpa4-neo" in checks["dpa4-neo"]["text"]
    assert checks["bundled campaigns"]["text"] == ", ".join(sorted(bundled_campaigns()))
    assert "CPU threads" in dpa4("doctor").stdout


# ---- structures


def test_predict_writes_energies_and_forces(tmp_path: Path) -> None:
    cell = bulk("Cu")
    cell.rattle(0.05, seed=1)
    write(tmp_path / "in.extxyz", [cell, cell.repeat(2)])
    out = tmp_path / "out.extxyz"
    result = dpa4("predict", tmp_path / "in.extxyz", "-m", MORSE, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    one, eight = json.loads(result.stdout)
    assert eight["energy"] == pytest.approx(8 * one["energy"])
    frames = read(out, ":")
    assert frames[1].get_potential_energy() == pytest.approx(eight["energy"], abs=1e-6)
    assert frames[1].get_forces().shape == (8, 3)
    assert frames[0].get_stress().shape == (6,)


@pytest.mark.parametrize("suffix", [".extxyz", ".cif", ".json", ".vasp"])
def test_relax_writes_what_the_suffix_says(tmp_path: Path, suffix: str) -> None:
    layered("Co").to_file(str(tmp_path / "in.cif"))
    out = tmp_path / f"out{suffix}"
    result = dpa4("relax", tmp_path / "in.cif", "-m", MORSE, "-o", out, "--fmax", 0.1)
    assert result.exit_code == 0, result.output
    assert f"wrote 1 structure to {out}" in result.stdout
    if suffix == ".json":
        [row] = json.loads(out.read_text())
        relaxed = Structure.from_dict(row["structure"])
        assert row["converged"]
        assert row["fmax"] < 0.1
    else:
        atoms = read(out)
        relaxed = Structure(atoms.cell[:], atoms.get_chemical_symbols(), atoms.get_scaled_positions())
    assert relaxed.composition.reduced_formula == "LiCoO2"
    assert relaxed.volume < 0.9 * layered("Co").volume


def test_fixed_cell_keeps_the_cell(tmp_path: Path) -> None:
    cell = bulk("Cu", a=3.8, cubic=True)
    cell.rattle(0.1, seed=2)
    write(tmp_path / "in.extxyz", cell)
    assert (
        dpa4("relax", tmp_path / "in.extxyz", "-m", MORSE, "-o", tmp_path / "o.extxyz", "--fixed-cell").exit_code == 0
    )
    assert read(tmp_path / "o.extxyz").cell[:] == pytest.approx(cell.cell[:])


def test_failed_structures_are_listed_and_the_rest_is_written(tmp_path: Path) -> None:
    write(tmp_path / "good.extxyz", bulk("Cu"))
    write(tmp_path / "noble.extxyz", bulk("Xe", "fcc", a=6.0))
    (tmp_path / "empty.extxyz").write_text("")
    half = layered("Co")
    half.replace(0, {"Co": 0.5, "Ni": 0.5})
    half.to_file(str(tmp_path / "half.cif"))
    files = [tmp_path / name for name in ("noble.extxyz", "good.extxyz", "half.cif", "empty.extxyz")]
    out = tmp_path / "out.json"
    result = dpa4("predict", *files, "-m", MORSE, "-o", out)
    assert result.exit_code == 3
    assert "Xe" in result.stderr
    assert "partially occupied" in result.stderr
    assert "empty" in result.stderr
    rows = json.loads(out.read_text())
    assert [row["error"] is None for row in rows] == [False, True, False, False]


def test_unconverged_relaxation_is_listed(tmp_path: Path) -> None:
    cell = bulk("Cu", a=3.3)
    write(tmp_path / "in.extxyz", cell)
    result = dpa4("relax", tmp_path / "in.extxyz", "-m", MORSE, "--max-steps", 2, "--fmax", 1e-6)
    assert result.exit_code == 3
    assert "after 2 steps; raise --max-steps" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda p: write(p, Atoms("Cu", [[float("nan")] * 3], cell=[3] * 3, pbc=True)), "NaN"),
        (lambda p: p.write_text("0\n\n"), "0 atoms"),
        (lambda p: p.write_text("rubbish"), "number of atoms"),
    ],
)
def test_unusable_file_alone_is_a_user_error(tmp_path: Path, content, words: str) -> None:
    path = tmp_path / "in.extxyz"
    content(path)
    result = dpa4("predict", path, "-m", MORSE)
    assert result.exit_code == 1
    assert words in result.stderr


def test_unknown_output_format_is_refused_before_computing(tmp_path: Path) -> None:
    write(tmp_path / "in.extxyz", bulk("Cu"))
    assert "cannot tell the format" in refused("relax", tmp_path / "in.extxyz", "-m", MORSE, "-o", tmp_path / "o.abc")
    write(tmp_path / "two.extxyz", [bulk("Cu")] * 2)
    sentence = refused("predict", tmp_path / "two.extxyz", "-m", MORSE, "-o", tmp_path / "POSCAR")
    assert "one structure, not 2" in sentence


def test_evaluate_of_a_model_with_its_own_labels_is_exact(tmp_path: Path) -> None:
    cell = bulk("Cu").repeat(2)
    cell.rattle(0.05, seed=1)
    write(tmp_path / "in.extxyz", cell)
    dpa4("predict", tmp_path / "in.extxyz", "-m", MORSE, "-o", tmp_path / "labels.extxyz")
    result = dpa4("evaluate", MORSE, tmp_path / "labels.extxyz", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics["n_structures"] == 1
    assert metrics["energy_mae"] == pytest.approx(0, abs=1e-6)
    assert metrics["force_rmse"] == pytest.approx(0, abs=1e-6)
    assert "meV/Å" in dpa4("evaluate", MORSE, tmp_path / "labels.extxyz").stdout
    assert dpa4("evaluate", MORSE, tmp_path / "in.extxyz").exit_code in (1, 3)


def test_evaluate_takes_several_files_and_breaks_errors_down(tmp_path: Path) -> None:
    for name, kind in (("Cu", "fcc"), ("Al", "fcc")):
        cell = bulk(name, kind).repeat(2)
        cell.rattle(0.05, seed=1)
        write(tmp_path / "in.extxyz", cell)
        dpa4("predict", tmp_path / "in.extxyz", "-m", MORSE, "-o", tmp_path / f"{name}.extxyz")
    files = (tmp_path / "Cu.extxyz", tmp_path / "Al.extxyz")
    result = dpa4("evaluate", MORSE, *files, "--csv", tmp_path / "errors.csv")
    assert result.exit_code == 0, result.output
    assert "element" in result.stdout and "group" in result.stdout
    lines = (tmp_path / "errors.csv").read_text().splitlines()
    assert lines[0].startswith("name,group,source,n_atoms,energy_error_mev_per_atom")
    assert [line.split(",")[1:4] for line in lines[1:]] == [
        ["Cu", str(files[0]), "8"],
        ["Al", str(files[1]), "8"],
    ]
    assert "group" not in dpa4("evaluate", MORSE, *files, "--by", "element").stdout
    assert "no folder" in refused("evaluate", MORSE, *files, "--csv", tmp_path / "nowhere" / "errors.csv")
    assert "no known format" in refused("evaluate", MORSE, Path(__file__))


# ---- campaigns


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Campaign file of a finished run and what the command printed; read only."""
    path = write_campaign(tmp_path_factory.mktemp("screen"))
    return path, dpa4("screen", path)


def test_screen_prints_progress_ranking_and_files(screened: tuple[Path, Result]) -> None:
    path, result = screened
    folder = path.parent / "runs" / "toy"
    assert result.exit_code == 0, result.output
    assert "11 candidates" in result.stderr
    assert "3 go on, 1 rejected" in result.stderr
    assert "LiMnO₂" in result.stdout
    assert "no redox-active transition metal" in result.stdout
    for name in ("campaign.toml", "results.sqlite", "ranking.csv", "report.html"):
        assert (folder / name).is_file()
    assert str(folder / "report.html") in result.stdout
    assert (folder / "campaign.toml").read_text() == path.read_text()


def test_screen_again_shows_the_finished_run(screened: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = screened
    monkeypatch.setattr(MorsePotential, "compute", None)
    result = dpa4("screen", path)
    assert result.exit_code == 0, result.output
    assert "was complete before; nothing was computed" in result.stdout and "--restart computes" in result.stderr
    answer = json.loads(dpa4("screen", path, "--json").stdout)
    assert answer["reused"]
    assert [row["rank"] for row in answer["ranking"]] == [1, 2, 3]


def test_long_rankings_are_cut_in_the_terminal(screened: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpa4_flows.runs.campaign.ROWS", 1)
    shown = dpa4("screen", screened[0]).stdout
    assert "2 more ranked candidates are not shown" in shown
    assert "\ncsv: " in shown and "\nhtml: " in shown


def test_failures_of_a_finished_run_are_tried_again_on_request(tmp_path: Path) -> None:
    path, run = write_campaign(tmp_path, relax={"max_steps": 2}), tmp_path / "run"
    assert dpa4("screen", path, "--out", run).exit_code == 3
    assert json.loads(dpa4("screen", path, "--out", run, "--json").stdout)["reused"]
    assert not json.loads(dpa4("resume", run, "--retry-errors", "--json").stdout)["reused"]
    assert open_run(run).get_meta(RETRY_SINCE) is not None


def test_local_run_is_refused_beside_fireworks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, run = write_campaign(tmp_path), tmp_path / "run"
    prepared = prepare_run(load_campaign(path), run, engine="fireworks")
    prepared.table.set_meta("fireworks", [7])
    monkeypatch.setattr("dpa4_flows.engines.FireWorks.state", lambda _, ids: {"RUNNING": len(ids)})
    sentence = refused("screen", path, "--out", run)
    assert "on the LaunchPad already (1 Firework to run)" in sentence
    assert sentence.index("detect_lostruns --rerun") < sentence.index("defuse_wflows -i 7")
    assert not {"--force", "--restart"} & set(sentence.split())
    assert open_run(run).get_meta("fireworks") == [7]


def test_a_run_whose_fireworks_have_all_ended_or_are_gone_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    prepare_run(load_campaign(write_campaign(tmp_path)), run, engine="fireworks").table.set_meta("fireworks", [7])
    for states, state in (({"RUNNING": 1}, "running"), ({"COMPLETED": 2, "FIZZLED": 1}, "stopped"), ({}, "stopped")):
        monkeypatch.setattr("dpa4_flows.engines.FireWorks.state", lambda _, ids, states=states: states)
        told = dpa4("status", run).stdout
        assert f": {state}, " in told and ("continue with: dpa4 resume" in told) is (state == "stopped")


def test_second_process_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    path, run = write_campaign(tmp_path), tmp_path / "run"
    table = prepare_run(load_campaign(path), run).table
    started = table.get_meta("started")
    with run_lock(run):
        for arguments in (("screen", path, "--out", run), ("screen", path, "--out", run, "--force"), ("resume", run)):
            assert f"computed by process {os.getpid()}" in refused(*arguments)
        assert dpa4("status", run).exit_code == 0
    assert table.get_meta("started") == started
    assert not (run / "run.lock").exists()


def test_force_says_what_it_deletes(screened: tuple[Path, Result], tmp_path: Path) -> None:
    path, run = screened[0], tmp_path / "run"
    shutil.copytree(path.parent / "runs" / "toy", run)
    number = sum(1 for _ in open_run(run).iter_calculations())
    note = " ".join(dpa4("screen", path, "--out", run, "--force").stderr.split())
    assert f"results.sqlite with {number} calculations" in note


def test_queries_of_a_run(screened: tuple[Path, Result], tmp_path: Path) -> None:
    run = screened[0].parent / "runs" / "toy"
    status = json.loads(dpa4("status", run, "--json").stdout)
    assert status["state"] == "complete"
    assert {c["candidate_id"]: c["stage"] for c in status["candidates"]}["MgO"] == "sanity"
    assert "overlap" in dpa4("status", run).stdout
    assert dpa4("report", run, "-o", tmp_path / "r.html").exit_code == 0
    assert "<html" in (tmp_path / "r.html").read_text()
    for suffix in ("csv", "json", "extxyz"):
        assert dpa4("export", run, "-o", tmp_path / f"r.{suffix}").exit_code == 0
        assert "LiNiO2" in (tmp_path / f"r.{suffix}").read_text()
    assert ".csv, .json or .extxyz" in refused("export", run, "-o", tmp_path / "r.pdf")
    assert "is not a run folder" in refused("status", tmp_path)


def test_dry_run_computes_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MorsePotential, "compute", None)
    path = write_campaign(tmp_path)
    result = dpa4("screen", path, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "competing phases" in result.stdout
    assert not (tmp_path / "runs").exists()
    plan = json.loads(dpa4("screen", path, "--dry-run", "--json").stdout)
    assert plan["chemical_systems"] == {"Co-Li-O": 1, "Li-Mn-O": 1, "Li-Ni-O": 3}


def test_a_candidate_that_breaks_a_check_leaves_a_dry_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(structure: Structure, **limits: Any) -> list[Reason]:
        if "Al" in structure.composition:
            raise RuntimeError("a fault of the check")
        return check_candidate(structure, **limits)

    monkeypatch.setattr("dpa4_flows.campaigns.sanity.check_candidate", broken)
    plan = json.loads(dpa4("screen", write_campaign(tmp_path), "--dry-run", "--json").stdout)
    left = {one["candidate_id"]: one["reasons"][0] for one in plan["rejected"]}
    assert left["LiAlO2"]["code"] == "not_judged" and "a fault of the check" in left["LiAlO2"]["sentence"]
    assert {"overlap", "LiCoO2-half"} <= left.keys() and "LiCoO2" not in left


def test_interrupted_screen_says_how_to_continue_and_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_campaign(tmp_path)
    compute, calls = MorsePotential.compute, iter(range(10**6))

    def interrupted(self: MorsePotential, graph: Graph) -> Output:
        if next(calls) == 50:
            raise KeyboardInterrupt
        return compute(self, graph)

    with monkeypatch.context() as patch:
        patch.setattr(MorsePotential, "compute", interrupted)
        result = dpa4("screen", path, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert f"Continue with: dpa4 screen {path} -o {tmp_path / 'run'}" in result.stderr
    assert "dpa4 resume" in dpa4("status", tmp_path / "run").stdout
    shutil.rmtree(tmp_path / "structures")  # the run folder holds what it needs
    done = dpa4("resume", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "report.html").is_file()


def test_candidates_that_could_not_be_computed_give_3(tmp_path: Path) -> None:
    result = dpa4("screen", write_campaign(tmp_path, relax={"max_steps": 2}))
    assert result.exit_code == 3
    assert "could not be computed" in result.stderr
    assert "did not converge" in " ".join(result.stdout.split())


def test_failing_job_is_one_sentence_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(ResultsTable, "put_stages", broken)
    path = write_campaign(tmp_path)
    result = dpa4("screen", path)
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert "run.log" in result.stderr


def test_mistakes_in_campaigns_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "JOB_STORE", JobStore(MemoryStore()))
    path = write_campaign(tmp_path, relax={"fmaks": 1})
    assert "did you mean 'fmax'" in refused("screen", path)
    assert "gone.toml" in refused("screen", tmp_path / "gone.toml")
    assert "not a bundled campaign" in refused("screen", "batery")
    (tmp_path / "structures" / "candidates.json").write_text("{")
    assert "candidates.json" in refused("screen", write_broken(tmp_path))
    path = write_campaign(tmp_path)
    assert "job store" in refused("screen", path, "--engine", "fireworks", "--launchpad", tmp_path / "gone.yaml")
    assert not (tmp_path / "runs").exists()


def write_broken(folder: Path) -> Path:
    """The toy campaign with a file of candidates that is no JSON."""
    path = write_campaign(folder)
    (folder / "structures" / "candidates.json").write_text("{")
    return path


def test_init_copies_a_campaign_that_can_be_screened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = dpa4("init", "battery", "mine")
    assert result.exit_code == 0
    assert "dpa4 screen mine/campaign.toml" in result.stdout
    assert "not an empty folder" in refused("init", "battery", "mine")
    plan = dpa4("screen", "mine/campaign.toml", "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    assert json.loads(plan.stdout)["work"][0]["n_structures"] > 10


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.mark.fireworks
def test_campaign_on_a_launchpad_is_run_by_workers_and_read_here(tmp_path: Path, site: Site) -> None:
    path, run = write_campaign(tmp_path), tmp_path / "run"
    command = ("screen", path, "--engine", "fireworks", "--launchpad", site.launchpad_file, "--out", run)
    submitted = dpa4(*command)
    assert submitted.exit_code == 0, submitted.output
    assert "rlaunch rapidfire" in submitted.stdout
    assert "is on the LaunchPad already" in refused(*command).replace("\n", " ")
    waiting = json.loads(dpa4("status", run, "--launchpad", site.launchpad_file, "--json").stdout)
    assert waiting["fireworks"]["READY"] == 1
    assert waiting["state"] == "running"

    (tmp_path / "structures").rename(tmp_path / "elsewhere")  # a worker need not have the files
    site.work()
    (tmp_path / "elsewhere").rename(tmp_path / "structures")
    status = json.loads(dpa4("status", run, "--launchpad", site.launchpad_file, "--json").stdout)
    assert status["state"] == "complete"
    assert set(status["fireworks"]) == {"COMPLETED"}
    assert sorted(row["candidate_id"] for row in status["ranking"]) == ["LiCoO2", "LiMnO2", "LiNiO2"]
    assert dpa4("report", run).exit_code == 0
    again = dpa4(*command)
    assert again.exit_code == 0, again.output
    assert "was complete before" in again.stdout


def test_predict_takes_a_property_model(tmp_path: Path) -> None:
    backbone = DPA4(DPA4Config.preset("nano", elements=("Si",), channels=8), torch.float32)
    head = PropertyConfig("band_gap", "eV", mean=1.1, scale=0.5)
    model = write_property_model(PropertyModel(backbone, head), ModelInfo(elements=(14,)), tmp_path / "gap.dpa4")
    write(tmp_path / "si.extxyz", bulk("Si"))
    write(tmp_path / "ge.extxyz", bulk("Ge"))
    rows = json.loads(dpa4("predict", tmp_path / "si.extxyz", "-m", model, "--device", "cpu", "--json").stdout)
    assert rows[0]["band_gap"] == pytest.approx(predict_property(bulk("Si"), model)[0].value)
    assert "band_gap, eV" in dpa4("predict", tmp_path / "si.extxyz", "-m", model, "--device", "cpu").stdout
    both = dpa4("predict", tmp_path / "si.extxyz", tmp_path / "ge.extxyz", "-m", model, "--device", "cpu")
    assert both.exit_code == 3
    assert "Ge" in both.stderr
