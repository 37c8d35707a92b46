"""Ranking and funnel in the terminal, and the run as a CSV, JSON or extended XYZ file."""

from __future__ import annotations

import csv
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dpa4_core.files import csv_cell, replacing_text
from dpa4_flows.campaigns.reason_counts import NO_REASON
from dpa4_flows.campaigns.snapshot import INPUT, Row, Snapshot, take_snapshot
from dpa4_flows.plots.words import formula_text, right
from dpa4_flows.report.headline import Headline, headline
from dpa4_flows.report.labels import OUTCOME_TITLES, flag_phrase, score_text
from dpa4_flows.report.structures import write_extxyz, write_json
from dpa4_flows.store.table import ResultsError, ResultsTable

_NARROW = 100  # characters; below, ids are left out where formulas tell candidates apart
_COLUMN_GAP = 2  # padding and divider of `_grid`
_MAX_TEXT = 28  # characters of an id before it folds
_HEADING = 9  # characters of a heading before its next word goes to another line
_STATUS_STYLE = {"rejected": "red", "error": "magenta"}


def print_ranking(table: ResultsTable, console: Console, limit: int | None = None) -> None:
    """Print the ranked candidates, with as many value columns as the console is wide.

    Args:
        table: results of a run, finished or not.
        console: where to print.
        limit: rows at most; None prints all.
    """
    snapshot = take_snapshot(table)
    ranked = list(snapshot.ranking)
    if not ranked:
        console.print(Text(_no_ranking(snapshot), style="yellow"))
        return
    rows = list(snapshot.rows(ranked[:limit]))
    formulas = [formula_text(row.formula) for row in rows]
    flags = _FlagLetters(snapshot, rows)
    columns = {"#": [str(row.ranked.rank) for row in rows if row.ranked], "formula": formulas}
    if console.width >= _NARROW or len(set(formulas)) < len(formulas):
        columns["candidate"] = [row.candidate_id for row in rows]
    columns |= {"score": [score_text(row.ranked) for row in rows if row.ranked], "flags": flags.cells}
    names = value_names(snapshot, rows)
    values = {_heading(name, snapshot): [_marked(name, row) for row in rows] for name in names}
    fitting = _fitting(columns, values, console.width)
    grid = _grid(f"Ranking of {campaign_name(snapshot)}")
    shown = {**{n: c for n, c in columns.items() if n != "flags"}, **fitting, "flags": flags.cells}
    for heading in shown:
        left = heading in ("formula", "candidate", "flags")
        justify: Literal["left", "right"] = "left" if left else "right"
        grid.add_column(Text(heading), justify=justify, overflow="fold", max_width=_MAX_TEXT)
    for cells in zip(*shown.values(), strict=True):
        grid.add_row(*(Text(cell) for cell in cells))
    console.print(grid)
    found = headline(snapshot)
    assert found is not None  # there is a ranking
    console.print(Text(_headline_words(found)))
    notes = [*flags.legend, model_line(snapshot)]
    if any("–" in cell and len(cell) > 1 for cell in columns["score"]):
        notes.append("A score with two numbers is an interval, as a ranked property is unknown; its lower end ranks.")
    if len(rows) < len(ranked):
        notes.append(f"{len(ranked) - len(rows)} more ranked candidates are not shown.")
    if len(fitting) < len(names):
        notes.append(f"{len(names) - len(fitting)} more values per candidate are in the CSV file and the report.")
    if any(cell.endswith("?") for column in fitting.values() for cell in column):
        notes.append("A question mark says that a flag voids the value; it does not count.")
    console.print(Text("\n".join(notes), style="dim"))


