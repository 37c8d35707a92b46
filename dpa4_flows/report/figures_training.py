"""Figures of a training run: how the errors fell, and predictions against references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.plots.figure import PALETTE, FigureBlock, add_line, add_points, base_figure, plot_text
from dpa4_flows.training import ERROR_UNITS, TrainingRun

MAX_POINTS = 4000
"""Points of a parity plot, drawn at random; with more a browser is slow."""

MAX_WORST = 200
"""Points with the largest errors that are shown beside the random ones, so that no outlier is hidden."""

MAX_LINE = 2000
"""Points of a curve."""

_TRAIN, _VALIDATION, _BASE = PALETTE[0], PALETTE[1], PALETTE[4]

_PARITY = (
    ("energy", "Energy", "eV/atom", 1.0, 1e3, "meV/atom"),
    ("forces", "Force components", "eV/Å", 1.0, 1e3, "meV/Å"),
    ("stress", "Stress components", "GPa", EV_PER_ANGSTROM3_TO_GPA, EV_PER_ANGSTROM3_TO_GPA, "GPa"),
)
"""Stem in the file, title, unit and factor of the axes, factor and unit of the error."""


def curve_figures(run: TrainingRun) -> list[FigureBlock]:
    """Errors, loss, learning rate and gradient norm as functions of the step, those that were recorded."""
    blocks = []
    if run.property_unit is None:
        for stem, word, factor, unit in ERROR_UNITS:
            blocks.append(_error_curve(run, f"{stem}_mae", f"{word.capitalize()} error", unit, factor))
    else:
        unit = run.property_unit
        blocks.append(_error_curve(run, "property_mae", f"Error of {run.config['property']['name']}", unit, 1.0))
    blocks += [
        _curve(
            "loss",
            "Loss",
            "Weighted sum of the errors that training makes small. Validation uses the averaged weights.",
            "Loss (dimensionless)",
            [("training", _TRAIN, run.train, "loss"), ("validation", _VALIDATION, run.validation, "metric")],
        ),
        _curve(
            "learning-rate",
            "Learning rate",
            "Scale of one step." + "".join(f" The decay began early: {record['why']}." for record in run.decay),
            "Learning rate (dimensionless)",
            [("learning rate", _TRAIN, run.train, "lr")],
        ),
        _curve(
            "gradient",
            "Gradient norm",
            f"Before it is clipped to {run.config['run']['clip']:g}. A jump points at frames that do not fit.",
            "Norm of the gradient of the loss",
            [("gradient", _TRAIN, run.train, "gradient_norm")],
        ),
    ]
    return [block for block in blocks if block is not None]


def _error_curve(run: TrainingRun, key: str, title: str, unit: str, factor: float) -> FigureBlock | None:
    caption = (
        "Mean absolute error. Training: over the steps since the point before. Validation: frames that are not trained "
        "on, with the averaged weights."
    )
    if any(record["step"] == 0 for record in run.validation):
        caption += " The point at step 0 is the base model, its offsets shifted."
    axis = f"Mean absolute error ({unit})" if unit else "Mean absolute error"
    series = [("training", _TRAIN, run.train, key), ("validation", _VALIDATION, run.validation, key)]
    return _curve(key.replace("_", "-"), title, caption, axis, series, factor)


def _curve(
    name: str,
    title: str,
    caption: str,
    axis: str,
    series: Sequence[tuple[str, str, Sequence[Mapping[str, Any]], str]],
    factor: float = 1.0,
) -> FigureBlock | None:
    figure = base_figure(
        height=300,
        xaxis={"title": {"text": "Step"}, "rangemode": "tozero"},
        yaxis={"title": {"text": plot_text(axis)}, "type": "log", "exponentformat": "power", "dtick": "D1"},
        showlegend=len(series) > 1,
    )
    values: list[float] = []
    for label, colour, records, key in series:
        points = [(r["step"], r[key] * factor) for r in records if r.get(key) is not None and r[key] > 0]
        if not points:
            continue
        points = points[:: -(-len(points) // MAX_LINE)]
        values += [value for _, value in points]
        few = len(points) <= 40
        x, y = [step for step, _ in points], [float(f"{value:.5g}") for _, value in points]
        hover = "step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>"
        mode = "lines+markers" if few else "lines"
        add_line(figure, x, y, colour, label, width=1.8, mode=mode, marker={"size": 6}, hovertemplate=hover)
    if not values:
        return None
    _log_axis(figure, min(values), max(values))
    return FigureBlock(f"curve-{name}", title, caption, figure)


def _log_axis(figure: go.Figure, low: float, high: float) -> None:
    """Labels at 1, 2 and 5 of each decade: plotly labels too few or too many."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    span = np.log10(high / low)
    steps = (1,) if span > 3 else (1, 2, 5) if span > 0.5 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    pad = 0.06 * max(span, 0.1)
    limits = [float(np.log10(low) - pad), float(np.log10(high) + pad)]
    figure.update_yaxes(tickvals=ticks, ticktext=[f"{tick:.3g}" for tick in ticks], range=limits, tickmode="array")


