"""`dpa4 train`, `dpa4 finetune`: from labelled structures to a model, its errors and a report."""

from __future__ import annotations

import os
import signal
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import override
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.distributed import join
from dpa4_core.train.trainer import Trainer, TrainResult
from dpa4_flows.cli.console import err, out, print_json, remark, say
from dpa4_flows.cli.lazy import USER_ERROR
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import ANEW, OUTPUT, AsJson, flag, grouped, option
from dpa4_flows.cli.targets import a_folder
from dpa4_flows.cli.tensorboard import TensorBoardLog
from dpa4_flows.cli.train_output import TrainingDisplay, print_ladder, print_model, print_outcome, print_plan
from dpa4_flows.report.training import write_training_report
from dpa4_flows.runs.committee import CommitteeFolder
from dpa4_flows.toml_text import toml_text, toml_value
from dpa4_flows.training import MODEL_FILE, is_training_folder, measure, read_run, ready, run_training

INTERRUPTED = 75
"""Exit code: stopped by a signal, and the same command goes on (EX_TEMPFAIL of sysexits.h)."""

BASE = "dpa4-neo"
"""Model that is fine-tuned if nobody names one."""

app = typer.Typer()


class SplitBy(StrEnum):
    """How validation frames are chosen."""

    group = "group"
    source = "source"
    block = "block"
    frame = "frame"


class MixedPrecision(StrEnum):
    """Precision of the interaction blocks while training."""

    none = "none"
    bf16 = "bf16"


_DATA, _COURSE, _MACHINE = ({"rich_help_panel": panel} for panel in ("Data", "Length and learning", "Machine"))

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONFIG.toml | DATA...",
        help="A configuration, or files and folders with energies, forces and stresses: extended XYZ, ASE database or "
        "trajectory, aselmdb, DeePMD npy or lmdb, JSON of MPtrj or MatPES, vasprun.xml, OUTCAR.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(*OUTPUT, metavar="FOLDER", callback=a_folder, help="Folder of the run; default: runs/<first file>."),
]


@dataclass(frozen=True)
class Flags:
    """What may be said beside the configuration; None was not."""

    validation: list[Path] | None = option(None, f"Frames to validate on; {SEVERAL}.", metavar="FILE", **_DATA)
    validation_fraction: float | None = option(
        None, "Fraction set aside otherwise; default 0.1, 0 for none.", min=0.0, max=0.99, **_DATA
    )
    split_by: SplitBy | None = option(
        None,
        "group: materials stay together (default); source: files; block: the last part of each; frame: at random.",
        **_DATA,
    )
    property_name: str | None = option(
        None,
        "Train a head for this scalar of the frames, band_gap:eV say, in place of energies.",
        "--property",
        metavar="NAME[:UNIT]",
        **_DATA,
    )
    steps: int | None = option(None, "Optimiser steps.", min=1, **_COURSE)
    epochs: float | None = option(
        None, "Passes over the frames; default 100, or 20 and at least 300 steps from a base.", min=0.0, **_COURSE
    )
    max_time: float | None = option(
        None, "Wall time; the learning rate falls early enough to end with it.", min=0.0, metavar="MINUTES", **_COURSE
    )
    lr: float | None = option(None, "Largest learning rate; from a base it is found.", **_COURSE)
    batch_atoms: int | None = option(None, "Atoms in a batch; by default automatic.", min=1, metavar="N", **_COURSE)
    committee: int | None = option(
        None,
        "Train N models, each without another part of the frames (or, with --set committee.differ_by=seed, on "
        "all), and join them to one, whose predictions carry standard deviations.",
        min=2,
        metavar="N",
        **_COURSE,
    )
    device: str | None = option(None, "auto, cpu, cuda, cuda:1.", **_MACHINE)
    compiled: bool | None = option(None, "Minutes at the start, faster steps.", "--compile/--no-compile", **_MACHINE)
    mixed_precision: MixedPrecision | None = option(None, "bf16 halves the memory on recent GPUs.", **_MACHINE)
    settings: list[str] | None = option(
        None, "Any other setting of the configuration; may be repeated.", "--set", metavar="SECTION.KEY=VALUE"
    )

    def assignments(self, others: Mapping[str, Any]) -> list[str]:
        """As ``section.key=value`` with TOML values; those of ``--set`` come last and win.

        Args:
            others: values of further keys of the configuration.
        """
        name, _, unit = (self.property_name or "").partition(":")
        values: dict[str, Any] = {
            **others,
            "data.validation": None if not self.validation else [str(path) for path in self.validation],
            "data.validation_fraction": self.validation_fraction,
            "data.split_by": self.split_by,
            "property.name": name or None,
            "property.unit": unit or None,
            "run.steps": 0 if self.steps is None and self.epochs is not None else self.steps,
            "run.epochs": self.epochs,
            "run.max_time": self.max_time,
            "committee.members": self.committee,
            "run.device": self.device,
            "run.compile": self.compiled,
            "run.mixed_precision": self.mixed_precision,
            "schedule.lr": self.lr,
            "batch.max_atoms": self.batch_atoms,
        }
        given = [f"{key}={toml_value(value)}" for key, value in values.items() if value is not None]
        return given + (self.settings or [])


