"""Run folders of every kind answer the same questions: status, resume, report, export."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Structure
from toy_campaign import MORSE, write_campaign
from toy_labels import FLAGS, write_toy
from typer.testing import CliRunner, Result

import dpa4_flows
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_core.train.trainer import Trainer
from dpa4_flows.cli import app
from dpa4_flows.runs import How, Outcome, Run, RunStatus, RunStructure, kinds
from dpa4_flows.runs.kinds import open_run

COLUMN = {
    "property": "static.energy (eV)",
    "campaign": "stage_reached",
    "large": "energy",
    "training": "energy_mae",
    "dynamics": "drift_mev_per_atom_ps",
}
KINDS = [*COLUMN]


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def refused(*arguments: object) -> str:
    result = dpa4(*arguments)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence, result.stderr
    return sentence


def _campaign(place: Path) -> tuple[tuple[object, ...], Path]:
    return ("screen", write_campaign(place), "--out", place / "run"), place / "run"


def _large(place: Path) -> tuple[tuple[object, ...], Path]:
    frames = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7, 3.8)]
    ase.io.write(place / "in.extxyz", [*frames, Atoms("Xe", cell=[9, 9, 9], pbc=True)], format="extxyz")
    command = ("relax", place / "in.extxyz", "-o", place / "run", "-m", MORSE, "--fmax", 0.05)
    return (*command, "--max-atoms-per-batch", 1, "--no-check-minimum"), place / "run"


def _training(place: Path) -> tuple[tuple[object, ...], Path]:
    short = ("--steps", 4, "--set", "run.log_every=2", "--set", "run.validate_every=2")
    return ("train", write_toy(place), *FLAGS, *short, "-o", place / "run"), place / "run"


def _dynamics(place: Path) -> tuple[tuple[object, ...], Path]:
    files = [place / "copper.vasp", place / "nickel.vasp"]
    for path, a in zip(files, (3.68, 3.6), strict=True):
        bulk("Cu", cubic=True, a=a).write(path)
    short = ("--time", 0.04, "--every", 4, "--ensemble", "nve")
    return ("md", *files, "-o", place / "run", "-m", MORSE, *short), place / "run"


def _property(place: Path) -> tuple[tuple[object, ...], Path]:
    frames = [bulk("Cu", cubic=True, a=a) for a in (3.5, 3.6, 3.7)]
    for i, frame in enumerate(frames):
        frame.rattle(0.05, seed=i)
    ase.io.write(place / "in.extxyz", frames, format="extxyz")
    command = ("compute", "elastic", "static", place / "in.extxyz", "-o", place / "run", "-m", MORSE)
    return (*command, "--max-atoms-per-batch", 16), place / "run"


COMMANDS: dict[str, Callable[[Path], tuple[tuple[object, ...], Path]]] = {
    "property": _property,
    "campaign": _campaign,
    "large": _large,
    "training": _training,
    "dynamics": _dynamics,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, to be read only."""
    found = {}
    for kind, make in COMMANDS.items():
        place = tmp_path_factory.mktemp(kind)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            command, found[kind] = make(place)
            done = dpa4(*command)
        assert done.exit_code == (3 if kind == "large" else 0), done.output
    return found


