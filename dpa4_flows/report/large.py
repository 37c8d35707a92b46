"""The page of a large run: counts, distributions, what could not be computed, and with what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dpa4_core.files import replacing_text
from dpa4_flows.large.folder import COMMANDS, RunFolder
from dpa4_flows.large.summary import summarise
from dpa4_flows.plots.figure import PALETTE, FigureBlock, base_figure
from dpa4_flows.report.page import render_page
from dpa4_flows.report.sections import flatten
from dpa4_flows.report.training import TableBlock

_BINS = 60
_SHOWN = 200  # lines of a table; the CSV file has all

_DISTRIBUTIONS: dict[str, tuple[str, str, str]] = {
    "energy_per_atom": ("Energy", "eV/atom", "Uncorrected, of the model's own level of theory."),
    "fmax": ("Largest force", "eV/Å", "At the end, on atoms and cell as far as they may move."),
    "n_steps": ("Steps", "steps", "Of the optimiser."),
    "volume_change": ("Volume change", "fraction of the input volume", "From the input to the end."),
}
_BAD = ["source", "formula", "error", "converged", "fmax", "n_steps"]


def write_large_report(run: RunFolder, path: Path) -> None:
    """Write the page of a run, finished or not.

    Args:
        run: the run.
        path: HTML file.
    """
    summary, task = summarise(run), run.task
    figures = _figures(run)
    good = summary.n_done - summary.n_failed - summary.n_unconverged
    theory = task.level_of_theory or "level of theory unknown"
    page = render_page(
        "large.html",
        figures,
        title=run.path.resolve().name,
        kicker=f"dpa4 {COMMANDS[task.calculation]}",
        state="" if summary.complete else f"{summary.n_done:,} of {run.n_structures:,}",
        summary=f"{run.n_structures:,} structures with {task.model.name}: {theory}.",
        tiles=[
            ("done", f"{summary.n_done:,}"),
            ("fine", f"{good:,}"),
            ("not converged", f"{summary.n_unconverged:,}"),
            ("failed", f"{summary.n_failed:,}"),
            ("deserve a look", f"{summary.n_flagged:,}"),
        ],
        figures=figures,
        tables=_tables(run),
        facts=[("begun", run.created), ("input", ", ".join(run.inputs)), *_settings(run)],
    )
    with replacing_text(path) as stream:
        stream.write(page)


def _settings(run: RunFolder) -> Sequence[tuple[str, str]]:
    named = {"model": run.task.model.name, "checksum": run.task.model.sha256, **run.task.settings}
    return flatten({key.replace("_", " "): value for key, value in named.items()})


def _figures(run: RunFolder) -> list[FigureBlock]:
    """Distributions of what was computed; a number that is the same for all is not drawn."""
    columns: dict[str, list[float]] = {name: [] for name in _DISTRIBUTIONS}
    for row in run.rows([*columns, "error"]):
        if row["error"] is None:
            for name, values in columns.items():
                if row[name] is not None:
                    values.append(row[name])
    return [_histogram(name, np.array(values)) for name, values in columns.items() if len(set(values)) > 1]


def _histogram(name: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> FigureBlock:
    title, unit, caption = _DISTRIBUTIONS[name]
    counts, edges = np.histogram(values, bins=min(_BINS, len(values)))
    figure = base_figure(height=280, bargap=0.02, xaxis={"title": unit}, yaxis={"title": "structures"})
    middles = (edges[:-1] + edges[1:]) / 2
    figure.add_trace(go.Bar(x=middles, y=counts, width=np.diff(edges), marker={"color": PALETTE[0]}))
    return FigureBlock(f"distribution-{name}", title, caption, figure)


def _tables(run: RunFolder) -> list[TableBlock]:
    bad: list[Mapping[str, Any]] = []
    n_bad = 0
    for row in run.rows(_BAD):
        if not row["converged"]:
            n_bad += 1
            bad += [row] if len(bad) < _SHOWN else []
    if not bad:
        return []
    rows = [[row["source"], row["formula"] or "–", row["error"] or _unconverged(row)] for row in bad]
    note = f"The first {_SHOWN} of {n_bad:,}; a CSV file has all: dpa4 export." if n_bad > _SHOWN else ""
    columns = [("structure", "", ""), ("formula", "", ""), ("what happened", "", "")]
    return [TableBlock("Not computed, or not converged", columns, rows, note)]


def _unconverged(row: Mapping[str, Any]) -> str:
    return f"not converged: {row['fmax']:.3g} eV/Å after {row['n_steps']} steps"
