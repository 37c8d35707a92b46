"""Figures of point defects: formation energies against chemical potentials, and a table of each defect."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import plotly.graph_objects as go

from dpa4_flows.documents.defects import DefectRow, DefectsDocument
from dpa4_flows.plots.figure import Column as Head
from dpa4_flows.plots.figure import FigureBlock, TableBlock, add_line, base_figure, coloured, numbers, plot_text
from dpa4_flows.plots.words import first_of, signed

_CRYSTALS, _LINES = 12, 16
_KINDS = {"vacancy": "solid", "antisite": "dash", "interstitial": "dot"}  # dopants and complexes: dashes and dots


def defect_figures(documents: Mapping[str, DefectsDocument]) -> list[FigureBlock | TableBlock]:
    """Lines between the corners of the region of chemical potentials, and what stands behind each, for each crystal."""
    found = {name: document for name, document in documents.items() if any(row.energies for row in document.defects)}
    blocks: list[FigureBlock | TableBlock] = []
    for number, (name, document) in enumerate(islice(found.items(), _CRYSTALS)):
        blocks.append(FigureBlock(f"defects-{number}", plot_text(name), _caption(document), _lines(document)))
        blocks.append(_table(f"defects-table-{number}", name, document))
    return blocks


def _caption(document: DefectsDocument) -> str:
    n_lines = sum(bool(row.energies) for row in document.defects)
    words = (
        f"Formation energies of neutral defects in {document.n_atoms} atoms, images {document.length:.1f} Å apart.",
        first_of(n_lines, _LINES),
    )
    return " ".join(filter(None, words))


def _lines(document: DefectsDocument) -> go.Figure:
    """Against the chemical potential of the first element where there is one way to go, else from corner to corner."""
    conditions = document.conditions
    symbols = [symbol for symbol in conditions[0].potentials if symbol not in conditions[0].limited_by]
    numeric = len(symbols) == 2 and len(conditions) > 1
    order = range(len(conditions))
    if numeric:
        order = sorted(order, key=lambda i: conditions[i].potentials[symbols[0]])  # type: ignore[assignment]
        places: list[float | str] = [conditions[i].potentials[symbols[0]] for i in order]
        axis = {"title": f"chemical potential of {symbols[0]}, eV from the element"}
    else:
        places = [f"beside {condition.name}" for condition in conditions]
        axis = {"title": "in equilibrium with", "type": "category"}
    figure = base_figure(xaxis=axis, yaxis={"title": "formation energy, eV"})
    rows = [(row.name, row) for row in document.defects if row.energies]
    for name, row, colour in coloured(rows, _LINES):
        dash, y = _KINDS.get(row.kind, "dashdot"), [row.energies[i] for i in order]
        add_line(figure, places, y, colour, name, width=1.6, dash=dash, mode="lines+markers")
    return figure


def _table(name: str, title: str, document: DefectsDocument) -> TableBlock:
    heads = numbers(
        "lowest (eV)",
        "from elements (eV)",
        "at the temperature (cm⁻³)",
        "relaxation (eV)",
        "misfit (%)",
        "binding (eV)",
    )
    rows = [[row.name, *_cells(row), "; ".join(reason.code.replace("_", " ") for reason in row.reasons)]
            for row in document.defects]  # fmt: skip
    caption = (
        f"Concentrations N exp(−E/kT) at {document.temperature_k:g} K; misfit for each atomic fraction of defects."
    )
    return TableBlock(name, f"Defects of {title}", caption, [Head("defect"), *heads, Head("to know")], rows)


def _cells(row: DefectRow) -> list[str]:
    values = (row.lowest, row.from_elements, row.relaxation_energy, row.size_misfit_percent, row.binding_energy)
    lowest, elements, relaxed, misfit, bound = ("–" if value is None else signed(value) for value in values)
    count = "–" if row.concentration_cm3 is None else f"{row.concentration_cm3:.1e}"
    return [lowest, elements, count, relaxed, misfit, bound]
