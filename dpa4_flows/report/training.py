"""The HTML report of a training run: how good the model is, how it got there, and on what."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.errors import plural
from dpa4_core.files import write_text
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.plots.figure import Column, TableBlock, numbers
from dpa4_flows.plots.words import capitalised, duration
from dpa4_flows.report.figures_training import curve_figures, parity_figures
from dpa4_flows.report.page import render_page
from dpa4_flows.report.sections import flatten
from dpa4_flows.training import (
    ERROR_UNITS,
    METRICS_FILE,
    MODEL_FILE,
    PARITY_FILE,
    REPORT_FILE,
    TrainingRun,
    digits,
    error_row,
    forgetting_sentence,
    read_run,
    worse_sentences,
)

MAX_GROUPS = 300
MAX_FRAMES = 300
"""Rows of the tables of groups and of frames; the log has all."""


def write_training_report(folder: str | Path, path: Path | None = None) -> Path:
    """Write the report of a run, finished or not, from what lies in its folder; returns the path of the HTML file.

    Args:
        folder: of the run.
        path: HTML file, by default ``report.html`` in the folder.

    Raises:
        DPA4Error: the folder holds no training run.
    """
    folder = Path(folder)
    run = read_run(folder)
    metrics: dict[str, Any] = {}
    arrays: dict[str, NDArray[np.float64]] = {}
    if (folder / METRICS_FILE).is_file():
        metrics = json.loads((folder / METRICS_FILE).read_text())
        if (folder / PARITY_FILE).is_file() and metrics.get("validation"):
            with np.load(folder / PARITY_FILE) as stored:
                arrays = {name: stored[name] for name in stored.files}
    path = path or folder / REPORT_FILE
    write_text(path, render(run, metrics, arrays))
    return path


def render(run: TrainingRun, metrics: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> str:
    """The page as text.

    Args:
        run: the log.
        metrics: content of ``metrics.json``, empty without.
        arrays: content of ``parity.npz``, empty without.
    """
    curves, parity = curve_figures(run), parity_figures(arrays, run)
    validation = metrics.get("validation") or {}
    return render_page(
        "training.html",
        [*curves, *parity],
        title=str(run.config["name"]),
        run=run,
        summary=_summary(run),
        tiles=_tiles(run, metrics),
        errors=_error_table(run, metrics),
        errors_basis=" ".join(filter(None, (_errors_basis(run), _forgotten(metrics)))),
        element_errors=_element_table(validation.get("by_element") or {}),
        group_errors=_group_table(run, validation.get("by_group") or {}),
        warnings=worse_sentences(metrics, run.config),
        caveats=_caveats(run),
        parity=parity,
        curves=curves,
        data_basis=_data_basis(run),
        sources=_source_table(run),
        doubts=_doubts(run),
        frame_lists=_frame_lists(run),
        speed=_speed(run),
        environment=_environment(run),
        model=_model(run),
        network=flatten(run.start["network"]),
        settings=flatten(run.config),
    )


# ---- what the model is and how good


def _summary(run: TrainingRun) -> str:
    data, config = run.start["data"], run.config
    elements = ", ".join(_elements(run))
    head = config.get("property")
    what = f"A model of {head['name']}" if head else "An interatomic potential"
    origin = f"fine-tuned from {config['base']}" if config["base"] else "trained from scratch"
    sentence = f"{what} for {elements}, {origin} on {data['n_train']:,} labelled frames ({data['n_atoms']:,} atoms)."
    if config["finetune"]["lora_rank"]:
        sentence += f" Only adapters of rank {config['finetune']['lora_rank']} were trained and then folded in."
    before, after = _before(run), run.best
    if before and after:
        gains = [
            f"{word} {digits(old)} → {digits(new)} {unit}"
            for (word, old, unit), (_, new, _) in zip(error_row(before), error_row(after), strict=True)
            if old is not None and new is not None
        ]
        sentence += f" Validation errors before and after: {'; '.join(gains)}."
    return sentence


def _tiles(run: TrainingRun, metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    best, data = metrics.get("validation") or run.best or {}, run.start["data"]
    tiles = []
    if run.property_unit is not None and best.get("property_mae") is not None:
        tiles.append((f"error of {run.config['property']['name']}", digits(best["property_mae"]), run.property_unit))
    tiles += [
        (f"{word} error", digits(value), f"{unit}, mean absolute") for word, value, unit in error_row(best) if value
    ]
    tiles += [
        ("training frames", f"{data['n_train']:,}", f"{data['n_validation']:,} for validation"),
        ("steps", f"{run.step:,}", f"of {run.last_step:,}" if run.end is None else "finished"),
        ("parameters", f"{run.start['n_parameters']:,}", f"{run.start['n_trained']:,} trained"),
        ("time", duration(run.seconds), "of training steps"),
    ]
    return tiles


def _errors_basis(run: TrainingRun) -> str:
    best = run.best
    if best is None:
        if run.start["data"]["n_validation"]:
            return "No validation was recorded yet."
        return "Errors of the stored model on frames it was trained on: there is no validation set."
    part = f" (and {best['share']:.3g} of its change of the base)," if "share" in best else ","
    return (
        f"The stored model is that of step {best['step']:,}{part} the best by validation, with averaged weights. "
        f"{capitalised(run.start['data']['split'])}."
    )


def _forgotten(metrics: Mapping[str, Any]) -> str:
    sentence = forgetting_sentence(metrics)
    return f"{capitalised(sentence)}." if sentence else ""


def _error_table(run: TrainingRun, metrics: Mapping[str, Any]) -> TableBlock | None:
    validation, train = metrics.get("validation") or run.best, metrics.get("train")
    before = metrics.get("base") or _before(run)
    if run.property_unit is not None:
        records = [(name, part) for name, part in (("Validation", validation), ("Training, a sample", train)) if part]
        columns = [Column("Frames"), *numbers("MAE", "RMSE"), Column("Unit")]
        rows = [
            [name, *(digits(part.get(f"property_{kind}")) for kind in ("mae", "rmse")), run.property_unit or "–"]
            for name, part in records
        ]
        return (
            TableBlock("property", f"Errors of {run.config['property']['name']}", "", columns, rows) if rows else None
        )
    if not validation and not train:
        return None
    parts: list[tuple[str, Mapping[str, Any], str]] = []
    if before:
        parts += [("Before training, MAE", before, "mae")]
    if validation:
        parts += [("Validation, MAE", validation, "mae"), ("Validation, RMSE", validation, "rmse")]
    if train:
        parts += [("Training frames, MAE", train, "mae")]
    columns = [Column("Quantity"), *numbers(*(label for label, _, _ in parts)), Column("Unit")]
    rows = []
    for i, (_, word, _, unit) in enumerate(ERROR_UNITS):
        name = {"energy": "Energy per atom", "force": "Force component", "stress": "Stress component"}[word]
        rows.append([name, *(digits(error_row(record, kind)[i][1]) for _, record, kind in parts), unit])
    if any(record.get("force_norm_mae") is not None for _, record, _ in parts):
        norms = [_scaled(record.get("force_norm_mae") if kind == "mae" else None, 1e3) for _, record, kind in parts]
        rows.append(["Norm of the force error", *norms, "meV/Å"])
    note = "MAE: mean absolute error. RMSE: root mean square error. –: no reference values."
    if before:
        note += " Before training: the base model with its offsets shifted to the energies of the training frames."
    if train:
        note += f" Training frames: a sample of {train['n_structures']:,}."
    return TableBlock("frames", "All frames", "", columns, rows, note)


def _element_table(errors: Mapping[str, Mapping[str, float]]) -> TableBlock | None:
    if not errors:
        return None
    columns = [Column("Element"), *numbers("Force MAE (meV/Å)", "Force RMSE (meV/Å)", "Atoms")]
    rows = [
        [name, _scaled(e["force_mae"], 1e3), _scaled(e["force_rmse"], 1e3), f"{e['n_atoms']:,.0f}"]
        for name, e in errors.items()
    ]
    return TableBlock("elements", "Validation errors per element", "", columns, rows)


def _group_table(run: TrainingRun, errors: Mapping[str, Mapping[str, float]]) -> TableBlock | None:
    if not errors:
        return None
    shown = [
        ("energy_mae", "Energy MAE (meV/atom)", 1e3),
        ("force_mae", "Force MAE (meV/Å)", 1e3),
        ("stress_mae", "Stress MAE (GPa)", EV_PER_ANGSTROM3_TO_GPA),
    ]
    if run.property_unit is not None:
        unit = f" ({run.property_unit})" if run.property_unit else ""
        shown = [("property_mae", f"MAE of {run.config['property']['name']}{unit}", 1.0)]
    columns = numbers(*(title for _, title, _ in shown), "Frames")
    order = [name for name, _, _ in shown[1:] + shown[:1]]  # forces first, energies last
    worst = sorted(errors, key=lambda name: -next((errors[name][key] for key in order if key in errors[name]), 0.0))
    rows = [
        [
            name or "(none)",
            *(_scaled(errors[name].get(key), factor) for key, _, factor in shown),
            f"{errors[name]['n_structures']:,.0f}",
        ]
        for name in worst[:MAX_GROUPS]
    ]
    note = f"The {MAX_GROUPS} with the largest errors of {len(errors):,}." if len(errors) > MAX_GROUPS else ""
    title = "Validation errors per group, largest first"
    return TableBlock("groups", title, "", [Column("Group"), *columns], rows, note)


def _caveats(run: TrainingRun) -> list[str]:
    data, config = run.start["data"], run.config
    sentences = []
    if run.end is None:
        sentences.append(
            f"The run is not finished: {run.state()}. The last steps, with a small learning rate, gain most."
        )
    if not data["n_validation"]:
        sentences.append("Without validation frames nothing here says how the model does on frames it has not seen.")
    else:
        sentences.append(
            "Validation frames come from the same sources as the training frames; other compositions, phases or "
            "temperatures will have larger errors. Test with frames of your own: dpa4 evaluate model.dpa4 test.extxyz."
        )
    if config["data"]["split_by"] == "frame" and not config["data"]["validation"]:
        sentences.append(
            "Validation frames were drawn at random: for frames of a trajectory, which resemble their neighbours, the "
            "errors are too small."
        )
    if run.property_unit is None:
        theory = config["level_of_theory"]
        known = "" if theory in ("", "unknown") else f" ({theory})"
        sentences.append(
            f"Energies have the level of theory of the training frames{known}; energies of another one, Materials "
            "Project entries for example, must not be on the same hull."
        )
    if run.skipped:
        number = plural(len(run.skipped), "step")
        sentences.append(f"{number} without a finite loss or gradient did not change the weights.")
    sentences += [f"The learning rate began to fall early, at step {r['step']:,}: {r['why']}." for r in run.decay]
    return sentences


# ---- data


def _sources(run: TrainingRun) -> dict[str, dict[str, Any]]:
    sources: dict[str, dict[str, Any]] = run.start["data"]["sources"]
    return sources


def _elements(run: TrainingRun) -> list[str]:
    counts: Counter[str] = Counter()
    for source in _sources(run).values():
        counts.update(source["elements"])
    return list(counts)


def _data_basis(run: TrainingRun) -> str:
    data = run.start["data"]
    parts = [f"{data['n_train']:,} frames to train on", f"{data['n_validation']:,} to validate"]
    if data["n_replay"]:
        parts.append(f"{data['n_replay']:,} of the base model's kind mixed in")
    return f"{', '.join(parts)}. {capitalised(data['split'])}."


def _source_table(run: TrainingRun) -> TableBlock:
    counts = numbers("Frames", "with energy", "with forces", "with stress", "Groups", "Atoms per frame")
    values = numbers("Energy per atom (eV)", "Force norm, median (eV/Å)", "Force norm, largest (eV/Å)")
    columns = [Column("Source"), *counts, *values, Column("Elements (frames)")]
    keys = ("n_frames", "n_with_energy", "n_with_forces", "n_with_stress", "n_groups")
    rows = []
    for name, source in _sources(run).items():
        rows.append(
            [
                name,
                *(f"{source[key]:,}" for key in keys),
                _range(source["atoms"], "{:,.0f}"),
                _range(source["energy_per_atom"], "{:.3f}"),
                digits(source["force_norm_median"]),
                digits(source["force_norm_max"]),
                ", ".join(f"{element} ({number:,})" for element, number in source["elements"].items()),
            ]
        )
    return TableBlock("sources", "Sources", "", columns, rows)


def _frame_lists(run: TrainingRun) -> list[TableBlock]:
    data = run.start["data"]
    lists = []
    if data["n_left_out"]:
        lists.append(_frame_list(f"Frames and labels that were not used ({data['n_left_out']:,})", data["left_out"]))
    for name, source in _sources(run).items():
        if source["n_suspicious"]:
            title = f"Suspicious frames of {name} ({source['n_suspicious']:,}), used unless listed above"
            lists.append(_frame_list(title, source["suspicious"]))
    skipped = [(f"step {record['step']:,}", ", ".join(record["frames"])) for record in run.skipped]
    if skipped:
        lists.append(_frame_list(f"Steps that were not taken ({len(skipped):,}) and their frames", skipped))
    return lists


def _frame_list(title: str, rows: list[Any]) -> TableBlock:
    note = f"The first {MAX_FRAMES} are listed." if len(rows) > MAX_FRAMES else ""
    shown = [[*map(str, row)] for row in rows[:MAX_FRAMES]]
    return TableBlock("", title, note, [Column("Frame"), Column("Reason")], shown)


# ---- run


def _speed(run: TrainingRun) -> list[tuple[str, str]]:
    timings = [record["timing"] for record in run.train]
    if not timings:
        return []
    steady = timings[1:] or timings  # the first record holds compilation and cold caches
    budget = run.start["budget"]

    def typical(name: str) -> float:
        return statistics.median(timing[name] for timing in steady)

    return [
        ("Steps per second", digits(typical("steps_per_s"))),
        ("Atoms per second", f"{typical('atoms_per_s'):,.0f}"),
        ("Edges per second", f"{typical('edges_per_s'):,.0f}"),
        ("Time waiting for data", f"{100 * typical('wait_fraction'):.1f} %"),
        ("Padding of the batches", f"{100 * typical('padding_fraction'):.1f} % of the edges"),
        ("Peak memory", f"{max(timing['memory_gib'] for timing in timings):.2f} GiB"),
        ("Largest batch", f"{budget['atoms']:,} atoms, {budget['edges']:,} edges (pairs within the cutoff)"),
        ("Wall time of the steps", duration(run.seconds)),
    ]


def _environment(run: TrainingRun) -> list[tuple[str, str]]:
    config = run.config["run"]
    names = {"device": "Device", "processes": "Processes", "threads": "Threads", "torch": "PyTorch", "python": "Python"}
    names["code_version"] = "dpa4-flows"
    known = run.start["environment"]
    facts = [(label, str(known[name])) for name, label in names.items() if name in known]
    facts += [(name, str(value)) for name, value in known.items() if name not in names]
    facts += [
        ("Precision", config["dtype"] + (", blocks in bfloat16" if config["mixed_precision"] == "bf16" else "")),
        ("Compiled", "yes" if config["compile"] else "no"),
    ]
    return facts


def _model(run: TrainingRun) -> list[tuple[str, str]]:
    config = run.config
    facts = [
        ("File", str(run.folder.absolute() / MODEL_FILE)),
        ("Start", config["base"] or "random weights"),
        ("Preset", "" if config["base"] else config["preset"] or "–"),
        ("Level of theory", config["level_of_theory"]),
        ("Corrections", config["corrections"]),
        ("Licence", config["licence"]),
        ("Parameters", f"{run.start['n_parameters']:,}, of which {run.start['n_trained']:,} were trained"),
        *((capitalised(name), str(text)) for name, text in run.start["notes"].items()),
    ]
    return [(label, value) for label, value in facts if value not in ("", "unknown")]


def _before(run: TrainingRun) -> dict[str, Any] | None:
    """The validation of the base model, before the first step."""
    return next((record for record in run.validation if record["step"] == 0), None)


def _range(limits: list[float] | None, pattern: str) -> str:
    if limits is None:
        return "–"
    low, high = (pattern.format(value) for value in limits)
    return low if low == high else f"{low} to {high}"


def _scaled(value: float | None, factor: float) -> str:
    return digits(None if value is None else value * factor)


def _doubts(run: TrainingRun) -> list[tuple[str, str]]:
    """What looks wrong in the data: its source, or the base model that it was compared with, and a sentence."""
    found = [(name, text) for name, source in _sources(run).items() for text in source["warnings"]]
    return found + [(str(run.config["base"]), doubt["text"]) for doubt in run.start.get("doubts", ())]
