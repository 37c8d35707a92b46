"""What a training run shows while it goes on and when it is done."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dpa4_core.errors import plural
from dpa4_core.evaluate import Metrics
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.forgetting import TOLERABLE
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.cli.console import out, say, warn
from dpa4_flows.cli.evaluate import MAX_GROUPS, print_elements, print_groups
from dpa4_flows.plots.words import duration
from dpa4_flows.runs.training import show_errors
from dpa4_flows.training import (
    ERROR_UNITS,
    MODEL_FILE,
    TrainingRun,
    digits,
    error_row,
    forgetting_sentence,
    read_run,
    worse_sentences,
)

_SHOWN_TRAIN, _SHOWN_VALIDATION = 4, 8
_REASONS = 3
_LINE_S = 30.0  # between two lines about reading where there is no terminal


class TrainingDisplay:
    """Shows the records of a run: a table that stays in place on a terminal, one line per record elsewhere.

    Args:
        console: where to show it.
        config: the run.
        quiet: show only how many frames were read.
    """

    def __init__(self, console: Console, config: TrainConfig, *, quiet: bool = False) -> None:
        self._console, self._config, self._quiet = console, config, quiet
        self._train: deque[dict[str, Any]] = deque(maxlen=_SHOWN_TRAIN)
        self._validation: deque[dict[str, Any]] = deque(maxlen=_SHOWN_VALIDATION)
        self._n_read = self._end = 0
        self._said = time.monotonic()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=quiet)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._n_read = 0
        self._live.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one record."""
        kind = record["kind"]
        if kind == "reading":
            self._n_read = record["frames"]
            if time.monotonic() - self._said > _LINE_S:
                self._line(f"reading: {self._n_read:,} frames")
            return
        self._n_read = 0
        if self._quiet:
            return
        if kind == "member":
            self._config = replace(self._config, output=record["folder"])
            self._train.clear()
            self._validation.clear()
            self._say(f"member {record['member']} of {record['of']}")
        elif kind == "measuring":
            self._say(f"computing {record['text']}")
        elif kind == "start":
            self._end = record["end"]
            print_start(record, self._console)
        elif kind == "damaged":
            text = f"{record['why']}; the run goes on from the checkpoint before it, at step {record['step']}"
            _warn(self._console, "damaged", text)
        elif kind == "resume":
            self._resume(record)
        elif kind == "train":
            self._end = record["end"]
            self._train.append(record)
            self._line(_train_line(record))
        elif kind == "validation":
            self._validation.append(record)
            self._line(_validation_line(record), style="yellow" if record.get("worse") else "")
        elif kind == "decay":
            self._say(
                f"step {record['step']}: the learning rate falls from now on to step {record['end']} ({record['why']})"
            )
        elif kind == "skipped":
            frames = ", ".join(record["frames"][:_REASONS])
            text = f"step {record['step']} had no finite loss or gradient; its frames: {frames}"
            _warn(self._console, "skipped", text)

    def _resume(self, record: dict[str, Any]) -> None:
        self._end = record["end"]
        self._say(f"going on after step {record['step']} of {record['end']}")
        earlier = read_run(Path(self._config.output))
        self._train.extend(earlier.train)
        self._validation.extend(earlier.validation)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    def _line(self, text: str, style: str = "") -> None:
        self._said = time.monotonic()
        if not self._console.is_terminal:
            self._say(text, style)

    # ---- on a terminal

    def _render(self) -> RenderableType:
        if self._n_read:
            return Text(f"reading: {self._n_read:,} frames")
        if not (self._train or self._validation):
            return Text("waiting for the first step" if self._end else "")
        return Group(self._progress(), self._table())

    def _progress(self) -> RenderableType:
        last: dict[str, Any] = self._train[-1] if self._train else {"step": 0, "epoch": 0, "lr": 0.0, "timing": {}}
        grid = Table.grid(padding=(0, 2))
        cells: list[RenderableType] = [
            f"step {last['step']:,} of {self._end:,}",
            ProgressBar(total=max(self._end, 1), completed=last["step"], width=28),
            f"epoch {last['epoch']}",
            f"learning rate {last['lr']:.2e}",
        ]
        timing = last["timing"]
        if timing:
            cells.append(f"{timing['atoms_per_s']:,.0f} atoms/s")
            cells.append(_time_left(last, self._config.run.max_time))
        grid.add_row(*cells)
        return grid

    def _table(self) -> Table:
        is_property = self._config.property is not None
        heads = [f"{self._config.property.name}" if self._config.property else ""]
        columns = heads if is_property else [f"{word} ({unit})" for _, word, _, unit in ERROR_UNITS]
        table = Table("step", "errors on", "loss", *columns, "", title="mean absolute errors", title_justify="left")
        rows = [(r, "training", r["loss"], "") for r in self._train]
        best = next((r for r in reversed(self._validation) if r["improved"]), None)
        rows += [(r, "validation", r["metric"], _verdict(r, best=r is best)) for r in self._validation]
        for record, name, loss, mark in sorted(rows, key=lambda row: (row[0]["step"], row[1])):
            errors = [record.get("property_mae")] if is_property else [value for _, value, _ in error_row(record)]
            style = "yellow" if record.get("worse") else "bold" if mark else "dim" if name == "training" else ""
            table.add_row(f"{record['step']:,}", name, digits(loss), *map(digits, errors), mark, style=style)
        return table