def print_funnel(table: ResultsTable, console: Console, limit: int | None = 200) -> None:
    """Print the counts of each stage and every candidate that left, with stage and reason.

    Args:
        table: results of a run, finished or not.
        console: where to print.
        limit: candidates listed at most; None lists all. The counts always cover everyone.
    """
    snapshot = take_snapshot(table)
    counted = right("entered", "passed", "flagged", "rejected", "not computable", "go on")
    grid = _grid(f"Funnel of {campaign_name(snapshot)}", "stage", *counted)
    grid.add_row(snapshot.funnel.title(INPUT), *[str(len(snapshot.outcomes)), *[""] * 4, str(len(snapshot.outcomes))])
    for stage in snapshot.stages:
        counts = (*stage[1:], stage.passed + stage.flagged)
        grid.add_row(Text(snapshot.funnel.title(stage.stage)), str(stage.entered), *map(str, counts))
    grid.add_row("Ranking", "", "", "", "", "", str(len(snapshot.ranking)) if snapshot.ranking else "–", style="bold")
    console.print(grid)
    left = snapshot.left
    if not left:
        console.print("No candidate has left." if snapshot.complete else "No candidate has left so far.")
        return
    heads = ("candidate", "formula", "left at", "verdict", Column("reason", ratio=3))
    gone = _grid(f"Who left and why ({len(left)})", *heads)
    for row in snapshot.rows(left[:limit]):
        gone.add_row(
            Text(row.candidate_id),
            Text(formula_text(row.formula)),
            Text(snapshot.funnel.title(row.outcome.stage)),
            Text(OUTCOME_TITLES[row.outcome.status], style=_STATUS_STYLE[row.outcome.status]),
            Text(" ".join(reason.sentence for reason in row.reasons) or NO_REASON),
        )
    console.print(gone)
    if limit is not None and len(left) > limit:
        console.print(Text(f"{len(left) - limit} more are in the CSV file; the most frequent reasons:", style="dim"))
        for reason in sorted(snapshot.reasons, key=lambda r: -r.number)[:10]:
            console.print(
                Text(f"  {reason.number:>7}  {snapshot.funnel.title(reason.stage)}: {reason.reason}", style="dim")
            )


def write_csv(table: ResultsTable, path: str | Path) -> None:
    """Write one row per candidate, ranked ones first and rejected ones included; units stand in the header.

    Columns of values are named ``stage.value [unit]``; ``codes`` are those of the reasons, ``voided`` the names of the
    values that mean nothing because of a flag. A text that a spreadsheet would run as a formula is
    preceded by an apostrophe.
    """
    with replacing_text(path) as stream:
        write_csv_rows(take_snapshot(table), stream)


def export(table: ResultsTable, path: str | Path) -> None:
    """Write the run as ``.csv``, or with relaxed structures as ``.json`` or ``.extxyz``.

    Raises:
        ResultsError: another suffix.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ResultsError(f"cannot export to {path.name}: choose a name that ends in .csv, .json or .extxyz")
    with replacing_text(path) as stream:
        write(take_snapshot(table), stream)


def write_csv_rows(snapshot: Snapshot, stream: TextIO, ids: Iterable[str] | None = None) -> None:
    """Header and one row per candidate of ``ids`` (default all) in reading order."""
    columns = snapshot.value_columns()
    in_stages = {name for _, name in columns}
    own = sorted({n for row in snapshot.ranking.values() for n in row.values} - in_stages, key=snapshot.column_order)
    parts = sorted({name for row in snapshot.ranking.values() for name in row.score_parts}, key=snapshot.column_order)
    header = ["rank", "candidate_id", "formula", "status", "stage_reached", "reasons", "codes", "voided"]
    header += ["score", "score_low", "score_high", "pareto", "source"]
    header += [f"score.{name}" for name in parts] + [f"ranking.{name}" for name in own]
    for stage, name in columns:
        unit = snapshot.stage_units.get((stage, name))
        header.append(f"{stage}.{name} [{unit}]" if unit else f"{stage}.{name}")
    origin = [snapshot.model.get("name"), snapshot.model.get("sha256"), snapshot.meta.get("code_version")]
    header += ["model", "model_sha256", "code_version"]
    writer = csv.writer(stream)
    writer.writerow(map(csv_cell, header))
    for row in snapshot.rows(ids):
        ranked = row.ranked
        values = {(s.stage, name): value for s in row.stages for name, value in s.values.items()}
        cells: list[Any] = [
            ranked.rank if ranked else None,
            row.candidate_id,
            row.formula,
            row.outcome.status,
            row.outcome.stage,
            " | ".join(reason.sentence for reason in row.reasons),
            " ".join(dict.fromkeys(reason.code for reason in row.reasons)),
            " ".join(row.voided),
            ranked.score if ranked else None,
            *((ranked.score_interval if ranked else None) or (None, None)),
            ranked.pareto if ranked else None,
            row.source,
        ]
        cells += [ranked.score_parts.get(name) if ranked else None for name in parts]
        cells += [ranked.values.get(name) if ranked else None for name in own]
        cells += [*(values.get(column) for column in columns), *origin]
        writer.writerow(map(csv_cell, cells))


_WRITERS: dict[str, Callable[[Snapshot, TextIO], object]] = {
    ".csv": write_csv_rows,
    ".json": write_json,
    ".extxyz": write_extxyz,
}


def value_names(snapshot: Snapshot, rows: Sequence[Row]) -> list[str]:
    """Names of the numeric values of ``rows``, the most important first; details only where they rank."""
    names = {
        name
        for row in rows
        for name, value in (row.ranked.values if row.ranked else row.values()).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        if not snapshot.funnel.quantity(name).detail or (row.ranked and name in row.ranked.score_parts)
    }
    return sorted(names, key=snapshot.column_order)


def _headline_words(found: Headline) -> str:
    doubts = f"{found.doubts}." if found.doubts else ""
    if found.best is None:
        return f"No candidate is without a disqualifying flag; {doubts}"
    return f"Best: {formula_text(found.best.formula)} (rank {found.best.rank}). {doubts}".strip()


def campaign_name(snapshot: Snapshot) -> str:
    """Name of the campaign, else of the run's folder."""
    campaign = snapshot.meta.get("campaign") or {}
    section = campaign.get("campaign")
    name = section.get("name") if isinstance(section, dict) else campaign.get("name")
    return str(name or snapshot.table.path.resolve().parent.name)


