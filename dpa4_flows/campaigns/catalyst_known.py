"""Metals whose hydrogen adsorption is published, to compare a run with: a broken model or setting shows here first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from scipy.stats import spearmanr

from dpa4_flows.analysis.platinum import PLATINUM
from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.plots.figure import Block, Column, TableBlock, badge
from dpa4_flows.plots.words import formula_html

SOURCE = (
    "ΔG(H) of a quarter of a layer on the close-packed facet, RPBE: J. K. Nørskov et al., J. Electrochem. Soc. 152, "
    "J23 (2005). Both are counted from platinum of their own functional."
)
TOLERANCE = 0.15
"""eV, by which PBE and RPBE differ from metal to metal where both are counted from platinum."""
_FEWEST = 3  # metals that have an order


class KnownMetal(NamedTuple):
    """Published free energy of hydrogen on one facet, eV."""

    facet: str
    hydrogen: float


KNOWN_METALS = {
    "Pt": KnownMetal("111", -0.09),
    "Pd": KnownMetal("111", -0.14),
    "Rh": KnownMetal("111", -0.10),
    "Ir": KnownMetal("111", 0.03),
    "Ni": KnownMetal("111", -0.27),
    "Co": KnownMetal("0001", -0.27),
    "Cu": KnownMetal("111", 0.19),
    "Ag": KnownMetal("111", 0.51),
    "Au": KnownMetal("111", 0.45),
    "Re": KnownMetal("0001", -0.23),
    "W": KnownMetal("110", -0.43),
    "Mo": KnownMetal("110", -0.36),
    "Nb": KnownMetal("110", -0.56),
}


class KnownResult(NamedTuple):
    """A known metal as a run computed it; eV, from platinum."""

    formula: str
    candidate_id: str
    facet: str
    computed: float
    published: float

    @property
    def agrees(self) -> bool:
        return abs(self.computed - self.published) <= TOLERANCE + 1e-9


def known_metals(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """The sanity strip of campaigns for hydrogen evolution."""
    found = known_results(snapshot, rows)
    if not found:
        return []
    columns = [
        Column("Metal"),
        Column("Facet"),
        *(Column(label, "eV", number=True) for label in ("This run", "Published")),
        Column("Verdict"),
    ]
    name = Markup('<strong>{}</strong> <small class="id">{}</small>')
    table = [
        [
            name.format(formula_html(one.formula), one.candidate_id),
            f"({one.facet})",
            Markup("<b>{}</b>").format(_signed(one.computed)),
            _signed(one.published),
            badge("agrees" if one.agrees else f"off by {_signed(one.computed - one.published)} eV", one.agrees),
        ]
        for one in found
    ]
    caption = f"ΔG(H) from platinum, as this run has it and as it is published; to agree is within {TOLERANCE} eV."
    if len(found) >= _FEWEST:
        order = float(spearmanr([one.computed for one in found], [one.published for one in found]).statistic)
        caption += f" Rank correlation of their order: {order:.2f}."
    return [TableBlock("known", "Known metals", caption, columns, table, SOURCE)]


def known_results(snapshot: Snapshot, rows: Sequence[Row]) -> list[KnownResult]:
    """Known metals among ``rows`` whose close-packed facet has hydrogen on it, those that bind it best first."""
    verdicts = [(row, row.stage("activity")) for row in rows if row.formula in KNOWN_METALS]
    keys = {row.candidate_id: one.calculation_keys[0] for row, one in verdicts if one and one.calculation_keys}
    stored = snapshot.table.documents(ActivityDocument, keys.values())
    found = []
    for row, _ in verdicts:
        document, known = stored.get(keys.get(row.candidate_id, "")), KNOWN_METALS[row.formula]
        if document is None or document.reaction != "HER" or document.reference is None:
            continue
        published = known.hydrogen - KNOWN_METALS[PLATINUM].hydrogen
        found += [
            KnownResult(row.formula, row.candidate_id, facet.name, facet.relative_descriptor, published)
            for facet in document.facets
            if facet.facet == known.facet and facet.relative_descriptor is not None
        ]
    return sorted(found, key=lambda one: one.computed)


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")
