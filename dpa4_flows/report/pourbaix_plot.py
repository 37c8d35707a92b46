"""Pourbaix diagrams: the energy of a solid above the stable species, and the domains of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from pymatgen.analysis.pourbaix_diagram import PourbaixDiagram, PourbaixEntry

from dpa4_flows.plots.figure import STABILITY_SCALE, FigureBlock, add_line, base_figure, plot_text
from dpa4_flows.properties.pourbaix import PourbaixDocument, diagram_of

PH_RANGE = (-2.0, 16.0)
POTENTIAL_RANGE = (-2.0, 2.5)
SHOWN_UP_TO = 0.5
"""eV/atom: the end of the colour scale; what is further up dissolves."""

_POINTS = 61
_PER_PH = 0.0591  # V at 298 K
_OXYGEN = 1.229  # V at pH 0
_WORDS = (
    "Colours: energy of the solid above the stable species. Dashed: water gives off hydrogen (below) or oxygen (above)."
)


def diagrams(documents: Mapping[str, PourbaixDocument]) -> list[FigureBlock]:
    """One for each solid."""
    good = {name: document for name, document in documents.items() if document.error is None}
    return [
        FigureBlock(f"pourbaix-{i}", f"{one.formula} ({name})", _WORDS, pourbaix_figure(*diagram_of(one)))
        for i, (name, one) in enumerate(good.items())
    ]


def pourbaix_figure(phase: PourbaixEntry, diagram: PourbaixDiagram) -> go.Figure:
    """Energy of ``phase`` over pH and potential, with the domains of the stable species."""
    ph, volt = np.linspace(*PH_RANGE, _POINTS), np.linspace(*POTENTIAL_RANGE, _POINTS)
    grid: Any = np.meshgrid(ph, volt)  # pymatgen takes arrays here, which its annotation does not say
    energy = diagram.get_decomposition_energy(phase, *grid)
    figure = base_figure(height=560, xaxis={"title": {"text": "pH"}}, yaxis={"title": {"text": "V (SHE)"}})
    figure.add_heatmap(
        x=ph,
        y=volt,
        z=np.maximum(energy, 0.0),
        zmin=0,
        zmax=SHOWN_UP_TO,
        colorscale=STABILITY_SCALE,
        colorbar={"title": {"text": "eV/atom"}},
        hovertemplate="pH %{x:.1f}, %{y:.2f} V: %{z:.2f} eV/atom<extra></extra>",
    )
    domains, _ = PourbaixDiagram.get_pourbaix_domains(
        diagram.all_entries, limits=[list(PH_RANGE), list(POTENTIAL_RANGE)]
    )
    for species, simplices in domains.items():
        edges = [np.asarray(simplex.coords) for simplex in simplices]
        for edge in edges:
            add_line(figure, edge[:, 0], edge[:, 1], "black", width=1)
        centre = np.concatenate(edges).mean(axis=0)
        figure.add_annotation(x=centre[0], y=centre[1], text=plot_text(species.name), showarrow=False)
    for at_zero in (0.0, _OXYGEN):
        line = at_zero - _PER_PH * np.array(PH_RANGE)
        add_line(figure, list(PH_RANGE), line, "#555", width=1, dash="dash")
    figure.update_layout(showlegend=False, yaxis={"range": list(POTENTIAL_RANGE)}, xaxis={"range": list(PH_RANGE)})
    return figure
