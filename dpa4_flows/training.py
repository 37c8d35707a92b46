"""What lies in the folder of a training run, and what a run needs before it starts: shared by commands, Makers and
reports.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dpa4_core.errors import DPA4Error
from dpa4_core.files import WriteError, replacing_text
from dpa4_core.locks import holder, locked
from dpa4_core.train.config import SourceConfig, TrainConfig
from dpa4_core.train.forgetting import TOLERABLE
from dpa4_core.train.log import read_log
from dpa4_core.train.outcome import assess
from dpa4_core.train.trainer import TrainResult, train, train_members
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.toml_text import toml_text

CONFIG_FILE, LOG_FILE, MODEL_FILE = "config.toml", "log.jsonl", "model.dpa4"
LOCK_FILE = ".lock"
METRICS_FILE, PARITY_FILE, REPORT_FILE = "metrics.json", "parity.npz", "report.html"

ERROR_UNITS: tuple[tuple[str, str, float, str], ...] = (
    ("energy", "energy", 1e3, "meV/atom"),
    ("force", "force", 1e3, "meV/Å"),
    ("stress", "stress", EV_PER_ANGSTROM3_TO_GPA, "GPa"),
)
"""Stem of the error's name in a record, the word for it, the factor from eV and Å to the unit people read, the unit."""


