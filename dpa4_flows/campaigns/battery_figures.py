"""What the stages of battery campaigns draw: voltage against capacity, volume change, both hulls, known materials."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go
from markupsafe import Markup
from pymatgen.core import Composition
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.campaigns.battery_known import (
    KNOWN_VOLTAGES,
    LITERATURE_SOURCE,
    STORED_SOURCE,
    KnownVoltage,
    Verdict,
    code_verdict,
    experiment_verdict,
    range_text,
)
from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.plots.figure import (
    PALETTE,
    STABILITY_SCALE,
    Block,
    Column,
    FigureBlock,
    TableBlock,
    badge,
    base_figure,
    plot_text,
    point_name,
    stability_colour_bar,
)
from dpa4_flows.plots.placement import padded, point_texts, texts_of
from dpa4_flows.plots.words import formula_html, formula_text
from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument
from dpa4_flows.report.figures_hull import hull_figures, side_by_side
from dpa4_flows.report.figures_thermodynamics import oxygen_losses

_MAX_VOLUME_BARS = 40
_MAX_PAIRS = 4
_LINES_WANTED = 6
_SYMPREC = 0.1  # Å; loose: files are rounded


class KnownResult(NamedTuple):
    """A known material as this run computed it, with what that says of the code and of the model."""

    known: KnownVoltage
    candidate_id: str
    voltage: float
    code: Verdict
    experiment: Verdict


def electrode_figures(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """What ``rows`` have values for; rejected candidates are drawn too, as crosses."""
    blocks = (_voltage_capacity(rows), _volume_change(rows), _known_materials(rows, snapshot))
    return [block for block in blocks if block is not None]


def charged_figures(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """Stability with and without the ion."""
    block = _charged_stability(rows)
    return [*([] if block is None else [block]), *_hull_pairs(snapshot, rows)]


def oxygen_figures(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """Oxygen that has left the charged hosts, against temperature."""
    verdicts = snapshot.table.stage("oxygen_release", [row.candidate_id for row in rows])
    found = {row.candidate_id: verdicts[row.candidate_id] for row in rows if row.candidate_id in verdicts}
    documents = {
        name: OxygenReleaseDocument.model_validate(one.document) for name, one in found.items() if one.document
    }
    return [*oxygen_losses(documents)]


def _hull_pairs(snapshot: Snapshot, rows: Sequence[Row]) -> list[FigureBlock]:
    """Hulls with and without the ion side by side, of the systems of those who are left."""
    ion = _working_ion(snapshot)
    left = {"-".join(sorted(Composition(row.formula).get_el_amt_dict())) for row in rows if not row.outcome.left}
    discharged = {name: one for name, one in (snapshot.meta.get("hull_summary") or {}).items() if name in left}
    charged = snapshot.table.get_meta("charged_hull_summary", {})
    ids = snapshot.outcomes.keys()
    blocks = {block.name: block for block in hull_figures(charged, ids)}
    found = []
    for block in hull_figures(discharged, ids):
        elements = block.name.removeprefix("hull-").split("-")
        other = blocks.get(f"hull-{'-'.join(symbol for symbol in elements if symbol != ion)}")
        if other is not None:
            caption = f"Left with {ion}: {block.caption} Right without: {other.caption}"
            figure = side_by_side(block.figure, go.Figure(other.figure))
            found.append(
                FigureBlock(f"pair-{block.name}", f"{block.title}, without {ion} beside", caption, figure, wide=True)
            )
    return found[:_MAX_PAIRS]


def _known_materials(rows: Sequence[Row], snapshot: Snapshot) -> TableBlock | None:
    """The sanity strip: voltages of known materials as this run has them, beside what is known."""
    found = known_results(rows, snapshot)
    if not found:
        return None
    columns = [
        Column("Material"),
        *(Column(label, "V", number=True) for label in ("This run", "DPA4-Neo, stored", "PBE+U", "Experiment")),
        Column("Stored value"),
        Column("Experiment"),
    ]
    material = Markup('<strong>{}</strong> <small>{}</small><small class="id">{}</small>')
    table = [
        [
            material.format(formula_html(item.known.formula), item.known.structure, item.candidate_id),
            Markup("<b>{}</b>").format(f"{item.voltage:.2f}"),
            f"{item.known.stored:.2f}",
            range_text(item.known.pbe_u),
            range_text(item.known.experiment),
            *(
                said.words if said.good is None else badge(said.words, said.good)
                for said in (item.code, item.experiment)
            ),
        ]
        for item in found
    ]
    caption = (
        "Computed in this run: average voltage against the working-ion metal, V. Two questions: does this code with "
        "this model give what it gave before, and does the model agree with what was measured?"
    )
    notes = f"Stored: {STORED_SOURCE}. {LITERATURE_SOURCE}"
    return TableBlock("known", "Known materials", caption, columns, table, notes)


def known_results(rows: Sequence[Row], snapshot: Snapshot) -> list[KnownResult]:
    """Known materials among ``rows`` with their voltage in this run; of equal crystals the most stable one.

    A candidate is known if formula, space group of its input structure and working ion are: another polymorph
    has another voltage.
    """
    computed = [(_values(row), row) for row in rows if any(row.formula == known.formula for known in KNOWN_VOLTAGES)]
    computed = [(values, row) for values, row in computed if values.get("average_voltage") is not None]
    groups = _space_groups(snapshot, [row.candidate_id for _, row in computed])
    ion = _working_ion(snapshot)
    results = []
    for known in KNOWN_VOLTAGES:
        found = [
            (values, row)
            for values, row in computed
            if row.formula == known.formula and groups.get(row.candidate_id) in known.space_groups
        ]
        if not found or ion != known.working_ion:
            continue
        values, row = min(found, key=lambda pair: _or_infinity(pair[0].get("energy_above_hull")))
        voltage = float(values["average_voltage"])
        code, agrees = code_verdict(known, voltage, snapshot.model.get("sha256")), experiment_verdict(known, voltage)
        if "average_voltage" in row.voided:
            code = agrees = Verdict("a flag voids it", None)
        results.append(KnownResult(known, row.candidate_id, voltage, code, agrees))
    return results


def _working_ion(snapshot: Snapshot) -> str | None:
    section = (snapshot.meta.get("campaign") or {}).get("campaign")
    return section.get("working_ion") if isinstance(section, dict) else None


def _space_groups(snapshot: Snapshot, ids: Sequence[str]) -> dict[str, int]:
    """Space-group numbers of input structures, where there is one."""
    numbers = {}
    for candidate in snapshot.table.candidates(ids):
        if candidate.structure is None:
            continue
        stored = candidate.structure
        structure = structure_of_fields(stored | {"sites": [site | {"properties": {}} for site in stored["sites"]]})
        with warnings.catch_warnings(), contextlib.suppress(SymmetryUndeterminedError):
            warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)  # of spglib 2.7
            numbers[candidate.candidate_id] = int(SpacegroupAnalyzer(structure, _SYMPREC).get_space_group_number())
    return numbers


def _values(row: Row) -> dict[str, Any]:
    """Values by name, those of the electrode stage winning over equally named ones of other stages."""
    electrode = row.stage("electrode")
    return row.values() | (electrode.values if electrode else {})


def _points(rows: Sequence[Row], *names: str) -> tuple[list[tuple[Row, dict[str, Any]]], str]:
    """Rows that have all values, with them, and words on those that a flag leaves out."""
    pairs = [(row, _values(row)) for row in rows]
    found = [(row, values) for row, values in pairs if all(values.get(name) is not None for name in names)]
    good = [(row, values) for row, values in found if not set(names) & set(row.voided)]
    return good, _left_out(len(found), len(good))


def _or_infinity(value: Any) -> float:
    return math.inf if value is None else float(value)


def _name(row: Row) -> str:
    return point_name(row.formula, row.candidate_id)


def _rank_words(row: Row) -> str:
    return f"rank {row.ranked.rank}" if row.ranked else row.outcome.status


def _symbol(row: Row) -> str:
    """A cross for who left."""
    return "x-thin-open" if row.outcome.left else "circle"


def _left_out(n: int, n_drawn: int) -> str:
    """How many candidates have a value that a flag voids, so that they are not drawn."""
    return f" {n - n_drawn} of {n} are not drawn: a flag voids their values." if n > n_drawn else ""


_IN_WINDOW, _OF_ALL = ("usable_capacity", "usable_voltage"), ("capacity_grav", "average_voltage")


def _used(row: Row, values: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the capacity and the voltage that are drawn: inside the window where that is known."""
    known = all(values.get(name) is not None for name in _IN_WINDOW) and not set(_IN_WINDOW) & set(row.voided)
    return _IN_WINDOW if known else _OF_ALL


