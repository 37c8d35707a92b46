"""Reads a results table for reports: facts of the run, outcomes of all candidates, rows with stage history.

A campaign may hold hundreds of thousands of candidates with structures and full documents, so nothing here
loads them all: ids, outcomes and counts are kept for everyone, stage histories are read in slices and only
for rows that are shown. The queries are read-only and follow the schema in ``results``.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dpa4_flows.campaigns.config import DEFAULT_KIND
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.kind import find_kind
from dpa4_flows.campaigns.reason_counts import ReasonCount, count_reasons
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.documents.quantities import STD
from dpa4_flows.documents.reasons import Reason, decisive, voided
from dpa4_flows.documents.schemas import RankedCandidate, StageResult
from dpa4_flows.plots.words import format_value
from dpa4_flows.store.table import ResultsTable

OutcomeStatus = Literal["ranked", "passed", "in progress", "rejected", "error"]
"""`passed` survived a finished run without a rank, `in progress` waits for its next stage."""

INPUT = "input"
"""Name of the state before the first stage."""

_SLICE = 500
_USED = """
WITH used(key) AS (
    SELECT item.value FROM stages, json_each(stages.document, '$.calculation_keys') AS item
    UNION
    SELECT json_extract(item.value, '$.key') FROM meta, json_each(meta.value) AS item WHERE meta.name = 'references'
)
"""  # keys of calculations behind the current verdicts and references
_RELAXATIONS = "SELECT error, converged, document FROM calculations WHERE key IN used"
_DOCUMENTS = (
    "SELECT json_extract(document, '$.error'), COALESCE(json_extract(document, '$.converged'), 1), document "
    "FROM documents WHERE key IN used"
)
_META = (
    *("state", "campaign", "campaign_hash", "corrections", "model", "stages", "engine", "code_version"),
    *("started", "finished", "hull_summary", "references"),
)


class Outcome(NamedTuple):
    """Where a candidate stands: the stage it left at, or the last one it passed."""

    stage: str
    status: OutcomeStatus

    @property
    def left(self) -> bool:
        """Whether the candidate is out."""
        return self.status in ("rejected", "error")


class StageCount(NamedTuple):
    """Candidates of one stage by verdict."""

    stage: str
    passed: int
    flagged: int
    failed: int
    error: int

    @property
    def entered(self) -> int:
        return self.passed + self.flagged + self.failed + self.error

    @property
    def left(self) -> int:
        return self.failed + self.error


class CalculationCounts(NamedTuple):
    """Calculations that the verdicts and the references of the run rest on: relaxations, and properties as one each.

    The table may hold more: those of former settings or of another model.
    """

    total: int
    failed: int
    unconverged: int
    wall_time_s: float


@dataclass(frozen=True)
class Row:
    """One candidate as reports show it; ``stages`` in funnel order, without documents and provenance."""

    candidate_id: str
    formula: str
    source: str
    outcome: Outcome
    stages: tuple[StageResult, ...] = ()
    ranked: RankedCandidate | None = None
    input_error: str | None = None
    funnel: Funnel = field(default_factory=Funnel)

    @property
    def reasons(self) -> list[Reason]:
        """Why it left, or which flags it carries; without repetition."""
        if not self.outcome.left:
            return self.flags
        found = [reason for s in self.stages if s.stage == self.outcome.stage for reason in s.reasons]
        if not found and self.input_error:
            found = [Reason(code="not_readable", sentence=self.input_error)]
        return _each_once(decisive(found))

    @property
    def flags(self) -> list[Reason]:
        """Everything that any stage remarked; also of a candidate that left."""
        gathered = list(self.ranked.flags) if self.ranked else []
        return _each_once([*gathered, *(reason for stage in self.stages for reason in stage.reasons)])

    @property
    def voided(self) -> list[str]:
        """Names of the values that mean nothing, because of a flag."""
        return voided(self.flags)

    def values(self) -> dict[str, Any]:
        """Results by name: those of the ranking, else of the stages, a later stage winning.

        Details are left out: energies and volume changes of relaxations are steps on the way, and would pass for
        results of equally named values of other stages.
        """
        declared = self.funnel.quantity
        merged = {
            name: value
            for stage in self.stages
            for name, value in stage.values.items()
            if declared(name, stage.stage) == declared(name) and not declared(name).detail
        }
        return merged | (self.ranked.values if self.ranked else {})

    def text(self, name: str) -> str:
        """One of the `values` as it is shown, with its deviation where a committee computed it; without the unit."""
        declared, stages = self.funnel.quantity(name), [stage for stage in self.stages if name in stage.values]
        own = [stage.values for stage in stages if self.funnel.quantity(name, stage.stage) == declared]
        return format_value(declared, self.values().get(name), own[-1].get(name + STD) if own else None)

    def stage(self, name: str) -> StageResult | None:
        return next((s for s in self.stages if s.stage == name), None)


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        table: where histories are read from.
        meta: facts of the run as recorded.
        stages: counts in funnel order.
        outcomes: of every candidate, in reading order: ranked, alive, then by how far they came.
        ranking: rows of the ranking by candidate.
        links: {(from, to, verdict): candidates}; ``to`` is a stage or an `OutcomeStatus`.
        reasons: why candidates left, counted.
        calculations: counts.
        corrections: correction schemes of the energies, by name.
        funnel: the stages of its kind; without any if the kind is not known here.
        units: by value name.
        stage_units: by stage and value name.
    """

    table: ResultsTable
    meta: dict[str, Any]
    stages: tuple[StageCount, ...]
    outcomes: dict[str, Outcome]
    ranking: dict[str, RankedCandidate]
    links: Counter[tuple[str, str, str]]
    reasons: tuple[ReasonCount, ...]
    calculations: CalculationCounts
    corrections: tuple[str, ...] = ()
    funnel: Funnel = field(default_factory=Funnel)
    units: dict[str, str] = field(default_factory=dict)
    stage_units: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return self.meta.get("state") == "complete"

    @property
    def survivors(self) -> list[str]:
        """Ids that were not rejected, best first; only meaningful as a result when the run is complete."""
        return [i for i, outcome in self.outcomes.items() if not outcome.left]

    @property
    def left(self) -> list[str]:
        return [i for i, outcome in self.outcomes.items() if outcome.left]

    @property
    def model(self) -> dict[str, Any]:
        """Identity card of the model as the run recorded it; empty if it did not."""
        recorded = self.meta.get("model") or {}
        nested = [value for key, value in recorded.items() if key in ("ref", "info") and isinstance(value, dict)]
        return {name: value for part in (*nested, recorded) for name, value in part.items()}

    def column_order(self, name: str) -> tuple[int, str]:
        """Place of a value among the columns of a ranking, as a key to sort by."""
        return self.funnel.quantity(name).priority, name

    def value_columns(self) -> list[tuple[str, str]]:
        """(stage, value name) of every value that any candidate has, in funnel order."""
        with self.table.reading() as connection:
            found = connection.execute(
                "SELECT DISTINCT stage, item.key FROM stages, json_each(stages.document, '$.values') AS item"
            ).fetchall()
        order = {stage.stage: i for i, stage in enumerate(self.stages)}

        def place(column: tuple[str, str]) -> tuple[int, int, str]:
            stage, name = column
            return order.get(stage, len(order)), self.funnel.quantity(name, stage).priority, name

        return sorted(found, key=place)

    def rows(self, ids: Iterable[str] | None = None) -> Iterator[Row]:
        """Rows with stage history in the given order, read in slices; all candidates by default."""
        wanted = list(self.outcomes if ids is None else ids)
        order = {stage.stage: i for i, stage in enumerate(self.stages)}
        for start in range(0, len(wanted), _SLICE):
            part = wanted[start : start + _SLICE]
            with self.table.reading() as connection:
                heads = {
                    row[0]: row
                    for row in connection.execute(
                        "SELECT candidate_id, formula, json_extract(document, '$.source'),"
                        " json_extract(document, '$.error') FROM candidates"
                        " WHERE candidate_id IN (SELECT value FROM json_each(?))",
                        (json.dumps(part),),
                    )
                }
                history: dict[str, list[StageResult]] = {}
                for candidate_id, text in connection.execute(
                    "SELECT candidate_id, json_remove(document, '$.document', '$.provenance')"
                    " FROM stages WHERE candidate_id IN (SELECT value FROM json_each(?))",
                    (json.dumps(part),),
                ):
                    history.setdefault(candidate_id, []).append(StageResult.model_validate_json(text))
            for candidate_id in part:
                _, formula, source, error = heads[candidate_id]
                stages = sorted(history.get(candidate_id, []), key=lambda s: order.get(s.stage, len(order)))
                yield Row(
                    candidate_id=candidate_id,
                    formula=formula,
                    source=source or "",
                    outcome=self.outcomes[candidate_id],
                    stages=tuple(stages),
                    ranked=self.ranking.get(candidate_id),
                    input_error=error,
                    funnel=self.funnel,
                )


