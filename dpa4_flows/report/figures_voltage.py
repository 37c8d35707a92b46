"""Figures of voltage profiles: voltage over capacity with the window, and energies over composition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpa4_flows.plots.figure import (
    PALETTE,
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
    plot_text,
)
from dpa4_flows.properties.voltage_profile import VoltageProfileDocument


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
    for name, document, colour in coloured(found):
        group: dict[str, Any] = {"legendgroup": name}
        x = [end for one in document.plateaus for end in (one.capacity_from, one.capacity_to)]
        y = [one.voltage + side * one.rise / 2 for one in document.plateaus for side in (-1, 1)]
        add_line(voltage, x, y, colour, name, width=2)
        rows = [row for row in document.orderings if row.mixing_mev is not None]
        x, y = [row.content for row in rows], [row.mixing_mev or 0.0 for row in rows]
        words = [plot_text(row.formula) for row in rows]
        add_points(mixing, x, y, colour, name, marker={"opacity": 0.6}, text=words, **group)
        corners = {row.content: row.mixing_mev for row in reversed(rows) if abs(row.above_hull_mev or 0.0) < 1e-6}
        x = [one.content_from for one in document.plateaus] + [document.plateaus[-1].content_to]
        add_line(mixing, x, [corners[one] for one in x], colour, name, width=2, showlegend=False, **group)
    above = captioned(
        "On charging, at 0 K; the window that can be used is shaded. Level: two phases coexist; inclined: nothing was "
        "tried between. Mass is that of the full compound.",
        len(found),
    )
    below = "Against full and empty phase side by side; lines are the lower hulls, whose slopes are the voltages."
    return [
        FigureBlock("voltage-profile", "Voltage against capacity", above, voltage),
        FigureBlock("voltage-orderings", "Orderings of ion and vacancy", captioned(below, len(found)), mixing),
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
