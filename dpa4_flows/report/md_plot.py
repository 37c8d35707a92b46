"""The course of molecular dynamics runs as a figure: energies, temperature, pressure and volume against time.

The conserved energy is the one to look at: a slope is energy that the integrator makes or loses, the energy of the
atoms itself swings with the thermostat.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dpa4_core.files import replacing
from dpa4_core.md import Thermo
from dpa4_flows.plots.figure import PALETTE, FigureBlock, plot_text
from dpa4_flows.plots.pages import write_page

MAX_POINTS = 4000
"""Points of a curve; longer logs are thinned."""

_ENERGY, _CONSERVED = "energy (meV/atom)", "conserved energy (meV/atom)"
_CAPTION = (
    "Energies are differences from the start. The conserved energy counts thermostat and barostat in; its slope is the "
    "drift. Temperatures are those of the degrees of freedom that can move, pressures include the kinetic part. "
)


class Course(NamedTuple):
    """What is drawn of one run."""

    thermo: Thermo
    n_atoms: int


def write_md_html(path: Path, runs: Mapping[str, Course], words: str) -> None:
    """Write a page that needs no network.

    Args:
        path: file to write.
        runs: by name.
        words: model and level of theory.
    """
    rows = _rows(runs)
    figure = make_subplots(rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.03)
    for i, axis in enumerate(rows, start=1):
        figure.update_yaxes(title_text=axis, row=i, col=1)
    for position, (name, course) in enumerate(runs.items()):
        time = _thin(course.thermo.time_ps)
        panels = _panels(course)
        for i, axis in enumerate(rows, start=1):
            for j, (label, values) in enumerate(panels[axis].items()):
                figure.add_scatter(
                    x=time,
                    y=_thin(values),
                    name=plot_text(f"{name}, {label}" if i == 1 else name),
                    showlegend=i == 1,
                    line={"color": PALETTE[position % len(PALETTE)], "width": 1.5, "dash": ("solid", "dot")[j]},
                    row=i,
                    col=1,
                )
    figure.update_xaxes(title_text="time (ps)", row=len(rows), col=1)
    figure.update_layout(template="plotly_white", height=230 * len(rows) + 60, margin={"t": 20, "r": 20})
    write_page(path, _title(runs), [FigureBlock("", "", "", figure)], _CAPTION + words)


def write_md_png(path: Path, runs: Mapping[str, Course], words: str) -> None:
    """Draw the same as a picture."""
    rows = _rows(runs)
    figure = Figure(figsize=(7.0, 1.9 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for position, (name, course) in enumerate(runs.items()):
        time = _thin(course.thermo.time_ps)
        panels = _panels(course)
        for axis, row in zip(axes, rows, strict=True):
            for j, (label, values) in enumerate(panels[row].items()):
                style = {"color": PALETTE[position % len(PALETTE)], "linestyle": ("-", ":")[j], "linewidth": 1.0}
                axis.plot(time, _thin(values), label=f"{name}, {label}" if axis is axes[0] else None, **style)
    for axis, text in zip(axes, rows, strict=True):
        axis.set_ylabel(text, fontsize=8)
    axes[-1].set_xlabel("time (ps)")
    axes[0].legend(fontsize=7)
    figure.suptitle(textwrap.fill(words, 100), fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, dpi=160, format="png")


def _title(runs: Mapping[str, Course]) -> str:
    names = list(runs)
    return f"Dynamics of {names[0]}" if len(names) == 1 else f"Dynamics of {len(names)} structures"


def _rows(runs: Mapping[str, Course]) -> list[str]:
    """The axes of the panels: those in which a run has something that moves, besides the conserved energy."""
    found = [_panels(course) for course in runs.values()]
    kept = dict.fromkeys(found[0], False)
    for panels in found:
        for axis, curves in panels.items():
            kept[axis] |= axis == _CONSERVED or any(_moves(curve) for curve in curves.values())
    if not any(_differs(panels[_ENERGY]) for panels in found):
        kept[_ENERGY] = False  # nve: the conserved energy is that of the atoms
    return [axis for axis, keep in kept.items() if keep]


def _panels(course: Course) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Curves by axis and label."""
    thermo, n = course
    conserved = 1000 * (thermo.conserved_energy - thermo.conserved_energy[0]) / n
    total = 1000 * (thermo.total_energy - thermo.total_energy[0]) / n
    return {
        _ENERGY: {"conserved": conserved, "atoms": total},
        _CONSERVED: {"conserved": conserved},
        "temperature (K)": {"temperature": thermo.temperature},
        "pressure (GPa)": {"pressure": thermo.pressure_gpa},
        "volume (Å³/atom)": {"volume": thermo.volume / n},
    }


def _moves(curve: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(curve).all() and np.ptp(curve) > 0)


def _differs(curves: Mapping[str, NDArray[np.float64]]) -> bool:
    first, second = curves.values()
    return not np.array_equal(first, second)


def _thin(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[:: -(-len(values) // MAX_POINTS)]
