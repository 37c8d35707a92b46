"""Figures of properties: documents by the name of their structure in, blocks of a page or a notebook out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice

import numpy as np
import plotly.graph_objects as go

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.equation_of_state import birch_murnaghan, vinet
from dpa4_flows.analysis.facets import Miller
from dpa4_flows.documents.stability import PhononPart
from dpa4_flows.plots.figure import PALETTE, FigureBlock, base_figure, plot_text
from dpa4_flows.properties.equation_of_state import EquationOfStateDocument
from dpa4_flows.properties.surface import SurfaceDocument

_CURVES = 12  # in one figure
_SHAPES = 6  # figures
_VIEW = np.array([1.0, 0.42, 0.36])
"""Direction from which shapes are seen: of no symmetry, so that no face hides behind an edge."""
_FORMS = {"birch-murnaghan": birch_murnaghan, "vinet": vinet}


def equations_of_state(documents: Mapping[str, EquationOfStateDocument]) -> list[FigureBlock]:
    """Energy against volume, from the minimum of each crystal: points as computed, lines as fitted."""
    figure = base_figure(
        xaxis={"title": "volume / volume at the minimum"}, yaxis={"title": "energy above the minimum, meV/atom"}
    )
    found = {name: document for name, document in documents.items() if document.volume and document.energy is not None}
    for (name, document), colour in zip(islice(found.items(), _CURVES), cycle(PALETTE), strict=False):
        minimum, volume = document.energy or 0.0, document.volume or 1.0
        volumes = np.linspace(min(document.volumes), max(document.volumes), 80)
        modulus = (document.bulk_modulus_gpa or 0.0) / EV_PER_ANGSTROM3_TO_GPA
        curve = _FORMS[document.form](volumes, volume, minimum, modulus, document.bulk_modulus_derivative or 0.0)
        line = {"color": colour, "width": 1.5}
        label = plot_text(name)
        figure.add_scatter(
            x=volumes / volume, y=1000 * (curve - minimum), mode="lines", line=line, legendgroup=name, name=label
        )
        figure.add_scatter(
            x=np.array(document.volumes) / volume,
            y=1000 * (np.array(document.energies) - minimum),
            mode="markers",
            marker={"color": colour, "size": 7},
            legendgroup=name,
            showlegend=False,
            name=label,
        )
    return [FigureBlock("equation-of-state", "Equation of state", _of(found, _CURVES), figure)] if found else []


def heat_capacities(documents: Mapping[str, PhononPart]) -> list[FigureBlock]:
    """Harmonic heat capacity against temperature, with the limit of Dulong and Petit."""
    figure = base_figure(xaxis={"title": "temperature, K"}, yaxis={"title": "heat capacity, J/K per mole of atoms"})
    found = {name: document for name, document in documents.items() if document.thermal}
    for (name, document), colour in zip(islice(found.items(), _CURVES), cycle(PALETTE), strict=False):
        figure.add_scatter(
            x=[row.temperature_k for row in document.thermal],
            y=[row.heat_capacity_j_mol_k for row in document.thermal],
            mode="lines+markers",
            line={"color": colour, "width": 1.5, "shape": "spline"},
            name=plot_text(name),
        )
    figure.add_hline(y=3 * 8.314462618, line={"color": PALETTE[5], "width": 1, "dash": "dot"})
    return [FigureBlock("heat-capacity", "Heat capacity", _of(found, _CURVES), figure)] if found else []


def equilibrium_shapes(documents: Mapping[str, SurfaceDocument]) -> list[FigureBlock]:
    """The shape of each crystal, faces of one facet in one colour."""
    found = {name: document for name, document in documents.items() if document.shape is not None}
    return [
        FigureBlock(f"shape-{number}", name, _facets(document), _shape(document))
        for number, (name, document) in enumerate(islice(found.items(), _SHAPES))
    ]


def _shape(document: SurfaceDocument) -> go.Figure:
    """The faces that one sees from `_VIEW`: a convex body hides nothing else, and every browser draws polygons."""
    shape = document.shape
    assert shape is not None
    hidden = {"visible": False}
    figure = base_figure(height=420, xaxis=hidden, yaxis=hidden | {"scaleanchor": "x"})
    lowest = {one.miller: one for one in document.terminations if one.lowest}
    families = list(dict.fromkeys(face.family for face in shape.faces))
    colours = dict(zip(families, cycle(PALETTE), strict=False))
    vertices = np.array(shape.vertices)
    towards = _VIEW / np.linalg.norm(_VIEW)
    across = np.cross([0.0, 0.0, 1.0], towards)
    across /= np.linalg.norm(across)
    shown: set[Miller] = set()
    for face in shape.faces:
        corners = vertices[[*face.corners, face.corners[0]]]
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
        light = float(normal @ towards / np.linalg.norm(normal))
        if light <= 1e-6:
            continue
        one = lowest.get(face.family)
        figure.add_scatter(
            x=corners @ across,
            y=corners @ np.cross(towards, across),
            mode="lines",
            fill="toself",
            fillcolor=colours[face.family],
            opacity=0.45 + 0.55 * light,
            line={"color": "#30343a", "width": 1.2},
            name="" if one is None else f"({one.facet}) {one.surface_energy:.2f} J/m²",
            legendgroup=str(face.family),
            showlegend=face.family not in shown,
            hoverinfo="name",
        )
        shown.add(face.family)
    return figure


def _facets(document: SurfaceDocument) -> str:
    mean = document.surface_energy
    return "Equilibrium shape." if mean is None else f"Equilibrium shape; mean surface energy {mean:.2f} J/m²."


def _of(found: Mapping[str, object], most: int) -> str:
    """Says how many are not drawn."""
    return f"The first {most} of {len(found)}." if len(found) > most else ""