@dataclass(frozen=True)
class TrainingRun:
    """The log of a run, sorted.

    Attributes:
        folder: of the run.
        start: configuration, data, network, environment; see `dpa4_core.train.log`.
        train: mean errors since the record before, in the order of steps.
        validation: errors on the validation frames.
        skipped: steps that were not taken.
        decay: when and why the learning rate began to fall early.
        end: the last record of a finished run; None before.
    """

    folder: Path
    start: dict[str, Any]
    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    decay: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain types."""
        config: dict[str, Any] = self.start["config"]
        return config

    @property
    def step(self) -> int:
        """The last step that was recorded."""
        steps = (records[-1]["step"] for records in (self.train, self.validation) if records)
        return max(steps, default=0)

    @property
    def last_step(self) -> int:
        """Where the run ends, as far as is known."""
        later = [record["end"] for record in (*self.train[-1:], *self.decay[-1:])]
        return int(later[-1] if later else self.start["end"])

    @property
    def best(self) -> dict[str, Any] | None:
        """The validation whose weights the model file holds."""
        return next((record for record in reversed(self.validation) if record.get("improved")), None)

    @property
    def seconds(self) -> float:
        """Wall time of the steps, s."""
        if self.end is not None:
            return float(self.end["seconds"])
        return float(self.train[-1]["timing"]["seconds"]) if self.train else 0.0

    @property
    def property_unit(self) -> str | None:
        """Unit of the property that is trained, "" if it has none; None for a model of energies."""
        head = self.config.get("property")
        return None if head is None else str(head.get("unit") or "")

    @property
    def codes(self) -> tuple[str, ...]:
        """Version of the code that began it, as far as the log knows."""
        code = self.start["environment"].get("code_version")
        return () if code is None else (code,)

    def state(self) -> str:
        """finished, or how far the run is."""
        if self.end is not None:
            return "finished"
        return f"{'running' if is_running(self.folder) else 'stopped'} at step {self.step} of {self.last_step}"


def is_training_folder(folder: Path) -> bool:
    """Whether a training run was begun in ``folder``: its log has a whole first record."""
    log = folder / LOG_FILE
    if not log.is_file():
        return False
    with log.open("rb") as file:
        return file.readline().endswith(b"\n")


def committee_members(folder: Path) -> list[Path]:
    """Folders of the members whose training was begun, where ``folder`` is that of a committee."""
    numbered = {path: path.name.removeprefix("member-") for path in folder.glob("member-*")}
    begun = [path for path, number in numbered.items() if number.isdecimal() and is_training_folder(path)]
    return sorted(begun, key=lambda path: int(numbered[path]))


def members_without_gain(folder: Path) -> list[str]:
    """A sentence for each member of a committee that got no better than its base."""
    return [
        f"{member.name} got no better than its base, which it holds with shifted offsets: deviations are too small"
        for member in committee_members(folder)
        if (best := read_run(member).best) is not None and best["step"] == 0
    ]


def is_running(folder: Path) -> bool:
    """Whether a process trains in ``folder``, as far as its file system knows."""
    return holder(folder / LOCK_FILE) is not None


def read_run(folder: str | Path) -> TrainingRun:
    """The log of the run in ``folder``.

    Raises:
        DPA4Error: there is no run.
    """
    folder = Path(folder)
    records = read_log(folder / LOG_FILE) if is_training_folder(folder) else []
    starts = [i for i, record in enumerate(records) if record["kind"] == "start"]
    if not starts:
        raise DPA4Error(f"{folder} holds no training run (no {LOG_FILE} in it); `dpa4 train` makes one")
    first = starts[-1]  # a run that was killed before its first checkpoint began again
    kinds: dict[str, list[dict[str, Any]]] = {name: [] for name in ("train", "validation", "skipped", "decay", "end")}
    for record in records[first + 1 :]:
        kinds.setdefault(record["kind"], []).append(record)
    sorted_out = {name: kinds[name] for name in ("train", "validation", "skipped", "decay")}
    return TrainingRun(folder, records[first], end=next(iter(kinds["end"][-1:]), None), **sorted_out)


def ready(config: TrainConfig) -> TrainConfig:
    """``config`` with absolute paths, so that it means the same wherever it is read again, and with the property that
    is trained among the labels that are collected.
    """
    data = dataclasses.replace(
        config.data, train=_absolute(config.data.train), validation=_absolute(config.data.validation)
    )
    if config.property is not None and config.property.name not in data.keys.properties:
        names = (*data.keys.properties, config.property.name)
        data = dataclasses.replace(data, keys=dataclasses.replace(data.keys, properties=names))
    base = config.base
    if base is not None and Path(base).expanduser().is_file():
        base = _full(base)
    finetune = dataclasses.replace(config.finetune, replay=_absolute(config.finetune.replay))
    return dataclasses.replace(config, data=data, base=base, finetune=finetune, output=_full(config.output))


def run_training(
    config: TrainConfig, *, notify: Callable[[dict[str, Any]], None] | None = None, restart: bool = False
) -> TrainResult:
    """`dpa4_core.train.trainer.train`, with the configuration beside the log from the start of the run on; that of a
    committee in the folder of the whole, too.

    Raises:
        DPA4Error: what `train` raises, and another process that trains in the same folder.
    """
    is_first = os.environ.get("RANK", "0") == "0"

    def heard(record: dict[str, Any]) -> None:
        if record["kind"] in ("start", "measuring") and is_first:
            write_config(config)
        if notify is not None:
            notify(record)

    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    with nullcontext() if not is_first else locked(output / LOCK_FILE, f"a model is being trained in {output}"):
        if config.committee.is_whole:
            return train_members(config, run_training, notify=heard, restart=restart)
        return train(config, notify=heard, restart=restart)


def uncertainty_rows(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """What deviations of a committee are worth, as `dpa4_core.calibration` found it: quantity, root mean squares of
    error and deviation, unit, ratio and rank correlation.
    """
    rows = []
    for stem, word, factor, unit in ERROR_UNITS:
        if values := found.get(stem):
            sizes = (digits(values[name] * factor) for name in ("rmse", "std"))
            rows.append([word, *sizes, unit, digits(values.get("ratio")), digits(values.get("spearman"))])
    return rows


def write_config(config: TrainConfig) -> Path:
    """Write the configuration into the folder of the run; `TrainConfig.from_toml` reads it to the same value."""
    path = Path(config.output) / CONFIG_FILE
    with replacing_text(path) as stream:
        stream.write("# The whole configuration of this run; `dpa4 train` with this file continues or repeats it.\n")
        stream.write(toml_text(config.to_dict()))
    return path


def measure(folder: Path, *, device: str = "auto", notify: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Errors of the model of a run as they stand in ``metrics.json``: ``validation``, ``train`` and ``base``.

    They are computed if the file is missing or older than the model. Without a model there are none yet.
    """
    if (found := measured(folder)) is not None:
        return found
    if not (folder / MODEL_FILE).is_file():
        return {}
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        assess(folder, device=device, notify=notify)
    except WriteError as error:  # a folder of somebody else, or on a disk that is only read
        notify(f"errors of the model are left out: {error}")
    return measured(folder) or {}


