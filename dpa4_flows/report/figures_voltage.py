"""Figures of voltage profiles: voltage over capacity with the window, and energies over composition."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle, islice

from dpa4_flows.plots.figure import PALETTE, Block, Column, FigureBlock, TableBlock, base_figure, numbers, plot_text
from dpa4_flows.plots.words import first_of
from dpa4_flows.properties.voltage_profile import VoltageProfileDocument

_CURVES = 12


def profiles(documents: Mapping[str, VoltageProfileDocument]) -> list[Block]:
    """Voltage over capacity, energies of the orderings, and the plateaus as a table."""
    found = {name: document for name, document in documents.items() if document.plateaus}
    if not found:
        return []
    voltage = base_figure(
        xaxis={"title": "capacity, mAh/g", "rangemode": "tozero"},
        yaxis={"title": f"voltage against {_ions(found)}, V"},
    )
    for low, high in sorted({(document.v_min, document.v_max) for document in found.values()}):
        voltage.add_hrect(y0=low, y1=high, fillcolor=PALETTE[2], opacity=0.12, line_width=0, layer="below")
    mixing = base_figure(
        xaxis={"title": "share of the ions", "range": [1.03, -0.03]},
        yaxis={"title": "mixing energy, meV per formula unit"},
    )
    for (name, document), colour in zip(islice(found.items(), _CURVES), cycle(PALETTE), strict=False):
        label, line = plot_text(name), {"color": colour, "width": 2}
        ends = [(one.capacity_from, one.capacity_to) for one in document.plateaus]
        voltage.add_scatter(
            x=[x for pair in ends for x in pair],
            y=[one.voltage + side * one.rise / 2 for one in document.plateaus for side in (-1, 1)],
            mode="lines",
            line=line,
            name=label,
        )
        rows = [row for row in document.orderings if row.mixing_mev is not None]
        marker = {"color": colour, "size": 7, "opacity": 0.6}
        mixing.add_scatter(
            x=[row.content for row in rows],
            y=[row.mixing_mev for row in rows],
            text=[plot_text(row.formula) for row in rows],
            mode="markers",
            marker=marker,
            name=label,
            legendgroup=name,
        )
        corners = {row.content: row.mixing_mev for row in reversed(rows) if abs(row.above_hull_mev or 0.0) < 1e-6}
        x = [one.content_from for one in document.plateaus] + [document.plateaus[-1].content_to]
        mixing.add_scatter(
            x=x, y=[corners[one] for one in x], mode="lines", line=line, name=label, legendgroup=name, showlegend=False
        )
    more = first_of(len(found), _CURVES)
    words = (
        "On charging, at 0 K; the window that can be used is shaded. Level: two phases coexist; inclined: nothing was "
    )
    words += "tried between. Mass is that of the full compound."
    below = "Against full and empty phase side by side; lines are the lower hulls, whose slopes are the voltages."
    return [
        FigureBlock("voltage-profile", "Voltage against capacity", f"{words} {more}".strip(), voltage),
        FigureBlock("voltage-orderings", "Orderings of ion and vacancy", f"{below} {more}".strip(), mixing),
        _table(found),
    ]


def _ions(found: Mapping[str, VoltageProfileDocument]) -> str:
    return ", ".join(sorted({document.working_ion for document in found.values()}))


def _table(found: Mapping[str, VoltageProfileDocument]) -> TableBlock:
    return TableBlock(
        "voltage-plateaus",
        "Plateaus",
        "From full to empty; on each of them the two phases coexist.",
        [
            Column("Electrode"),
            Column("From"),
            Column("To"),
            *numbers("Voltage (V)", "Capacity (mAh/g)"),
            *numbers("In window (mAh/g)"),
        ],
        [
            [
                name,
                one.formula_from,
                one.formula_to,
                f"{one.voltage:.2f}",
                f"{one.capacity_from:.0f} to {one.capacity_to:.0f}",
                "" if one.capacity_in_window is None else f"{one.capacity_in_window:.0f}",
            ]
            for name, document in found.items()
            for one in document.plateaus
        ],
    )