def _voltage_capacity(rows: Sequence[Row]) -> FigureBlock | None:
    pairs = ((row, _values(row)) for row in rows)
    found = [(row, v) for row, v in pairs if all(v.get(name) is not None for name in _used(row, v))]
    points = [(row, v) for row, v in found if not set(_used(row, v)) & set(row.voided)]
    if not points:
        return None
    drawn = [_used(*point) for point in points]
    capacity, voltage = ([float(v[names[k]]) for (_, v), names in zip(points, drawn, strict=True)] for k in (0, 1))
    distance = [None if "energy_above_hull" in row.voided else v.get("energy_above_hull") for row, v in points]
    x_range, y_range = padded(capacity, 0.09), padded(voltage, 0.12)
    figure = base_figure(
        height=460,
        showlegend=False,
        xaxis={"title": {"text": "Gravimetric capacity (mAh/g)"}, "range": x_range},
        yaxis={"title": {"text": "Mean voltage (V)"}, "range": y_range},
    )
    iso = _add_iso_energies(figure, x_range, y_range)
    top = max(0.05, min(0.2, max((float(d) for d in distance if d is not None), default=0.0)))
    labels = [formula_text(row.formula) for row, _ in points]
    texts = point_texts(capacity, voltage, labels, x_range, y_range, width=900.0, avoid=iso)
    numbers = {i: float(d) for i, d in enumerate(distance) if d is not None}
    for known in (True, False):
        chosen = [i for i in range(len(points)) if (i in numbers) is known]
        if not chosen:
            continue
        colours: dict[str, Any] = {"color": PALETTE[5]}
        if known:
            colours = {
                "color": [min(numbers[i], top) for i in chosen],
                "colorscale": STABILITY_SCALE,
                "cmin": 0.0,
                "cmax": top,
                "colorbar": stability_colour_bar(),
            }
        figure.add_scatter(
            x=[capacity[i] for i in chosen],
            y=[voltage[i] for i in chosen],
            mode="markers+text",
            **texts_of(texts, chosen),
            textfont={"size": 11},
            marker={
                "size": 11,
                "symbol": [_map_symbol(points[i][0], drawn[i]) for i in chosen],
                "line": {"width": [2 if points[i][0].outcome.left else 0.6 for i in chosen]},
                **colours,
            },
            customdata=[_energy_hover(*points[i], capacity[i], voltage[i]) for i in chosen],
            hovertemplate="%{customdata}<extra></extra>",
        )
    caption = (
        "Dotted lines: equal specific energy of the active material. Circles: what the window of voltages can use; "
        "diamonds: full removal of the ion, where nothing else is known. 0 K, ±0.25 V. Crosses were rejected at some "
        f"stage, grey ones have an unknown distance to the hull.{_left_out(len(found), len(points))}"
    )
    return FigureBlock("voltage-capacity", "Energy density", caption, figure, wide=True)


