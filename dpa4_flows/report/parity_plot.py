"""Formation energies and distances to the hull by two methods, one against the other, as an HTML page or a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, write_text
from dpa4_flows.analysis.hull_comparison import ComparedPhase
from dpa4_flows.plots.figure import PALETTE, plot_text

SHOWN_ABOVE_HULL = 0.3
"""eV/atom: phases further above both hulls are beyond the frame of the second panel."""

_TITLES = ("formation energy (eV/atom)", "energy above hull (eV/atom)")


def check_plot_name(path: Path) -> None:
    """Refuse a name that tells no format.

    Raises:
        DPA4Error: neither .html nor .png.
    """
    if path.suffix.lower() not in (".html", ".png"):
        raise DPA4Error(f"cannot tell the format from {path.name!r}; end the name of the plot in .html or .png")


def write_parity_plot(path: Path, phases: Sequence[ComparedPhase], *, expected: str, found: str) -> None:
    """Draw both quantities of all phases.

    Args:
        path: file to write.
        phases: from `compare_hulls`.
        expected: name of the reference method, for the horizontal axes.
        found: name of the method that is judged, for the vertical axes.
    """
    check_plot_name(path)
    panels = [
        np.array([[p.formation_expected, p.formation_found] for p in phases]),
        np.array([[p.above_hull_expected, p.above_hull_found] for p in phases]),
    ]
    limits = [_limits(panels[0]), (-0.02 * SHOWN_ABOVE_HULL, SHOWN_ABOVE_HULL)]
    if path.suffix.lower() == ".png":
        with replacing(path) as part:
            _png(part, panels, limits, expected, found)
    else:
        names = [f"<b>{plot_text(p.formula)}</b><br>{plot_text(p.name)}" for p in phases]
        figure = _page(panels, limits, names, plot_text(expected), plot_text(found))
        write_text(path, figure.to_html(full_html=True, include_plotlyjs=True))


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    margin = 0.03 * max(float(np.ptp(values)), 0.1)
    return float(values.min()) - margin, float(values.max()) + margin


def _png(
    path: Path, panels: Sequence[NDArray[np.float64]], limits: Sequence[tuple[float, float]], expected: str, found: str
) -> None:
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (values, ends, title) in enumerate(zip(panels, limits, _TITLES, strict=True)):
        axes: Any = figure.add_subplot(1, 2, column + 1)
        axes.plot(ends, ends, color="0.6", linewidth=1.0, zorder=1)
        axes.scatter(*values.T, s=9, color=PALETTE[0], alpha=0.5, linewidths=0, zorder=2)
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        axes.set_aspect("equal")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(expected, fontsize=9)
        axes.set_ylabel(found, fontsize=9)
        axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=120, format="png")


def _page(
    panels: Sequence[NDArray[np.float64]],
    limits: Sequence[tuple[float, float]],
    names: Sequence[str],
    expected: str,
    found: str,
) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, subplot_titles=_TITLES)
    for column, (values, ends) in enumerate(zip(panels, limits, strict=True), start=1):
        line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": "#999", "width": 1}, hoverinfo="skip")
        hover = "%{text}<br>%{x:.3f} → %{y:.3f} eV/atom<extra></extra>"
        marker = {"size": 6, "color": PALETTE[0], "opacity": 0.6}
        points = go.Scatter(
            x=values[:, 0], y=values[:, 1], mode="markers", marker=marker, text=names, hovertemplate=hover
        )
        figure.add_traces([line, points], rows=1, cols=column)
        figure.update_xaxes(title=expected, range=ends, row=1, col=column)
        figure.update_yaxes(title=found, range=ends, row=1, col=column)
    figure.update_layout(template="none", showlegend=False, width=1100, height=560)
    return figure
