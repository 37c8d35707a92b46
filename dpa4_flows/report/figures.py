"""Figures that every campaign has: the funnel as a Sankey diagram and what the scores are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dpa4_flows.campaigns.snapshot import INPUT, Row, Snapshot
from dpa4_flows.plots.figure import PALETTE, FigureBlock, base_figure, plot_text
from dpa4_flows.plots.words import formula_text

_KINDS = {"ranked": "end", "passed": "end", "in progress": "waiting", "rejected": "left", "error": "left"}
_BANDS = {
    "on": "rgba(86,155,119,.45)",
    "end": "rgba(86,155,119,.45)",
    "waiting": "rgba(122,138,153,.38)",
    "left": "rgba(189,95,85,.38)",
}
_FLAGGED = "rgba(211,147,50,.50)"
_FUNNEL_HEIGHT = 336  # pixels
_BAND_SHARE = 0.91
_MAX_SCORE_BARS = 20


def funnel_figure(snapshot: Snapshot) -> FigureBlock | None:
    """Sankey diagram of all candidates: from stage to stage, and out at each of them."""
    if not snapshot.stages:
        return None
    nodes = _FunnelNodes(snapshot)
    links: dict[str, list[Any]] = {"source": [], "target": [], "value": [], "color": [], "customdata": []}
    for (source, target, verdict), number in snapshot.links.items():
        kind = _KINDS.get(target, "on")
        colour = _FLAGGED if verdict == "flagged" and kind in ("on", "end") else _BANDS[kind]
        words = {"on": "passed", "end": target, "waiting": "waiting for the next stage"}.get(kind)
        words = words or _main_reasons(snapshot, source)
        if verdict == "flagged":
            words = f"{words}, with a warning"
        goal = nodes.index[target if kind in ("on", "end") else (source, kind)]
        for name, value in zip(links, (nodes.index[source], goal, number, colour, words), strict=True):
            links[name].append(value)
    figure = base_figure(
        height=_FUNNEL_HEIGHT + 64, margin={"l": 6, "r": 22, "t": 58, "b": 6}, annotations=nodes.annotations
    )
    figure.add_sankey(
        arrangement="fixed",
        node={
            "customdata": nodes.labels,
            "x": nodes.x,
            "y": nodes.y,
            "color": nodes.colours,
            "pad": nodes.pad,
            "thickness": 10,
            "line": {"width": 0},
            "hovertemplate": "%{customdata}<extra></extra>",
        },
        link=links | {"hovertemplate": "%{value} candidates<br>%{customdata}<extra></extra>"},
    )
    caption = "Green passed, amber passed with a warning, red left. Point at a red band for its main reasons."
    if any(isinstance(key, tuple) and key[1] == "waiting" for key in nodes.index):
        caption += " Grey waits for the next stage."
    return FigureBlock("funnel-sankey", "Flow of candidates", caption, figure, wide=True)


class _FunnelNodes:
    """Nodes of the funnel at fixed places: stages along the top, who leaves or waits below to the right.

    Attributes:
        index: number of a node by stage, by ``ranked`` or ``passed``, or by (stage, ``left`` or ``waiting``).
        pad: least distance of nodes in a column, pixels. All outcomes share the last column of plotly's own
            layout, which sets the scale; with this pad the bands take the same share of the height always.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.labels: list[str] = []
        self.x: list[float] = []
        self.y: list[float] = []
        self.colours: list[str] = []
        self.annotations: list[dict[str, Any]] = []
        self.index: dict[str | tuple[str, str], int] = {}
        order = [INPUT, *(stage.stage for stage in snapshot.stages)]
        total = max(len(snapshot.outcomes), 1)
        step = 1.0 / len(order)
        through: Counter[str] = Counter({INPUT: len(snapshot.outcomes)})
        branches: Counter[tuple[str, str]] = Counter()
        for (source, target, _), number in snapshot.links.items():
            through[target] += number
            if (kind := _KINDS.get(target)) in ("left", "waiting"):
                branches[source, kind] += number
        for i, name in enumerate(order):
            y = 0.5 * _BAND_SHARE * through[name] / total
            self._add(name, f"{snapshot.funnel.title(name)}: {through[name]}", i * step, y, PALETTE[0])
            self._title(snapshot.funnel.title(name), through[name], i * step)
        ends = [name for name, kind in _KINDS.items() if kind == "end" and through[name]]
        for name in ends:  # at most one: a finished run ranks all that passed, or none
            y = 0.5 * _BAND_SHARE * through[name] / total
            self._add(name, f"{name.capitalize()}: {through[name]}", 1.0, y, PALETTE[2])
            self._title(name.capitalize(), through[name], 1.0)
        # plotly orders the bands of a node by the order of nodes: late branches lie above early ones
        for i, name in reversed(list(enumerate(order))):
            top = (through[name] - branches[name, "waiting"] - branches[name, "left"]) / total
            gap = 1.0 - _BAND_SHARE
            for kind, colour in (("waiting", PALETTE[5]), ("left", PALETTE[4])):
                number = branches[name, kind]
                if number:
                    y = _BAND_SHARE * (top + 0.5 * number / total) + gap
                    self._add((name, kind), f"{kind.capitalize()}: {number}", (i + 0.62) * step, y, colour)
                    self._count(f"−{number}" if kind == "left" else f"{number}<br>wait", (i + 0.62) * step, y)
                    top += number / total
        outcomes = len(ends) + sum(number > 0 for number in branches.values())
        self.pad = (1.0 - _BAND_SHARE) * _FUNNEL_HEIGHT / max(outcomes - 1, 1)

    def _add(self, key: str | tuple[str, str], label: str, x: float, y: float, colour: str) -> None:
        self.index[key] = len(self.labels)
        self.labels.append(plot_text(label))
        self.x.append(min(max(x, 0.001), 0.999))
        self.y.append(min(max(y, 0.001), 0.999))
        self.colours.append(colour)

    def _title(self, title: str, number: int, x: float) -> None:
        side = "right" if x >= 0.999 else "left"
        text = f"{plot_text(title).replace(' ', '<br>', 1)}<br><b>{number}</b>"
        self._annotate(text, x, 1.0, yanchor="bottom", yshift=2, align=side, xanchor=side)

    def _count(self, text: str, x: float, y: float) -> None:
        self._annotate(text, x, 1.0 - y, yanchor="middle", xanchor="left", xshift=13)

    def _annotate(self, text: str, x: float, y: float, **place: Any) -> None:
        frame = {"showarrow": False, "xref": "paper", "yref": "paper", "font": {"size": 11}}
        self.annotations.append(frame | {"text": text, "x": x, "y": y} | place)


