"""What the sections of the HTML report say: plain values and words for its template, in page order."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from markupsafe import Markup

from dpa4_core.errors import plural
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.campaigns.reason_counts import NO_REASON
from dpa4_flows.campaigns.snapshot import INPUT, Row, Snapshot, provenance_of
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.plots.words import duration, format_value, formula_html, formula_text
from dpa4_flows.report.figures_hull import hull_caveat, system_elements
from dpa4_flows.report.headline import headline
from dpa4_flows.report.labels import OUTCOME_TITLES, badge_text, flag_text, score_low, score_text
from dpa4_flows.report.structures import write_extxyz
from dpa4_flows.report.tables import value_names, write_csv_rows

MAX_HULLS = 500
MAX_REFERENCES = 500
MAX_STRUCTURES = 200
_REASONS_PER_STAGE = 3
_SUMMARY_VALUES = 4


def summary(snapshot: Snapshot, alive: Sequence[Row]) -> Markup:
    total, survivors = len(snapshot.outcomes), len(snapshot.survivors)
    if not snapshot.complete:
        waiting = sum(o.stage == INPUT for o in snapshot.outcomes.values() if not o.left)
        text = f"{total:,} candidates entered and {survivors:,} are still in the funnel"
        text += f", {waiting:,} of them not started." if waiting else "."
        ranked = "The ranking may change." if snapshot.ranking else "There is no ranking yet."
        return Markup("{} {}").format(text, ranked)
    if not survivors:
        return Markup("{}").format(f"{total:,} candidates entered and none survived.")
    lead = f"{total:,} candidates entered and {survivors:,} survived every stage."
    if not snapshot.ranking:
        return Markup("{}").format(f"{lead} They were not ranked.")
    found = headline(snapshot)
    assert found is not None  # there is a ranking
    if found.best is None:
        return Markup("{}").format(f"{lead} None of them is without a disqualifying flag; {found.doubts}.")
    best = next(row for row in alive if row.candidate_id == found.best.candidate_id)
    values = best.values()
    names = [name for name in value_names(snapshot, [best]) if name not in best.voided][:_SUMMARY_VALUES]
    shown = [_in_words(name, values[name], snapshot) for name in names]
    if "energy_above_hull" in names and on_hull(values["energy_above_hull"]) and (said := best.stage("hull")):
        shown[names.index("energy_above_hull")] = str(said.values.get("decomposition") or "on the hull of its phases")
    if warnings := len(found.best.flags):
        shown.append(f"{plural(warnings, 'warning')}, see its flags")
    text = Markup("{} Best: <strong>{}</strong> ({}).").format(lead, formula_html(best.formula), ", ".join(shown))
    return text + Markup(" {}").format(f"{found.doubts}.") if found.doubts else text


def _in_words(name: str, value: Any, snapshot: Snapshot) -> str:
    declared = snapshot.funnel.quantity(name)
    label = declared.label
    label = label[0].lower() + label[1:] if label[1:2].islower() else label
    return f"{label} {format_value(declared, value)} {snapshot.units.get(name, '')}".strip()


def tiles(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    """Label, number and detail of the figures at the top."""
    statuses = Counter(outcome.status for outcome in snapshot.outcomes.values())
    flagged = sum(bool(row.flags) for row in snapshot.ranking.values())
    calculations = snapshot.calculations
    survivors = statuses["ranked"] + statuses["passed"] + statuses["in progress"]
    return [
        ("candidates", f"{len(snapshot.outcomes):,}", ""),
        (
            "survived" if snapshot.complete else "still in the funnel",
            f"{survivors:,}",
            f"{flagged:,} with warnings" if snapshot.ranking else "",
        ),
        ("rejected", f"{statuses['rejected']:,}", "each with its reason"),
        ("not computable", f"{statuses['error']:,}", "each with its reason"),
        (
            "calculations",
            f"{calculations.total:,}",
            f"{calculations.failed:,} failed, {calculations.unconverged:,} unconverged",
        ),
        ("wall time", _wall_time(snapshot.meta), ""),
    ]


def _wall_time(meta: dict[str, Any]) -> str:
    started, finished = _time(meta.get("started")), _time(meta.get("finished"))
    if started is None:
        return "–"
    if finished is None:
        return "running" if meta.get("state") != "complete" else "–"
    return duration((finished - started).total_seconds())


def _time(text: Any) -> datetime | None:
    if isinstance(text, (int, float)):
        return datetime.fromtimestamp(text, UTC)
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time_text(text: Any) -> str:
    moment = _time(text)
    return "–" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def model_card(snapshot: Snapshot) -> list[tuple[str, str]]:
    model = snapshot.model
    elements = model.get("elements") or ()
    parameters = model.get("n_parameters") or 0
    corrections = ", ".join(snapshot.corrections)
    card = [
        ("Model", str(model.get("name", "not recorded"))),
        ("SHA-256", str(model.get("sha256") or "not recorded")),
        ("Level of theory", str(model.get("level_of_theory", "not recorded"))),
        ("Corrections applied", corrections or "none recorded so far"),
        ("Corrections that fit the model", str(model.get("corrections") or "not known")),
        ("Trained for", str(model.get("trained_for", ""))),
        ("Elements", f"{len(elements)} seen in training" if elements else ""),
        ("Energy zero shifted", ", ".join(model.get("zeros") or ())),
        ("Energy zero not known by itself", ", ".join(model.get("undecided") or ())),
        ("Parameters", f"{parameters:,}" if parameters else ""),
        ("Licence of the weights", str(model.get("licence", "unknown"))),
        ("Source", str(model.get("source", ""))),
        ("Precision", str(model.get("dtype", ""))),
    ]
    return [(label, value) for label, value in card if value]


def theory(snapshot: Snapshot) -> str:
    """What all numbers of a table rest on, for the line above it."""
    model = snapshot.model
    parts = [str(model.get("name", "")), str(model.get("level_of_theory", ""))]
    parts.append(_corrections_text(snapshot))
    return ", ".join(part for part in (*parts, "0 K") if part)


def _corrections_text(snapshot: Snapshot) -> str:
    if not snapshot.corrections:
        return "corrections not recorded yet"
    return f"{', '.join(snapshot.corrections).replace('none', 'no')} corrections"


def funnel(snapshot: Snapshot) -> list[dict[str, Any]]:
    total = max(len(snapshot.outcomes), 1)
    rows = []
    for stage in snapshot.stages:
        reasons = [r for r in snapshot.reasons if r.stage == stage.stage]
        shares = [
            (kind, 100.0 * number / total)
            for kind, number in (("passed", stage.passed), ("flagged", stage.flagged), ("left", stage.left))
        ]
        waiting = sum(
            n for (source, target, _), n in snapshot.links.items() if (source, target) == (stage.stage, "in progress")
        )
        rows.append(
            {
                "title": snapshot.funnel.title(stage.stage),
                "count": stage,
                "shares": shares,
                "waiting": waiting,
                "reasons": [(r.number, r.reason) for r in reasons[:_REASONS_PER_STAGE]],
                "more": len(reasons) - _REASONS_PER_STAGE,
            }
        )
    return rows


def ranking(snapshot: Snapshot, alive: Sequence[Row]) -> dict[str, Any]:
    names = value_names(snapshot, alive)
    declared = {name: snapshot.funnel.quantity(name) for name in names}
    columns = [
        {"name": n, "label": q.label, "unit": snapshot.units.get(n, ""), "note": q.tooltip} for n, q in declared.items()
    ]
    rows = []
    for row in alive:
        values, void = row.values(), row.voided
        cells = [
            {
                "text": row.text(name),
                "sort": values.get(name),
                "doubtful": name in void,
            }
            for name in names
        ]
        said = row.ranked.flags if row.ranked else row.reasons
        flags: dict[str, list[str]] = {}  # what is said of several facets has one badge
        for flag in said:
            flags.setdefault(badge_text(flag, row.funnel), []).append(flag_text(flag, row.funnel))
        rows.append(
            {
                "row": row,
                "cells": cells,
                "flags": [(badge, "; ".join(sentences)) for badge, sentences in flags.items()],
                "score": score_text(row.ranked) if row.ranked else None,
                "low": score_low(row.ranked) if row.ranked else None,
            }
        )
    return {"columns": columns, "rows": rows, "ranked": bool(snapshot.ranking)}


def gone_row(row: Row) -> dict[str, Any]:
    return {
        "row": row,
        "stage": row.funnel.title(row.outcome.stage),
        "verdict": OUTCOME_TITLES[row.outcome.status],
        "reasons": [reason.sentence for reason in row.reasons] or [NO_REASON],
    }


def history(row: Row) -> dict[str, Any]:
    """Everything the funnel knows about one candidate, as words for the script to show."""
    stages, funnel = [], row.funnel
    for result in row.stages:
        declared = {name: funnel.quantity(name, result.stage) for name in (*result.values, *result.thresholds)}
        numbers = [
            [
                declared[name].label,
                formula_text(format_value(declared[name], value)),
                result.units.get(name, ""),
                _limit(result.thresholds, name, declared[name]),
            ]
            for name, value in sorted(result.values.items(), key=lambda item: (declared[item[0]].priority, item[0]))
        ]
        others = [
            [declared[name].label, "", result.units.get(name, ""), f"limit {format_value(declared[name], limit)}"]
            for name, limit in result.thresholds.items()
            if limit is not None and not any(_concerns(name, value) for value in result.values)
        ]
        keys = [key[:12] for key in result.calculation_keys]
        reasons = [flag_text(reason, funnel) for reason in result.reasons]
        stages.append([funnel.title(result.stage), result.status, numbers + others, reasons, keys])
    if row.input_error and not row.stages:
        stages.append([funnel.title(INPUT), "error", [], [row.input_error], []])
    return {
        "source": row.source,
        "flags": [flag_text(f, funnel) for f in row.ranked.flags] if row.ranked else [],
        "stages": stages,
    }


def _limit(thresholds: dict[str, Any], name: str, declared: Quantity) -> str:
    """Criteria on a value as text: a bare limit, or what lies between ``min_...`` and ``max_...``."""
    found = {
        key[:4] if _base(key) != key else "": limit
        for key, limit in thresholds.items()
        if limit is not None and _concerns(key, name)
    }
    words = {kind: format_value(declared, limit) for kind, limit in found.items()}
    if "min_" in words and "max_" in words:
        return f"{words['min_']} to {words['max_']}"
    signs = {"": "limit ", "min_": "≥ ", "max_": "≤ "}
    return next((signs[kind] + text for kind, text in words.items()), "")


def _base(threshold: str) -> str:
    return threshold.removeprefix("min_").removeprefix("max_")


def _concerns(threshold: str, name: str) -> bool:
    """Whether ``max_voltage`` is a criterion on ``average_voltage``."""
    return name == _base(threshold) or (threshold != _base(threshold) and name.endswith("_" + _base(threshold)))


def hull_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    summary = snapshot.meta.get("hull_summary") or {}
    rows = [
        {
            "system": "-".join(system_elements(name)),
            "n_competing": system.get("n_competing"),
            "missing": ", ".join(map(str, system.get("missing") or [])),
            "n_phases": len(system.get("phases", [])),
            "n_on_hull": sum(
                on_hull(phase.get("energy_above_hull") or 0.0) and phase.get("verdict") != "unknown"
                for phase in system.get("phases", [])
            ),
            "caveat": hull_caveat(name, system),
        }
        for name, system in summary.items()
    ]
    return sorted(rows, key=lambda r: (str(r["system"]).count("-"), r["system"]))[:MAX_HULLS]


def references(snapshot: Snapshot) -> dict[str, Any]:
    references = snapshot.meta.get("references") or []
    sources = Counter((str(r.get("source") or "not recorded"), str(r.get("role") or "")) for r in references)
    return {"sources": sources.most_common(50), "rows": references[:MAX_REFERENCES], "total": len(references)}


def facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    meta, calculations = snapshot.meta, snapshot.calculations
    provenance = provenance_of(snapshot.table)
    facts = [
        ("State", str(meta.get("state", "not recorded"))),
        ("Engine", str(meta.get("engine", "not recorded"))),
        ("dpa4-flows", str(meta.get("code_version", "not recorded"))),
        ("Started", _time_text(meta.get("started"))),
        ("Finished", _time_text(meta.get("finished"))),
        ("Wall time", _wall_time(meta)),
        ("Calculations", f"{calculations.total:,}, references included"),
        ("Failed calculations", f"{calculations.failed:,}"),
        ("Unconverged calculations", f"{calculations.unconverged:,}"),
        ("Time in calculations", duration(calculations.wall_time_s)),
        ("Campaign hash", str(meta.get("campaign_hash", ""))),
    ]
    facts += [(f"Calculation: {name}", value) for name, value in flatten(provenance.get("settings") or {})]
    return [(label, value) for label, value in facts if value]


def flatten(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{prefix}{name}", ", ".join(map(str, value)) or "–"))
        else:
            rows.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return rows


def downloads(snapshot: Snapshot, alive: Sequence[Row], gone: Sequence[Row]) -> list[dict[str, str]]:
    table = io.StringIO(newline="")
    ids = [row.candidate_id for row in (*alive, *gone)]
    write_csv_rows(snapshot, table, ids)
    rows = "all candidates" if len(ids) == len(snapshot.outcomes) else f"the {len(ids):,} candidates listed here"
    links = [_link("ranking.csv", "text/csv", table.getvalue(), rows)]
    structures = io.StringIO()
    number = write_extxyz(snapshot, structures, islice((row.candidate_id for row in alive), MAX_STRUCTURES))
    if number:
        words = f"{number:,} relaxed structures of the best candidates"
        links.append(_link("structures.extxyz", "chemical/x-xyz", structures.getvalue(), words))
    return links


def _link(name: str, mime: str, text: str, words: str) -> dict[str, str]:
    content = base64.b64encode(text.encode()).decode()
    return {"name": name, "href": f"data:{mime};charset=utf-8;base64,{content}", "words": words}