def take_snapshot(table: ResultsTable) -> Snapshot:
    """Read what a report says about all candidates; histories come later through ``Snapshot.rows``."""
    with table.reading() as connection:
        meta = {
            name: _json(text)
            for name, text in connection.execute(
                "SELECT name, value FROM meta WHERE name IN (SELECT value FROM json_each(?))",
                (json.dumps(_META),),
            )
        }
        counts: dict[str, dict[str, int]] = {}
        verdicts: dict[str, list[tuple[str, str]]] = {}
        for candidate_id, stage, status in connection.execute("SELECT candidate_id, stage, status FROM stages"):
            counts.setdefault(stage, Counter())[status] += 1
            verdicts.setdefault(candidate_id, []).append((stage, status))
        heads = connection.execute(
            "SELECT candidate_id, json_extract(document, '$.error') FROM candidates ORDER BY position, rowid"
        ).fetchall()
        calculations = _calculations(connection)
        stage_units = _units(connection)
        corrections = _corrections(connection) or [name for name in [meta.get("corrections")] if name]
        funnel = _funnel(meta.get("campaign"))
        names = order_stages({s: sum(c.values()) for s, c in counts.items()}, meta.get("stages") or funnel.names)
        reasons = count_reasons(_reasons(connection), names, funnel)
    ranking = {row.candidate_id: row for row in table.ranking()}
    outcomes, links = _follow(heads, verdicts, names, ranking, complete=meta.get("state") == "complete")
    return Snapshot(
        table=table,
        meta=meta,
        stages=tuple(
            StageCount(s, *(counts[s].get(k, 0) for k in ("passed", "flagged", "failed", "error"))) for s in names
        ),
        outcomes=outcomes,
        ranking=ranking,
        links=links,
        reasons=reasons,
        calculations=calculations,
        corrections=tuple(corrections),
        funnel=funnel,
        units={name: unit for (_, name), unit in stage_units.items()},
        stage_units=stage_units,
    )