@pytest.fixture
def read_only(finished: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of a finished run as somebody else's: nothing in it may be written, not even by root."""
    folder = finished[request.param]
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in places:
        path.chmod(0o555)
    yield folder
    for path in places:
        path.chmod(0o755)


def content(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in [folder, *folder.rglob("*")]}


# ---- answers


@pytest.mark.parametrize("read_only", KINDS, indirect=True)
def test_every_kind_answers_where_nothing_may_be_written(
    read_only: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["read_only"]
    before = content(read_only)
    answer = json.loads(dpa4("status", read_only, "--json").stdout)
    assert answer["state"] == "complete" and answer["n_done"] == answer["n_total"] > 0
    assert f"{read_only}: complete, {answer['n_done']} of {answer['n_total']} {answer['unit']}" in (
        dpa4("status", read_only).stdout
    )
    assert dpa4("report", read_only, "-o", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "<html" in page and 'src="http' not in page and "plotly" in page
    for name in ("all.csv", "all.json"):
        assert dpa4("export", read_only, "-o", tmp_path / name).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert rows and COLUMN[kind] in rows[0]
    assert json.loads((tmp_path / "all.json").read_text())
    if kind == "training":
        assert "no structures to export" in refused("export", read_only, "-o", tmp_path / "files")
        assert not (tmp_path / "files").exists()
    else:
        assert dpa4("export", read_only, "-o", tmp_path / "files").exit_code == 0
        assert (tmp_path / "files" / "index.csv").is_file()
    run = dpa4_flows.open_run(read_only)
    assert list(run.to_dataframe()) and str(read_only) in run._repr_html_()
    assert content(read_only) == before


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_where_nothing_may_be_written_is_one_sentence_with_a_remedy(
    kind: str, finished: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = finished[kind], os.open

    def forbidden(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", forbidden)
    said = refused("resume", folder)
    assert f"{folder} cannot be written: you may not write there; copy the folder" in said and "lock" not in said
    if kind in ("property", "campaign"):
        with pytest.raises(DPA4Error, match="copy the folder") as error:
            open_run(folder).resume(How())
        assert "lock" not in str(error.value)


def test_a_campaign_that_stopped_is_read_where_nothing_may_be_written(tmp_path: Path) -> None:
    stop_halfway("campaign", tmp_path)
    folder = tmp_path / "run"
    folder.chmod(0o555)
    before = content(folder)
    try:
        assert json.loads(dpa4("status", folder, "--json").stdout)["state"] == "stopped"
        assert dpa4("report", folder, "-o", tmp_path / "page.html").exit_code == 0
    finally:
        folder.chmod(0o755)
    assert content(folder) == before


def test_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    assert "is not a run folder; `dpa4 screen`" in refused("status", tmp_path)
    for command in ("status", "resume", "report"):
        assert "there is no folder" in refused(command, tmp_path / "nothing")
    (tmp_path / "in.cif").write_text("data_x\n")
    assert "is not a run folder" in refused("report", tmp_path / "in.cif")


# ---- going on


def stop_halfway(kind: str, place: Path) -> None:
    """Begin a run of a kind and stop it as Ctrl-C or a queue would."""
    command, _ = COMMANDS[kind](place)
    after = {"property": 6, "campaign": 50, "large": 8, "dynamics": 12}
    compute, log, calls = MorsePotential.compute, Trainer._log_train, iter(range(10**6))

    def interrupted(self: MorsePotential, graph: Any) -> Any:
        if next(calls) == after[kind]:
            raise KeyboardInterrupt
        return compute(self, graph)

    def signalled(self: Trainer) -> None:
        signal.raise_signal(signal.SIGTERM)
        log(self)

    with pytest.MonkeyPatch.context() as patch:
        if kind == "training":
            patch.setattr(Trainer, "_log_train", signalled)
        else:
            patch.setattr(MorsePotential, "compute", interrupted)
        assert dpa4(*command).exit_code in (75, 130, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_goes_on_from_anywhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stop_halfway(kind, Path())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    folder = tmp_path / "run"
    stopped = json.loads(dpa4("status", folder, "--json").stdout)
    assert stopped["state"] == "stopped" and stopped["n_done"] < stopped["n_total"]
    assert "dpa4 resume" in dpa4("status", folder).stdout
    done = dpa4("resume", folder)
    assert done.exit_code == (3 if kind == "large" else 0), done.output
    assert f"{folder}: complete" in done.stdout
    assert list(elsewhere.iterdir()) == []
    assert json.loads(dpa4("resume", folder, "--json").stdout)["reused"] == (kind != "large")


def test_a_trajectory_answers_alone(finished: dict[str, Path], tmp_path: Path) -> None:
    one = finished["dynamics"] / "copper.traj"
    answer = json.loads(dpa4("status", one, "--json").stdout)
    assert (answer["n_done"], [row["name"] for row in answer["runs"]]) == (40, ["copper"])
    assert dpa4("export", one, "-o", tmp_path / "frames.extxyz").exit_code == 0
    assert len(ase.io.read(tmp_path / "frames.extxyz", ":")) == 11


@pytest.mark.parametrize("again", ["resume", "md"])
def test_dynamics_under_names_of_before_go_on(again: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    command, folder = _dynamics(tmp_path / "in")
    assert dpa4(*command).exit_code == 0
    for path in [*folder.iterdir()]:
        old = {"copper": "POSCAR", "nickel": "POSCAR-2"}[path.name.strip(".").partition(".")[0]]
        if path.suffix == ".json":  # as of a run that was killed
            path.write_text(path.read_text().replace('"time_ps": 0.04', '"time_ps": 0.08'))
        path.rename(folder / path.name.replace("copper", old).replace("nickel", old))
    done = dpa4("resume", folder) if again == "resume" else dpa4(*command, "--time", 0.08)
    assert done.exit_code == 0, done.output
    rows = json.loads(dpa4("status", folder, "--json").stdout)["runs"]
    found = sorted((row["name"], row["n_steps"], row["state"]) for row in rows)
    assert found == [("POSCAR", 80, "complete"), ("POSCAR-2", 80, "complete")]


def test_a_structure_that_is_gone_is_told_and_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stop_halfway("dynamics", tmp_path)
    bulk("Cu", cubic=True, a=3.9).write(tmp_path / "nickel.vasp")
    done = dpa4("resume", tmp_path / "run")
    assert done.exit_code == 3 and "began with a structure that is not in" in " ".join(done.stderr.split()), done.output
    rows = json.loads(dpa4("status", tmp_path / "run", "--json").stdout)["runs"]
    assert [(row["name"], row["state"]) for row in rows] == [("copper", "complete"), ("nickel", "stopped")]


def test_dynamics_of_python_says_who_goes_on(tmp_path: Path) -> None:
    from dpa4_core.md import MDSettings, md

    md(bulk("Cu", cubic=True), MorsePotential(), MDSettings(time_ps=0.01), output=tmp_path / "a.traj")
    assert dpa4("status", tmp_path).exit_code == 0
    assert "does not say which structure" in refused("resume", tmp_path)


# ---- files


@pytest.mark.parametrize(("form", "suffix"), [("cif", ".cif"), ("poscar", ".vasp")])
def test_survivors_become_files_and_everyone_is_in_the_index(
    form: str, suffix: str, finished: dict[str, Path], tmp_path: Path
) -> None:
    assert dpa4("export", finished["campaign"], "-o", tmp_path / "survivors", "--format", form).exit_code == 0
    index = list(csv.DictReader((tmp_path / "survivors" / "index.csv").read_text().splitlines()))
    files = sorted(p.relative_to(tmp_path / "survivors") for p in (tmp_path / "survivors").rglob(f"*{suffix}"))
    metals = ("Co", "Mn", "Ni")
    assert [str(p) for p in files] == [f"{s}/Li{m}O2{suffix}" for s in ("relax", "relax_charged") for m in metals]
    assert sorted(row["file"] for row in index if row["file"]) == [str(p) for p in files]
    assert {row["name"] for row in index} >= {"LiAlO2", "MgO", "overlap", "LiCoO2"}
    assert len({(row["name"], row["stage"]) for row in index}) == len(index)  # each structure once
    by_name = {row["name"]: row for row in index}
    assert (by_name["MgO"]["verdict"], by_name["MgO"]["verdict_stage"]) == ("rejected", "sanity")
    assert (by_name["LiCoO2"]["verdict"], by_name["LiCoO2"]["rank"]) == ("ranked", by_name["LiCoO2"]["rank"])
    host = Structure.from_file(tmp_path / "survivors" / "relax" / f"LiCoO2{suffix}")
    charged = Structure.from_file(tmp_path / "survivors" / "relax_charged" / f"LiCoO2{suffix}")
    assert host.composition.reduced_formula == "LiCoO2" and charged.composition.reduced_formula == "CoO2"
    dpa4("export", finished["campaign"], "-o", tmp_path / "all", "--all")
    assert (tmp_path / "all" / "relax" / "LiAlO2.cif").is_file() != (by_name["LiAlO2"]["stage"] == "")


def test_each_relaxed_structure_is_exported_once(finished: dict[str, Path], tmp_path: Path) -> None:
    dpa4("export", finished["campaign"], "-o", tmp_path / "all.extxyz")
    frames = ase.io.read(tmp_path / "all.extxyz", ":")
    named = [(frame.info["candidate_id"], frame.info["stage"]) for frame in frames]
    assert len(set(named)) == len(named)
    assert {stage for _, stage in named} == {"relax", "relax_charged"}


def test_structures_of_a_large_run_become_files(finished: dict[str, Path], tmp_path: Path) -> None:
    assert dpa4("export", finished["large"], "-o", tmp_path / "files").exit_code == 0
    index = list(csv.DictReader((tmp_path / "files" / "index.csv").read_text().splitlines()))
    assert [row["verdict"] for row in index] == ["fine"] * 4 + ["failed"]
    assert "Xe" in index[4]["reasons"] and index[4]["file"] == ""
    for row in index[:4]:
        assert Structure.from_file(tmp_path / "files" / row["file"]).composition.reduced_formula == "Cu"


# ---- a new kind


class Bakery(Run):
    """Loaves in an oven."""

    kind = "bakery"
    numbers = ("crust",)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return (folder / "oven.json").is_file()

    def status(self) -> RunStatus:
        return RunStatus("running", "loaves", 1, 3, per_second=0.5, next_step="wait")

    def resume(self, how: How) -> Outcome:
        how.watch.remark("baking")
        return Outcome(n_failed=1)

    def table(self) -> Iterator[dict[str, Any]]:
        yield {"loaf": "=rye", "crust": 1.5}

    def report(self, path: Path) -> None:
        path.write_text("bread")

    def structures(self) -> Iterator[RunStructure]:
        salt = bulk("NaCl", "rocksalt", a=5.6)
        rye = RunStructure("a/rye", "NaCl", "fine", {"crust": 1}, salt, survives=True, role="loaf")
        yield from (rye, rye, replace(rye, name="wet", atoms=None), replace(rye, atoms=Atoms("H")))


def test_a_new_kind_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, Bakery))
    (tmp_path / "oven.json").write_text("{}")
    assert isinstance(open_run(tmp_path), Bakery)
    assert "running, 1 of 3 loaves done, 0.5 loaves/s, 4.0 s left" in (shown := dpa4("status", tmp_path).stdout)
    assert "=rye" in shown and shown.endswith("wait\n")
    assert json.loads(dpa4("status", tmp_path, "--json").stdout)["seconds_left"] == 4
    assert dpa4("resume", tmp_path).exit_code == 3
    assert dpa4("report", tmp_path).exit_code == 0 and (tmp_path / "report.html").read_text() == "bread"
    dpa4("export", tmp_path, "-o", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().split() == ["loaf,crust", "'=rye,1.5"]
    assert dpa4("export", tmp_path, "-o", tmp_path / "f").exit_code == 0
    index = list(csv.DictReader((tmp_path / "f" / "index.csv").read_text().splitlines()))
    assert [row["file"] for row in index] == ["loaf/a_rye.cif", "loaf/a_rye-2.cif", "", ""]
    assert "no three lattice vectors" in index[3]["reasons"]
    assert ".csv or .json, or a folder" in refused("export", tmp_path, "-o", tmp_path / "x.pdf")