def _train_line(record: dict[str, Any]) -> str:
    timing = record["timing"]
    return (
        f"step {record['step']}/{record['end']}  epoch {record['epoch']}  lr {record['lr']:.2e}  "
        f"loss {digits(record['loss'])}  {_errors(record)}  {timing['atoms_per_s']:,.0f} atoms/s  "
        f"{_time_left(record, 0)}"
    )


def _validation_line(record: dict[str, Any]) -> str:
    return f"step {record['step']}  validation  {_errors(record)}  {_verdict(record, best=record['improved'])}".rstrip()


def _verdict(record: dict[str, Any], *, best: bool) -> str:
    """What a validation means: the best so far, or in what it is worse than the base."""
    part = [f"{record['share']:.3g} of the change"] if "share" in record else []
    part += ["other crystals brought back"] if "brought_back" in record else []
    if worse := record.get("worse"):
        part.append(f"{' and '.join(worse)} worse than the base")
    elif best:
        part.append("best so far" if record["step"] else "the base")
    if (forgotten := record.get("forgotten", 0.0)) > TOLERABLE:
        part.append(f"other crystals change by {1e3 * forgotten:.1f} meV/atom")
    return ", ".join(part)


def _errors(record: dict[str, Any]) -> str:
    """MAE of what is there, with units."""
    if "property_mae" in record:
        return f"MAE {digits(record['property_mae'])}"
    return "  ".join(f"{word} {digits(value)} {unit}" for word, value, unit in error_row(record) if value is not None)


def _time_left(record: dict[str, Any], max_minutes: float) -> str:
    timing = record["timing"]
    if record["step"] >= record["end"]:
        return "done"
    if not timing["steps_per_s"]:
        return ""
    left = (record["end"] - record["step"]) / timing["steps_per_s"]
    if max_minutes:
        left = min(left, max(60 * max_minutes - timing["seconds"], 0.0))
    return f"{duration(left)} left"


# ---- beginning and end


