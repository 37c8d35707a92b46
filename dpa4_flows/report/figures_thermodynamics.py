"""Figures of the thermodynamic views: electrochemical windows as bars, regions of chemical potentials, loss of oxygen
against temperature, voltages of conversion against capacity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from pymatgen.analysis.chempot_diagram import ChemicalPotentialDiagram
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition, Element

from dpa4_flows.analysis.thermodynamics import T_RANGE
from dpa4_flows.plots.figure import PALETTE, UNKNOWN_COLOUR, FigureBlock, base_figure, plot_text
from dpa4_flows.plots.words import first_of

if TYPE_CHECKING:
    from dpa4_flows.properties.conversion import ConversionDocument
    from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument

_BEYOND = 0.5  # V shown above the highest limit
_COLOURS = {"stable": PALETTE[2], "above_hull": PALETTE[1], "unknown": UNKNOWN_COLOUR}
_MAX_AXES = 3  # elements of a diagram that fits into space
_CURVES = 12  # in one figure


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
            if first.temperature is not None and first.low is not None and len(lines) < _CURVES:
                late = T_RANGE[1] if first.high is None else first.high
                figure.add_scatter(
                    x=[first.temperature],
                    y=[first.released],
                    error_x={"array": [late - first.temperature], "arrayminus": [first.temperature - first.low]},
                    mode="markers",
                    marker={"color": PALETTE[len(lines) % len(PALETTE)]},
                    showlegend=False,
                )
            points, lost = [(T_RANGE[0], 0.0)], 0.0
            for step in one.steps:
                at = T_RANGE[1] if step.temperature is None else step.temperature
                lost, before = lost if step.temperature is None else step.released, lost
                points += [(at, before), (at, lost)]
            lines[f"{one.formula} · {name}"] = [*points, (T_RANGE[1], lost)]
    pressures = sorted({f"{one.pressure:g}" for one in documents.values() if one.pressure is not None})
    caption = (
        f"At equilibrium with {' or '.join(pressures)} bar of O2; each step is a reaction. Bars: standard "
        "error of the first one, by energies and entropies; what lies beyond the axis is cut. "
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
    return line_figure("conversion", "Conversion and alloying", "At equilibrium. ", figure, lines)


def line_figure(
    name: str, title: str, caption: str, figure: Any, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> list[FigureBlock]:
    for (label, points), colour in zip(islice(lines.items(), _CURVES), cycle(PALETTE), strict=False):
        x, y = zip(*points, strict=True)
        figure.add_scatter(x=x, y=y, mode="lines", line={"color": colour, "width": 2}, name=plot_text(label))
    return [FigureBlock(name, title, caption + first_of(len(lines), _CURVES), figure)] if lines else []
