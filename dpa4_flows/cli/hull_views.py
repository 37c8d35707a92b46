"""What `dpa4 hull` says beyond the distance: electrochemical windows and regions of chemical potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymatgen.core import Element
from rich.markup import escape
from rich.table import Table

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.cli.console import number, out, say
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.plots.words import right
from dpa4_flows.properties.view import ViewSet
from dpa4_flows.report.figures_thermodynamics import region_figure, window_figure

MAX_CORNERS = 12
"""Corners of one region that the screen shows; --json has all."""


def add_view(rows: Sequence[dict[str, Any]], computed: Sequence[int], name: str, found: ViewSet) -> None:
    """Add what was read off the hull, as ``name``, to the rows of structures that have a place on it: with an ``error``
    where there is none, and a ``caveat`` where more competing phases could narrow it.

    Args:
        rows: one for each input, from `result_rows`.
        computed: positions of the inputs that were computed.
        name: "window" or "chempots".
        found: one for each of these.
    """
    for position, view in zip(computed, found.documents, strict=True):
        if rows[position]["error"] is None:
            fields = view.model_dump(exclude_unset=True, exclude={"error_code"})
            rows[position][name] = {**fields, "error": view.error, "caveat": view.caveat}


def print_views(rows: Sequence[Mapping[str, Any]], ion: str | None) -> None:
    """Tables of the views that the rows have."""
    windows = [row for row in rows if "window" in row]
    if windows:
        title = f"Stability against a reservoir of {ion}, V against the metal"
        table = Table("name", "formula", *right("from", "to"), title=title, title_justify="left")
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


def view_figures(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], ion: str | None) -> list[FigureBlock]:
    """Figures of the views that the rows have; ``summary`` is that of the hulls."""
    windows = [row for row in rows if "window" in row and row["window"]["error"] is None]
    blocks = [window_figure(windows, ion)] if windows and ion is not None else []
    for position, row in enumerate(rows):
        if "chempots" in row and row["chempots"]["error"] is None:
            phases, caveat = summary[row["chemsys"]]["phases"], row["chempots"]["caveat"]
            blocks += region_figure(row["formula"], phases, f"chempots-{position}", caveat=caveat)
    return blocks


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