@dataclass(frozen=True)
class How:
    """How a training is gone about."""

    restart: bool = flag("Forget an earlier run in the folder.", *ANEW)
    dry_run: bool = flag("Read the data, show the configuration and the plan; train nothing.")
    find_rate: bool = flag("Show what one step of several learning rates does to a base; train nothing.")
    tensorboard: bool = flag("Also write FOLDER/tensorboard.")
    as_json: AsJson = False


@app.command()
@grouped
def train(
    inputs: Inputs,
    out: Out = None,
    preset: Annotated[
        str | None, typer.Option(help="Size of the network: nano, mini, neo (default), air, plus, pro.")
    ] = None,
    *,
    flags: Flags,
    how: How,
) -> None:
    """Train a model from scratch on labelled structures, or as a configuration says.

    The same command in the same folder continues a run that was stopped. Exit code 75: stopped by a signal.

    For example:

      dpa4 train train.toml

      dpa4 train frames.extxyz --preset mini --epochs 200 -o runs/mini

      torchrun --nproc-per-node 4 -m dpa4_flows.cli train train.toml
    """
    _run(inputs, flags.assignments({"output": out and str(out), "preset": preset}), how)


@app.command()
@grouped
def finetune(
    inputs: Inputs,
    base: Annotated[
        str | None, typer.Option(help=f"Registry name, .pt or .dpa4 file to start from; default: {BASE}.")
    ] = None,
    out: Out = None,
    lora: Annotated[
        int | None, typer.Option(min=0, metavar="RANK", help="Train adapters of this rank only, 8 say; few frames.")
    ] = None,
    replay: Annotated[
        bool | None,
        typer.Option("--replay/--no-replay", help="Mix in other crystals as the base has them, against forgetting."),
    ] = None,
    *,
    flags: Flags,
    how: How,
) -> None:
    """Fit a published model, or one of your own, to labelled structures.

    The offsets of the energies are shifted to those of your frames first. The same command in the same folder continues
    a run that was stopped. Exit code 75: stopped by a signal.

    For example:

      dpa4 finetune frames.extxyz

      dpa4 finetune frames.extxyz --base dpa4-neo --lora 8 --max-time 60 -o runs/mine
    """
    named = {
        "output": out and str(out),
        "base": base,
        "finetune.lora_rank": lora,
        "finetune.replay_own": replay,
    }
    _run(inputs, flags.assignments(named), how, default_base=BASE)


def configuration(inputs: list[Path], assignments: list[str], default_base: str | None = None) -> TrainConfig:
    """The whole configuration of a command.

    Args:
        inputs: a configuration, or data.
        assignments: ``section.key=value``; a later one wins.
        default_base: model that is fine-tuned if neither the file nor an assignment names one.

    Raises:
        DPA4Error: unknown keys, wrong values, several configurations.
    """
    files = [path for path in inputs if path.suffix.lower() == ".toml"]
    if files and len(inputs) > 1:
        raise DPA4Error(f"give one configuration or data, not {files[0]} with other files; name the data in it")
    if files:
        if default_base is not None and not _names_base(files[0]):
            assignments = [f"base={toml_value(default_base)}", *assignments]
        return ready(TrainConfig.from_toml(files[0], assignments))
    name = inputs[0].name.partition(".")[0] or inputs[0].resolve().name
    data: dict[str, Any] = {
        "data": {"train": [str(path) for path in inputs]},
        "output": str(Path("runs") / name),
        "name": name,
    }
    if default_base is not None:
        data["base"] = default_base
    return ready(TrainConfig.from_dict(override(data, assignments), where="the command line"))


def _names_base(path: Path) -> bool:
    try:
        return "base" in tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError:
        return True  # what is wrong is said where the configuration is built