def _add_iso_energies(
    figure: go.Figure, x_range: Sequence[float], y_range: Sequence[float]
) -> list[tuple[float, float, str]]:
    """Hyperbolas of equal specific energy, V × mAh/g = Wh/kg; returns the labels at their lower ends."""
    xs = [x_range[0] + (x_range[1] - x_range[0]) * i / 80 for i in range(81)]
    ends = []
    for energy in _iso_energies(x_range, y_range):
        line = [(x, energy / x) for x in xs if x > 0 and y_range[0] <= energy / x <= y_range[1]]
        if len(line) < 12:
            continue
        ends.append((*line[-1], f"{energy:.0f} Wh/kg"))
        figure.add_scatter(
            x=[a for a, _ in line],
            y=[b for _, b in line],
            mode="lines+text",
            text=[""] * (len(line) - 1) + [ends[-1][2]],
            textposition="bottom left" if line[-1][0] == xs[-1] else "top right",
            textfont={"size": 10, "color": PALETTE[5]},
            line={"color": PALETTE[5], "width": 1, "dash": "dot"},
            hoverinfo="skip",
        )
    return ends


def _map_symbol(row: Row, names: tuple[str, str]) -> str:
    symbol = _symbol(row)
    return symbol if names == _IN_WINDOW else symbol.replace("circle", "diamond")


def _energy_hover(row: Row, values: Mapping[str, Any], capacity: float, voltage: float) -> str:
    words = f"{_name(row)}<br>{_rank_words(row)}"
    words += f"<br>{voltage:.2f} V × {capacity:.0f} mAh/g = {voltage * capacity:.0f} Wh/kg"
    distance = None if "energy_above_hull" in row.voided else values.get("energy_above_hull")
    return words if distance is None else f"{words}<br>{distance:.3f} eV/atom above hull"


