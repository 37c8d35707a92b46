"""Drawings of polygons, discs and words in pixels: SVG of a few kB inside a page, or on the axes of a picture file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from markupsafe import Markup
from matplotlib.patches import Circle
from matplotlib.patches import Polygon as Patch

INK, EDGE = "#1d2733", "#30343a"
Anchor = Literal["start", "middle", "end"]
_SIDES = {"start": "left", "middle": "center", "end": "right"}


@dataclass(frozen=True)
class Polygon:
    """Straight lines from point to point, back to the first one if it has a colour inside."""

    points: Sequence[tuple[float, float]]
    fill: str = "none"
    stroke: str = EDGE
    width: float = 1.0
    dash: float = 0.0

    def svg(self) -> str:
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in self.points) + ("" if self.fill == "none" else "Z")
        dash = f' stroke-dasharray="{_n(self.dash)}"' if self.dash else ""
        return f'<path d="M{path}" fill="{self.fill}" stroke="{self.stroke}" stroke-width="{_n(self.width)}"{dash}/>'

    def draw(self, axes: Any, order: int) -> None:
        closed = self.fill != "none"
        style: Any = (0, (self.dash, self.dash)) if self.dash else "-"
        look = {"facecolor": self.fill, "edgecolor": self.stroke, "linewidth": 0.75 * self.width, "linestyle": style}
        axes.add_patch(Patch(list(self.points), closed=closed, fill=closed, zorder=order, **look))


@dataclass(frozen=True)
class Disc:
    """A disc, with the thin edge of all discs or one of its own."""

    x: float
    y: float
    radius: float
    fill: str
    width: float = 0.0

    @property
    def look(self) -> str:
        """What discs of one element at one depth share."""
        edge = f' stroke-width="{_n(self.width)}"' if self.width else ""
        return f' fill="{self.fill}"{edge}'

    def svg(self) -> str:
        return f'<circle cx="{_n(self.x)}" cy="{_n(self.y)}" r="{_n(self.radius)}"/>'

    def draw(self, axes: Any, order: int) -> None:
        edge = 0.75 * (self.width or _THIN)
        patch = Circle((self.x, self.y), self.radius, facecolor=self.fill, edgecolor=EDGE, linewidth=edge, zorder=order)
        axes.add_patch(patch)

    def hides(self, other: Disc) -> bool:
        """Whether nothing is seen of ``other`` behind it."""
        apart = ((self.x - other.x) ** 2 + (self.y - other.y) ** 2) ** 0.5
        return apart + other.radius <= self.radius + 0.2


_THIN = 0.7


@dataclass(frozen=True)
class Words:
    """One line of text on a base line."""

    x: float
    y: float
    text: str
    size: float = 11.0
    anchor: Anchor = "start"
    colour: str = INK

    def svg(self) -> str:
        more = "" if self.anchor == "start" else f' text-anchor="{self.anchor}"'
        place = f'x="{_n(self.x)}" y="{_n(self.y)}" font-size="{_n(self.size)}" fill="{self.colour}" stroke="none"'
        return f"<text {place}{more}>{html.escape(self.text)}</text>"

    def draw(self, axes: Any, order: int) -> None:
        look = {"fontsize": 0.75 * self.size, "color": self.colour, "zorder": order}
        axes.text(self.x, self.y, self.text, ha=_SIDES[self.anchor], va="baseline", parse_math=False, **look)


@dataclass(frozen=True)
class Drawing:
    """Shapes one over the other, the first farthest away; pixels to the right and down from the upper left corner.

    Attributes:
        width, height: of the frame, which cuts off what is beyond.
        shapes: what is drawn.
        label: what one sees, for those who do not.
    """

    width: float
    height: float
    shapes: Sequence[Polygon | Disc | Words]
    label: str

    def svg(self) -> Markup:
        """One element; colours are its own, on white."""
        inside = ""
        for look, alike in groupby(self.shapes, key=lambda shape: shape.look if isinstance(shape, Disc) else ""):
            drawn = "".join(shape.svg() for shape in alike)
            inside += f"<g{look}>{drawn}</g>" if look else drawn
        return Markup(  # noqa: S704 (texts are escaped where they are written)
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{html.escape(self.label)}" stroke="{EDGE}" stroke-width="{_THIN}" stroke-linejoin="round" '
            f'font-family="system-ui,sans-serif">{inside}</svg>'
        )

    def draw(self, axes: Any) -> None:
        """The same on the axes of a picture of matplotlib."""
        axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="equal")
        axes.set_axis_off()
        for order, shape in enumerate(self.shapes):
            shape.draw(axes, order)


def _n(value: float) -> str:
    """A number of pixels in few characters."""
    return f"{value:.1f}".removesuffix(".0").replace("-0.", "-.") if round(value, 1) else "0"


def mixed(colour: Sequence[float], share: float, other: Sequence[float] = (1.0, 1.0, 1.0)) -> str:
    """A colour [3] with a share of another one, by default of white."""
    parts = (round(255 * ((1 - share) * mine + share * its)) for mine, its in zip(colour, other, strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)
