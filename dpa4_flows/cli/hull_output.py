"""Rows, tables and pictures of `dpa4 hull`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpa4_core.files import replacing_text
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.cli.structures import input_rows
from dpa4_flows.documents.quantities import STD
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.properties.hull import HullSet
from dpa4_flows.report.hull_plot import Summary, can_draw, write_hull_html, write_hull_png
from dpa4_flows.structure_files import Computed

_COLUMNS = (
    *("name", "formula", "chemsys", "energy_above_hull", "formation_energy_per_atom", "distance_to_competing"),
    *("verdict", "verdict_reason", "completeness", "decomposition", "n_competing", "energy_per_atom"),
    *("energy_per_atom_corrected", "correction_per_atom", "level_of_theory", "correction", "competing_energies"),
    *("warnings", "error"),
)


def result_rows(
    inputs: Sequence[Computed], computed: Sequence[int], documents: Sequence[RelaxationDocument], found: HullSet
) -> list[dict[str, Any]]:
    """One row of plain types for each input, in order; energies in eV/atom.

    Args:
        inputs: what was read.
        computed: positions of the inputs that were computed.
        documents: their calculations.
        found: their places on the hull.
    """
    rows = input_rows(inputs)
    for position, document, place, error in zip(computed, documents, found.documents, found.errors, strict=True):
        row = rows[position] | {
            "formula": document.formula,
            "error": error,
            "energy_per_atom": document.energy_per_atom,
        }
        row["relaxation"] = {"fmax": document.fmax, "n_steps": document.n_steps, "converged": document.converged}
        row["relaxation"]["minimum"] = document.minimum
        if place is not None:
            row |= place.model_dump(exclude={"frame", "provenance"})
            row["warnings"] = [*inputs[position].warnings, *place.warnings]
            row |= {"level_of_theory": place.frame.level_of_theory, "correction": place.frame.correction}
        rows[position] = row
    return rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for each structure; lists are joined by semicolons."""
    with replacing_text(path) as stream:
        deviations = [f"{name}{STD}" for name in _COLUMNS if any(row.get(f"{name}{STD}") is not None for row in rows)]
        columns = [*_COLUMNS, *deviations]
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in rows:
            words = {}
            if "verdict" in row:
                verdict = row["verdict"]
                words = {"verdict": verdict["code"], "verdict_reason": verdict["reason"]}
                words["completeness"] = row["completeness"]["sentence"]
            writer.writerow([_cell({**row, **words}.get(column)) for column in columns])


def write_plot(
    path: Path, summary: Summary, frame: str, further: Sequence[FigureBlock] = (), caveats: Sequence[str] = ()
) -> list[Path]:
    """Write the hulls, ``further`` figures and ``caveats`` to one HTML page, or the hulls to a PNG for each system.

    Returns the files.

    Raises:
        ValueError: a system of five elements or more as PNG.
    """
    if path.suffix.lower() == ".html":
        return [path] if write_hull_html(path, summary, frame, further, caveats) else []
    drawn = [name for name in summary if can_draw(summary[name])]
    written = []
    for name in drawn:
        file = path if len(drawn) == 1 else path.with_stem(f"{path.stem}-{name}")
        write_hull_png(file, name, summary[name], frame)
        written.append(file)
    return written


def decomposition_words(decomposition: Mapping[str, float], formula: str | None = None) -> str:
    """``0.43 Li2O + 0.57 CoO``, or that another form of ``formula`` is lower."""
    if formula is not None and set(decomposition) == {formula}:
        return f"another form of {formula}"
    return " + ".join(f"{fraction:.2f} {formula}" for formula, fraction in decomposition.items())


def incomplete_words(completeness: Mapping[str, HullCompleteness]) -> list[str]:
    """What is missing in each chemical system, and what follows from it."""
    return [
        f"{text}; distances are lower bounds"
        for found in completeness.values()
        if found.grade != "surveyed"
        for text in (found.sentence, *found.without_energy)
    ]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return decomposition_words(value)
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value:.6f}" if isinstance(value, float) else value
