"""The HTML report: one file that works offline by double click, for finished and for running campaigns.

The page is rendered by ``template.html`` with automatic escaping; ``style.css``, ``script.js`` and plotly.js
are put inline. Numbers in tables are text from here; the script sorts, filters, unfolds histories and draws
the figures.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpa4_core.files import write_text
from dpa4_flows.campaigns.snapshot import Row, Snapshot, take_snapshot
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.schemas import Document
from dpa4_flows.plots.figure import Block, FigureBlock
from dpa4_flows.plots.words import formula_html
from dpa4_flows.report import sections
from dpa4_flows.report.caveats import campaign_caveats
from dpa4_flows.report.figures import funnel_figure, score_figure
from dpa4_flows.report.figures_hull import MAX_FIGURES, hull_figures
from dpa4_flows.report.page import render_page, script_json
from dpa4_flows.report.tables import campaign_name
from dpa4_flows.store.table import ResultsTable

MAX_ROWS = 2000
"""Rows of each table in the page; the CSV file of the run has all of them."""

MAX_REASONS = 200


def write_report(table: ResultsTable, path: str | Path) -> None:
    """Write the report of a run, finished or not, as one HTML file that replaces an older one at once.

    Args:
        table: results of the run.
        path: HTML file.
    """
    write_text(path, render(take_snapshot(table)))


def render(snapshot: Snapshot) -> str:
    """The page as text."""
    alive = list(snapshot.rows(snapshot.survivors[:MAX_ROWS]))
    gone = list(snapshot.rows(snapshot.left[:MAX_ROWS]))
    blocks = _blocks_of_stages(snapshot, [*alive, *gone])
    figures = _figures(snapshot, alive, [block for block in blocks if isinstance(block, FigureBlock)])
    return render_page(
        "template.html",
        [block for blocks in figures.values() for block in blocks],
        title=campaign_name(snapshot),
        formula=formula_html,
        stage_title=snapshot.funnel.title,
        snapshot=snapshot,
        summary=sections.summary(snapshot, alive),
        tiles=sections.tiles(snapshot),
        model=sections.model_card(snapshot),
        caveats=campaign_caveats(snapshot),
        theory=sections.theory(snapshot),
        funnel=sections.funnel(snapshot),
        ranking=sections.ranking(snapshot, alive),
        alive_total=len(snapshot.survivors),
        tables=[block for block in blocks if not isinstance(block, FigureBlock)],
        figures=figures,
        hulls=sections.hull_rows(snapshot),
        max_hull_figures=MAX_FIGURES,
        gone=[sections.gone_row(row) for row in gone],
        gone_total=len(snapshot.left),
        reasons=snapshot.reasons[:MAX_REASONS],
        reasons_total=len(snapshot.reasons),
        histories=script_json(json.dumps({row.candidate_id: sections.history(row) for row in (*alive, *gone)})),
        references=sections.references(snapshot),
        facts=sections.facts(snapshot),
        settings=sections.flatten(snapshot.meta.get("campaign") or {}),
        downloads=sections.downloads(snapshot, alive, gone),
    )


def _blocks_of_stages(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """What the properties of the stages of the campaign draw, and the stages themselves."""
    blocks: list[Block] = []
    for stage in snapshot.funnel.stages:
        if (shown := stage.shown) is not None and shown.figures:
            found = StageDocuments.of(snapshot.table, stage, shown, rows)
            drawn = _function(shown.figures)(found) if found else []
            blocks += [replace(block, name=f"{stage.name}-{block.name}") for block in drawn]
        if stage.figures:
            blocks += _function(stage.figures)(snapshot, rows)
    return blocks


def _function(path: str) -> Any:
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True)
class StageDocuments(Mapping[str, Any]):
    """Documents of a stage by the name of the candidate, each read when it is looked at: many do not fit into memory.

    Attributes:
        table: of the run.
        kind: of the documents.
        found: keys of those that are there, by candidate.
    """

    table: ResultsTable
    kind: type[Document]
    found: Mapping[str, str]

    @classmethod
    def of(cls, table: ResultsTable, stage: Stage, shown: Property[Any], rows: Sequence[Row]) -> StageDocuments:
        """Those of the verdicts of a stage."""
        verdicts = {row.candidate_id: row.stage(stage.name) for row in rows}
        keys = {name: one.calculation_keys[0] for name, one in verdicts.items() if one and one.calculation_keys}
        there = stage.computes.stored(table, keys.values()) if stage.computes else set()
        return cls(table, shown.document, {name: key for name, key in keys.items() if key in there})

    def __getitem__(self, name: str) -> Any:
        return self.table.documents(self.kind, [self.found[name]])[self.found[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def _figures(
    snapshot: Snapshot, alive: Sequence[Row], properties: Sequence[FigureBlock]
) -> dict[str, list[FigureBlock]]:
    funnel, scores = funnel_figure(snapshot), score_figure(snapshot, alive)
    hulls = snapshot.meta.get("hull_summary") or {}
    return {
        "funnel": [funnel] if funnel else [],
        "properties": [*properties, scores] if scores else list(properties),
        "hulls": hull_figures(hulls, snapshot.outcomes.keys()),
    }