def _calculations(connection: sqlite3.Connection) -> CalculationCounts:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}  # one of before has fewer
    answers = " UNION ALL ".join([_RELAXATIONS, *([_DOCUMENTS] if "documents" in tables else [])])
    found = connection.execute(
        f"{_USED}, answers(error, converged, document) AS ({answers}) SELECT COUNT(*), COUNT(error), "  # noqa: S608
        "COALESCE(SUM(error IS NULL AND NOT converged), 0), "
        "COALESCE(SUM(json_extract(document, '$.provenance.wall_time_s')), 0.0) FROM answers"
    )
    return CalculationCounts(*found.fetchone())


def _funnel(campaign: dict[str, Any] | None) -> Funnel:
    """Stages of the campaign that a run stored; those of then for one of an earlier version."""
    section = (campaign or {}).get("campaign")
    if campaign is None or not isinstance(section, dict):
        return Funnel()
    try:
        kind = find_kind(str(section.get("kind", DEFAULT_KIND)))
        return kind.funnel(kind.upgrade(campaign)["campaign"].get("stages"))
    except ConfigError:  # of a package that is not installed here
        return Funnel()


def order_stages(entered: Mapping[str, int], declared: Sequence[str]) -> list[str]:
    """Stages with verdicts in the order of the funnel: as declared, the others by falling numbers.

    Args:
        entered: candidates that have a verdict, by stage.
        declared: order that the run recorded, or that of its kind.
    """
    rest = sorted(set(entered) - set(declared), key=lambda stage: (-entered[stage], stage))
    return [stage for stage in declared if stage in entered] + rest


