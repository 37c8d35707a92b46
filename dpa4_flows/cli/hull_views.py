"""What `dpa4 hull` says beyond the distance: electrochemical windows and regions of chemical potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry
from rich.markup import escape
from rich.table import Table

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import (
    ThermodynamicsError,
    chemical_potential_region,
    electrochemical_window,
)
from dpa4_flows.cli.console import number, out, say
from dpa4_flows.makers.hull import HullPhases
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.report.figures_thermodynamics import region_figure, window_figure

MAX_CORNERS = 12
"""Corners of one region that the screen shows; --json has all."""


def check_ion(ion: str | None) -> None:
    """Refuse an ion whose charge is not known, before anything is computed.

    Raises:
        IonError: it is not.
    """
    if ion is not None:
        ion_charge(ion)


def with_ion(system: str, ion: str | None) -> str:
    """The chemical system whose phases a window against ``ion`` needs."""
    return "-".join(sorted({*system.split("-"), *([ion] if ion else [])}))


def add_views(
    rows: Sequence[dict[str, Any]],
    computed: Sequence[int],
    phases: HullPhases,
    *,
    ion: str | None,
    chempots: bool,
    candidates_compete: bool,
) -> None:
    """Add ``window`` and ``chempots`` to the rows of the structures, each with an ``error`` where there is none and a
    ``caveat`` where more competing phases could narrow it.

    Args:
        rows: one for each input, from `result_rows`.
        computed: positions of the inputs that were computed.
        phases: their entries and those of the competing phases.
        ion: element of the reservoir, None for no windows.
        chempots: whether regions are wanted.
        candidates_compete: structures also stand against each other.
    """
    for i, position in enumerate(computed):
        row, phase = rows[position], phases.candidates.get(i)
        if phase is None or row["error"] is not None:
            continue
        rivals = [e for j, e in phases.candidates.items() if candidates_compete and j != i]
        others = [e for e in (*phases.competing, *rivals) if e.data.get("converged", True)]
        if ion is not None:
            row["window"] = _window(phase, others, ion) | {"caveat": _caveat(row)}
        if chempots:
            row["chempots"] = _region(phase, others, row["energy_above_hull"] or 0.0) | {"caveat": _caveat(row)}


def print_views(rows: Sequence[Mapping[str, Any]], ion: str | None) -> None:
    """Tables of the views that the rows have."""
    windows = [row for row in rows if "window" in row]
    if windows:
        title = f"Stability against a reservoir of {ion}, V against the metal"
        table = Table("name", "formula", title=title, title_justify="left")
        for name in ("from", "to"):
            table.add_column(name, justify="right")
        table.add_column("below it turns into")
        table.add_column("above it turns into")
        for row in windows:
            table.add_row(escape(row["name"]), _as_what(row), *_window_cells(row["window"]))
        out.print(table)
        for row in windows:
            if row["window"]["caveat"] is not None:
                say(f"{row['name']}: {row['window']['caveat']}; more phases can only narrow the window")
    for row in rows:
        if "chempots" in row:
            _print_region(row)


def view_figures(
    rows: Sequence[Mapping[str, Any]], computed: Sequence[int], phases: HullPhases, ion: str | None
) -> list[FigureBlock]:
    """Figures of the views that the rows have."""
    windows = [row for row in rows if "window" in row and row["window"]["error"] is None]
    blocks = [window_figure(windows, ion)] if windows and ion is not None else []
    for i, position in enumerate(computed):
        row = rows[position]
        if "chempots" in row and row["chempots"]["error"] is None:
            entries = [phases.candidates[i], *phases.competing]
            blocks += region_figure(
                row["formula"], entries, f"chempots-{position}", caveat=row["chempots"]["caveat"] or ""
            )
    return blocks


def _window(phase: ComputedEntry, others: Sequence[ComputedEntry], ion: str) -> dict[str, Any]:
    try:
        return {**asdict(electrochemical_window(phase, others, ion=ion)), "error": None}
    except ThermodynamicsError as error:
        return {"error": str(error)}


def _caveat(row: Mapping[str, Any]) -> str | None:
    """What stands behind a window or region, unless a survey does."""
    verdict = row["verdict"]
    if verdict["code"] != "above_hull":
        return None if verdict["reason"] == "surveyed" else str(verdict["sentence"])
    completeness = row["completeness"]
    return None if completeness["grade"] == "surveyed" else str(completeness["sentence"])


def _region(phase: ComputedEntry, others: Sequence[ComputedEntry], above: float) -> dict[str, Any]:
    formula = phase.composition.reduced_formula
    if not on_hull(above):
        return {"error": f"it lies {above:.4f} eV/atom above the hull and is stable at no chemical potentials"}
    if len(phase.composition.elements) == 1:
        return {"error": "an element sets a chemical potential of its own; regions are for compounds"}
    try:
        return {**asdict(chemical_potential_region(formula, [phase, *others])), "error": None}
    except ThermodynamicsError as error:
        return {"error": str(error)}


def _as_what(row: Mapping[str, Any]) -> str:
    """Formula, and the phases whose window it is where the structure is above the hull."""
    window = row["window"]
    if row["verdict"]["code"] == "unknown":
        return f"{row['formula']} (if it is stable)"
    if window["error"] is not None or on_hull(window["energy_above_hull"]):
        return str(row["formula"])
    return f"{row['formula']} (as {' + '.join(window['equilibrium'])})"


def _window_cells(window: Mapping[str, Any]) -> tuple[str, ...]:
    if window["error"] is not None:
        return ("–", "–", escape(window["error"]), "")
    reduced = " + ".join(window["reduction_products"]) or "stable beside the metal"
    oxidised = " + ".join(window["oxidation_products"])
    if window["upper"] is None:
        oxidised = "has none of it to give"
    return (number(window["lower"], 2), number(window["upper"], 2), reduced, oxidised)


def _print_region(row: Mapping[str, Any]) -> None:
    region = row["chempots"]
    name = f"{row['name']} ({row['formula']})"
    if region["error"] is not None:
        out.print(f"{escape(name)}: {escape(region['error'])}", highlight=False, soft_wrap=True)
        return
    symbols = sorted(region["limits"], key=lambda symbol: Element(symbol).X)
    title = f"{escape(name)}: corners of the region of chemical potentials, eV from the elements"
    table = Table(*(f"Δμ({s})" for s in symbols), "in equilibrium with", title=title, title_justify="left")
    for corner, phases in list(zip(region["corners"], region["coexisting"], strict=True))[:MAX_CORNERS]:
        table.add_row(*(number(corner[s] + 0.0, 3) for s in symbols), ", ".join(phases))
    if len(region["corners"]) > MAX_CORNERS:
        table.add_row(*("…" for _ in symbols), f"and {len(region['corners']) - MAX_CORNERS} more")
    out.print(table)
    if region["caveat"] is not None:
        say(f"{row['name']}: {region['caveat']}; more phases can only make the region smaller")
