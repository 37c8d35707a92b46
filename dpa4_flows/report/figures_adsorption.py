"""Figures of numbers of adsorption: energies of all sites, and free energies of adsorbates against each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np

from dpa4_flows.analysis.reactions import Reaction
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionSite
from dpa4_flows.plots.figure import (
    CURVES,
    PALETTE,
    UNKNOWN_COLOUR,
    FigureBlock,
    add_line,
    add_points,
    base_figure,
    plot_text,
)

_WIDTH = 0.7  # of an adsorbate, in which its crystals stand side by side
_SYMBOLS = {
    "on_top": "circle",
    "bridge": "diamond",
    "hollow_fcc": "triangle-up",
    "hollow_hcp": "triangle-down",
    "hollow_3": "triangle-up",
    "hollow_4": "square",
    "unsaturated": "star",
}
_LOST = "x-open"


def site_energies(documents: Mapping[str, AdsorptionDocument]) -> list[FigureBlock]:
    """Adsorption energies on all sites of all facets by adsorbate; the symbol is the kind of site at the end."""
    with_sites = ((name, _drawn(document)) for name, document in documents.items() if document.n_sites)
    shown = list(islice(with_sites, CURVES))
    names = list(dict.fromkeys(site.adsorbate for _, sites in shown for _, site in sites))
    figure = base_figure(
        xaxis={"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False},
        yaxis={"title": "electronic adsorption energy, eV"},
    )
    figure.update_xaxes(zeroline=False)
    for column, ((name, drawn), colour) in enumerate(zip(shown, cycle(PALETTE), strict=False)):
        aside = _WIDTH * ((column + 0.5) / len(shown) - 0.5)
        for number, symbol in enumerate(dict.fromkeys(_symbol(site) for _, site in drawn)):
            alike = [(facet, site) for facet, site in drawn if _symbol(site) == symbol]
            figure.add_scatter(
                x=[names.index(site.adsorbate) + aside for _, site in alike],
                y=[site.adsorption_energy for _, site in alike],
                customdata=[plot_text(f"{name} ({facet}) {_words(site)}") for facet, site in alike],
                mode="markers",
                marker={"size": 8, "symbol": symbol, "color": UNKNOWN_COLOUR if symbol == _LOST else colour},
                hovertemplate="%{customdata}: %{y:.2f} eV<extra></extra>",
                legendgroup=name,
                showlegend=number == 0,
                name=None if number else plot_text(name),
            )
    caption = (
        "Every start that has an energy. Circles: on top; diamonds: bridges; triangles: hollows of three atoms, those "
        "of hcp on their tip; squares: hollows of four; stars: beside an unsaturated atom; crosses: no longer the "
        "adsorbate on this surface."
    )
    if len(documents) > CURVES:
        caption += f" The first {CURVES} crystals with sites."
    return [FigureBlock("site-energies", "Adsorption energies by site", caption, figure)] if names else []


def _drawn(document: AdsorptionDocument) -> list[tuple[str, AdsorptionSite]]:
    """Sites with an energy and their facets, without structures."""
    sites = [(facet.name, site) for facet in document.facets for site in facet.sites]
    return [
        (name, site.model_copy(update={"structure": None}))
        for name, site in sites
        if site.adsorption_energy is not None
    ]


def _symbol(site: AdsorptionSite) -> str:
    return _SYMBOLS.get(site.end or "", "circle") if site.intact else _LOST


def _words(site: AdsorptionSite) -> str:
    where = f"{(site.end or site.start).replace('_', ' ')} {site.end_elements or site.start_elements}"
    return f"{site.adsorbate} at {where}" + ("" if site.intact else f", {', '.join(site.codes)}")


def scaling(reaction: Reaction, documents: Mapping[str, ActivityDocument]) -> list[FigureBlock]:
    """Free energies of the adsorbates of a reaction against its descriptor, if this is one of them, with the lines of
    the volcano.
    """
    if len(reaction.weights) > 1 or not reaction.scaling:
        return []
    (first,) = reaction.weights
    points = [
        (f"{name} ({facet.name})", facet.free_energies)
        for name, document in documents.items()
        for facet in document.facets
        if first in facet.free_energies
    ]
    places = np.array([energies[first] for _, energies in points])
    ends = np.array([places.min() - 0.2, places.max() + 0.2])
    figure = base_figure(xaxis={"title": f"{reaction.descriptor}, eV"}, yaxis={"title": "free energy, eV"})
    for (other, line), colour in zip(reaction.scaling.items(), cycle(PALETTE), strict=False):
        unseen: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
        add_line(figure, ends, line.slope * ends + line.height, colour, dash="dot", legendgroup=other, **unseen)
        here = [(name, energies) for name, energies in points if other in energies]
        x, y = ([energies[one] for _, energies in here] for one in (first, other))
        hover: dict[str, Any] = {
            "customdata": [plot_text(name) for name, _ in here],
            "hovertemplate": "%{customdata}: %{x:.2f} and %{y:.2f} eV<extra></extra>",
        }
        add_points(figure, x, y, colour, f"ΔG({other})", size=8, legendgroup=other, **hover)
    caption = "Best sites of all facets, 298 K and 0 V; dotted: the lines that the volcano is made of."
    return [FigureBlock(f"scaling-{reaction.name}", f"Scaling relations of {reaction.title}", caption, figure)]
