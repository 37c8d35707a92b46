"""Figures of activities: free energies along the reaction, for each material, too, and the volcano."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np

from dpa4_flows.analysis.activity import levels, volcano
from dpa4_flows.analysis.reactions import REACTIONS, Reaction
from dpa4_flows.documents.activity import ActivityDocument, ActivityFacet
from dpa4_flows.plots.drawing import Drawing, Polygon, Words
from dpa4_flows.plots.figure import (
    PALETTE,
    Block,
    FigureBlock,
    GalleryBlock,
    Mark,
    Picture,
    add_line,
    base_figure,
    plot_text,
)
from dpa4_flows.plots.placement import padded, point_texts, texts_of
from dpa4_flows.plots.words import first_of, formula_text, signed
from dpa4_flows.report.figures_adsorption import scaling
from dpa4_flows.report.figures_surfaces import basis, facet_colours
from dpa4_flows.report.refusals import refusals

_DIAGRAMS = 12  # crystals in one figure
_PICTURES = 120  # of single crystals
_FACETS = 5  # in one of them
_NAMED = 12  # materials without a point that the caption names
_BAR = 0.3  # half the width of a level, in steps
_NEAR = 1.0  # eV, from a top, within which points decide the frame of a volcano
_SAME = 5e-3  # eV, within which two tops of a volcano are one
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 314.0, 170.0, 38.0, 20.0  # pixels of a picture, and of its margins
_MUTED = "#5c6976"


def activity_figures(documents: Mapping[str, ActivityDocument]) -> list[Block]:
    """For each reaction the free energies of the most active facet of every crystal, all facets on the volcano, and
    each crystal alone; then what has no activity.
    """
    found: list[Block] = []
    loaded = dict(documents.items())  # small, in contrast to those of sites
    for name, reaction in REACTIONS.items():
        mine = {key: document for key, document in loaded.items() if document.reaction == name}
        best = {key: one for key, document in mine.items() if (one := _best(document)) is not None}
        if best:
            active = {key: mine[key] for key in sorted(best, key=lambda key: _from_ideal(best[key]))}
            found += [_volcano(reaction, active, mine), _diagram(reaction, active, best), _each(reaction, active)]
            found += scaling(reaction, active)
    return [*found, *refusals("activity", "activity", loaded)]


def _best(document: ActivityDocument) -> ActivityFacet | None:
    if document.overpotential is None:
        return None
    return next(facet for facet in document.facets if facet.name == document.best_facet)


def _from_ideal(facet: ActivityFacet) -> float:
    """From the top of the volcano, where this is known; else the overpotential."""
    return (facet.overpotential or 0.0) if facet.from_top is None else abs(facet.from_top)


# ---- volcano ---------------------------------------------------------------------------------------------------------


_SIGNS = {"site": ("circle-open", 6, 0), "facet": ("circle", 8, 0), "mean": ("diamond-open", 13, 1)}
"""Sign, size and colour of what is on a volcano, the last ones on top."""
_TITLES = {"site": "other sites", "facet": "facets, best sites", "mean": "mean over the shape"}


class _Point(NamedTuple):
    """A site, a facet with its best sites, or the mean of a crystal on the volcano."""

    kind: str
    label: str
    hover: str
    x: float
    y: float
    level: str


def _volcano(
    reaction: Reaction, active: Mapping[str, ActivityDocument], documents: Mapping[str, ActivityDocument]
) -> FigureBlock:
    points = sorted(_points(reaction, active), key=lambda point: -[*_SIGNS].index(point.kind))  # means are named first
    marks = list(_marks(reaction, active))
    tops = [reaction.top, *(place for place, _, _ in marks)]
    near = [one for one in points if min(abs(one.x - top) for top in tops) < _NEAR] or points
    x_range = padded([*(one.x for one in near), *tops], 0.12)
    y_range = padded([*(one.y for one in near), volcano(reaction, reaction.top)], 0.12)
    figure = base_figure(
        height=460,
        xaxis={"title": {"text": f"{reaction.descriptor} (eV)"}, "range": x_range},
        yaxis={"title": {"text": "Limiting potential against RHE (V)"}, "range": y_range},
    )
    first, last = padded([*x_range, *(one.x for one in points)], 0.05)
    curve = sorted([*np.linspace(first, last, 401).tolist(), reaction.top])
    limits = [volcano(reaction, value) for value in curve]
    add_line(figure, curve, limits, PALETTE[5], "scaling lines", dash="dot", hoverinfo="skip")
    x, y = [one.x for one in points], [one.y for one in points]
    texts = point_texts(x, y, [one.label for one in points], x_range, y_range, width=1080.0)
    theories = list(dict.fromkeys(one.level for one in points))
    for level in theories:
        for kind, (symbol, size, colour) in _SIGNS.items():
            chosen = [i for i, one in enumerate(points) if (one.kind, one.level) == (kind, level)]
            other = level != theories[0]
            if chosen:
                figure.add_scatter(
                    x=[x[i] for i in chosen],
                    y=[y[i] for i in chosen],
                    mode="markers+text",
                    **texts_of(texts, chosen),
                    textfont={"size": 11},
                    marker={
                        "size": size,
                        "symbol": symbol.replace("circle", "square") if other else symbol,
                        "color": PALETTE[3 * other + colour],
                    },
                    customdata=[points[i].hover for i in chosen],
                    hovertemplate="%{customdata}<extra></extra>",
                    name=plot_text(f"{_TITLES[kind]}, {level}" if len(theories) > 1 else _TITLES[kind]),
                )
    for (place, words, _), end in zip(marks, ("bottom right", "top right"), strict=False):
        line = {"color": PALETTE[4], "width": 1, "dash": "dash"}
        note = {"text": words, "font": {"size": 10.5, "color": PALETTE[4]}}
        figure.add_vline(x=place, line=line, annotation=note, annotation_position=end)
    caption = _volcano_words(reaction, points, theories)
    caption += "".join(f"Dashed, {words}: {meaning} {signed(place)} eV. " for place, words, meaning in marks)
    if beyond := [one.label for one in points if one.label and one not in near]:
        caption += f"Beyond the frame, more than {_NEAR:g} eV from the top (zoom out): {_listed(beyond)}. "
    unnamed = [one for text, one in zip(texts["text"], points, strict=True) if one.label and not text]
    if unlabelled := sum(one in near for one in unnamed):
        caption += f"{unlabelled} points have no room for a name: point at them. "
    caption += _without_point(active, documents) + basis(document.provenance for document in active.values())
    return FigureBlock(f"volcano-{reaction.name}", f"Volcano of {reaction.title}", caption, figure, wide=True)


def _volcano_words(reaction: Reaction, points: Sequence[_Point], theories: Sequence[str]) -> str:
    words = "Filled: every facet, from its best intact sites; diamonds: the mean over the equilibrium shape, by area. "
    if any(one.kind == "site" for one in points):
        words += "Open circles: the other kinds of sites of a facet. "
    words += (
        f"Dotted: where surfaces on the common scaling lines lie, with the top at {reaction.descriptor} = "
        f"{signed(reaction.top)} eV. Thermodynamic limits in the numbers of this model, without barriers: points of "
        "other functionals do not belong here. "
    )
    if len(theories) > 1:
        words += "Squares are of another level of theory and must not be compared with circles. "
    return words


def _points(reaction: Reaction, active: Mapping[str, ActivityDocument]) -> Iterator[_Point]:
    for name, document in active.items():
        level, formula = document.provenance.level_of_theory, formula_text(document.formula)
        who = f"<b>{plot_text(_who(name, document))}</b>"
        for facet in document.facets:
            if facet.descriptor is None or facet.limiting_potential is None:
                continue
            share = "" if facet.share is None else f", {facet.share:.0%} of the shape"
            hover = f"{who} ({facet.name}{share})<br>{facet.descriptor:.2f} eV, {facet.limiting_potential:.2f} V"
            hover += f"<br>{plot_text(facet.limiting_step or '')}"
            yield _Point("facet", f"{formula} ({facet.name})", hover, facet.descriptor, facet.limiting_potential, level)
            if len(reaction.weights) == 1:  # else no site has a descriptor of its own
                for kind, x in facet.other_sites.get(next(iter(reaction.weights)), {}).items():
                    hover = f"{who} ({facet.name})<br>{plot_text(kind.replace('_', ' '))}: {x:.2f} eV"
                    yield _Point("site", "", hover, x, volcano(reaction, x), level)
        if document.weighted and document.mean_descriptor is not None and document.mean_limiting_potential is not None:
            x, y = document.mean_descriptor, document.mean_limiting_potential
            yield _Point("mean", formula, f"{who}, mean over the shape<br>{x:.2f} eV, {y:.2f} V", x, y, level)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _without_point(active: Mapping[str, ActivityDocument], documents: Mapping[str, ActivityDocument]) -> str:
    lacking = [
        f"{_who(name, document)} ({(document.error_code or 'adsorbate_missing').replace('_', ' ')})"
        for name, document in documents.items()
        if name not in active
    ]
    if not lacking:
        return ""
    return f"Without a point: {_listed(lacking)}; the table of what was refused says why. "


def _marks(reaction: Reaction, documents: Mapping[str, ActivityDocument]) -> Iterator[tuple[float, str, str]]:
    """Where the reference lies and where it puts the top of the volcano: place, a few words, and a sentence."""
    for reference in dict.fromkeys(one.reference for one in documents.values() if one.reference is not None):
        yield (
            reference,
            "reference",
            f"{reaction.descriptor} of platinum (111) with this model, or that of the settings,",
        )
    facets = [facet for document in documents.values() for facet in document.facets]
    tops = [f.descriptor - f.from_top for f in facets if f.descriptor is not None and f.from_top is not None]
    for top in dict.fromkeys(round(top, 3) for top in tops):
        if abs(top - reaction.top) > _SAME:
            meaning = "the top counted from platinum, by which surfaces rank, since functionals agree on distances, at"
            yield top, "calibrated top", meaning


def _who(name: str, document: ActivityDocument) -> str:
    formula = formula_text(document.formula)
    return formula if name == document.formula else f"{formula}, {name}"


# ---- steps -----------------------------------------------------------------------------------------------------------


def _diagram(
    reaction: Reaction, active: Mapping[str, ActivityDocument], best: Mapping[str, ActivityFacet]
) -> FigureBlock:
    along = np.arange(len(reaction.states), dtype=float)
    figure = base_figure(
        height=420,
        xaxis={"tickvals": along.tolist(), "ticktext": [state.name for state in reaction.states], "showgrid": False},
        yaxis={"title": {"text": f"Free energy at {reaction.equilibrium:.2f} V (eV)"}},
    )
    figure.update_xaxes(zeroline=False)
    for name, colour in zip(islice(active, _DIAGRAMS), cycle(PALETTE), strict=False):
        document, facet = active[name], best[name]
        x = np.column_stack([along - _BAR, along + _BAR]).ravel()
        y = np.repeat(levels(reaction, facet.free_energies, reaction.equilibrium), 2)
        hover = plot_text(_who(name, document)) + ": %{y:.2f} eV<extra></extra>"
        label = plot_text(f"{formula_text(document.formula)} ({facet.name})")
        add_line(figure, x, y, colour, label, width=2, hovertemplate=hover)
    caption = (
        "The best facet of each crystal at the equilibrium potential, where an ideal catalyst is level: every step up "
        f"costs overpotential. {_first(len(active), _DIAGRAMS)}"
    )
    caption += basis(document.provenance for document in islice(active.values(), _DIAGRAMS))
    return FigureBlock(f"steps-{reaction.name}", f"Steps of {reaction.title}", caption, figure, wide=True)


def _first(found: int, most: int) -> str:
    return f"The best {most} of {found}. " if found > most else ""


def _each(reaction: Reaction, active: Mapping[str, ActivityDocument]) -> GalleryBlock:
    """A small diagram of each crystal with its facets, all on one scale."""
    shown = dict(islice(active.items(), _PICTURES))
    facets = {name: sorted(filter(_known, one.facets), key=_from_ideal)[:_FACETS] for name, one in shown.items()}
    along = [levels(reaction, one.free_energies, reaction.equilibrium) for found in facets.values() for one in found]
    span = padded([energy for energies in along for energy in energies], 0.08)
    colours = facet_colours(one.name for found in facets.values() for one in found)
    pictures = [_steps(reaction, name, document, facets[name], colours, span) for name, document in shown.items()]
    caption = (
        f"Free energies at {reaction.equilibrium:.2f} V, eV, all on one scale. Bold: the facet nearest to the top "
        "of the volcano, or with the least overpotential where the top is not known; arrow: the step that limits it. "
    )
    caption += basis(document.provenance for document in shown.values())
    title = f"Steps of {reaction.title}, each material"
    return GalleryBlock(f"each-{reaction.name}", title, caption, pictures, first_of(len(active), _PICTURES))


def _known(facet: ActivityFacet) -> bool:
    return facet.overpotential is not None


def _steps(
    reaction: Reaction,
    name: str,
    document: ActivityDocument,
    facets: Sequence[ActivityFacet],
    colours: Mapping[str, str],
    span: Sequence[float],
) -> Picture:
    width = (_WIDTH - _LEFT - 62) / len(reaction.states)
    top = _HEIGHT - _BOTTOM

    def right(step: float) -> float:
        return _LEFT + (step + 0.5) * width

    def down(energy: float) -> float:
        return 4 + (span[1] - energy) / (span[1] - span[0]) * (top - 8)

    shapes: list[Polygon | Words] = [Polygon([(_LEFT, 2), (_LEFT, top), (_WIDTH - 58, top)], stroke=_MUTED, width=0.8)]
    for tick in _ticks(span):
        shapes.append(Polygon([(_LEFT - 3, down(tick)), (_LEFT, down(tick))], stroke=_MUTED, width=0.8))
        shapes.append(Words(_LEFT - 5, down(tick) + 3.5, signed(tick, 1) if tick else "0", 10, "end", _MUTED))
    for i, state in enumerate(reaction.states):
        shapes.append(Words(right(i), _HEIGHT - 6, state.name, 10.5, "middle"))
    for row, facet in reversed(list(enumerate(facets))):
        along = levels(reaction, facet.free_energies, reaction.equilibrium)
        colour, best = colours[facet.name], facet.name == document.best_facet
        for i, energy in enumerate(along):
            shapes.append(
                Polygon(
                    [(right(i - _BAR), down(energy)), (right(i + _BAR), down(energy))],
                    stroke=colour,
                    width=3 if best else 1.5,
                )
            )
            if i:
                ends = [(right(i - 1 + _BAR), down(along[i - 1])), (right(i - _BAR), down(energy))]
                shapes.append(Polygon(ends, stroke=colour, width=0.8, dash=2))
        shapes.append(Words(_WIDTH, 16.0 + 15 * row, f"({facet.name})", 10.5, "end", colour))
        if best:
            i = 1 + [step.name for step in facet.steps].index(facet.limiting_step or "")
            shapes += _arrow(right(i - 0.5), down(along[i - 1]), down(along[i]))
    lines = [
        f"({document.best_facet}): {document.limiting_step} limits at {signed(document.limiting_potential or 0.0)} V, "
        f"overpotential {document.overpotential or 0.0:.2f} V"
    ]
    if document.weighted and document.mean_overpotential is not None:
        lines.append(f"mean over the equilibrium shape {document.mean_overpotential:.2f} V")
    if len(document.facets) > len(facets):
        lines.append(f"{len(document.facets) - len(facets)} more facets are not drawn")
    marks = [Mark(reason.code, reason.sentence) for facet in facets[:1] for reason in facet.reasons]
    drawing = Drawing(_WIDTH, _HEIGHT, shapes, f"steps of {reaction.title} on {name}")
    return Picture(_who(name, document), [drawing], lines, marks)


def _arrow(x: float, start: float, end: float) -> list[Polygon]:
    """Up or down; nothing where the step is level."""
    if abs(end - start) < 6:
        return []
    head = 4 if end > start else -4
    tip = [(x - 3, end - head), (x, end), (x + 3, end - head)]
    return [Polygon([(x, start), (x, end)], width=1.2), Polygon(tip, width=1.2)]


def _ticks(span: Sequence[float]) -> list[float]:
    """Round energies."""
    wide = span[1] - span[0]
    step = next((one for one in (0.1, 0.2, 0.5, 1.0, 2.0) if wide / one <= 6), 5.0)
    return [step * k for k in range(int(np.ceil(span[0] / step)), int(np.floor(span[1] / step)) + 1)]