def _run(inputs: list[Path], assignments: list[str], how: How, default_base: str | None = None) -> None:
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        with _signals_stop():
            config = configuration(inputs, assignments, default_base)
            if how.dry_run or how.find_rate:
                _plan(config, how, shown=is_first)
            elif is_first:
                a_folder(Path(config.output))
                _train(config, restart=how.restart, tensorboard=how.tensorboard, as_json=how.as_json)
            elif run_training(config, restart=how.restart).status == "interrupted":
                raise typer.Exit(INTERRUPTED)
    except ValueError:
        if is_first:
            raise
        raise typer.Exit(USER_ERROR) from None  # all processes find the same, and the first one says it
    except KeyboardInterrupt:
        if is_first:
            remark("stopped; the same command goes on")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _signals_stop() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C; while steps are taken the trainer stores them first."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(config: TrainConfig, *, restart: bool, tensorboard: bool, as_json: bool) -> None:
    """Train, measure, write the report and show what came out."""
    was_finished = not restart and _is_finished(Path(config.output))
    with (
        TrainingDisplay(err, config) if not as_json else nullcontext() as display,
        TensorBoardLog(Path(config.output)) if tensorboard else nullcontext() as board,
    ):

        def heard(record: dict[str, Any]) -> None:
            for listener in (display, board):
                if listener is not None:
                    listener(record)

        result = run_training(config, notify=heard, restart=restart)
    interrupted = result.status == "interrupted"
    if config.committee.is_whole:
        _tell_committee(result, as_json=as_json)
        return
    metrics: dict[str, Any] = {}
    if not interrupted:
        metrics = measure(result.folder, device=config.run.device, notify=lambda text: remark(f"computing {text}"))
    report = write_training_report(result.folder)
    if as_json:
        run = read_run(result.folder)
        print_json(
            {
                "status": result.status,
                "folder": str(result.folder),
                "model": None if result.model is None else str(result.model),
                "report": str(report),
                "step": result.step,
                "end": run.last_step,
                "seconds": run.seconds,
                "errors": result.errors,
                **{key: metrics.get(key) for key in ("validation", "train", "base", "warnings", "forgetting")},
            }
        )
    elif interrupted:
        say(f"stopped after step {result.step}; the same command goes on")
    else:
        if was_finished:
            remark("this run was finished before; --restart begins again")
        print_outcome(read_run(result.folder), metrics, report)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _tell_committee(result: TrainResult, *, as_json: bool) -> None:
    """The same of all members and of what they are together."""
    run = CommitteeFolder(result.folder)
    run.report(run.page)
    interrupted = result.status == "interrupted"
    if as_json:
        status = run.status().to_dict()
        print_json({"folder": str(run.folder), "model": result.model and str(result.model)} | status)
    elif interrupted:
        say(f"stopped after {result.step} steps of all members; the same command goes on")
    else:
        run.show(out)
        print_model(run.folder / MODEL_FILE, run.page)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _is_finished(folder: Path) -> bool:
    try:
        return is_training_folder(folder) and read_run(folder).end is not None
    except DPA4Error:  # a log without a beginning
        return False


def _plan(config: TrainConfig, how: How, *, shown: bool) -> None:
    """Everything up to the first step, in a folder that is thrown away; one of several processes shows it."""
    start: dict[str, Any] = {}
    if how.find_rate and (config.base is None or config.property is not None):
        raise DPA4Error("--find-rate needs a base that answers what is trained: `dpa4 finetune` for energies")
    with (
        tempfile.TemporaryDirectory(prefix="dpa4-dry-run-") as scratch,
        TrainingDisplay(err, config, quiet=True) as display,
    ):

        def heard(record: dict[str, Any]) -> None:
            display(record)
            if record["kind"] == "start":
                settled = {**config.to_dict(), "schedule": record["config"]["schedule"]}
                start.update(record, config=settled)

        one = config.members()[0] if config.committee.is_whole else config  # they differ in nothing that is shown
        trainer = Trainer(replace(one, output=scratch), join(config.run.device), heard)
        if how.find_rate:
            start["ladder"] = [asdict(move) for move in trainer.trials().ladder(start["learning_rate"]["rate"])]
        else:
            start["estimate"] = asdict(trainer.estimate())
    if not shown:
        return
    if how.as_json:
        print_json(start)
    elif how.find_rate:
        print_ladder(start)
    else:
        say(toml_text(start["config"]))
        print_plan(start)
