"""Hull figures by chemical system: energies for binaries, a triangle for ternaries, distances for more."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from pymatgen.core import Composition, Element
from scipy.spatial import ConvexHull, QhullError

from dpa4_core.errors import plural
from dpa4_flows.analysis.completeness import HullCompleteness, not_recorded, on_hull
from dpa4_flows.plots.figure import (
    PALETTE,
    STABILITY_SCALE,
    UNKNOWN_COLOUR,
    FigureBlock,
    add_line,
    base_figure,
    plot_text,
    stability_colour_bar,
)
from dpa4_flows.plots.placement import place_labels
from dpa4_flows.plots.words import formula_text

MAX_FIGURES = 12
_CAVEAT_WIDTH = 95  # characters of a line under a figure
_MAX_BARS = 36
_MAX_POINTS = 500
_SIDES = ("baxis", "caxis", "aaxis")  # the most electronegative element, usually oxygen, at the top


class _Phase(NamedTuple):
    formula: str
    fractions: dict[str, float]
    formation_energy: float
    distance: float
    source: str
    candidate: bool
    unknown: bool = False  # nothing is known of its distance


def hull_figures(summary: Mapping[str, Mapping[str, Any]], candidate_ids: Collection[str]) -> list[FigureBlock]:
    """Figures for the chemical systems that hold the most candidates, at most `MAX_FIGURES`.

    Args:
        summary: the run's ``hull_summary``: phases with energies in eV/atom by chemical system.
        candidate_ids: ids that mark a phase as a candidate of the campaign.
    """
    systems = []
    for name, system in summary.items():
        phases = sorted(_phases(system, candidate_ids), key=lambda p: p.distance)
        elements = system_elements(name)
        if len(elements) > 1 and phases:
            systems.append((name, elements, system, phases))
    systems.sort(key=lambda item: (-sum(p.candidate for p in item[3]), item[0]))
    return [_figure(*item) for item in systems[:MAX_FIGURES]]


def side_by_side(left: go.Figure, right: go.Figure) -> go.Figure:
    """Two hulls in one figure, with one scale of colours; what is written below them is left out."""
    figure = base_figure(height=max(one.layout.height or 0 for one in (left, right)), showlegend=False)
    top = max(_scale_ends([*left.data, *right.data]), default=0.05)
    for one, number, place in ((left, "", (0.0, 0.43)), (right, "2", (0.56, 0.95))):
        axes = ("ternary",) if one.layout.ternary.sum else ("xaxis", "yaxis")
        for name in axes:
            figure.layout[name + number] = getattr(one.layout, name)
        if axes[0] == "ternary":
            figure.layout["ternary" + number].domain.x = place
        else:
            figure.layout["xaxis" + number].update(domain=place, anchor=f"y{number}")
            figure.layout["yaxis" + number].update(anchor=f"x{number}")
        for trace in one.data:
            where = (
                {"subplot": "ternary" + number}
                if axes[0] == "ternary"
                else {"xaxis": f"x{number}", "yaxis": f"y{number}"}
            )
            trace.update(**where)
            if trace.marker.cmax is not None:
                trace.marker.update(cmax=top, showscale=number == "2" and trace.marker.showscale is not False)
            figure.add_trace(trace)
    return figure


def _scale_ends(traces: Sequence[Any]) -> list[float]:
    return [float(one.marker.cmax) for one in traces if one.marker.cmax is not None]


def system_elements(name: str) -> list[str]:
    """Elements of a chemical system such as ``Co-Li-O``, cations first as in formulas."""
    return sorted(filter(None, name.split("-")), key=_electronegativity)


def _electronegativity(symbol: str) -> tuple[float, str]:
    """Pauling electronegativity, so that cations come first; words that are no element come last."""
    return (float(Element(symbol).X), symbol) if Element.is_valid_symbol(symbol) else (9.0, symbol)


def _figure(name: str, elements: list[str], system: Mapping[str, Any], phases: list[_Phase]) -> FigureBlock:
    draw = {2: _binary, 3: _ternary}.get(len(elements), _distances)
    missing = ", ".join(map(str, system.get("missing") or []))
    number = sum(p.candidate for p in phases)
    total, phases = len(phases), phases[:_MAX_POINTS]
    candidates = plural(number, "candidate") if number else "no candidates"
    caption = f"{system.get('n_competing', '?')} competing phases, {candidates}"
    caption += f". Missing references: {missing}; distances are lower bounds." if missing else "."
    if caveat := hull_caveat(name, system):
        caption += f" {caveat}."
    shown = min(len(phases), _MAX_BARS if draw is _distances else _MAX_POINTS)
    if shown < total:
        caption += f" {shown} of {total} phases are drawn, those closest to the hull first."
    figure = draw(elements, phases)
    if caveat:
        _write_below(figure, caveat)
    return FigureBlock(f"hull-{name}", f"Hull of {'-'.join(elements)}", caption, figure)


def hull_caveat(name: str, system: Mapping[str, Any]) -> str:
    """What to know before a distance of this hull is quoted; empty where a survey stands behind it.

    Args:
        name: chemical system.
        system: its part of the summary; that of an earlier version has no completeness.
    """
    graded = system.get("completeness")
    competing = not_recorded(name) if graded is None else HullCompleteness.model_validate(graded)
    words = "" if competing.grade == "surveyed" else f"{competing.sentence}; distances are lower bounds"
    unknown = sorted({str(p["formula"]) for p in system.get("phases", []) if p.get("verdict") == "unknown"})
    if unknown:
        words += f"{'; ' if words else ''}whether {', '.join(unknown)} is stable is unknown"
    return words


def _write_below(figure: go.Figure, text: str) -> None:
    """A line under a figure, which goes with its picture wherever that is pasted."""
    lines = textwrap.wrap(text, _CAVEAT_WIDTH)
    figure.add_annotation(
        text="<br>".join(plot_text(line) for line in lines),
        xref="paper",
        yref="paper",
        x=0.0,
        y=0.0,
        yshift=-58,  # below the title of the axis
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 10},
    )
    margin = figure.layout.margin
    room = 14 * len(lines) + 20
    figure.update_layout(margin={"b": (margin.b or 48) + room}, height=(figure.layout.height or 360) + room)


def _phases(system: Mapping[str, Any], candidate_ids: Collection[str]) -> list[_Phase]:
    phases = []
    for phase in system.get("phases", []):
        formation, distance = phase.get("formation_energy_per_atom"), phase.get("energy_above_hull")
        if formation is None or distance is None:
            continue
        fractions = phase.get("x")
        if not isinstance(fractions, dict):
            fractions = Composition(phase["formula"]).fractional_composition.get_el_amt_dict()
        source = str(phase.get("source") or "")
        candidate = bool(phase.get("candidate")) or phase.get("entry_id") in candidate_ids
        values = (str(phase["formula"]), fractions, float(formation), float(distance), source, candidate)
        phases.append(_Phase(*values, unknown=phase.get("verdict") == "unknown"))
    return phases


def _symbols(phases: list[_Phase]) -> list[str]:
    return ["diamond-open" if p.unknown else "diamond" if p.candidate else "circle" for p in phases]


def _named(phase: _Phase) -> bool:
    """Whether a compound is labelled: it is stable, or a candidate."""
    return len(phase.fractions) > 1 and (phase.candidate or on_hull(phase.distance))


def _hover(phase: _Phase) -> str:
    distance = "unknown" if phase.unknown else f"{phase.distance:.3f} eV/atom"
    return (
        f"<b>{plot_text(formula_text(phase.formula))}</b>{' (candidate)' if phase.candidate else ''}<br>"
        f"E above hull {distance}<br>formation energy {phase.formation_energy:.3f} eV/atom"
        f"<br>{plot_text(phase.source)}"
    )


def _colours(phases: list[_Phase], **more: Any) -> dict[str, Any]:
    top = max(0.05, min(0.3, max(p.distance for p in phases)))
    return {
        "color": [UNKNOWN_COLOUR if p.unknown else min(p.distance, top) for p in phases],
        "colorscale": STABILITY_SCALE,
        "cmin": 0.0,
        "cmax": top,
        "colorbar": stability_colour_bar(),
        "symbol": _symbols(phases),
        "opacity": 1.0,
        **more,
    }


def _binary(elements: list[str], phases: list[_Phase]) -> go.Figure:
    first, second = elements
    x = [p.fractions.get(second, 0.0) for p in phases]
    figure = base_figure(
        showlegend=False,
        xaxis={"title": {"text": f"Fraction of {second} in {first}–{second}"}, "range": [-0.04, 1.04]},
        yaxis={"title": {"text": "Formation energy (eV/atom)"}},
    )
    stable = {0.0: 0.0, 1.0: 0.0}
    for here, phase in zip(x, phases, strict=True):
        if on_hull(phase.distance):
            stable[here] = min(phase.formation_energy, stable.get(here, 0.0))
    x_hull, y_hull = zip(*sorted(stable.items()), strict=True)
    add_line(figure, x_hull, y_hull, PALETTE[5], hoverinfo="skip")
    figure.add_scatter(
        x=x,
        y=[p.formation_energy for p in phases],
        mode="markers+text",
        text=[plot_text(formula_text(p.formula)) if _named(p) else "" for p in phases],
        textposition="bottom center",
        textfont={"size": 10},
        marker=_colours(phases, size=10),
        customdata=[_hover(p) for p in phases],
        hovertemplate="%{customdata}<extra></extra>",
    )
    return figure


def _ternary(elements: list[str], phases: list[_Phase]) -> go.Figure:
    def corner(i: int, some: list[_Phase]) -> list[float]:
        return [p.fractions.get(elements[i], 0.0) for p in some]

    axis = {"ticks": "", "showticklabels": False, "nticks": 5, "min": 0}
    figure = base_figure(
        height=430,
        showlegend=False,
        margin={"l": 40, "r": 30, "t": 36, "b": 40},
        ternary={
            "sum": 1,
            "bgcolor": "rgba(0,0,0,0)",
            **{side: axis | {"title": {"text": elements[i]}} for i, side in enumerate(_SIDES)},
        },
    )
    lines = _tie_lines(elements, [p for p in phases if on_hull(p.distance)])
    figure.add_scatterternary(
        a=[point[2] for point in lines],
        b=[point[0] for point in lines],
        c=[point[1] for point in lines],
        mode="lines",
        line={"color": PALETTE[5], "width": 1},
        hoverinfo="skip",
    )
    ordered = sorted(phases, key=lambda p: -p.distance)  # stable phases drawn last, on top
    first, second, top = (corner(i, ordered) for i in range(3))
    named = [p for p in reversed(ordered) if _named(p)]
    placed = place_labels(
        [p.fractions.get(elements[1], 0.0) + 0.5 * p.fractions.get(elements[2], 0.0) for p in named],
        [0.866 * p.fractions.get(elements[2], 0.0) for p in named],
        [formula_text(p.formula) for p in named],
        x_range=(-0.1, 1.1),
        y_range=(-0.05, 0.9),
        size=(430.0, 340.0),
    )
    where = {p: k for k, p in enumerate(map(id, named))}
    figure.add_scatterternary(
        a=top,
        b=first,
        c=second,
        cliponaxis=False,
        mode="markers+text",
        text=[plot_text(placed.texts[where[id(p)]]) if id(p) in where else "" for p in ordered],
        textposition=[placed.positions[where[id(p)]] if id(p) in where else "top center" for p in ordered],
        textfont={"size": 10},
        marker=_colours(ordered, size=[10 if p.candidate else 8 for p in ordered], line={"width": 0.6}),
        customdata=[_hover(p) for p in ordered],
        hovertemplate="%{customdata}<extra></extra>",
    )
    return figure


def _tie_lines(elements: list[str], stable: list[_Phase]) -> list[tuple[float | None, float | None, float | None]]:
    """Edges of the lower hull as corner fractions, a gap after each; elements are added at zero energy."""
    corners = np.eye(3)
    points = [[*corner, 0.0] for corner in corners]
    points += [[*(p.fractions.get(e, 0.0) for e in elements), p.formation_energy] for p in stable]
    array = np.array(points)
    try:
        hull = ConvexHull(array[:, [1, 2, 3]])
    except QhullError:  # only the elements, or all in one plane: the triangle itself
        facets = [(0, 1, 2)]
    else:
        facets = [tuple(s) for s, e in zip(hull.simplices, hull.equations, strict=True) if e[2] < -1e-9]
    edges = {tuple(sorted((facet[i], facet[j]))) for facet in facets for i, j in ((0, 1), (1, 2), (0, 2))}
    lines: list[tuple[float | None, float | None, float | None]] = []
    for start, end in sorted(edges):
        for k in (start, end):
            lines.append((float(array[k, 0]), float(array[k, 1]), float(array[k, 2])))
        lines.append((None, None, None))
    return lines


def _distances(elements: list[str], phases: list[_Phase]) -> go.Figure:
    del elements
    compounds = [p for p in phases if len(p.fractions) > 1]
    nearest = sorted(compounds, key=lambda p: (not p.candidate, p.distance))[:_MAX_BARS]
    shown = sorted(nearest, key=lambda p: (p.distance, p.formula))
    names = [f"{plot_text(formula_text(p.formula))}{' ◆' if p.candidate else ''}" for p in shown]
    y = list(range(len(shown)))
    figure = base_figure(
        height=100 + 19 * len(shown),
        showlegend=False,
        margin={"l": 110, "r": 18, "t": 10, "b": 48},
        xaxis={"title": {"text": "E above hull (eV/atom)"}, "rangemode": "tozero", "zeroline": True},
        yaxis={
            "tickvals": y,
            "ticktext": names,
            "range": [len(shown) - 0.5, -0.5],
            "automargin": True,
            "showgrid": False,
            "tickfont": {"size": 10.5},
        },
    )
    figure.add_bar(
        orientation="h",
        x=[p.distance for p in shown],
        y=y,
        width=0.12,
        marker={"color": PALETTE[5]},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[p.distance for p in shown],
        y=y,
        mode="markers",
        marker=_colours(shown, size=9, showscale=False),
        customdata=[_hover(p) for p in shown],
        hovertemplate="%{customdata}<extra></extra>",
        cliponaxis=False,
    )
    return figure
