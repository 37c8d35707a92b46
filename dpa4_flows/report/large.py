"""The page of a large run: counts, distributions, what could not be computed, and with what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpa4_core.files import write_text
from dpa4_flows.large.folder import COMMANDS, RunFolder
from dpa4_flows.large.summary import summarise
from dpa4_flows.plots.figure import Column, FigureBlock, TableBlock, histogram
from dpa4_flows.report.caveats import theory_caveats
from dpa4_flows.report.page import render_page
from dpa4_flows.report.sections import flatten

_BINS = 60
_SHOWN = 200  # lines of a table; the CSV file has all

_DISTRIBUTIONS: dict[str, tuple[str, str, str]] = {
    "energy_per_atom": ("Energy", "Uncorrected, of the model's own level of theory.", "eV/atom"),
    "fmax": ("Largest force", "At the end, on atoms and cell as far as they may move.", "eV/Å"),
    "n_steps": ("Steps", "Of the optimiser.", "steps"),
    "volume_change": ("Volume change", "From the input to the end.", "fraction of the input volume"),
}
"""Title, caption and axis by column."""
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
        summary=f"{run.n_structures:,} structures with {task.model.title}: {theory}.",
        tiles=[
            ("done", f"{summary.n_done:,}"),
            ("fine", f"{good:,}"),
            ("not converged", f"{summary.n_unconverged:,}"),
            ("failed", f"{summary.n_failed:,}"),
            ("deserve a look", f"{summary.n_flagged:,}"),
        ],
        figures=figures,
        tables=_tables(run),
        caveats=theory_caveats(theory, task.model.dispersion or ""),
        facts=[("begun", run.created), ("input", ", ".join(run.inputs)), *_settings(run)],
    )
    write_text(path, page)


def _settings(run: RunFolder) -> Sequence[tuple[str, str]]:
    named = {"model": run.task.model.title, "checksum": run.task.model.sha256, **run.task.settings}
    return flatten({key.replace("_", " "): value for key, value in named.items()})


def _figures(run: RunFolder) -> list[FigureBlock]:
    """Distributions of what was computed; a number that is the same for all is not drawn."""
    columns: dict[str, list[float]] = {name: [] for name in _DISTRIBUTIONS}
    for row in run.rows([*columns, "error"]):
        if row["error"] is None:
            for name, values in columns.items():
                if row[name] is not None:
                    values.append(row[name])
    varied = {name: values for name, values in columns.items() if len(set(values)) > 1}
    return [histogram(name, *_DISTRIBUTIONS[name], values, _BINS) for name, values in varied.items()]


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
    columns = [*map(Column, ("structure", "formula", "what happened"))]
    return [TableBlock("bad", "Not computed, or not converged", "", columns, rows, note)]


def _unconverged(row: Mapping[str, Any]) -> str:
    return f"not converged: {row['fmax']:.3g} eV/Å after {row['n_steps']} steps"