def provenance_of(table: ResultsTable) -> dict[str, Any]:
    """Settings and versions of the calculations that the run rests on, which share them; empty before the first."""
    with table.reading() as connection:
        row = connection.execute(
            _USED + " SELECT json_extract(document, '$.provenance') FROM calculations WHERE key IN used LIMIT 1"  # noqa: S608
        ).fetchone()
    return _json(row[0]) if row and row[0] else {}


def _corrections(connection: sqlite3.Connection) -> list[str]:
    """Names of the correction schemes in the energy frames of stage documents."""
    rows = connection.execute(
        "SELECT DISTINCT json_extract(document, '$.document.frame.correction') FROM stages"
    ).fetchall()
    return sorted(row[0] for row in rows if row[0])


def _units(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """{(stage, value name): unit} over all stage results; a table's worth of distinct triples."""
    rows = connection.execute(
        "SELECT DISTINCT stage, item.key, item.value FROM stages, json_each(stages.document, '$.units') AS item"
    ).fetchall()
    return {(stage, name): unit for stage, name, unit in rows}


def _reasons(connection: sqlite3.Connection) -> Iterator[tuple[str, list[Reason]]]:
    for stage, text in connection.execute(
        "SELECT stage, json_extract(document, '$.reasons') FROM stages WHERE status IN ('failed', 'error')"
    ):
        yield stage, decisive([Reason.model_validate(reason) for reason in _json(text) or []])


def _each_once(reasons: Iterable[Reason]) -> list[Reason]:
    """In order; the same sentence of two stages counts once."""
    return list({reason.sentence: reason for reason in reversed(list(reasons))}.values())[::-1]


def _follow(
    heads: Sequence[tuple[str, str | None]],
    verdicts: dict[str, list[tuple[str, str]]],
    names: Sequence[str],
    ranking: dict[str, RankedCandidate],
    *,
    complete: bool,
) -> tuple[dict[str, Outcome], Counter[tuple[str, str, str]]]:
    """Outcomes in reading order, and how many candidates went from state to state with which verdict."""
    order = {name: i for i, name in enumerate(names)}
    links: Counter[tuple[str, str, str]] = Counter()
    keyed: list[tuple[tuple[int, int, int], str, Outcome]] = []
    for candidate_id, error in heads:
        outcome = Outcome(INPUT, "error") if error else Outcome(INPUT, "in progress")
        here, verdict = INPUT, "passed"
        for stage, status in sorted(verdicts.get(candidate_id, []), key=lambda pair: order[pair[0]]):
            links[here, stage, verdict] += 1
            here, verdict = stage, status
            outcome = Outcome(stage, "passed" if complete else "in progress")
            if status in ("failed", "error"):
                outcome = Outcome(stage, "rejected" if status == "failed" else "error")
                break
        rank = ranking.get(candidate_id)
        if rank is not None and not outcome.left:
            outcome = Outcome(here, "ranked")
        links[here, outcome.status, verdict] += 1
        group = {"ranked": 0, "passed": 1, "in progress": 1}.get(outcome.status, 2)
        key = (group, rank.rank if rank is not None and group == 0 else 0, -order.get(here, -1))
        keyed.append((key, candidate_id, outcome))
    keyed.sort(key=lambda item: item[0])  # stable: input order within equal keys
    return {candidate_id: outcome for _, candidate_id, outcome in keyed}, links


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
