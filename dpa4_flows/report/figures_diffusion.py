"""Figures of diffusion: diffusivities over temperature with their line, mean square displacements over time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.documents.diffusion import DiffusionDocument, DiffusivityDocument
from dpa4_flows.plots.figure import (
    Block,
    Column,
    FigureBlock,
    TableBlock,
    add_line,
    add_points,
    base_figure,
    captioned,
    coloured,
    numbers,
)

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def diffusivities(documents: Mapping[str, DiffusivityDocument]) -> list[Block]:
    """Arrhenius plot, mean square displacements, and the temperatures as a table."""
    found = {name: document for name, document in documents.items() if document.runs}
    if not found:
        return []
    blocks: list[Block] = []
    known = {name: one for name, one in found.items() if any(run.diffusivity for run in one.runs)}
    if known:
        blocks.append(_arrhenius(known))
    if any(run.msd for one in found.values() for run in one.runs):
        blocks.append(_displacements(found))
    return [*blocks, _table(found)]


def _arrhenius(known: Mapping[str, DiffusivityDocument]) -> FigureBlock:
    figure = base_figure(
        xaxis={"title": "1000 K / temperature"},
        yaxis={"title": "diffusivity, cm²/s", "type": "log", "exponentformat": "power"},
    )
    for name, document, colour in coloured(known):
        runs = [run for run in document.runs if run.diffusivity is not None]
        x, y = [1000 / run.temperature_k for run in runs], [run.diffusivity for run in runs]
        error = {"type": "data", "array": [run.diffusivity_std for run in runs]}
        text = [f"{run.temperature_k:g} K" for run in runs]
        add_points(figure, x, y, colour, name, size=8, error_y=error, text=text, legendgroup=name)
        if document.activation_energy is None or document.ln_prefactor is None:
            continue
        inverse = np.linspace(1000 / runs[-1].temperature_k, 1000 / 300, 30)
        curve = np.exp(document.ln_prefactor - document.activation_energy * inverse / (1000 * BOLTZMANN_EV_K))
        std = document.activation_energy_std or 0.0
        words = f"{name}: {document.activation_energy:.3f} ± {std:.3f} eV{_conductivity(document)}"
        add_line(figure, inverse, curve, colour, words, dash="dot", legendgroup=name, hoverinfo="skip")
    words = "Points are trajectories with their standard errors, dotted lines are extrapolated to 300 K (3.33)."
    return FigureBlock("diffusion-arrhenius", "Diffusivity against temperature", captioned(words, len(known)), figure)


def _displacements(found: Mapping[str, DiffusivityDocument]) -> FigureBlock:
    figure = base_figure(
        xaxis={"title": "time, ps", "rangemode": "tozero"},
        yaxis={"title": "mean square displacement, Å²", "rangemode": "tozero"},
    )
    curves = [(name, run) for name, one in found.items() for run in one.runs if run.msd]
    for name, run, colour in coloured(curves):
        label = f"{name}, {run.temperature_k:g} K"
        add_line(figure, run.lags_ps, run.msd, colour, label)
        if run.diffusivity is None or run.fit_from_ps is None:
            continue
        ends = [run.fit_from_ps, run.lags_ps[-1]]
        add_points(figure, ends, np.interp(ends, run.lags_ps, run.msd), colour, label, showlegend=False)
    words = "Of the ions, averaged over ions and origins; slopes are taken between the points."
    return FigureBlock("diffusion-msd", "Mean square displacement", captioned(words, len(curves)), figure)


def _table(found: Mapping[str, DiffusivityDocument]) -> TableBlock:
    return TableBlock(
        "diffusion-temperatures",
        "Temperatures",
        "Hops are those of a random walk that gets as far, of all ions together; the Haven ratio is 1 where they hop "
        "alone.",
        [
            Column("Crystal"),
            *numbers("T (K)", "D (cm²/s)", "Hops", "Haven ratio", "Framework (Å²)"),
            Column("Left out"),
        ],
        [
            [
                name,
                f"{run.temperature_k:g}",
                _with_error(run.diffusivity, run.diffusivity_std),
                "" if run.n_hops is None else f"{run.n_hops:.0f}",
                _with_error(run.haven_ratio, run.haven_ratio_std),
                "" if run.framework_msd is None else f"{run.framework_msd:.2f}",
                _why(run),
            ]
            for name, document in found.items()
            for run in document.runs
        ],
    )


def _with_error(value: float | None, error: float | None) -> str:
    if value is None or error is None:
        return ""
    if value >= 0.01:
        return f"{value:.2f} ± {error:.2f}"
    power = math.floor(math.log10(value))
    return f"({value / 10**power:.1f} ± {error / 10**power:.1f})·10{str(power).translate(_RAISED)}"


def _conductivity(document: DiffusivityDocument) -> str:
    found = document.conductivity_300k, document.conductivity_300k_low, document.conductivity_300k_high
    return "" if None in found else ", {:.3g} ({:.3g} to {:.3g}) mS/cm".format(*found)


def _why(run: DiffusionDocument) -> str:
    return run.refused.sentence if run.refused else run.error or ""