def measured(folder: Path) -> dict[str, Any] | None:
    """Content of ``metrics.json``; None where it is missing or older than the model, or there is no model."""
    model, metrics = folder / MODEL_FILE, folder / METRICS_FILE
    if not (metrics.is_file() and model.is_file() and metrics.stat().st_mtime >= model.stat().st_mtime):
        return None
    found: dict[str, Any] = json.loads(metrics.read_text())
    return found


def worse_sentences(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What kept a fine-tune from getting better than its base, and what it forgot, each with the setting to change.

    Args:
        metrics: content of ``metrics.json``.
        config: of the run, plain types.
    """
    sentences = []
    words = {stem: (word, factor, unit) for stem, word, factor, unit in ERROR_UNITS}
    for entry in metrics.get("warnings") or ():
        if entry["code"] == "forgets_too_much":
            sentences.append(
                f"every validation changed other systems by more than finetune.max_forgetting allows, by "
                f"{digits(1e3 * entry['after'])} meV/atom at step {entry['step']} already, so the file holds the base "
                f"with shifted offsets; raise that limit (now {config['finetune']['max_forgetting']:g} eV/atom) or set "
                "run.validate_every to fewer steps, and begin again in another folder"
            )
            continue
        word, factor, unit = words[entry["quantity"]]
        weight = {"energy": "energy", "force": "forces", "stress": "virial"}[entry["quantity"]]
        change = " → ".join(_told_apart(entry["before"] * factor, entry["after"] * factor))
        sentences.append(
            f"fine-tuning made the {word} worse on the validation frames, at best {change} {unit} "
            f"(step {entry['step']}), so the file holds the base with shifted offsets; lower the learning rate "
            f"({_lower_rate(config)}) or raise loss.{weight} (now {config['loss'][weight]:g}), and begin again in "
            "another folder"
        )
    return sentences + _forgets(metrics, config)


def forgetting_sentence(metrics: Mapping[str, Any]) -> str:
    """What a fine-tune did to systems of other kinds; "" where that is not known."""
    found = metrics.get("forgetting")
    if not found:
        return ""
    energies, forces = (
        (digits(1e3 * found[f"{name}_median"]), digits(1e3 * found[f"{name}_max"])) for name in ("energy", "force")
    )
    return (
        f"{found['n_systems']} other systems changed by {energies[0]} meV/atom in the median, {energies[1]} at most "
        f"({found['worst']}), and their forces by {forces[0]} and {forces[1]} meV/Å, against the base"
    )


def _forgets(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """A warning where the base is changed for systems of other kinds as well, with the setting to change."""
    found = metrics.get("forgetting")
    if not found or found["energy_median"] <= TOLERABLE:
        return []
    return [
        f"the model is one for the trained systems only: {forgetting_sentence(metrics)}; set "
        f"finetune.max_forgetting={TOLERABLE:g} to keep the best model that changes them less, or train for fewer steps"
    ]


def _lower_rate(config: Mapping[str, Any]) -> str:
    rate = config["schedule"]["lr"]
    return "--lr" if rate is None else f"--lr {rate / 3:.1g} in place of {rate:.1g}"


def error_row(record: Mapping[str, Any], kind: str = "mae") -> list[tuple[str, float | None, str]]:
    """Errors of a record or of metrics in the units that people read: word, value or None, unit."""
    return [
        (word, None if (value := record.get(f"{stem}_{kind}")) is None else value * factor, unit)
        for stem, word, factor, unit in ERROR_UNITS
    ]


def digits(value: float | None) -> str:
    """Three significant digits, without an exponent where that is readable; a dash for None."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.2e}"


def _told_apart(before: float, after: float) -> tuple[str, str]:
    """Both in the usual digits, or in as many as it takes to see a difference."""
    usual = digits(before), digits(after)
    longer = ((f"{before:.{n}g}", f"{after:.{n}g}") for n in range(4, 17))
    return next((pair for pair in (usual, *longer) if pair[0] != pair[1]), usual)


def _absolute(sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    return tuple(dataclasses.replace(source, path=_full(source.path)) for source in sources)


def _full(path: str) -> str:
    return str(Path(path).expanduser().absolute())
