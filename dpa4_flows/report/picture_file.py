"""Blocks of a page as one PNG or SVG file: figures and pictures below one another, with their words and the caveats."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing
from dpa4_flows.plots.drawing import INK
from dpa4_flows.plots.figure import Block, FigureBlock, GalleryBlock, Picture

_FORMATS = (".png", ".svg")
_MOST = 90  # pictures of one block
_WIDTH, _MARGIN, _COLUMNS = 10.5, 0.25, 3  # inches, and pictures in a row
_SMALL, _HEAD = 7.5, 11.0  # points
_PIXEL = 1 / 102  # inches: two views fit beside one another
_DASHES = {"dot": ":", "dash": "--"}
_MARKERS = {"square": "s", "square-open": "s", "diamond": "D", "diamond-open": "D", "star": "*", "x-open": "X"}
_MARKERS |= {"triangle-up": "^", "triangle-down": "v"}
_ASIDE = {"left": (-6, "right"), "center": (0, "center"), "right": (6, "left")}
_UP = {"top": (6, "bottom"), "middle": (0, "center"), "bottom": (-6, "top")}


def check_format(path: Path) -> None:
    """Refuse a file that cannot be drawn, before anything is computed.

    Raises:
        DPA4Error: another ending.
    """
    if path.suffix.lower() not in _FORMATS:
        raise DPA4Error(
            f"cannot tell the format from {path.name!r}; end the name of the plot in .png or .svg; --report writes HTML"
        )


def write_pictures(path: Path, blocks: Sequence[Block], caveats: Sequence[str]) -> None:
    """Draw the figures and the pictures; tables are left to the page.

    Args:
        path: file that ends in .png or .svg.
        blocks: what a page would show.
        caveats: what to know before the numbers are quoted; they stand below.

    Raises:
        DPA4Error: nothing can be drawn, or another ending.
    """
    check_format(path)
    sheet = _Sheet()
    for block in blocks:
        if isinstance(block, FigureBlock):
            sheet.words(block.title, _HEAD)
            sheet.add(0.5, 0.35, _WIDTH - 1.0, block.figure.layout.height * _PIXEL, partial(_plot, figure=block.figure))
            sheet.down += 0.45  # names of the ticks and of the axis
            sheet.words(block.caption, _SMALL)
        elif isinstance(block, GalleryBlock):
            sheet.words(block.title, _HEAD)
            sheet.words(block.caption, _SMALL)
            sheet.gallery(block.pictures[:_MOST])
            more = len(block.pictures) - _MOST
            sheet.words(f"{more} more pictures are in the page (--report). {block.notes}" if more > 0 else block.notes)
    if not sheet.panels:
        raise DPA4Error("there is nothing to draw: no figure and no picture came out")
    for sentence in caveats:
        sheet.words(f"• {sentence}", _SMALL)
    sheet.save(path)


class _Panel(NamedTuple):
    """Something on the sheet, inches from the upper left corner, and what draws it on axes."""

    left: float
    top: float
    width: float
    height: float
    draw: Callable[[Any], None]


class _Sheet:
    """Panels from the top down; ``down`` is where the next one begins."""

    def __init__(self) -> None:
        self.panels: list[_Panel] = []
        self.down = _MARGIN

    def add(self, left: float, below: float, width: float, height: float, draw: Callable[[Any], None]) -> None:
        """A panel ``below`` the last one; the next comes under it."""
        self.panels.append(_Panel(_MARGIN + left, self.down + below, width, height, draw))
        self.down += below + height

    def words(self, text: str, size: float = _SMALL, left: float = 0.0, width: float = _WIDTH - 2 * _MARGIN) -> None:
        """Text in as many lines as it needs."""
        lines = textwrap.wrap(text, max(int(width * 72 / (0.52 * size)), 20))
        if lines:
            height, gap = len(lines) * 1.3 * size / 72, 0.2 if size == _HEAD else 0.06
            self.add(left, gap, width, height, partial(_write, text="\n".join(lines), size=size))

    def gallery(self, pictures: Sequence[Picture]) -> None:
        """Rows of pictures with their words below each."""
        wide = (_WIDTH - 2 * _MARGIN) / _COLUMNS
        for start in range(0, len(pictures), _COLUMNS):
            top, lowest = self.down, self.down
            for column, picture in enumerate(pictures[start : start + _COLUMNS]):
                self.down, left = top + 0.1, column * wide
                for drawing in picture.drawings:
                    width, height = drawing.width * _PIXEL, drawing.height * _PIXEL
                    self.panels.append(_Panel(_MARGIN + left, self.down, width, height, drawing.draw))
                    left += width + 0.04
                self.down += max(drawing.height for drawing in picture.drawings) * _PIXEL
                place = {"left": column * wide, "width": wide - 0.15}
                self.words(picture.title, _SMALL + 1, **place)
                for line in (*picture.lines, *(f"{mark.words}: {mark.sentence}" for mark in picture.marks)):
                    self.words(line, **place)
                lowest = max(lowest, self.down)
            self.down = lowest

    def save(self, path: Path) -> None:
        whole = self.down + _MARGIN
        figure = Figure(figsize=(_WIDTH, whole), facecolor="white")
        FigureCanvasAgg(figure)
        for panel in self.panels:
            bottom = 1 - (panel.top + panel.height) / whole
            panel.draw(figure.add_axes((panel.left / _WIDTH, bottom, panel.width / _WIDTH, panel.height / whole)))
        with replacing(path) as part:
            figure.savefig(part, dpi=160, format=path.suffix.lower().removeprefix("."))


def _write(axes: Any, *, text: str, size: float) -> None:
    axes.set_axis_off()
    look = {"va": "top", "linespacing": 1.25, "color": INK, "parse_math": False}
    axes.text(0, 1, text, fontsize=size, transform=axes.transAxes, **look)


def _plot(axes: Any, *, figure: Any) -> None:
    """Lines, points and their names of a plotly figure."""
    for trace in figure.data:
        line, marker = trace.line, trace.marker
        x, y, mode, label = list(trace.x), list(trace.y), trace.mode or "lines", trace.name and _plain(trace.name)
        if "lines" in mode:
            style = {"linestyle": _DASHES.get(line.dash, "-"), "linewidth": 0.75 * (line.width or 2)}
            axes.plot(x, y, color=line.color, label=label, **style)
        if "markers" in mode:
            hollow = str(marker.symbol).endswith("-open")
            shape, inside = _MARKERS.get(marker.symbol, "o"), "none" if hollow else marker.color
            own = None if "lines" in mode else label
            look = {"facecolors": inside, "edgecolors": marker.color, "zorder": 3, "label": own}
            axes.scatter(x, y, s=(0.75 * (marker.size or 6)) ** 2, marker=shape, **look)
        for place, text, where in zip_longest(zip(x, y, strict=True), trace.text or (), trace.textposition or ()):
            if text:
                upright, aside = where.split()
                (right, across), (up, along) = _ASIDE[aside], _UP[upright]
                look = {"textcoords": "offset points", "fontsize": _SMALL, "ha": across, "va": along}
                axes.annotate(_plain(text), place, (right, up), **look)
    for shape in figure.layout.shapes:
        axes.axvline(shape.x0, color=shape.line.color, linewidth=1, linestyle=_DASHES.get(shape.line.dash, "-"))
    for note in figure.layout.annotations:
        look = {"fontsize": _SMALL, "color": note.font.color, "va": "top", "xycoords": axes.get_xaxis_transform()}
        height = 1.0 if note.yanchor == "top" else 0.04
        axes.annotate(f" {_plain(note.text)}", (note.x, height), **look)
    for axis, described in (("x", figure.layout.xaxis), ("y", figure.layout.yaxis)):
        axes.set(**{f"{axis}label": _plain(described.title.text or "")})
        if described.range:
            axes.set(**{f"{axis}lim": described.range})
        if described.tickvals:
            axes.set(**{f"{axis}ticks": described.tickvals, f"{axis}ticklabels": described.ticktext})
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=_SMALL, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))


def _plain(text: str) -> str:
    """Text of a plotly figure without its markup."""
    return html.unescape(re.sub("<[^>]+>", " ", text)).replace("$", r"\$")
