"""Figures of migration: energy along paths, and what hops there are in a crystal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from scipy.interpolate import CubicHermiteSpline

from dpa4_flows.plots.figure import (
    Block,
    Column,
    FigureBlock,
    TableBlock,
    add_line,
    add_points,
    base_figure,
    captioned,
    coloured,
    numbers,
)
from dpa4_flows.properties.migration import MigrationDocument
from dpa4_flows.properties.neb import NebDocument

_POINTS = 60


def paths(documents: Mapping[str, NebDocument]) -> list[Block]:
    """Energy along each path."""
    curves = [(name, (one.distances, one.energies)) for name, one in documents.items() if one.energies]
    return [_along("path", "Energy along the path", curves)] if curves else []


def hops(documents: Mapping[str, MigrationDocument]) -> list[Block]:
    """Energy along the hops of all crystals, and a table of them."""
    found = [(name, hop) for name, document in documents.items() for hop in document.hops]
    curves = [
        (f"{name} {hop.direction}, {hop.distance:.1f} Å", (hop.distances, hop.energies))
        for name, hop in found
        if hop.energies
    ]
    if not found:
        return []
    table = TableBlock(
        "hops",
        "Hops",
        "Of one ion into a vacancy; those that symmetry maps onto each other are one row. The bottleneck is the radius "
        "of the largest sphere that gets through between the other ions at rest.",
        [
            Column("Crystal"),
            Column("From"),
            Column("To"),
            Column("Direction"),
            *numbers("Distance (Å)", "Bottleneck (Å)", "Barrier (eV)", "Back (eV)", "KRA (eV)"),
            Column("Found by"),
        ],
        [
            [
                name,
                hop.start,
                hop.end,
                hop.direction,
                f"{hop.distance:.2f}",
                f"{hop.bottleneck:.2f}",
                *("" if value is None else f"{value:.3f}" for value in (hop.barrier, hop.barrier_back, hop.kra)),
                hop.error or hop.method or "not computed",
            ]
            for name, hop in found
        ],
    )
    return [*([_along("hops-paths", "Energy along the hops", curves)] if curves else []), table]


def _along(name: str, title: str, curves: Sequence[tuple[str, tuple[Sequence[float], Sequence[float]]]]) -> FigureBlock:
    figure = base_figure(xaxis={"title": "along the path, all atoms together, Å"}, yaxis={"title": "energy, eV"})
    for label, (distances, energies), colour in coloured(curves):
        _draw(figure, label, distances, energies, colour)
    caption = "Points are computed; the lines between them are level at the highest and lowest of them."
    return FigureBlock(name, title, captioned(caption, len(curves)), figure)


def _draw(figure: go.Figure, label: str, distances: Iterable[float], energies: Iterable[float], colour: str) -> None:
    x, y = np.array([*distances]), np.array([*energies])
    slopes = np.gradient(y, x)
    slopes[[0, -1]] = 0.0  # at rest
    turns = np.r_[False, np.diff(np.sign(np.diff(y))) != 0, False]
    fine = np.union1d(np.linspace(x[0], x[-1], _POINTS), x)
    curve = CubicHermiteSpline(x, y, np.where(turns, 0.0, slopes))(fine)
    add_line(figure, fine, curve, colour, label, legendgroup=label, hoverinfo="skip")
    add_points(figure, x, y, colour, label, legendgroup=label, showlegend=False)
