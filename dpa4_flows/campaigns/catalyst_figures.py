"""What the stages of catalyst campaigns draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.plots.figure import FigureBlock, TableBlock
from dpa4_flows.report.figures_activity import activity_figures


def activity_blocks(snapshot: Snapshot, rows: Sequence[Row]) -> list[FigureBlock | TableBlock]:
    """Steps of the reaction and the volcano, with every facet of the candidates that have an activity."""
    return list(activity_figures(activities(snapshot, rows)))


def activities(snapshot: Snapshot, rows: Sequence[Row]) -> dict[str, ActivityDocument]:
    """Documents of the stage by candidate, those without an activity, too."""
    keys = {row.candidate_id: found.calculation_keys[0] for row in rows if (found := row.stage("activity")) is not None}
    stored: Mapping[str, ActivityDocument] = snapshot.table.documents(ActivityDocument, keys.values())
    return {name: stored[key] for name, key in keys.items() if key in stored}