def score_figure(snapshot: Snapshot, rows: Sequence[Row]) -> FigureBlock | None:
    """Stacked bars: the contribution of each property to the scores of the best candidates."""
    ranked = [row.ranked for row in rows if row.ranked is not None and row.ranked.score_parts][:_MAX_SCORE_BARS]
    if not ranked:
        return None
    quantity = snapshot.funnel.quantity
    names = sorted({name for row in ranked for name in row.score_parts}, key=lambda n: (quantity(n).priority, n))
    figure = base_figure(
        height=110 + 24 * len(ranked),
        barmode="relative",
        margin={"l": 120, "r": 18, "t": 14, "b": 48},
        xaxis={"title": {"text": "Score (dimensionless)"}},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category", "showgrid": False},
    )
    ticks = [f"{row.rank}  {plot_text(formula_text(row.formula))}" for row in ranked]
    for i, name in enumerate(names):
        figure.add_bar(
            orientation="h",
            name=plot_text(quantity(name).label),
            x=[row.score_parts.get(name, 0.0) for row in ranked],
            y=ticks,
            marker={"color": PALETTE[i % len(PALETTE)]},
            hovertemplate="%{fullData.name}: %{x:.3f}<extra>%{y}</extra>",
        )
    caption = f"Contribution of each ranked property, best {len(ranked)} candidates with their rank."
    spans = [high - low for low, high in (row.score_interval or (0.0, 0.0) for row in ranked)]
    if any(span > 0 for span in spans):
        figure.add_bar(
            orientation="h",
            name="unknown",
            x=spans,
            y=ticks,
            marker={"color": "rgba(0,0,0,0)", "line": {"width": 1, "color": PALETTE[5]}},
            hovertemplate="unknown: 0 to %{x:.3f}<extra>%{y}</extra>",
        )
        caption += " Hollow: what a missing or void property could add; it does not rank."
    return FigureBlock("scores", "What the scores are made of", caption, figure)


def _main_reasons(snapshot: Snapshot, stage: str, limit: int = 3) -> str:
    reasons = [r for r in snapshot.reasons if r.stage == stage]
    lines = [f"{r.number} × {plot_text(r.reason)[:90]}" for r in reasons[:limit]]
    if len(reasons) > limit:
        lines.append(f"and {len(reasons) - limit} other reasons")
    return "<br>".join(lines) or "left"
