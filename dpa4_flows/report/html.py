"""The HTML report: one file that works offline by double click, for finished and for running campaigns.

The page is rendered by ``template.html`` with automatic escaping; ``style.css``, ``script.js`` and plotly.js
are put inline. Numbers in tables are text from here; the script sorts, filters, unfolds histories and draws
the figures.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from dpa4_core.files import write_text
from dpa4_flows.campaigns.snapshot import Row, Snapshot, take_snapshot
from dpa4_flows.plots.figure import FigureBlock, TableBlock
from dpa4_flows.plots.words import formula_html
from dpa4_flows.report import sections
from dpa4_flows.report.caveats import model_caveats
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
        caveats=model_caveats(snapshot.model, snapshot.corrections),
        theory=sections.theory(snapshot),
        funnel=sections.funnel(snapshot),
        ranking=sections.ranking(snapshot, alive),
        alive_total=len(snapshot.survivors),
        tables=[block for block in blocks if isinstance(block, TableBlock)],
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


def _blocks_of_stages(snapshot: Snapshot, rows: Sequence[Row]) -> list[FigureBlock | TableBlock]:
    """What the stages of the campaign draw."""
    blocks: list[FigureBlock | TableBlock] = []
    for stage in snapshot.funnel.stages:
        if stage.figures:
            module, _, function = stage.figures.partition(":")
            blocks += getattr(importlib.import_module(module), function)(snapshot, rows)
    return blocks


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
