"""Figures of what shares sites: ordered cells on the way of their search, and alloys over their composition."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, cycle, islice

from dpa4_flows.plots.figure import PALETTE, FigureBlock, base_figure, plot_text
from dpa4_flows.plots.words import first_of
from dpa4_flows.properties.ordering import OrderingDocument

_CURVES = 12


def orderings(documents: Mapping[str, OrderingDocument]) -> list[FigureBlock]:
    """Energies in the order in which cells were tried: whether the search went on finding lower ones."""
    found = {name: document for name, document in documents.items() if document.cells}
    if not found:
        return []
    figure = base_figure(
        xaxis={"title": "cells tried"}, yaxis={"title": "above the lowest, unrelaxed, meV/atom", "rangemode": "tozero"}
    )
    for (name, document), colour in zip(islice(found.items(), _CURVES), cycle(PALETTE), strict=False):
        rows = sorted(
            (row.number + 1, row.energy_above_lowest_mev)
            for row in document.cells
            if row.energy_above_lowest_mev is not None
        )
        x, y = [number for number, _ in rows], [energy for _, energy in rows]
        label = plot_text(name)
        figure.add_scatter(
            x=x, y=y, mode="markers", marker={"color": colour, "size": 6, "opacity": 0.6}, name=label, legendgroup=name
        )
        line = {"color": colour, "width": 1.5, "shape": "hv"}
        figure.add_scatter(
            x=x, y=[*accumulate(y, min)], mode="lines", line=line, name=label, legendgroup=name, showlegend=False
        )
    words = "Points as computed, lines the lowest so far; first the cells of low electrostatic energy, then swaps."
    return [FigureBlock("orderings", "Ordered cells", f"{words} {first_of(len(found), _CURVES)}".strip(), figure)]
