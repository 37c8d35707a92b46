"""Anodes: battery campaigns whose file says ``role = "anode"`` of the electrode.

    sanity → duplicates → relax → relaxed duplicates → hull → insertion → conversion → electrode

A candidate is the anode without ions. It is an insertion electrode if it takes up enough of them and stays the same
crystal, whatever lower phases there are; else one that turns into the phases of the hull.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field
from pymatgen.core import Composition

from dpa4_core.units import ANGSTROM3_TO_CM3_MOL
from dpa4_flows.campaigns.battery_uptake import CONVERSION, DOUBTS, INSERTION
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.disorder import DISORDER
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.hull import HULL
from dpa4_flows.campaigns.ion import IonSection, ion_of
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.relaxed import RELAX
from dpa4_flows.campaigns.sanity import SANITY, check
from dpa4_flows.campaigns.sections import Limits, Section
from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document
from dpa4_flows.plots.figure import PALETTE, Block, FigureBlock, base_figure, plot_text
from dpa4_flows.plots.placement import padded, point_texts
from dpa4_flows.plots.words import formula_text
from dpa4_flows.properties.conversion import ConversionDocument
from dpa4_flows.properties.ion_insertion import IonInsertionDocument

Mechanism = Literal["insertion", "conversion", "alloying"]

_ANIONS = frozenset(("H", "N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"))
"""Elements that the ion makes a salt with; who holds none of them forms alloys."""
_VOID = ("saddle", "across_u_seam")


class AnodeDocument(Document):
    """An anode between empty and full."""

    mechanism: Mechanism = shown(
        "Mechanism",
        priority=9,
        default=...,
        description="Whether it stays the same crystal, turns into other compounds, or alloys with the ion",
    )
    average_voltage: float = shown(
        "Voltage",
        "V",
        2,
        "mean against the metal of the ion, 0 K; what a cell loses of the voltage of its cathode",
        error=0.3,
        goal="min",
        scale=(0.1, 2.0),  # below 0.1 metal plates at any rate; 1.55 Li4Ti5O12
        voided_by=_VOID,
        too_low="voltage_too_low",
        too_high="voltage_too_high",
        priority=10,
        default=...,
    )
    last_step: float = shown(
        "Last step", "V", 2, "where the last ions go in", voided_by=_VOID, priority=12, default=...
    )
    capacity_grav: float = shown(
        "Capacity",
        "mAh/g",
        0,
        "per mass of the candidate as it is, without ions",
        goal="max",
        scale=(100.0, 1500.0),  # 175 Li4Ti5O12, 372 graphite, 994 tin, 3,579 silicon
        voided_by=_VOID,
        too_low="capacity_too_low",
        priority=11,
        default=...,
    )
    capacity_vol: float | None = shown(
        "Vol. capacity, full",
        "mAh/cm³",
        0,
        "per volume of the anode with all its ions, since that needs the room",
        short="vol. capacity",
        goal="max",
        scale=(300.0, 2000.0),  # 600 Li4Ti5O12, 750 graphite
        voided_by=(*_VOID, "unreliable_vdw"),
        priority=16,
    )
    volume_change_percent: float | None = shown(
        "Expansion",
        "%",
        1,
        "of all solids from empty to full",
        goal="zero",
        scale=(0.0, 100.0),  # particles crack beyond about 10; alloys swell by 100 to 300
        voided_by=(*_VOID, "unreliable_vdw"),
        too_high="large_volume_change",
        priority=15,
    )
    reaction: str = shown("Reaction", priority=20, default="", description="From empty to full")


class AnodeSection(Section):
    """What candidates are looked at as, and when they count as hosts."""

    role: Literal["anode"] = "anode"
    min_insertion: float = Field(
        100.0,
        ge=0,
        description="mAh/g that a host must take up to count as one; who takes less turns into other phases",
    )


def judge_anode(case: Case) -> Finding:
    """Which of both ways a candidate goes, and what it is worth on that."""
    ion = ion_of(case.scene.run.campaign)
    inserted = case.documents["insertion"]
    assert isinstance(inserted, IonInsertionDocument)
    converted = case.documents["conversion"]
    assert isinstance(converted, ConversionDocument)
    found = _insertion(inserted, ion)
    keys = [case.keys["insertion"]]
    if found is not None and found.capacity_grav >= case.settings.min_insertion:
        reasons = [one for one in inserted.doubts if one.code in DOUBTS]
        return _finding(case, found, reasons, keys=keys, provenance=inserted.provenance)
    found = _conversion(converted, case)
    if found is None:
        why = f"{inserted.error or 'ions go in, but too few'}; {converted.error}"
        return Finding(case.id, [Reason(code="no_anode", sentence=why)], keys=keys)
    return _finding(case, found, [], provenance=converted.provenance)


def _finding(case: Case, found: AnodeDocument, reasons: Sequence[Reason], **more: Any) -> Finding:
    return Finding(
        case.id,
        reasons,
        values=found,
        document=found,
        sentences={
            "average_voltage": "average voltage {value:.2f} V is {side}{limit:g} V",
            "capacity_grav": "capacity {value:.0f} mAh/g is {side}{limit:g} mAh/g",
            "volume_change_percent": "it swells by {value:.0f} %, more than {limit:g} %",
        },
        **more,
    )


def _insertion(one: IonInsertionDocument, ion: str) -> AnodeDocument | None:
    """What the window can use of an insertion, per mass of the empty host; None if that is nothing."""
    used = [plateau for plateau in one.plateaus if plateau.in_window]
    if one.usable_voltage is None or not one.usable_capacity or one.contents_in_window is None:
        return None
    full, empty = Composition(one.formula), Composition(one.charged_formula)
    others = [sum(n for symbol, n in c.get_el_amt_dict().items() if symbol != ion) for c in (full, empty)]
    host = empty * (others[0] / others[1])  # in a formula unit of the full compound
    volumes = {row.content: row.volume for row in reversed(one.orderings) if row.left_out is None and row.volume}
    corners = [one.plateaus[-1].content_to, *(plateau.content_from for plateau in reversed(one.plateaus))]
    after, before = np.interp(one.contents_in_window, corners, [volumes[content] for content in corners]).tolist()
    ends = [host + Composition({ion: (full[ion] - host[ion]) * content}) for content in one.contents_in_window]
    charge = one.usable_capacity * float(full.weight)  # mAh per mole of the full compound
    return AnodeDocument(
        mechanism="insertion",
        average_voltage=one.usable_voltage,
        last_step=used[0].voltage,
        capacity_grav=charge / float(host.weight),
        capacity_vol=charge / (after * ANGSTROM3_TO_CM3_MOL),
        volume_change_percent=100 * (after / before - 1),
        reaction=" to ".join(end.get_integer_formula_and_factor(max_denominator=20)[0] for end in reversed(ends)),
    )


def _conversion(one: ConversionDocument, case: Case) -> AnodeDocument | None:
    """The same of a candidate that turns into other phases."""
    if one.voltage is None or one.capacity is None or one.last_voltage is None:
        return None
    crystal = case.relaxed("relax")
    per_gram = float(crystal.volume) * ANGSTROM3_TO_CM3_MOL / float(crystal.composition.weight)  # cm³, empty
    grown = None if one.expansion_percent is None else per_gram * (1 + one.expansion_percent / 100)
    return AnodeDocument(
        mechanism="conversion" if _ANIONS & set(crystal.symbol_set) else "alloying",
        average_voltage=one.voltage,
        last_step=one.last_voltage,
        capacity_grav=one.capacity,
        capacity_vol=None if grown is None else one.capacity / grown,
        volume_change_percent=one.expansion_percent,
        reaction=one.reaction,
    )


def anode_figures(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """Voltage against capacity, marks as large as what swells."""
    points = [(row, row.values()) for row in rows]
    points = [(r, v) for r, v in points if v.get("average_voltage") is not None and v.get("capacity_grav") is not None]
    if not points:
        return []
    x, y = ([float(v[name]) for _, v in points] for name in ("capacity_grav", "average_voltage"))
    x_range, y_range = padded(x, 0.12), padded([0.0, *y], 0.12)
    figure = base_figure(
        height=440,
        showlegend=False,
        xaxis={"title": {"text": "Capacity (mAh per g without ions)"}, "range": x_range},
        yaxis={"title": {"text": f"Mean voltage against {_ion(snapshot)} (V)"}, "range": y_range},
    )
    labels = [formula_text(row.formula) for row, _ in points]
    swells = [abs(float(v.get("volume_change_percent") or 0.0)) for _, v in points]
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers+text",
        **point_texts(x, y, labels, x_range, y_range, width=900.0),
        textfont={"size": 11},
        marker={
            "size": [9 + min(swell, 300.0) / 10 for swell in swells],
            "symbol": ["x-thin-open" if row.outcome.left else "circle" for row, _ in points],
            "color": [PALETTE[_MECHANISMS.index(str(v.get("mechanism")))] for _, v in points],
            "opacity": 0.8,
            "line": {"width": 1},
        },
        customdata=[_hover(row, v) for row, v in points],
        hovertemplate="%{customdata}<extra></extra>",
    )
    caption = (
        "Marks grow with the expansion from empty to full. "
        f"Colours: {', '.join(_MECHANISMS)}. Crosses were rejected. Voltages are means at 0 K, ±0.3 V."
    )
    return [FigureBlock("anodes", "Voltage against capacity", caption, figure, wide=True)]


_MECHANISMS = ("insertion", "conversion", "alloying")


def _ion(snapshot: Snapshot) -> str:
    return str(snapshot.meta["campaign"]["campaign"]["working_ion"])


def _hover(row: Row, values: Mapping[str, Any]) -> str:
    grown = values.get("volume_change_percent")
    words = f"{plot_text(row.formula)} ({row.candidate_id})<br>{values.get('mechanism')}: {values.get('reaction')}"
    return words if grown is None else f"{words}<br>{grown:+.0f} % in volume"


def _sane(case: Case) -> list[str]:
    ion, symbols = ion_of(case.scene.run.campaign), {site.specie.symbol for site in case.structure}
    return [f"nothing but {ion}, the metal that every anode is measured against"] if symbols == {ion} else []


ANODE = Stage(
    name="electrode",
    title="Anode",
    judge=judge_anode,
    quantities=AnodeDocument,
    settings=AnodeSection,
    criteria={
        "average_voltage": Limits(max=2.0),
        "capacity_grav": Limits(min=150.0),
        "volume_change_percent": Limits(max=50.0, otherwise="flag"),
    },
    reasons={
        **DOUBTS,
        "no_anode": ReasonKind("takes up no ion", "it takes up the ion in no way", status="failed"),
        "voltage_too_low": ReasonKind("low voltage", "the voltage is below the limit", status="failed"),
        "voltage_too_high": ReasonKind("high voltage", "the voltage is above the limit", status="failed"),
        "capacity_too_low": ReasonKind("low capacity", "the capacity is below the limit", status="failed"),
        "large_volume_change": ReasonKind("swells", "the expansion exceeds the limit"),
    },
    needs=("relax", "insertion", "conversion"),
    figures="dpa4_flows.campaigns.battery_anode:anode_figures",
)

ANODES = CampaignKind(
    name="anode",
    stages=(
        dataclasses.replace(SANITY, judge=lambda case: check(case, _sane)),
        DUPLICATES,
        RELAX,
        RELAXED_DUPLICATES,
        dataclasses.replace(HULL, criteria={"energy_above_hull": Limits(max=0.1)}),
        INSERTION,
        CONVERSION,
        ANODE,
    ),
    front=(DISORDER,),
    ranking={
        "capacity_grav": {},
        "average_voltage": {},
        "volume_change_percent": {"weight": 0.5},
        "energy_above_hull": {"weight": 0.25, "low": 0.0, "high": 0.1},
    },
    section=IonSection,
)
