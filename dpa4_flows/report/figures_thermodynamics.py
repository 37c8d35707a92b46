"""Figures of the thermodynamic views: electrochemical windows as bars, regions of chemical potentials, loss of oxygen
against temperature, voltages of conversion against capacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pymatgen.analysis.chempot_diagram import ChemicalPotentialDiagram
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition, Element

from dpa4_flows.analysis.thermodynamics import T_RANGE
from dpa4_flows.plots.figure import (
    CURVES,
    PALETTE,
    UNKNOWN_COLOUR,
    FigureBlock,
    add_line,
    add_points,
    base_figure,
    captioned,
    coloured,
    plot_text,
)

if TYPE_CHECKING:
    from dpa4_flows.properties.conversion import ConversionDocument
    from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument

_BEYOND = 0.5  # V shown above the highest limit
_COLOURS = {"stable": PALETTE[2], "above_hull": PALETTE[1], "unknown": UNKNOWN_COLOUR}
_MAX_AXES = 3  # elements of a diagram that fits into space


def window_figure(rows: Sequence[Mapping[str, Any]], ion: str) -> FigureBlock:
    """One bar for each structure, from reduction to oxidation.

    Args:
        rows: with ``name``, ``formula``, ``verdict`` and ``window``.
        ion: element of the reservoir.
    """
    highest = max((row["window"]["upper"] or row["window"]["lower"]) for row in rows) + _BEYOND
    figure = base_figure(height=120 + 34 * len(rows), xaxis={"title": {"text": f"V against {ion}"}})
    for row in reversed(rows):
        window = row["window"]
        upper = highest if window["upper"] is None else window["upper"]
        reduced = " + ".join(window["reduction_products"]) or "stable beside the metal"
        oxidised = " + ".join(window["oxidation_products"]) or "nothing to give off"
        figure.add_bar(
            y=[plot_text(f"{row['formula']} · {row['name']}")],
            x=[max(upper - window["lower"], 0.005)],
            base=[window["lower"]],
            orientation="h",
            marker={"color": _COLOURS[row["verdict"]["code"]]},
            hovertemplate=plot_text(f"{window['lower']:.2f} to {upper:.2f} V; below: {reduced}; above: {oxidised}")
            + "<extra></extra>",
        )
    figure.update_layout(showlegend=False, barmode="overlay", yaxis={"automargin": True})
    caption = (
        f"Voltages at which a structure neither takes up nor gives off {ion}, at equilibrium. Yellow: above the hull, "
        "the window of its equilibrium products. Grey: whether it is stable is not known."
    )
    for row in rows:
        if row["window"]["caveat"] is not None:
            caption += f" {row['name']}: {row['window']['caveat']}; more phases can only narrow the window."
    return FigureBlock("windows", f"Electrochemical windows against {ion}", caption, figure)


def region_figure(
    formula: str, phases: Sequence[Mapping[str, Any]], name: str, *, caveat: str | None = None
) -> list[FigureBlock]:
    """Diagram of chemical potentials in the system of ``formula``, that phase filled; none beyond three elements.

    Args:
        formula: reduced formula of the phase.
        phases: of its chemical system, as `analysis.hull.hull_summary` tells them.
        name: id of the figure in its page.
        caveat: what stands behind it, where no survey does.
    """
    elements = sorted(Composition(formula).elements, key=lambda element: element.X)
    if len(elements) > _MAX_AXES:
        return []
    entries: list[Any] = []
    for phase in phases:
        if not phase["candidate"] or phase["formula"] == formula:
            composition = Composition(phase["formula"])
            entries.append(PDEntry(composition, phase["formation_energy_per_atom"] * composition.num_atoms))
    diagram = ChemicalPotentialDiagram(entries)
    figure = diagram.get_plot(elements=[Element(e.symbol) for e in elements], formulas_to_draw=[formula])
    caption = "Each region: chemical potentials at which a phase is in equilibrium with no other; 0 is the element."
    if caveat:
        caption += f" {formula}: {caveat}; more phases can only make its region smaller."
    return [FigureBlock(name, f"Chemical potentials of {formula}", caption, figure)]


def oxygen_losses(documents: Mapping[str, OxygenReleaseDocument]) -> list[FigureBlock]:
    """Oxygen that has left each crystal at equilibrium, against temperature, with the error of the first step."""
    lines: dict[str, list[tuple[float, float]]] = {}
    figure = base_figure(
        height=460,
        xaxis={"title": "temperature, K", "range": list(T_RANGE)},
        yaxis={"title": "O₂ given off per formula unit"},
    )
    for name, one in documents.items():
        if one.steps:
            first = one.steps[0]
            if first.temperature is not None and first.low is not None and len(lines) < CURVES:
                late = T_RANGE[1] if first.high is None else first.high
                error = {"array": [late - first.temperature], "arrayminus": [first.temperature - first.low]}
                x, y, colour = [first.temperature], [first.released], PALETTE[len(lines) % len(PALETTE)]
                add_points(figure, x, y, colour, size=6, error_x=error, showlegend=False)
            points, lost = [(T_RANGE[0], 0.0)], 0.0
            for step in one.steps:
                at = T_RANGE[1] if step.temperature is None else step.temperature
                lost, before = lost if step.temperature is None else step.released, lost
                points += [(at, before), (at, lost)]
            lines[f"{one.formula} · {name}"] = [*points, (T_RANGE[1], lost)]
    pressures = sorted({f"{one.pressure:g}" for one in documents.values() if one.pressure is not None})
    caption = (
        f"At equilibrium with {' or '.join(pressures)} bar of O2; each step is a reaction. Bars: standard "
        "error of the first one, by energies and entropies; what lies beyond the axis is cut."
    )
    return line_figure("oxygen-release", "Oxygen release", caption, figure, lines)


def conversion_profiles(documents: Mapping[str, ConversionDocument]) -> list[FigureBlock]:
    """Voltage of each electrode against capacity."""
    lines = {}
    for name, one in documents.items():
        if one.steps:
            starts = [0.0, *(step.capacity for step in one.steps[:-1])]
            plateaus = [
                ((start, step.voltage), (step.capacity, step.voltage))
                for start, step in zip(starts, one.steps, strict=True)
            ]
            lines[f"{one.formula} · {name}"] = [point for plateau in plateaus for point in plateau]
    ions = sorted({one.working_ion for one in documents.values() if one.working_ion})
    figure = base_figure(
        xaxis={"title": "capacity, mAh per g of the crystal"}, yaxis={"title": f"V against {' or '.join(ions)}"}
    )
    return line_figure("conversion", "Conversion and alloying", "At equilibrium.", figure, lines)


def line_figure(
    name: str, title: str, caption: str, figure: Any, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> list[FigureBlock]:
    for label, points, colour in coloured(lines):
        x, y = zip(*points, strict=True)
        add_line(figure, x, y, colour, label, width=2)
    return [FigureBlock(name, title, captioned(caption, len(lines)), figure)] if lines else []
