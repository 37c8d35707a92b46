"""Figures of what shares sites: ordered cells on the way of their search, and alloys over their composition."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from dpa4_flows.plots.figure import FigureBlock, add_line, add_points, base_figure, captioned, coloured, plot_text
from dpa4_flows.properties.alloy import AlloyDocument
from dpa4_flows.properties.ordering import OrderingDocument


def orderings(documents: Mapping[str, OrderingDocument]) -> list[FigureBlock]:
    """Energies in the order in which cells were tried: whether the search went on finding lower ones."""
    found = {name: document for name, document in documents.items() if document.cells}
    if not found:
        return []
    figure = base_figure(
        xaxis={"title": "cells tried"},
        yaxis={"title": "above the lowest, in the search, meV/atom", "rangemode": "tozero"},
    )
    for name, document, colour in coloured(found):
        rows = sorted(
            (row.number + 1, row.energy_above_lowest_mev)
            for row in document.cells
            if row.energy_above_lowest_mev is not None
        )
        x, y = [number for number, _ in rows], [energy for _, energy in rows]
        add_points(figure, x, y, colour, name, size=6, marker={"opacity": 0.6}, legendgroup=name)
        lowest = [*accumulate(y, min)]
        add_line(figure, x, lowest, colour, name, line={"shape": "hv"}, legendgroup=name, showlegend=False)
    words = "Points as computed, lines the lowest so far; first the cells of low electrostatic energy, then swaps."
    return [FigureBlock("orderings", "Ordered cells", captioned(words, len(found)), figure)]


def alloys(documents: Mapping[str, AlloyDocument]) -> list[FigureBlock]:
    """Mixing enthalpy and lattice constant over the composition."""
    found = {name: document for name, document in documents.items() if document.omega_kj_mol is not None}
    if not found:
        return []
    axis = {"title": "fraction replaced, x", "range": [-0.02, 1.02]}
    heat = base_figure(xaxis=axis, yaxis={"title": "mixing enthalpy, meV/atom"})
    lattice = base_figure(xaxis=axis, yaxis={"title": "lattice constant a, Å"})
    x = np.linspace(0, 1, 60)
    for name, document, colour in coloured(found):
        rows = [row for row in document.cells if row.error is None]
        shape, scale = x * (1 - x), _per_atom(document)
        first, last = rows[0].a or 0.0, rows[-1].a or 0.0
        curves = (
            (heat, [row.mixing_enthalpy_mev for row in rows], scale * shape),
            (lattice, [row.a for row in rows], (1 - x) * first + x * last - (document.bowing_a or 0.0) * shape),
        )
        label = f"{name}, {plot_text(document.substitute)}"
        for figure, points, curve in curves:
            add_points(figure, [row.fraction for row in rows], points, colour, label, legendgroup=name)
            add_line(figure, x, curve, colour, label, legendgroup=name, showlegend=False)
        straight: dict[str, Any] = {"legendgroup": name, "showlegend": False}
        add_line(lattice, [0, 1], [first, last], colour, "Vegard", width=1, dash="dot", **straight)
    n = len(found)
    return [
        FigureBlock("mixing", "Mixing enthalpy", captioned("Lines: regular solutions Ω x(1−x).", n), heat),
        FigureBlock("vegard", "Lattice constant", captioned("Dotted: the line of Vegard.", n), lattice),
    ]


def _per_atom(document: AlloyDocument) -> float:
    """Ω in meV per atom, as the enthalpies are: the least squares of the points."""
    rows = [row for row in document.cells if row.error is None]
    x = np.array([row.fraction for row in rows])
    shape = x * (1 - x)
    return float(shape @ np.array([row.mixing_enthalpy_mev for row in rows]) / (shape @ shape))
