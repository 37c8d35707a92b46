"""`dpa4 train` and `dpa4 finetune`, from a file of labelled frames to a model and its report."""

from __future__ import annotations

import io
import json
import os
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read, write
from python_process import PythonProcess
from rich.console import Console
from toy_labels import FLAGS, NETWORK, write_toy
from typer.testing import CliRunner, Result

from dpa4_core.errors import DPA4Error
from dpa4_core.properties import predict_property
from dpa4_core.train.config import TrainConfig
from dpa4_flows import EvaluateMaker
from dpa4_flows.cli import app
from dpa4_flows.cli import train as train_module
from dpa4_flows.cli.train import Flags, configuration
from dpa4_flows.cli.train_output import TrainingDisplay
from dpa4_flows.engines import run_local
from dpa4_flows.toml_text import toml_text
from dpa4_flows.training import ready

SHORT = (*FLAGS, "--steps", "4", "--set", "run.log_every=2", "--set", "run.validate_every=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Folder of a finished run and what the command printed; read only."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    return folder, dpa4("train", data, *SHORT, "-o", folder)


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def refused(*arguments: object) -> str:
    """The one sentence on stderr of a command that must end with 1."""
    result = dpa4(*arguments)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence, result.stderr
    return sentence


def flags(base: str | None = None, out: str | None = None, **given: Any) -> list[str]:
    return Flags(**given).assignments({"base": base, "output": out})


# ---- a run


def test_one_command_gives_a_model_its_errors_and_a_report(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    assert result.exit_code == 0, result.output
    for words in ("16 frames of Ni, Cu", "to validate", "parameters from random weights, 4 steps", "offsets: residual"):
        assert words in result.stderr
    assert "step 2/4  epoch 0  lr " in result.stderr
    assert "step 4  validation  energy" in result.stderr
    for words in ("meV/atom", "meV/Å", "GPa", "training frames, MAE", "element", "finished: 4 steps", "dpa4 evaluate"):
        assert words in result.stdout
    for name in ("config.toml", "model.dpa4", "log.jsonl", "metrics.json", "parity.npz", "report.html"):
        assert (folder / name).is_file(), name


def test_commands_that_are_named_at_the_end_work(trained: tuple[Path, Result], data: Path, tmp_path: Path) -> None:
    folder, result = trained
    model = str(folder / "model.dpa4")
    assert f"dpa4 evaluate {model} test.extxyz" in result.stdout
    assert f"dpa4 relax POSCAR --model {model} -o relaxed.cif" in result.stdout
    assert dpa4("evaluate", model, data).exit_code == 0
    write(tmp_path / "POSCAR", read(data, 0))
    assert dpa4("relax", tmp_path / "POSCAR", "--model", model, "-o", tmp_path / "r.cif").exit_code in (0, 3)


def test_same_command_again_shows_the_finished_run(trained: tuple[Path, Result], data: Path) -> None:
    folder, first = trained
    before = (folder / "log.jsonl").read_bytes()
    again = dpa4("train", data, *SHORT, "-o", folder)
    assert again.exit_code == 0, again.output
    assert "was finished before" in again.stderr
    assert again.stdout == first.stdout
    stored = dpa4("train", folder / "config.toml", "--json")
    assert stored.exit_code == 0, stored.output
    facts = json.loads(stored.stdout)
    assert (facts["status"], facts["step"], facts["end"]) == ("finished", 4, 4)
    assert facts["validation"]["n_structures"] + facts["train"]["n_structures"] == 16
    assert (folder / "log.jsonl").read_bytes() == before


def test_another_configuration_in_the_same_folder_is_refused(trained: tuple[Path, Result], data: Path) -> None:
    assert "schedule.lr" in refused("train", data, *SHORT, "-o", trained[0], "--lr", "0.001")
    assert tomllib.loads((trained[0] / "config.toml").read_text())["schedule"]["lr"] == 5e-4


def test_status_and_report_know_a_training_run(trained: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = trained
    status = dpa4("status", folder)
    assert "complete, 4 of 4 steps" in status.stdout and "meV/atom" in status.stdout
    assert json.loads(dpa4("status", folder, "--json").stdout)["step"] == 4
    result = dpa4("report", folder, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "Training report" in (tmp_path / "page.html").read_text()


def test_fine_tuning_shows_the_errors_before_and_after(
    trained: tuple[Path, Result], data: Path, tmp_path: Path
) -> None:
    base = trained[0] / "model.dpa4"
    short = ("--steps", 2, "--lora", 2, "--device", "cpu")
    result = dpa4("finetune", data, "--base", base, *short, "-o", tmp_path / "ft")
    assert result.exit_code == 0, result.output
    assert "offsets: shifted by Ni" in result.stderr and "adapters: rank 2" in result.stderr
    assert "before, MAE" in result.stdout
    assert "before and after" in (tmp_path / "ft" / "report.html").read_text()


def test_fine_tuning_that_makes_something_worse_hands_out_the_base_and_says_why(
    trained: tuple[Path, Result], data: Path, tmp_path: Path
) -> None:
    changes = ("--set", "loss.energy=0", "--set", "run.ema=0", "--lr", "3")
    short = ("--steps", 1, "--device", "cpu", "-o", tmp_path / "ft")
    result = dpa4("finetune", data, "--base", trained[0] / "model.dpa4", *changes, *short)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "ft" / "metrics.json").read_text())
    worse = found["warnings"][0]["quantity"]
    assert f"warning: fine-tuning made the {worse} worse" in result.stderr and "worse than the base" in result.stderr
    assert "the file holds it with shifted offsets" in result.stderr and "0.125 of the change" in result.stderr
    assert found["validation"]["energy_mae"] == pytest.approx(found["base"]["energy_mae"], rel=1e-4)


def test_rates_and_time_are_known_before_anything_is_trained(trained: tuple[Path, Result], data: Path) -> None:
    base = ("--base", trained[0] / "model.dpa4", "--device", "cpu", "--steps", 50)
    result = dpa4("finetune", data, *base, "--find-rate")
    assert result.exit_code == 0, result.output
    for words in ("changes by one step", "errors of the base", "a run takes", "--lr takes another"):
        assert words in result.stdout, words
    found = json.loads(dpa4("finetune", data, *base, "--find-rate", "--json").stdout)
    assert len(found["ladder"]) == 7 and found["ladder"][3]["rate"] == found["learning_rate"]["rate"]
    plan = json.loads(dpa4("finetune", data, *base, "--dry-run", "--json", "--max-time", 1e-3).stdout)
    guess = plan["estimate"]
    assert plan["config"]["schedule"]["lr"] == found["learning_rate"]["rate"]
    assert 1 <= guess["steps"] < 50 and guess["seconds"] > 0 and guess["step_s"] > 0
    assert "needs a base" in refused("train", data, "--find-rate")


def test_property_head_is_trained_from_the_command_line_and_gives_band_gaps_with_its_error(
    data: Path, tmp_path: Path
) -> None:
    frames = read(data, ":")
    for atoms in frames:
        atoms.info["band_gap"] = abs(atoms.info.pop("hardness"))
    write(tmp_path / "gaps.extxyz", frames)
    of_pbe = ("--property", "band_gap:eV", "--set", "level_of_theory=PBE")
    result = dpa4("train", tmp_path / "gaps.extxyz", *SHORT, *of_pbe, "-o", tmp_path / "p")
    assert result.exit_code == 0, result.output
    assert "band_gap" in result.stdout and "eV" in result.stdout
    page = (tmp_path / "p" / "report.html").read_text()
    assert "Error of band_gap" in page and "parity-property" in page and "MAE of band_gap" in page
    assert dpa4("status", tmp_path / "p").exit_code == 0
    write(tmp_path / "crystal.extxyz", read(data, "0"))
    gaps = dpa4("band-gap", tmp_path / "crystal.extxyz", "-m", tmp_path / "p" / "model.dpa4", "--json")
    assert gaps.exit_code == 0, gaps.output
    found = json.loads(gaps.stdout)[0]["band_gap"]
    by_model = next(one for one in found["estimates"] if one["source"] == "property model")
    error = json.loads((tmp_path / "p" / "metrics.json").read_text())["validation"]["property_rmse"]
    assert by_model["level_of_theory"] == "PBE" and by_model["error"] > error


def test_a_property_model_is_evaluated(data: Path, tmp_path: Path) -> None:
    """On the frames of the file, with a table per group; what lacks the property is named."""
    dpa4("train", data, *SHORT, "--property", "hardness:Å³", "-o", tmp_path / "p")
    frames = read(data, ":")
    for number, atoms in enumerate(frames):
        atoms.info["config_type"] = "ab"[number % 2]
    del frames[0].info["hardness"]
    write(tmp_path / "test.extxyz", frames)
    model, errors = tmp_path / "p" / "model.dpa4", tmp_path / "errors.csv"
    result = dpa4("evaluate", model, tmp_path / "test.extxyz", "--csv", errors)
    assert result.exit_code == 3 and "has no hardness" in result.output
    assert "hardness MAE (Å³)" in result.stdout and "force" not in result.stdout
    found = json.loads(dpa4("evaluate", model, tmp_path / "test.extxyz", "--json").stdout)
    predicted = predict_property(frames[1:], model)
    deviations = [p.value - atoms.info["hardness"] for p, atoms in zip(predicted, frames[1:], strict=True)]
    assert found["property_mae"] == pytest.approx(np.abs(deviations).mean(), rel=1e-4)
    assert found["n_properties"] == len(frames) - 1 and sorted(found["by_group"])[0].endswith("a")
    assert found["energy_mae"] is None and len(errors.read_text().splitlines()) == len(frames)
    metrics = json.loads((tmp_path / "p" / "metrics.json").read_text())
    assert metrics["validation"]["property_mae"] > 0 and metrics["train"]["property_name"] == "hardness"
    job = EvaluateMaker(model=str(model)).make(str(tmp_path / "test.extxyz"))
    document = run_local(job, tmp_path / "jobs")[job.uuid][1].output
    assert document.metrics.property_mae == pytest.approx(found["property_mae"])
    assert len(document.metrics.by_group) == len(found["by_group"])


def test_frames_that_are_not_used_and_doubts_are_named(data: Path, tmp_path: Path) -> None:
    frames = read(data, ":")
    frames[1].calc.results["forces"][0] = 80.0
    frames.append(frames[0])
    for atoms in frames[2:]:
        atoms.calc.results["energy"] = -7.5
    write(tmp_path / "odd.extxyz", frames)
    result = dpa4("train", tmp_path / "odd.extxyz", *SHORT, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "not used: " in result.stdout and "above data.max_force = 50" in result.stdout
    assert "doubt: odd: " in result.stdout and "exactly the same energy" in result.stdout


# ---- configuration


def test_dry_run_shows_configuration_and_plan_and_trains_nothing(data: Path, tmp_path: Path) -> None:
    result = dpa4("train", data, *SHORT, "-o", tmp_path / "run", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "4 steps of up to" in result.stdout and "nothing was trained" in result.stdout
    text = result.stdout[: result.stdout.index("\ntoy: ")]
    (tmp_path / "again.toml").write_text(text)
    assert TrainConfig.from_toml(tmp_path / "again.toml").run.steps == 4
    assert not (tmp_path / "run").exists()
    plan = json.loads(dpa4("train", data, *SHORT, "--dry-run", "--json").stdout)
    assert plan["end"] == 4 and plan["data"]["n_train"] + plan["data"]["n_validation"] == 16


def test_only_given_flags_override(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(
        f'preset = "nano"\n[data]\ntrain = ["{data}"]\n[run]\nsteps = 7\nclip = 2.5\n[schedule]\nlr = 2e-4\n'
    )
    plain = configuration([path], flags())
    assert (plain.run.steps, plain.run.clip, plain.schedule.lr, plain.name) == (7, 2.5, 2e-4, "train")
    assert Path(plain.output) == Path.cwd() / "runs" / "train"
    given = flags(
        epochs=3.0, lr=1e-3, property_name="gap:eV", out=str(tmp_path), settings=["run.clip=1", "schedule.lr=0.1"]
    )
    changed = configuration([path], given)
    assert (changed.run.steps, changed.run.epochs, changed.run.clip, changed.schedule.lr) == (0, 3.0, 1.0, 0.1)
    assert changed.property is not None and (changed.property.name, changed.property.unit) == ("gap", "eV")
    assert changed.data.keys.properties == ("gap",)


def test_finetune_fills_in_the_base_where_there_is_none(data: Path, tmp_path: Path) -> None:
    assert configuration([data], flags(), "dpa4-neo").base == "dpa4-neo"
    path = tmp_path / "ft.toml"
    path.write_text(f'[data]\ntrain = ["{data}"]\n')
    assert configuration([path], flags(), "dpa4-neo").base == "dpa4-neo"
    assert configuration([path], flags(base="other"), "dpa4-neo").base == "other"
    path.write_text(f'base = "mine"\n[data]\ntrain = ["{data}"]\n')
    assert configuration([path], flags(), "dpa4-neo").base == "mine"


def test_stored_configuration_reads_back_exactly(tmp_path: Path) -> None:
    values: dict[str, Any] = NETWORK | {
        "output": str(tmp_path),
        "name": 'quo"te \\ Ünï\ncode\x7f',
        "data": {"train": [{"path": "/a b.extxyz", "weight": 0.1}, "/c"], "keys": {"energy": "E", "properties": ["x"]}},
        "property": {"name": "band gap", "hidden": [8, 4]},
        "run": {"offsets": {"Si": -1.5e-7, "O": 3}, "steps": 10**12},
        "schedule": {"lr": 0.1 + 0.2},
        "model": {"channels": 8, "radial": {"n_radial": 4}},
        "batch": {"max_atoms": 7},
    }
    config = ready(TrainConfig.from_dict(values))
    path = tmp_path / "config.toml"
    path.write_text(toml_text(config.to_dict()))
    assert TrainConfig.from_toml(path) == config
    values = {"a.b": {"ü": [1.5, True, {"k": "v"}, []], "e": {}}, "n": None, "x": float("inf")}
    assert tomllib.loads(toml_text(values)) == {"a.b": {"ü": [1.5, True, {"k": "v"}, []], "e": {}}, "x": float("inf")}


def test_mistakes_are_one_sentence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = tmp_path / "bad.toml"
    toml.write_text(f'[data]\ntrain = ["{data}"]\n[run]\nsteps = "many"\n')
    assert "expected a whole number, got 'many'" in refused("train", toml)
    toml.write_text("[data\n")
    assert "not valid TOML" in refused("finetune", toml)
    out = ("-o", tmp_path / "x")
    assert "did you mean 'clip'" in refused("train", data, "--set", "run.clp=3", *out)
    assert "no assignment" in refused("train", data, "--set", "run.clip", *out)
    assert "unknown preset 'tiny'" in refused("train", data, "--preset", "tiny", *out)
    assert "there is no file" in refused("train", tmp_path / "gone.extxyz", *FLAGS, *out)
    assert "one configuration or data" in refused("train", toml, data)
    assert "gone.toml" in refused("train", tmp_path / "gone.toml")
    assert "gone.toml" in refused("finetune", tmp_path / "gone.toml")
    assert "unknown model" in refused("finetune", data, "--base", "dpa4-nea", *out)
    assert "is not a run folder" in refused("status", _empty_log(tmp_path))
    monkeypatch.setenv("RANK", "1")
    silent = dpa4("train", data, "--preset", "tiny")
    assert (silent.exit_code, silent.output) == (1, "")


def test_of_several_processes_the_first_says_what_is_wrong(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise DPA4Error("the data hold Xx")

    monkeypatch.setattr(train_module, "run_training", refuse)
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        result = dpa4("train", data, *SHORT, "-o", tmp_path / "ranks")
        assert result.exit_code == 1 and ("the data hold Xx" in result.stderr) == said, result.output


def _empty_log(folder: Path) -> Path:
    (folder / "log.jsonl").write_text("")
    return folder


def test_tensorboard_is_written_or_named(data: Path, tmp_path: Path) -> None:
    result = dpa4("train", data, *SHORT, "-o", tmp_path / "tb", "--tensorboard")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert result.exit_code == 1
        assert "pip install 'dpa4-flows[tensorboard]'" in result.stderr
    else:
        assert list((tmp_path / "tb" / "tensorboard").iterdir())


# ---- stopping, terminals, several processes


def test_run_that_is_stopped_by_a_signal_goes_on_with_the_same_command(data: Path, tmp_path: Path) -> None:
    steps = ("--steps", "150", "--set", "run.log_every=2", "--validation-fraction", "0")
    command = ("train", data, *FLAGS, *steps, "-o", tmp_path / "run")
    process = PythonProcess("-m", "dpa4_flows.cli", *command)
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.is_file() and '"train"' in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    assert '"running"' in dpa4("status", tmp_path / "run", "--json").stdout
    assert f"run by process {process.pid} on " in refused(*command)
    assert process.end_by(signal.SIGTERM) == 75
    assert "stopped after step " in process.stdout and "the same command goes on" in process.stdout
    assert '"stopped"' in dpa4("status", tmp_path / "run", "--json").stdout
    done = dpa4(*command)
    assert done.exit_code == 0, done.output
    assert "going on after step" in done.stderr
    assert "finished: 150 steps" in done.stdout


def test_signal_outside_of_the_steps_ends_with_75_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("dpa4_flows.cli.train.measure", killed)
    before = signal.getsignal(signal.SIGTERM)
    result = dpa4("train", data, *SHORT, "-o", tmp_path / "run")
    assert result.exit_code == 75
    assert "the same command goes on" in result.stderr
    assert signal.getsignal(signal.SIGTERM) is before


def test_terminal_shows_a_table_that_stays_in_place() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    config = TrainConfig.from_dict(NETWORK | {"data": {"train": "x"}, "output": "y"})
    timing = {"steps_per_s": 2.0, "atoms_per_s": 1234.0, "seconds": 5.0}
    errors = {"energy_mae": 0.0123, "force_mae": 0.0456, "stress_mae": None}
    with TrainingDisplay(console, config) as display:
        display({"kind": "reading", "frames": 4200})
        console.print(display._render())
        record = {"kind": "train", "step": 20, "end": 100, "epoch": 1, "lr": 5e-4, "loss": 3.2, "timing": timing}
        display(record | errors)
        display({"kind": "validation", "step": 20, "metric": 3.0, "improved": True, **errors})
        display({"kind": "skipped", "step": 21, "loss": None, "frames": ["a", "b"]})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "4,200 frames",
        "step 20 of 100",
        "1,234 atoms/s",
        "40 s left",
        "12.3",
        "45.6",
        "validation",
        "best",
        "step 21 had",
    ):
        assert words in text, words
