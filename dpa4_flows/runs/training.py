"""Trainings: a log, a model, its errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.trainer import TrainResult
from dpa4_flows.plots.words import duration
from dpa4_flows.report.training import write_training_report
from dpa4_flows.runs.run import How, Outcome, Part, Run, RunStatus
from dpa4_flows.training import (
    CONFIG_FILE,
    ERROR_UNITS,
    MODEL_FILE,
    TrainingRun,
    digits,
    error_row,
    is_running,
    is_training_folder,
    measure,
    read_run,
    run_training,
)


class TrainingFolder(Run):
    """The folder of a training."""

    kind: ClassVar[str] = "training"

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return is_training_folder(folder)

    def status(self) -> RunStatus:
        run = read_run(self.folder)
        running = is_running(self.folder)
        state = "complete" if run.end is not None else "running" if running else "stopped"
        rate = (run.train[-1]["timing"]["steps_per_s"] if run.train else None) if running else None
        facts = {
            "name": run.config["name"],
            "step": run.step,
            "end": run.last_step,
            "seconds": run.seconds,
            "skipped": len(run.skipped),
            "training": run.train[-1] if run.train else None,
            "best": run.best,
        }
        go_on = f"the command that started it goes on where it stopped, or: dpa4 resume {self.folder}"
        next_step = go_on if state == "stopped" else ""
        return RunStatus(state, "steps", run.step, run.last_step, rate or None, facts, (), next_step, run.codes)

    def show(self, console: Console, *, everyone: bool = False) -> None:
        run = read_run(self.folder)
        console.print(f"{duration(run.seconds)} of training", highlight=False)
        show_errors(run, {}, console)

    def resume(self, how: How) -> Outcome:
        """Go on with the configuration in the folder, wherever the folder is by now.

        Raises:
            KeyboardInterrupt: it was stopped again; what was trained is kept.
            DPA4Error: what `run_training` raises.
        """
        path = self.folder / CONFIG_FILE
        if not path.is_file():
            raise DPA4Error(f"{self.folder} holds no {CONFIG_FILE}; the command that made it goes on")
        config = replace(TrainConfig.from_toml(path), output=str(self.folder.resolve()))
        reused = read_run(self.folder).end is not None
        result = trained_on(config, how)
        measure(result.folder, device=config.run.device, notify=lambda text: how.watch.remark(f"computing {text}"))
        write_training_report(result.folder)
        return Outcome({"model": self.folder / MODEL_FILE, "html": self.page}, reused=reused)

    def table(self) -> Iterator[dict[str, Any]]:
        run = read_run(self.folder)
        records = sorted([*run.train, *run.validation], key=lambda record: (record["step"], record["kind"]))
        for record in records:
            yield {key: value for key, value in record.items() if isinstance(value, (int, float, str, bool))}

    def report(self, path: Path) -> None:
        """Write the page. Errors that were not measured yet are computed if it goes into the folder, where they are
        kept."""
        if path.resolve().parent == self.folder.resolve():
            measure(self.folder)
        write_training_report(self.folder, path)


def trained_on(config: TrainConfig, how: How) -> TrainResult:
    """Go on with a training, or with the members of a committee, while somebody may look on.

    Raises:
        KeyboardInterrupt: it was stopped again; what was trained is kept.
        DPA4Error: what `run_training` raises.
    """
    latest: dict[str, Any] = {}

    def parts() -> list[Part]:
        if "step" not in latest:
            return []
        errors = ", ".join(f"{word} {digits(x)} {unit}" for word, x, unit in error_row(latest) if x is not None)
        title = f"member {latest['member']} of {latest['of']}" if "member" in latest else "training"
        step, end = latest["step"], latest["end"]
        return [Part(title, step, end, f"{step:,}/{end:,}", errors, finished=step >= end)]

    def heard(record: dict[str, Any]) -> None:
        if record["kind"] in ("member", "train", "resume"):
            latest.update(record)

    with how.watch.showing(parts):
        result = run_training(config, notify=heard)
    if result.status == "interrupted":
        raise KeyboardInterrupt
    return result


def show_errors(run: TrainingRun, metrics: dict[str, Any], console: Console) -> None:
    """Errors before and after, with units.

    Args:
        run: the log.
        metrics: content of ``metrics.json``, empty without.
        console: where to print.
    """
    columns: list[tuple[str, dict[str, Any], str]] = []
    before = metrics.get("base") or next((r for r in run.validation if r["step"] == 0), None)
    validation = metrics.get("validation") or run.best
    train = metrics.get("train") or (None if run.end is not None or not run.train else run.train[-1])
    if before:
        columns.append(("before, MAE", before, "mae"))
    if validation:
        columns += [("validation, MAE", validation, "mae"), ("RMSE", validation, "rmse")]
    if train:
        columns.append(("training frames, MAE", train, "mae"))
    if not columns:
        console.print("no error was measured yet", highlight=False)
        return
    where = f" (best: step {run.best['step']:,})" if run.best else ""
    table = Table("quantity", *(name for name, _, _ in columns), "unit", title=f"errors{where}", title_justify="left")
    if run.property_unit is not None:
        cells = [digits(record.get(f"property_{kind}")) for _, record, kind in columns]
        table.add_row(run.config["property"]["name"], *cells, run.property_unit)
    else:
        for i, (_, word, _, unit) in enumerate(ERROR_UNITS):
            table.add_row(word, *(digits(error_row(record, kind)[i][1]) for _, record, kind in columns), unit)
    console.print(table)
