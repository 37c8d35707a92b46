"""Hulls as files: an HTML page that needs no network, or one PNG for each chemical system."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pymatgen.analysis.phase_diagram import PDEntry, PDPlotter, PhaseDiagram
from pymatgen.core import Composition, Element
from pymatgen.util.string import latexify

from dpa4_core.files import replacing
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.plots.pages import write_page
from dpa4_flows.properties.hull import HullPlace
from dpa4_flows.properties.table import Results
from dpa4_flows.report.caveats import property_caveats
from dpa4_flows.report.figures_hull import hull_caveat, hull_figures, system_elements

Summary = Mapping[str, Mapping[str, Any]]

SHOW_UNSTABLE = 0.3
"""eV/atom above the hull: phases further up are not drawn."""

_MAX_SOLID = 4  # elements of a composition that fits into space
_TITLE_WIDTH, _LINE = 100, 130  # characters
_WORDS = "Distances in eV/atom; diamonds are the structures asked about, open ones those of which nothing is known. "


def can_draw(system: Mapping[str, Any]) -> bool:
    """Whether there is something to draw: a hull needs all its elements, and more than one."""
    return not system.get("missing") and len({e for phase in system["phases"] for e in phase["x"]}) > 1


def write_hulls(path: Path, results: Results[Any], words: str) -> list[Path]:
    """Write all figures of results with hulls among them as one HTML page, or a PNG for each hull; gives the files.

    Args:
        path: file to write.
        results: what was computed.
        words: whose energies these are.

    Raises:
        ValueError: a system of five elements or more as PNG.
    """
    caveats = property_caveats(results)
    drawn = {name: system for name, system in _systems(results["hull"]).items() if can_draw(system)}
    if path.suffix.lower() == ".html":
        blocks = [block for block in results.figures() if isinstance(block, FigureBlock)]
        title = "Hull of " + ", ".join(drawn) if drawn else "No hull"
        if blocks:
            write_page(path, title, blocks, _WORDS + words, caveats)
        return [path] if blocks else []
    written = []
    for name, system in drawn.items():
        file = path if len(drawn) == 1 else path.with_stem(f"{path.stem}-{name}")
        write_hull_png(file, name, system, words, caveats)
        written.append(file)
    return written


def _systems(places: Iterable[HullPlace]) -> dict[str, Any]:
    """The hulls on which structures were placed."""
    return {name: system for place in places for name, system in place.system.items()}


def hulls(summary: Summary) -> list[FigureBlock]:
    """The hulls of all systems that can be drawn, those of four elements also in space."""
    drawn = {name: system for name, system in summary.items() if can_draw(system)}
    solid = {name: system for name, system in drawn.items() if len(name.split("-")) == _MAX_SOLID}
    return [*hull_figures(drawn, ()), *(_tetrahedron(name, system) for name, system in solid.items())]


def hulls_of(documents: Mapping[str, HullPlace]) -> list[FigureBlock]:
    """The hulls on which some structures were placed."""
    return hulls(_systems(documents.values()))


def write_hull_png(path: Path, name: str, system: Mapping[str, Any], frame: str, caveats: Sequence[str] = ()) -> None:
    """Draw the hull of two, three or four elements.

    Args:
        path: file to write.
        name: the chemical system.
        system: its part of the summary.
        frame: level of theory and corrections, in words.
        caveats: what to know before the numbers are quoted.

    Raises:
        ValueError: five elements or more.
    """
    elements = system_elements(name)
    if len(elements) > _MAX_SOLID:
        raise ValueError(f"a hull of {name} does not fit into a picture; write an HTML file or a table")
    figure = Figure(figsize=(7.0, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="3d" if len(elements) == _MAX_SOLID else None)
    marks = _draw_phases(axes, name, system)
    figure.colorbar(marks, ax=axes, label="energy above hull (eV/atom)", shrink=0.8)
    if len(elements) == 2:
        axes.set_xlabel(f"fraction of {elements[1]}")
        axes.set_ylabel("formation energy (eV/atom)")
    else:
        axes.set_axis_off()
        axes.set_aspect("equal")
    axes.set_title("\n".join(("–".join(elements), textwrap.fill(frame, _TITLE_WIDTH))), fontsize=8)
    if said := list(dict.fromkeys(filter(None, (hull_caveat(name, system), *caveats)))):
        figure.supxlabel("\n".join(textwrap.fill(one, _LINE) for one in said), fontsize=7, x=0.01, ha="left")
    with replacing(path) as part:
        figure.savefig(part, dpi=160, format="png")


def _draw_phases(axes: Any, name: str, system: Mapping[str, Any]) -> Any:
    """Tie lines, phases coloured by their distance, and labels; gives the last set of points, for the colour bar."""
    diagram = _diagram(name, system)
    lines, stable, unstable = PDPlotter(diagram, show_unstable=SHOW_UNSTABLE).pd_plot_data
    size = 3 if len(diagram.elements) == _MAX_SOLID else 2  # pymatgen gives some plane figures a third coordinate
    for line in lines:
        axes.plot(*line[:size], color="0.6", linewidth=1.0, zorder=1)
    found = [*((entry, place) for place, entry in stable.items()), *unstable.items()]
    points = [(system["phases"][entry.attribute], place[:size]) for entry, place in found]
    points = [(phase, place) for phase, place in points if phase["energy_above_hull"] <= SHOW_UNSTABLE]
    points.sort(key=lambda point: -point[0]["energy_above_hull"])  # the stable ones on top
    marks = None
    for candidate in (False, True):
        if some := [(p, place) for p, place in points if p["candidate"] is candidate and p.get("verdict") != "unknown"]:
            marks = axes.scatter(
                *np.array([place for _, place in some]).T,
                c=[phase["energy_above_hull"] for phase, _ in some],
                cmap="viridis",
                vmin=0.0,
                vmax=SHOW_UNSTABLE,
                marker="D" if candidate else "o",
                s=48 if candidate else 28,
                edgecolors="black" if candidate else "white",
                linewidths=0.8,
                zorder=3 if candidate else 2,
            )
    if unknown := [place for phase, place in points if phase.get("verdict") == "unknown"]:
        axes.scatter(*np.array(unknown).T, facecolors="none", edgecolors="0.4", marker="D", s=48, zorder=3)
    labels = {phase["formula"]: place for phase, place in points if _named(phase)}
    for formula, place in labels.items():
        axes.text(*place, f" {latexify(formula)}", fontsize=6 if size == 3 else 8, zorder=4)
    return marks


def _named(phase: Mapping[str, Any]) -> bool:
    return bool(phase["candidate"]) or on_hull(phase["energy_above_hull"])


def _tetrahedron(name: str, system: Mapping[str, Any]) -> FigureBlock:
    diagram = _diagram(name, system)
    plotter = PDPlotter(diagram, show_unstable=SHOW_UNSTABLE)
    _, stable, unstable = plotter.pd_plot_data
    phases = [(system["phases"][entry.attribute], entry) for entry in (*stable.values(), *unstable)]
    candidates = [e for phase, e in phases if phase["candidate"] and phase["energy_above_hull"] <= SHOW_UNSTABLE]
    figure = plotter.get_plot(highlight_entries=candidates or None)
    title = f"Hull of {'-'.join(system_elements(name))} in space"
    return FigureBlock(f"hull-{name}-solid", title, hull_caveat(name, system), figure)


def _diagram(name: str, system: Mapping[str, Any]) -> PhaseDiagram:
    """Phase diagram by formation energy; the attribute of an entry is its position in the summary."""
    entries = {}
    for position, phase in enumerate(system["phases"]):
        composition = Composition(phase["formula"])
        energy = phase["formation_energy_per_atom"]
        same = (phase["formula"], round(energy, 9))  # a candidate that the library holds too; the plotter trips over it
        if same not in entries or phase["candidate"]:
            entries[same] = PDEntry(
                composition, energy * composition.num_atoms, name=phase["formula"], attribute=position
            )
    return PhaseDiagram(list(entries.values()), [Element(symbol) for symbol in system_elements(name)])