def _charged_stability(rows: Sequence[Row]) -> FigureBlock | None:
    points, left_out = _points(rows, "energy_above_hull", "energy_above_hull_charged")
    if not points:
        return None
    x = [float(v["energy_above_hull"]) for _, v in points]
    y = [float(v["energy_above_hull_charged"]) for _, v in points]
    first = _limit(rows, "hull", "energy_above_hull")
    second = _limit(rows, "charged_hull", "energy_above_hull_charged")
    x_range, y_range = padded([0.0, *x, first or 0.0], 0.12), padded([0.0, *y, second or 0.0], 0.12)
    figure = base_figure(
        height=400,
        showlegend=False,
        xaxis={"title": {"text": "E above hull, discharged (eV/atom)"}, "range": x_range},
        yaxis={"title": {"text": "E above hull, charged (eV/atom)"}, "range": y_range},
    )
    labels = [formula_text(row.formula) for row, _ in points]
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers+text",
        **point_texts(x, y, labels, x_range, y_range, width=440.0),
        textfont={"size": 10.5},
        marker={
            "size": 10,
            "symbol": [_symbol(row) for row, _ in points],
            "color": [PALETTE[4] if row.outcome.left else PALETTE[0] for row, _ in points],
            "line": {"width": [2 if row.outcome.left else 0.6 for row, _ in points]},
        },
        customdata=[f"{_name(row)}<br>{_rank_words(row)}" for row, _ in points],
        hovertemplate="%{customdata}<br>discharged %{x:.3f}, charged %{y:.3f} eV/atom<extra></extra>",
    )
    line = {"color": PALETTE[4], "width": 1, "dash": "dash"}
    if first is not None:
        figure.add_vline(first, line=line)
    if second is not None:
        figure.add_hline(second, line=line)
    drawn = "" if first is None and second is None else " Dashed: the limits of this campaign."
    caption = "Bottom left is best: low with and without the working ion. Crosses were rejected."
    caption += f"{drawn}{left_out}"
    return FigureBlock("charged-stability", "Stability, discharged and charged", caption, figure)


def _volume_change(rows: Sequence[Row]) -> FigureBlock | None:
    found, left_out = _points(rows, "volume_change_percent")
    points = [(row, float(values["volume_change_percent"])) for row, values in found][:_MAX_VOLUME_BARS]
    if not points:
        return None
    points.sort(key=lambda point: abs(point[1]))
    figure = base_figure(
        height=110 + 19 * len(points),
        barmode="overlay",
        margin={"l": 110, "r": 18, "t": 34, "b": 48},
        xaxis={
            "title": {"text": "Volume change on charging (%)"},
            "zeroline": True,
            "zerolinecolor": PALETTE[5],
        },
        yaxis={
            "autorange": "reversed",
            "tickvals": list(range(len(points))),
            "ticktext": [plot_text(formula_text(row.formula)) for row, _ in points],
            "automargin": True,
            "tickfont": {"size": 10.5},
            "showgrid": False,
        },
    )
    figure.add_bar(
        orientation="h",
        x=[change for _, change in points],
        y=list(range(len(points))),
        marker={"color": PALETTE[0]},
        customdata=[_name(row) for row, _ in points],
        hovertemplate="%{customdata}<br>%{x:.1f} %<extra></extra>",
    )
    caption = f"Relative to the discharged volume.{left_out}"
    return FigureBlock("volume-change", "Volume change on charging", caption, figure)


def _limit(rows: Sequence[Row], stage: str, name: str) -> float | None:
    for row in rows:
        found = row.stage(stage)
        if found is not None:
            value = found.thresholds.get(name, found.thresholds.get(f"max_{name}"))
            if isinstance(value, (int, float)):
                return float(value)
    return None


def _iso_energies(x_range: Sequence[float], y_range: Sequence[float]) -> list[float]:
    """Round specific energies, Wh/kg, whose lines cross the frame."""
    low = max(x_range[0], 0.0) * max(y_range[0], 0.0)
    high = x_range[1] * y_range[1]
    if high <= low:
        return []
    step = next((s for s in (20, 50, 100, 200, 250, 500, 1000) if (high - low) / s <= _LINES_WANTED + 1), 2000)
    first = math.floor(low / step) + 1
    return [float(step * k) for k in range(first, math.ceil(high / step))]