def parity_figures(arrays: Mapping[str, NDArray[np.float64]], run: TrainingRun | None = None) -> list[FigureBlock]:
    """Prediction against reference of the validation frames, for each quantity that has references.

    Args:
        arrays: those of ``parity.npz``: ``energy_reference``, ``energy_predicted`` (eV/atom), ``forces_...`` (eV/Å),
            ``stress_...`` (eV/Å³), ``property_...`` in its unit.
        run: the run, whose property it is if it trains one.
    """
    blocks = []
    quantities = [*_PARITY]
    if run is not None and (unit := run.property_unit) is not None:
        quantities = [("property", run.config["property"]["name"], unit, 1.0, 1.0, unit)]
    for stem, title, unit, factor, error_factor, error_unit in quantities:
        reference, predicted = (arrays.get(f"{stem}_{kind}", np.zeros(0)) for kind in ("reference", "predicted"))
        good = np.isfinite(reference) & np.isfinite(predicted)
        if not good.any():
            continue
        reference, predicted = reference[good], predicted[good]
        mae = float(np.abs(predicted - reference).mean()) * error_factor
        chosen, words = _sample(reference, predicted)
        figure = _parity(reference[chosen] * factor, predicted[chosen] * factor, unit)
        caption = (
            f"{len(reference):,} values of the validation frames, mean absolute error "
            f"{f'{mae:.3g} {error_unit}'.rstrip()}.{words}"
        )
        blocks.append(FigureBlock(f"parity-{stem}", f"{title} ({unit})" if unit else title, caption, figure))
    return blocks


def _parity(reference: NDArray[np.float64], predicted: NDArray[np.float64], unit: str) -> go.Figure:
    low, high = (float(f(np.concatenate([reference, predicted]))) for f in (np.min, np.max))
    pad = 0.04 * (high - low) or 0.1
    limits = [low - pad, high + pad]
    figure = base_figure(
        height=400,
        showlegend=False,
        xaxis={"title": {"text": f"Reference ({unit})" if unit else "Reference"}, "range": limits},
        yaxis={"title": {"text": f"Prediction ({unit})" if unit else "Prediction"}, "range": limits},
    )
    add_line(figure, limits, limits, PALETTE[5], width=1, dash="dot", hoverinfo="skip")
    style = {"opacity": 0.55 if len(reference) < 1000 else 0.35}
    hover = "reference %{x}<br>prediction %{y}<extra></extra>"
    add_points(figure, _rounded(reference), _rounded(predicted), _TRAIN, size=5, marker=style, hovertemplate=hover)
    return figure


def _sample(reference: NDArray[np.float64], predicted: NDArray[np.float64]) -> tuple[NDArray[np.int64], str]:
    """Which points are drawn, and what to say about it."""
    number = len(reference)
    if number <= MAX_POINTS:
        return np.arange(number), ""
    worst = np.argsort(-np.abs(predicted - reference))[:MAX_WORST]
    drawn = np.random.default_rng(0).permutation(number)[:MAX_POINTS]
    words = f" Drawn are {MAX_POINTS:,} at random and the {MAX_WORST} with the largest errors."
    return np.union1d(worst, drawn), words


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