def model_line(snapshot: Snapshot) -> str:
    """Model, level of theory and corrections in one line: what every number of a table rests on."""
    model = snapshot.model
    name = model.get("name", "unknown model")
    sha256 = str(model.get("sha256") or "")
    corrections = ", ".join(snapshot.corrections) or "none recorded"
    checksum = f" (sha256 {sha256[:12]}…)" if sha256 else ""
    theory = model.get("level_of_theory", "level of theory unknown")
    return f"{name}{checksum}; {theory}; corrections: {corrections}; 0 K."


def _no_ranking(snapshot: Snapshot) -> str:
    if snapshot.complete:
        return f"No candidate of {len(snapshot.outcomes)} survived; the funnel says who left and why."
    return (
        f"The run is not finished and has no ranking yet: {len(snapshot.survivors)} of "
        f"{len(snapshot.outcomes)} candidates are still in the funnel."
    )


def _grid(title: str, *heads: str | Column) -> Table:
    return Table(*heads, title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


class _FlagLetters:
    """Flags as letters in a narrow column, with a legend that counts them."""

    def __init__(self, snapshot: Snapshot, rows: Sequence[Row]) -> None:
        flags = [
            list(dict.fromkeys(flag_phrase(flag, snapshot.funnel) for flag in row.ranked.flags)) if row.ranked else []
            for row in rows
        ]
        counts = Counter(flag for row in flags for flag in row)
        letters = {flag: _letter(i) for i, (flag, _) in enumerate(counts.most_common())}
        self.cells = [" ".join(letters[flag] for flag in row) for row in flags]
        self.legend = [f"flag {letters[flag]}: {flag} ({number})" for flag, number in counts.most_common()]


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def _heading(name: str, snapshot: Snapshot) -> str:
    declared = snapshot.funnel.quantity(name)
    lines = textwrap.wrap(declared.short or declared.label, _HEADING, break_long_words=False)
    return "\n".join([*lines, snapshot.units.get(name, "")])


def _fitting(fixed: dict[str, list[str]], values: dict[str, list[str]], width: int) -> dict[str, list[str]]:
    """The first of ``values`` that fit into ``width`` characters beside ``fixed``, at least one."""

    def wide(heading: str, column: list[str]) -> int:
        lines = [line for text in (heading, *column) for line in text.split("\n")]
        return _COLUMN_GAP + min(max(map(len, lines)), _MAX_TEXT)

    room = width - 2 - sum(wide(heading, column) for heading, column in fixed.items())
    chosen: dict[str, list[str]] = {}
    for heading, column in values.items():
        room -= wide(heading, column)
        if room < 0 and chosen:
            break
        chosen[heading] = column
    return chosen


def _marked(name: str, row: Row) -> str:
    return f"{row.text(name)} ?" if name in row.voided else row.text(name)
