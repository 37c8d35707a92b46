"""The page of a committee: errors of its members, and what its deviations are worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpa4_core.files import write_text
from dpa4_core.train.config import TrainConfig
from dpa4_flows.plots.figure import Column, TableBlock
from dpa4_flows.report.page import render_page
from dpa4_flows.report.training import write_training_report
from dpa4_flows.training import (
    CONFIG_FILE,
    ERROR_UNITS,
    MODEL_FILE,
    REPORT_FILE,
    committee_members,
    digits,
    error_row,
    measured,
    read_run,
    uncertainty_rows,
)

UNCERTAINTY_HEADS = ("quantity", "error, RMS", "deviation, RMS", "unit", "ratio", "rank correlation")
_UNCERTAINTY_NOTE = (
    "Deviations between members beside errors of their mean on frames that none was trained on. A ratio of 1: as large "
    "as the errors; 2: half as large. The deviations that the committee gives are enlarged by the ratios above 1. The "
    "rank correlation says whether the largest errors are where the largest deviations are."
)


def committee_rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and errors on the validation frames, of each member and of their mean."""
    found = measured(folder) or {}
    for member, errors in zip(committee_members(folder), found.get("members") or [], strict=False):
        yield member.name, errors
    if found.get("validation"):
        yield "committee", found["validation"]


def write_committee_report(folder: str | Path, path: Path | None = None) -> Path:
    """Write the page, finished or not, and into the folder those of the members; returns the path of the HTML file.

    Args:
        folder: of the committee.
        path: HTML file, by default ``report.html`` in the folder.
    """
    folder = Path(folder)
    path = path or folder / REPORT_FILE
    members, config = committee_members(folder), TrainConfig.from_toml(folder / CONFIG_FILE)
    if path.resolve().parent == folder.resolve():
        for member in members:
            write_training_report(member)
    tables = []
    if rows := [[name, *(digits(value) for _, value, _ in error_row(e))] for name, e in committee_rows(folder)]:
        heads = [Column("model"), *(Column(f"{word} MAE", unit, number=True) for _, word, _, unit in ERROR_UNITS)]
        tables.append(TableBlock("errors", "Errors on the validation frames", "", heads, rows))
    if found := uncertainty_rows(((measured(folder) or {}).get("validation") or {}).get("uncertainty") or {}):
        heads = [Column(head, number=head not in ("quantity", "unit")) for head in UNCERTAINTY_HEADS]
        tables.append(TableBlock("deviations", "What deviations are worth", _UNCERTAINTY_NOTE, heads, found))
    page = render_page(
        "large.html",
        [],
        title=config.name,
        kicker="committee",
        state="" if (folder / MODEL_FILE).is_file() else "not complete",
        summary=f"{config.committee.members} models that differ by {config.committee.differ_by}.",
        tiles=[
            ("members", str(config.committee.members)),
            ("steps", f"{sum(read_run(member).step for member in members):,}"),
        ],
        figures=[],
        tables=tables,
        caveats=[],
        facts=[("model", str(folder / MODEL_FILE)), *((m.name, f"{m.name}/{REPORT_FILE}") for m in members)],
    )
    write_text(path, page)
    return path
