"""The end of every campaign: score and order of what is left, by the values that its stages found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dpa4_flows.analysis.ranking import Objective, rank_candidates
from dpa4_flows.campaigns.context import SLICE, Screening
from dpa4_flows.documents.reasons import Reason


def put_ranking(run: Screening) -> int:
    """Store the ranking of a run that has passed all stages, and close it; gives how many are ranked."""
    table, funnel = run.open(), run.campaign.funnel
    ids = table.survivors(funnel.names[-1], funnel.names)
    formulas = table.formulas()
    objectives = [
        Objective(name, o.weight, o.goal, low=o.low, high=o.high) for name, o in run.campaign.objectives.items()
    ]
    ranked = {objective.name for objective in objectives}
    rows: list[dict[str, Any]] = []
    for start in range(0, len(ids), SLICE):  # whose documents need not be there together
        results = {name: table.stage(name, ids[start : start + SLICE]) for name in funnel.names}
        for i in ids[start : start + SLICE]:
            values: dict[str, Any] = {}
            flags: list[Reason] = []
            for name in funnel.names:
                verdict = results[name][i]
                for value, number in verdict.values.items():
                    shown = funnel.quantity(value)  # of two stages with this value, the one whose value is no detail
                    if shown is funnel.quantity(value, name) and (value in ranked or not shown.detail):
                        values[value] = number
                flags += [reason for reason in verdict.reasons if reason not in flags]
            rows.append({"candidate_id": i, "formula": formulas[i], "values": values, "flags": flags})
    ranking = rank_candidates(rows, objectives) if rows and objectives else []
    table.put_ranking(ranking)
    table.set_meta("finished", datetime.now(UTC).isoformat())
    table.set_meta("state", "complete")
    return len(ranking)
