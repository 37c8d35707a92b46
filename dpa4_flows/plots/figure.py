"""What all figures share: frame, colours, words; and the blocks that a page is made of.

Colours of text, axes and grid are left to the page, which knows whether it is light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup
from numpy.typing import ArrayLike

from dpa4_flows.plots.drawing import Drawing
from dpa4_flows.plots.words import first_of, formula_text

PALETTE = ("#3b7dab", "#d39332", "#569b77", "#8f78b8", "#bd5f55", "#7a8a99", "#b3a23c", "#4aa3a8")
STABILITY_SCALE = [[0.0, "#3b7dab"], [0.35, "#7fb08a"], [0.65, "#e0b24a"], [1.0, "#bf4b3d"]]
"""Blue on the hull, red far above it; middle tones that show on white and on black."""
UNKNOWN_COLOUR = PALETTE[5]
"""Of what nothing is known: grey, and on no scale."""
CURVES = 12
"""Materials in one figure."""

T = TypeVar("T")


@dataclass(frozen=True)
class FigureBlock:
    """A figure with its words. ``name`` is its id in the page; ``wide`` figures take the full width."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    wide: bool = False


class Column(NamedTuple):
    """Head of a column of a `TableBlock`."""

    label: str
    unit: str = ""
    number: bool = False


def numbers(*heads: str) -> list[Column]:
    """Columns of numbers; the unit of one stands in parentheses, ``"Force MAE (meV/Å)"``."""
    return [Column(label, unit.rstrip(")"), number=True) for label, _, unit in (head.partition(" (") for head in heads)]


@dataclass(frozen=True)
class TableBlock:
    """A table with its words; cells are text, or HTML that is safe."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Markup]]
    notes: str = ""


class Mark(NamedTuple):
    """What is to be known of a picture: a few words, and a sentence.

    ``bad`` marks are of what is not what was asked for.
    """

    words: str
    sentence: str
    bad: bool = False


@dataclass(frozen=True)
class Picture:
    """Drawings side by side with what stands below them.

    Attributes:
        title: of the picture.
        drawings: views of one thing.
        lines: text.
        marks: codes with their sentences.
    """

    title: str
    drawings: Sequence[Drawing]
    lines: Sequence[str] = ()
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class GalleryBlock:
    """Pictures with their words; a ``folded`` one shows its title until it is opened."""

    name: str
    title: str
    caption: str
    pictures: Sequence[Picture]
    notes: str = ""
    folded: bool = False

    def _repr_html_(self) -> str:
        """For a notebook."""
        figures = Markup("").join(
            Markup('<figure style="width:330px;margin:0">{}<figcaption><b>{}</b>{}</figcaption></figure>').format(
                Markup("").join(drawing.svg() for drawing in picture.drawings),
                picture.title,
                Markup("").join(
                    Markup("<br>{}").format(line)
                    for line in (*picture.lines, *(f"{mark.words}: {mark.sentence}" for mark in picture.marks))
                ),
            )
            for picture in self.pictures
        )
        page = Markup('<h4>{}</h4><p>{}</p><div style="display:flex;flex-wrap:wrap;gap:16px">{}</div>')
        return page.format(self.title, self.caption, figures)


Block = FigureBlock | TableBlock | GalleryBlock


def badge(words: str, good: bool) -> Markup:
    """A verdict in a cell of a table."""
    return Markup('<span class="badge {}">{}</span>').format("good" if good else "bad", words)


def base_figure(*, height: int = 380, **layout: Any) -> go.Figure:
    """Empty figure with the margins and fonts of the report."""
    settings: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 62, "r": 18, "t": 14, "b": 54},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "hoverlabel": {"font": {"size": 12}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
    }
    return go.Figure(layout=settings | layout)


def coloured(found: Mapping[str, T] | Sequence[tuple[str, T]], most: int = CURVES) -> Iterator[tuple[str, T, str]]:
    """The first ones, by name as a legend shows it, and a colour for each."""
    pairs = found.items() if isinstance(found, Mapping) else found
    for (name, one), colour in zip(islice(pairs, most), cycle(PALETTE), strict=False):
        yield plot_text(name), one, colour


def add_line(
    figure: go.Figure,
    x: Any,
    y: Any,
    colour: str,
    name: str | None = None,
    *,
    width: float = 1.5,
    dash: str | None = None,
    **more: Any,
) -> None:
    """Draw a line; ``more`` is what plotly takes for a scatter."""
    line = {"color": colour, "width": width} | ({} if dash is None else {"dash": dash}) | more.pop("line", {})
    figure.add_scatter(x=x, y=y, line=line, **{"mode": "lines", "name": name, **more})


def add_points(
    figure: go.Figure, x: Any, y: Any, colour: str, name: str | None = None, *, size: float = 7, **more: Any
) -> None:
    """Draw points, in the same way."""
    marker = {"color": colour, "size": size} | more.pop("marker", {})
    figure.add_scatter(x=x, y=y, marker=marker, **{"mode": "markers", "name": name, **more})


def captioned(words: str, found: int, most: int = CURVES) -> str:
    """``words``, and how many of ``found`` are not drawn."""
    return f"{words} {first_of(found, most)}".strip()


def histogram(name: str, title: str, caption: str, axis: str, values: ArrayLike, bins: int) -> FigureBlock:
    """How often which values occur among structures."""
    values = np.asarray(values, float)
    counts, edges = np.histogram(values, bins=min(bins, len(values)))
    figure = base_figure(height=280, bargap=0.02, xaxis={"title": axis}, yaxis={"title": "structures"})
    middles = (edges[:-1] + edges[1:]) / 2
    figure.add_bar(x=middles, y=counts, width=np.diff(edges), marker={"color": PALETTE[0]})
    return FigureBlock(f"distribution-{name}", title, caption, figure)


def plot_text(text: str) -> str:
    """Text that plotly shows as it is: it would read markup otherwise."""
    return html.escape(text, quote=False)


def point_name(formula: str, name: str) -> str:
    """Formula and id of a candidate for hover labels."""
    return f"<b>{plot_text(formula_text(formula))}</b><br>{plot_text(name)}"


def stability_colour_bar(title: str = "E above hull<br>(eV/atom)") -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 11}},
        "thickness": 10,
        "len": 0.85,
        "outlinewidth": 0,
        "xpad": 4,
    }
