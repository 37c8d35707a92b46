"""Figures of phonons: bands beside the density of states, and what a crystal does when it is warm."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import plotly.graph_objects as go

from dpa4_flows.plots.figure import PALETTE, FigureBlock, add_line, base_figure, captioned, coloured, plot_text
from dpa4_flows.properties.phonon_bands import BandSegment, PhononBandsDocument
from dpa4_flows.properties.phonon_scattering import PhononScatteringDocument
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonicDocument

_SPECTRA = 12
_IMAGINARY = "rgba(191, 75, 61, 0.10)"
_PER_MOLE = "J/K per mole of atoms"


def bands_and_states(documents: Mapping[str, PhononBandsDocument]) -> list[FigureBlock]:
    """Bands along lines of high symmetry beside the density of states, for each crystal."""
    found = {name: document for name, document in documents.items() if document.segments}
    return [
        FigureBlock(f"phonons-{number}", plot_text(name), _caption(document), _spectrum(document), wide=True)
        for number, (name, document) in enumerate(islice(found.items(), _SPECTRA))
    ]


def _caption(document: PhononBandsDocument) -> str:
    return (
        "With the splitting of polar modes (LO-TO) by the charges that were given."
        if document.polar_splitting
        else "Without the splitting of polar modes (LO-TO)."
    )


def _spectrum(document: PhononBandsDocument) -> go.Figure:
    places, labels = _ticks(document.segments)
    figure = base_figure(
        height=420,
        xaxis={"domain": [0.0, 0.72], "tickvals": places, "ticktext": labels, "range": [0, places[-1]]},
        yaxis={"title": "frequency, THz"},
        xaxis2={"domain": [0.75, 1.0], "title": "modes per THz", "rangemode": "tozero"},
        showlegend=len(document.density_by_element) > 1,
    )
    x: list[float | None] = []
    y: list[float | None] = []
    for segment in document.segments:  # one trace of all branches: large cells have hundreds
        for branch in zip(*segment.frequencies_thz, strict=True):
            x += [*segment.distances, None]
            y += [*branch, None]
    add_line(figure, x, y, PALETTE[0], "bands", width=1.2, showlegend=False, hoverinfo="y")
    for place in places:
        figure.add_vline(x=place, line={"color": PALETTE[5], "width": 0.6}, xref="x")
    filled: dict[str, Any] = {"fill": "tozerox", "fillcolor": "rgba(122, 138, 153, 0.15)"}
    add_line(figure, document.density, document.frequencies_thz, PALETTE[5], "all", xaxis="x2", **filled)
    for (element, share), colour in zip(document.density_by_element.items(), cycle(PALETTE[1:5]), strict=False):
        if len(document.density_by_element) > 1:
            add_line(figure, share, document.frequencies_thz, colour, element, width=1.2, xaxis="x2")
    lowest = min(document.frequencies_thz)
    if document.lowest_thz is not None and document.lowest_thz < 0 and lowest < 0:
        figure.add_shape(
            type="rect", xref="paper", x0=0, x1=1, yref="y", y0=lowest, y1=0, fillcolor=_IMAGINARY, line_width=0
        )
    return figure


def _ticks(segments: list[BandSegment]) -> tuple[list[float], list[str]]:
    """Where lines meet, and what stands there; two labels where the path jumps."""
    places, labels = [segments[0].distances[0]], [segments[0].start]
    for before, after in zip(segments, [*segments[1:], None], strict=True):
        places.append(before.distances[-1])
        jumps = after is not None and after.start != before.end
        labels.append(f"{before.end}|{after.start}" if jumps and after is not None else before.end)
    return places, labels


def expansions(documents: Mapping[str, QuasiHarmonicDocument]) -> list[FigureBlock]:
    """Thermal expansion, heat capacity at constant pressure and bulk modulus against temperature."""
    found = {name: document for name, document in documents.items() if document.rows}
    if not found:
        return []
    panels = (
        ("expansion", "Thermal expansion", "linear expansion, 10⁻⁶/K", "linear_expansion_per_k", 1e6),
        ("heat-capacity-p", "Heat capacity at constant pressure", _PER_MOLE, "heat_capacity_j_mol_k", 1.0),
        ("bulk-modulus-t", "Bulk modulus", "isothermal bulk modulus, GPa", "bulk_modulus_gpa", 1.0),
    )
    blocks = []
    for name, title, axis, quantity, unit in panels:
        figure = base_figure(xaxis={"title": "temperature, K"}, yaxis={"title": axis})
        for label, document, colour in coloured(found):
            y = [unit * getattr(row, quantity) for row in document.rows]
            add_line(figure, [row.temperature_k for row in document.rows], y, colour, label)
        caption = captioned("Quasi-harmonic; cells keep their shape.", len(found))
        blocks.append(FigureBlock(name, title, caption, figure))
    return blocks


def scattering(documents: Mapping[str, PhononScatteringDocument]) -> list[FigureBlock]:
    """Conductivity against temperature, and which mean free paths carry the heat at 300 K."""
    found = {name: document for name, document in documents.items() if document.rows}
    if not found:
        return []
    warm = base_figure(
        xaxis={"title": "temperature, K"}, yaxis={"title": "lattice conductivity, W/(m K)", "type": "log"}
    )
    paths = base_figure(
        xaxis={"title": "mean free path, nm", "type": "log"}, yaxis={"title": "share of the heat by shorter paths"}
    )
    for name, document, colour in coloured(found):
        rows, heat = document.rows, document.cumulative_w_mk
        shown = "lines" if len(rows) > 1 else "lines+markers"  # one temperature is a point
        x, y = [row.temperature_k for row in rows], [row.conductivity_w_mk for row in rows]
        add_line(warm, x, y, colour, name, mode=shown)
        if heat:
            add_line(paths, document.paths_nm, [one / heat[-1] for one in heat], colour, name)
    caption = captioned("", len(found))
    return [
        FigureBlock("conductivity-of-phonons", "Lattice conductivity", caption, warm),
        FigureBlock("mean-free-paths", "Mean free paths that carry the heat at 300 K", caption, paths),
    ]
