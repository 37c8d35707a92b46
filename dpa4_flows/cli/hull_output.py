"""Rows, tables and pictures of `dpa4 hull`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpa4_core.files import write_csv
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
    *("minimum", "model", "code_version", "warnings", "error"),
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
            "model": document.provenance.model_name,
            "code_version": document.provenance.code_version,
        }
        row["relaxation"] = {"fmax": document.fmax, "n_steps": document.n_steps, "converged": document.converged}
        row["relaxation"]["minimum"] = document.minimum
        if place is not None:
            row |= place.model_dump(exclude={"frame", "provenance"})
            row["warnings"] = [*inputs[position].warnings, *place.warnings]
            row |= {"level_of_theory": place.frame.level_of_theory, "correction": place.frame.correction}
        rows[position] = row
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for each structure; lists are joined by semicolons."""
    deviations = [f"{name}{STD}" for name in _COLUMNS if any(row.get(f"{name}{STD}") is not None for row in rows)]
    columns = [*_COLUMNS, *deviations]
    lines = []
    for row in rows:
        line = dict(row)
        if "verdict" in row:
            line |= {"verdict": row["verdict"]["code"], "verdict_reason": row["verdict"]["reason"]}
            line |= {"completeness": row["completeness"]["sentence"], "minimum": row["relaxation"]["minimum"]}
        lines.append({name: _cell(line.get(name)) for name in columns})
    write_csv(path, lines, columns)


def write_plot(
    path: Path, summary: Summary, frame: str, further: Sequence[FigureBlock] = (), caveats: Sequence[str] = ()
) -> list[Path]:
    """Write the hulls, ``further`` figures and ``caveats`` to one HTML page, or hulls and ``caveats`` to a PNG for each
    system.

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
        write_hull_png(file, name, summary[name], frame, caveats)
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
    if isinstance(value, Mapping):
        return decomposition_words(value)
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return round(value, 6) if isinstance(value, float) else value
