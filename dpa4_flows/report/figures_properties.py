"""Figures of properties: documents by the name of their structure in, blocks of a page or a notebook out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.equation_of_state import birch_murnaghan, vinet
from dpa4_flows.documents.stability import PhononPart, StabilityDocument
from dpa4_flows.plots.figure import (
    PALETTE,
    Column,
    FigureBlock,
    TableBlock,
    add_line,
    add_points,
    base_figure,
    captioned,
    coloured,
)
from dpa4_flows.properties.equation_of_state import EquationOfStateDocument

_FORMS = {"birch-murnaghan": birch_murnaghan, "vinet": vinet}


def equations_of_state(documents: Mapping[str, EquationOfStateDocument]) -> list[FigureBlock]:
    """Energy against volume, from the minimum of each crystal: points as computed, lines as fitted."""
    figure = base_figure(
        xaxis={"title": "volume / volume at the minimum"}, yaxis={"title": "energy above the minimum, meV/atom"}
    )
    found = {name: document for name, document in documents.items() if document.volume and document.energy is not None}
    for name, document, colour in coloured(found):
        minimum, volume = document.energy or 0.0, document.volume or 1.0
        volumes = np.linspace(min(document.volumes), max(document.volumes), 80)
        modulus = (document.bulk_modulus_gpa or 0.0) / EV_PER_ANGSTROM3_TO_GPA
        curve = _FORMS[document.form](volumes, volume, minimum, modulus, document.bulk_modulus_derivative or 0.0)
        add_line(figure, volumes / volume, 1000 * (curve - minimum), colour, name, legendgroup=name)
        x, y = np.array(document.volumes) / volume, 1000 * (np.array(document.energies) - minimum)
        add_points(figure, x, y, colour, name, legendgroup=name, showlegend=False)
    caption = captioned("", len(found))
    return [FigureBlock("equation-of-state", "Equation of state", caption, figure)] if found else []


def verdicts(documents: Mapping[str, StabilityDocument]) -> list[TableBlock]:
    """Why each crystal is stable or not, by parts."""
    listed = [(name, listing) for name, document in documents.items() for listing in document.listings]
    if not listed:
        return []
    heads = [Column("structure"), *map(Column, listed[0][1].heads)]
    rows = [[name, *row] for name, listing in listed for row in listing.rows]
    return [TableBlock("verdicts", "Verdicts", "", heads, rows)]


def heat_capacities(documents: Mapping[str, PhononPart]) -> list[FigureBlock]:
    """Harmonic heat capacity against temperature, with the limit of Dulong and Petit."""
    figure = base_figure(xaxis={"title": "temperature, K"}, yaxis={"title": "heat capacity, J/K per mole of atoms"})
    found = {name: document for name, document in documents.items() if document.thermal}
    for name, document, colour in coloured(found):
        x = [row.temperature_k for row in document.thermal]
        y = [row.heat_capacity_j_mol_k for row in document.thermal]
        add_line(figure, x, y, colour, name, mode="lines+markers", line={"shape": "spline"})
    figure.add_hline(y=3 * 8.314462618, line={"color": PALETTE[5], "width": 1, "dash": "dot"})
    return [FigureBlock("heat-capacity", "Heat capacity", captioned("", len(found)), figure)] if found else []
