"""Figures of the thermodynamic views: electrochemical windows as bars, regions of chemical potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymatgen.analysis.chempot_diagram import ChemicalPotentialDiagram
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition, Element

from dpa4_flows.plots.figure import PALETTE, UNKNOWN_COLOUR, FigureBlock, base_figure, plot_text

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
