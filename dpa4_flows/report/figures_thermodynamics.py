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
    from dpa4_flows.properties.chemical_potentials import RegionDocument
    from dpa4_flows.properties.conversion import ConversionDocument
    from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument
    from dpa4_flows.properties.windows import WindowDocument

_BEYOND = 0.5  # V shown above the highest limit
_COLOURS = {"stable": PALETTE[2], "above_hull": PALETTE[1], "unknown": UNKNOWN_COLOUR}
_MAX_AXES = 3  # elements of a diagram that fits into space


def window_figure(documents: Mapping[str, WindowDocument], ion: str) -> FigureBlock:
    """One bar for each structure, from reduction to oxidation.

    Args:
        documents: that have a window, by name.
        ion: element of the reservoir.
    """
    ends = [(one.lower or 0.0, one.upper) for one in documents.values()]
    highest = max(lower if upper is None else upper for lower, upper in ends) + _BEYOND
    figure = base_figure(height=120 + 34 * len(documents), xaxis={"title": {"text": f"V against {ion}"}})
    for (name, one), (lower, end) in reversed(list(zip(documents.items(), ends, strict=True))):
        upper = highest if end is None else end
        reduced = " + ".join(one.reduction_products) or "stable beside the metal"
        oxidised = " + ".join(one.oxidation_products) or "nothing to give off"
        figure.add_bar(
            y=[plot_text(f"{one.formula} · {name}")],
            x=[max(upper - lower, 0.005)],
            base=[lower],
            orientation="h",
            marker={"color": _COLOURS[one.verdict or "unknown"]},
            hovertemplate=plot_text(f"{lower:.2f} to {upper:.2f} V; below: {reduced}; above: {oxidised}")
            + "<extra></extra>",
        )
    figure.update_layout(showlegend=False, barmode="overlay", yaxis={"automargin": True})
    caption = (
        f"Voltages at which a structure neither takes up nor gives off {ion}, at equilibrium. Yellow: above the hull, "
        "the window of its equilibrium products. Grey: whether it is stable is not known."
    )
    for name, one in documents.items():
        if one.caveat is not None:
            caption += f" {name}: {one.caveat}; more phases can only narrow the window."
    return FigureBlock("windows", f"Electrochemical windows against {ion}", caption, figure)


def regions(documents: Mapping[str, RegionDocument]) -> list[FigureBlock]:
    """Diagrams of chemical potentials, the region of each structure filled; none beyond three elements."""
    found = []
    for number, one in enumerate(documents.values()):
        elements = sorted(one.limits, key=lambda symbol: Element(symbol).X)
        if not one.formula or not 0 < len(elements) <= _MAX_AXES:
            continue
        entries: list[Any] = [
            PDEntry(whole := Composition(formula), energy * whole.num_atoms) for formula, energy in one.stable.items()
        ]
        diagram = ChemicalPotentialDiagram(entries)
        figure = diagram.get_plot(elements=list(map(Element, elements)), formulas_to_draw=[one.formula])
        caption = "Each region: chemical potentials at which a phase is in equilibrium with no other; 0 is the element."
        if one.caveat:
            caption += f" {one.formula}: {one.caveat}; more phases can only make its region smaller."
        found.append(FigureBlock(f"chempots-{number}", f"Chemical potentials of {one.formula}", caption, figure))
    return found


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