def print_start(start: dict[str, Any], console: Console) -> None:
    """What was read and what is about to be trained; ``start`` is the first record of the log."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    data, config, budget = start["data"], start["config"], start["budget"]
    for name, source in data["sources"].items():
        labels = ", ".join(f"{source[f'n_with_{label}']:,} with {label}" for label in ("energy", "forces", "stress"))
        labels += f", {source['n_weighted']:,} with weights of their own" if source.get("n_weighted") else ""
        line(f"{name}: {plural(source['n_frames'], 'frame')} of {', '.join(source['elements'])}; {labels}")
        for sentence in source["warnings"]:
            _warn(console, "doubt", f"{name}: {sentence}")
        if source["n_suspicious"]:
            name, sentence = source["suspicious"][0]
            _warn(console, "doubt", f"{plural(source['n_suspicious'], 'frame')} look odd, first {name}: {sentence}")
    for doubt in start.get("doubts", ()):
        _warn(console, "doubt", doubt["text"])
    replay = f", {data['n_replay']:,} mixed in from before" if data["n_replay"] else ""
    line(f"{data['n_train']:,} frames to train on, {data['n_validation']:,} to validate{replay}; {data['split']}")
    if data["n_left_out"]:
        _warn(console, "not used", f"{data['n_left_out']:,} frames or labels")
        for _, sentence in data["left_out"][:_REASONS]:
            line(f"  {sentence}")
    origin = f"from {config['base']}" if config["base"] else "from random weights"
    line(
        f"training {start['n_trained']:,} of {start['n_parameters']:,} parameters {origin}, {start['end']:,} steps of "
        f"up to {budget['atoms'] * budget['parts']:,} atoms, on {start['environment']['device']}"
    )
    for name, text in start["notes"].items():
        line(f"{name}: {text}")


def _warn(console: Console, label: str, text: str) -> None:
    console.print(f"[yellow]{label}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def print_plan(start: dict[str, Any]) -> None:
    """What a dry run found out."""
    print_start(start, out)
    guess = start["estimate"]
    say(
        f"time: about {duration(guess['seconds'])} for {guess['steps']:,} steps of {duration(guess['step_s'])} each, "
        f"{duration(guess['validation_s'])} for a validation, on this machine as it is now"
    )
    if n_members := start["config"]["committee"]["members"]:
        say(f"the same for each of {n_members} members")
    say("nothing was trained (--dry-run)")


def print_ladder(start: dict[str, Any]) -> None:
    """What steps of several rates do, and the rate that a run would take."""
    found = start["learning_rate"]
    columns = {
        "energy": ("energies among each other (meV/atom)", 1e3),
        "together": ("all together (meV/atom)", 1e3),
        "force": ("forces (meV/Å)", 1e3),
        "stress": ("stresses (GPa)", EV_PER_ANGSTROM3_TO_GPA),
    }
    heads = ("learning rate", *(head for head, _ in columns.values()))
    title = f"changes by one step, on {plural(found['n_frames'], 'training frame')}"
    table = Table(*heads, title=title, title_justify="left")
    for move in start["ladder"]:
        cells = (digits(factor * move[name]) for name, (_, factor) in columns.items())
        table.add_row(f"{move['rate']:.2g}", *cells, style="bold" if move["rate"] == found["rate"] else "")
    errors = (
        "" if name == "together" else digits(None if (value := found["base"].get(name)) is None else factor * value)
        for name, (_, factor) in columns.items()
    )
    table.add_row("errors of the base", *errors, style="dim")
    out.print(table)
    why = (
        f"so that one step moves the {found['limited_by']} by half of its error at most" if found["limited_by"] else ""
    )
    say(f"a run takes {found['rate']:.2g}{', ' if why else ''}{why}; --lr takes another")


def print_outcome(run: TrainingRun, metrics: dict[str, Any], report: Path) -> None:
    """Errors of the model, where it lies and what one does with it."""
    show_errors(run, metrics, out)
    if metrics.get("validation"):
        found = Metrics(**metrics["validation"])
        if len(found.by_element) > 1:
            print_elements(found)
        if 2 <= len(found.by_group) <= MAX_GROUPS:
            print_groups(found)
    if run.best is not None and run.best["step"] == 0:
        warn("warning", "no weights of this run were better than the base; the file holds it with shifted offsets")
    for sentence in worse_sentences(metrics, run.config):
        warn("warning", sentence)
    if sentence := forgetting_sentence(metrics):
        say(sentence)
    skipped = f", {plural(len(run.skipped), 'step')} skipped" if run.skipped else ""
    say(f"finished: {run.step:,} steps in {duration(run.seconds)}{skipped}")
    print_model(run.folder / MODEL_FILE, report, energies=run.property_unit is None)


def print_model(path: Path, report: Path, *, energies: bool = True) -> None:
    """Where a model and its report are, and what one does with a model of energies."""
    model = _shown(path)
    say(f"model    {model}")
    say(f"report   {_shown(report)}")
    say(f"next     dpa4 evaluate {model} test.extxyz")
    if energies:
        say(f"         dpa4 relax POSCAR --model {model} -o relaxed.cif")


def _shown(path: Path) -> str:
    """Relative to the current folder where that is shorter to type."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
