"""Where point labels go in a scatter plot so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dpa4_flows.plots.figure import plot_text

_CHARACTER, _LINE, _POINT = 6.4, 13.0, 6.0  # pixels: width and height of text, radius of a marker
_MARGIN = 2.0

# plotly's name of the position, then where the box lies relative to the point, in box widths and heights
_POSITIONS = (
    ("middle right", 0.0, -0.5),
    ("middle left", -1.0, -0.5),
    ("top center", -0.5, -1.0),
    ("bottom center", -0.5, 0.0),
    ("top right", 0.0, -1.0),
    ("top left", -1.0, -1.0),
    ("bottom right", 0.0, 0.0),
    ("bottom left", -1.0, 0.0),
)


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class PlacedLabels(NamedTuple):
    """Texts and plotly text positions, one per point; a text is blank where no position is free."""

    texts: list[str]
    positions: list[str]


def place_labels(
    x: Sequence[float],
    y: Sequence[float],
    labels: Sequence[str],
    *,
    x_range: Sequence[float],
    y_range: Sequence[float],
    size: tuple[float, float],
    avoid: Sequence[tuple[float, float, str]] = (),
    limit: int = 40,
) -> PlacedLabels:
    """Labels and their text positions, earlier points first served.

    Args:
        x: coordinates of the points.
        y: coordinates of the points.
        labels: one per point.
        x_range: lower and upper end of the axis.
        y_range: lower and upper end of the axis.
        size: width and height of the frame that is assumed, pixels.
        avoid: texts that are already there, each at the bottom left of its point (x, y, text).
        limit: points that may get a label; all of them are obstacles.
    """
    width, height = size
    texts_wide = [len(label) * _CHARACTER + _MARGIN for label in labels]

    def column(value: float) -> float:
        return (value - x_range[0]) / (x_range[1] - x_range[0]) * width

    def line(value: float) -> float:
        return (y_range[1] - value) / (y_range[1] - y_range[0]) * height

    columns, rows = [column(value) for value in x], [line(value) for value in y]
    taken = [_Box(c - _POINT, r - _POINT, c + _POINT, r + _POINT) for c, r in zip(columns, rows, strict=True)]
    taken += [_label_box(column(a), line(b), len(text) * _CHARACTER, -1.0, 0.0) for a, b, text in avoid]
    texts, positions = [], []
    for i, label in enumerate(labels):
        chosen = ("", _POSITIONS[0][0])
        for name, right, down in _POSITIONS if i < limit else ():
            box = _label_box(columns[i], rows[i], texts_wide[i], right, down)
            inside = box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= height
            if inside and not any(box.overlaps(other) for k, other in enumerate(taken) if k != i):
                chosen = (label, name)
                taken.append(box)
                break
        texts.append(chosen[0])
        positions.append(chosen[1])
    return PlacedLabels(texts, positions)


def _label_box(column: float, row: float, width: float, right: float, down: float) -> _Box:
    """Box of a label that starts one marker radius away from its point on the side that it is moved to."""
    gap = _POINT + _MARGIN
    left = column + right * width + (gap if right == 0.0 else -gap if right == -1.0 else 0.0)
    top = row + down * _LINE + (gap if down == 0.0 else -gap if down == -1.0 else 0.0)
    return _Box(left, top, left + width, top + _LINE)


def point_texts(
    x: Sequence[float],
    y: Sequence[float],
    labels: Sequence[str],
    x_range: Sequence[float],
    y_range: Sequence[float],
    *,
    width: float,
    avoid: Sequence[tuple[float, float, str]] = (),
) -> dict[str, Any]:
    """Point labels for a scatter trace; ``meta`` holds those that fit on a phone, for the page to swap in."""
    wide, narrow = (
        place_labels(x, y, labels, x_range=x_range, y_range=y_range, size=(frame, 330.0), avoid=avoid)
        for frame in (width, 310.0)
    )
    meta = {"narrow": {"text": [plot_text(t) for t in narrow.texts], "textposition": narrow.positions}}
    return {"text": [plot_text(t) for t in wide.texts], "textposition": wide.positions, "meta": meta}


def texts_of(texts: Mapping[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """The labels of `point_texts` for some of the points."""
    narrow = texts["meta"]["narrow"]
    return {
        **{name: [texts[name][i] for i in chosen] for name in ("text", "textposition")},
        "meta": {"narrow": {name: [values[i] for i in chosen] for name, values in narrow.items()}},
    }


def padded(values: Sequence[float], share: float) -> list[float]:
    """Ends of an axis with a share of the span free beyond the values."""
    low, high = min(values), max(values)
    pad = (high - low) * share or max(abs(high) * 0.1, 0.05)
    return [low - pad, high + pad]
