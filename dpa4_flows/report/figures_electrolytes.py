"""Figures of electrolytes and coatings: windows, what they cost outside, reactions with electrodes and with air."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from dpa4_flows.plots.figure import PALETTE, Block, Column, FigureBlock, TableBlock, base_figure, numbers, plot_text
from dpa4_flows.plots.words import first_of
from dpa4_flows.properties.air import AirDocument
from dpa4_flows.properties.interfaces import CoatingDocument, ContactDocument, ContactsDocument
from dpa4_flows.properties.windows import WindowDocument
from dpa4_flows.report.figures_thermodynamics import line_figure, window_figure

_BEYOND = 1.0  # V shown above the last reaction
_ROWS = 60  # bars of one figure


def windows(documents: Mapping[str, WindowDocument]) -> list[Block]:
    """Windows as bars, and the decomposition energy against voltage, with the products as a table."""
    found = {name: one for name, one in documents.items() if one.steps}
    if not found:
        return []
    ions = " or ".join(sorted({one.ion for one in found.values() if one.ion}))
    end = max(one.steps[-1].start for one in found.values()) + _BEYOND
    figure = base_figure(
        xaxis={"title": f"V against {ions}", "range": [0, end]},
        yaxis={"title": "decomposition energy, eV/atom", "rangemode": "tozero"},
    )
    lines = {_named(name, one): list(_curve(one, end)) for name, one in found.items()}
    caption = "What each gives off when it turns into the phases of equilibrium at that voltage; 0 within its window."
    table = TableBlock(
        "window-steps",
        "Products by voltage",
        f"At equilibrium with {ions} at that voltage, which goes in or out; {ions} itself is left out.",
        [Column("Crystal"), Column("Voltage", "V"), *numbers("Ions taken up (per f.u.)"), Column("Turns into")],
        [
            [name, *row]
            for name, one in islice(found.items(), _ROWS)
            for listing in one.listings
            for row in listing.rows
        ],
    )
    curves = line_figure("decomposition-energy", "Decomposition energy against voltage", caption, figure, lines)
    return [window_figure(dict(islice(found.items(), _ROWS)), ions), *curves, table]


def _curve(one: WindowDocument, end: float) -> Sequence[tuple[float, float]]:
    steps, last = one.steps, one.steps[-1]
    points = [(step.start, step.energy_start) for step in steps]
    if one.charge_per_atom is not None:
        points.append((end, last.energy_start - last.taken * one.charge_per_atom * (end - last.start)))
    return points


def contacts(documents: Mapping[str, ContactsDocument]) -> list[Block]:
    """Reactions of each crystal with each phase beside it as bars, their energy over the mixture, and a table."""
    found = {name: one for name, one in documents.items() if any(c.energy is not None for c in one.contacts)}
    if not found:
        return []
    names = [_named(name, one) for name, one in found.items()]
    bars = base_figure(
        height=140 + 46 * min(len(found), _ROWS),
        xaxis={"title": "reaction energy, eV/atom"},
        yaxis={"automargin": True, "autorange": "reversed"},
        barmode="group",
    )
    partners = list(dict.fromkeys(_label(c) for one in found.values() for c in one.contacts))
    for partner, colour in zip(partners, cycle(PALETTE), strict=False):
        by_crystal = [next((c for c in one.contacts if _label(c) == partner), None) for one in found.values()]
        bars.add_bar(
            y=[plot_text(name) for name in names[:_ROWS]],
            x=[None if c is None else c.energy for c in by_crystal[:_ROWS]],
            text=[plot_text(c.reaction) if c is not None else "" for c in by_crystal[:_ROWS]],
            textposition="none",
            hovertemplate="%{x:.3f} eV/atom: %{text}<extra></extra>",
            orientation="h",
            marker={"color": colour},
            name=plot_text(partner),
        )
    coats = {name: one.bare_energy for name, one in found.items() if isinstance(one, CoatingDocument)}
    for energy in sorted({energy for energy in coats.values() if energy is not None}):
        bars.add_vline(x=energy, line={"color": PALETTE[5], "width": 1, "dash": "dot"})
    mixed = base_figure(
        xaxis={"title": "fraction of the atoms of what is beside", "range": [0, 1]}, yaxis={"title": "eV/atom"}
    )
    lines = {
        f"{one.formula} | {_label(c)}": [(kink.fraction, kink.energy) for kink in c.kinks]
        for one in found.values()
        for c in one.contacts
        if c.kinks
    }
    words = "Of the mixture that gives off most. " + first_of(len(found), _ROWS)
    if coats:
        words += " Dotted: electrolyte and electrode without a coating."
    curve = "Energy of reaction per atom of the mixture; each kink is a reaction between whole phases."
    return [
        FigureBlock("interface-reactions", "Reactions of interfaces", words, bars),
        *line_figure("interface-mixtures", "Reactions over the mixture", curve, mixed, lines),
        _table(found),
    ]


def _named(name: str, one: Any) -> str:
    return name if name == one.formula else f"{one.formula} · {name}"


def _label(one: ContactDocument) -> str:
    return one.beside if one.voltage is None else f"{one.beside} at {one.voltage:g} V"


def _table(found: Mapping[str, ContactsDocument]) -> TableBlock:
    rows: list[list[str]] = []
    for name, one in islice(found.items(), _ROWS):
        listed: list[Any] = [*one.contacts, *(one.bare if isinstance(one, CoatingDocument) else ())]
        rows += [
            [
                _named(name, one) if not c.of else f"{c.of} without {name}",
                _label(c),
                "?" if c.energy is None else f"{c.energy + 0.0:.3f}",
                "?" if c.mutual_energy is None else f"{c.mutual_energy:.3f}",
                c.reaction or ("no reaction" if c.energy is not None else "unknown"),
                ", ".join(c.conducting),
                c.competing,
            ]
            for c in listed
        ]
    return TableBlock(
        "interface-table",
        "Reactions of interfaces",
        "Per formula unit of the crystal. Mutual: what neither phase would gain alone.",
        [
            Column("Crystal"),
            Column("Beside"),
            *numbers("Energy (eV/atom)", "Mutual (eV/atom)"),
            Column("Reaction"),
            Column("Conducts electrons"),
            Column("Competing phases"),
        ],
        rows,
    )


def air_reactions(documents: Mapping[str, AirDocument]) -> list[Block]:
    """Gibbs energies of the reactions with each gas as bars, and a table."""
    found = {name: one for name, one in documents.items() if one.reactions}
    if not found:
        return []
    shown = dict(islice(found.items(), _ROWS))
    figure = base_figure(
        height=140 + 46 * len(shown),
        xaxis={"title": "Gibbs energy of reaction, eV per formula unit"},
        yaxis={"automargin": True, "autorange": "reversed"},
        barmode="group",
    )
    for number, colour in zip(range(2), PALETTE, strict=False):  # oxygen is slow, and would set the scale
        reactions = [one.reactions[number] for one in shown.values()]
        figure.add_bar(
            y=[plot_text(_named(name, one)) for name, one in shown.items()],
            x=[reaction.energy for reaction in reactions],
            text=[plot_text(reaction.reaction) for reaction in reactions],
            textposition="none",
            hovertemplate="%{x:.2f} eV: %{text}<extra></extra>",
            orientation="h",
            marker={"color": colour},
            name=plot_text(reactions[0].gas),
        )
    table = TableBlock(
        "air-table",
        "Reactions with air",
        "With each gas alone, per formula unit.",
        [Column("Crystal"), Column("Gas"), *numbers("Energy (eV)"), Column("Reaction"), Column("Competing phases")],
        [
            [
                _named(name, one),
                reaction.gas,
                "?" if reaction.energy is None else f"{reaction.energy:.2f}",
                reaction.reaction or ("no reaction" if reaction.energy is not None else "unknown"),
                reaction.competing,
            ]
            for name, one in shown.items()
            for reaction in one.reactions
        ],
    )
    words = "With water vapour and with carbon dioxide; oxygen is in the table. " + first_of(len(found), _ROWS)
    return [FigureBlock("air", "Reactions with air", words, figure), table]
