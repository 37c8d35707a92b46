"""Figures of activities: free energies along the reaction, and the volcano."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle, islice

import numpy as np

from dpa4_flows.analysis.activity import levels, volcano
from dpa4_flows.analysis.reactions import REACTIONS, Reaction
from dpa4_flows.documents.activity import ActivityDocument, ActivityFacet
from dpa4_flows.plots.figure import PALETTE, FigureBlock, base_figure, plot_text

_DIAGRAMS = 12  # crystals in one figure
_BAR = 0.3  # half the width of a level, in steps
_BEYOND = 0.4  # eV, of the volcano beside the points


def activity_figures(documents: Mapping[str, ActivityDocument]) -> list[FigureBlock]:
    """For each reaction the free energies of the most active facet of every crystal, and all facets on the volcano."""
    found: list[FigureBlock] = []
    for name, reaction in REACTIONS.items():
        best = {key: one for key, document in documents.items() if (one := _best(document, name)) is not None}
        if best:
            found += [_diagram(reaction, best), _volcano(reaction, {key: documents[key] for key in best})]
    return found


def _best(document: ActivityDocument, reaction: str) -> ActivityFacet | None:
    if document.reaction != reaction or document.overpotential is None:
        return None
    return next(facet for facet in document.facets if facet.name == document.best_facet)


def _diagram(reaction: Reaction, best: Mapping[str, ActivityFacet]) -> FigureBlock:
    along = np.arange(len(reaction.states), dtype=float)
    figure = base_figure(
        xaxis={"tickvals": along.tolist(), "ticktext": [state.name for state in reaction.states], "showgrid": False},
        yaxis={"title": f"free energy at {reaction.equilibrium:.2f} V, eV"},
    )
    figure.update_xaxes(zeroline=False)
    for (name, facet), colour in zip(islice(best.items(), _DIAGRAMS), cycle(PALETTE), strict=False):
        energies = levels(reaction, facet.free_energies, reaction.equilibrium)
        figure.add_scatter(
            x=np.column_stack([along - _BAR, along + _BAR]).ravel(),
            y=np.repeat(energies, 2),
            mode="lines",
            line={"color": colour, "width": 2},
            name=plot_text(f"{name} ({facet.name})"),
        )
    caption = "The most active facet of each crystal at the equilibrium potential, where an ideal catalyst is level."
    if len(best) > _DIAGRAMS:
        caption += f" The first {_DIAGRAMS} of {len(best)}."
    return FigureBlock(f"steps-{reaction.name}", f"Steps of {reaction.title}", caption, figure)


def _volcano(reaction: Reaction, documents: Mapping[str, ActivityDocument]) -> FigureBlock:
    points = [
        (f"{name} ({facet.name})", facet.descriptor, facet.limiting_potential)
        for name, document in documents.items()
        for facet in document.facets
        if facet.descriptor is not None and facet.limiting_potential is not None
    ]
    means = [
        (name, document.mean_descriptor, document.mean_limiting_potential)
        for name, document in documents.items()
        if document.weighted and document.mean_descriptor is not None and document.mean_limiting_potential is not None
    ]
    figure = base_figure(
        xaxis={"title": f"{reaction.descriptor}, eV"}, yaxis={"title": "limiting potential against RHE, V"}
    )
    places = [x for _, x, _ in points]
    curve = np.linspace(min([*places, reaction.top]) - _BEYOND, max([*places, reaction.top]) + _BEYOND, 201)
    line = {"color": PALETTE[5], "width": 1.5, "dash": "dot"}
    limits = [volcano(reaction, x) for x in curve.tolist()]
    figure.add_scatter(x=curve, y=limits, mode="lines", line=line, name="scaling", hoverinfo="skip")
    for label, found, size, symbol, colour in (
        ("facets", points, 7, "circle", PALETTE[0]),
        ("mean over the shape", means, 12, "diamond-open", PALETTE[1]),
    ):
        if found:
            figure.add_scatter(
                x=[x for _, x, _ in found],
                y=[y for _, _, y in found],
                text=[plot_text(name) for name, _, _ in found],
                mode="markers",
                marker={"size": size, "symbol": symbol, "color": colour},
                hovertemplate="%{text}: %{x:.2f} eV, %{y:.2f} V<extra></extra>",
                name=label,
            )
    for reference in _references(documents):
        figure.add_vline(x=reference, line={"color": PALETTE[4], "width": 1, "dash": "dash"})
    caption = "Thermodynamic limits in the numbers of this model: points of other functionals do not belong here."
    if next(_references(documents), None) is not None:
        caption += " Dashed: the reference of the settings."
    return FigureBlock(f"volcano-{reaction.name}", f"Volcano of {reaction.title}", caption, figure)


def _references(documents: Mapping[str, ActivityDocument]) -> Iterator[float]:
    yield from {document.reference for document in documents.values() if document.reference is not None}
