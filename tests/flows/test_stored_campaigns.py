"""A run that was stored before campaigns were made of stages, and what a run of today finds in its place."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from toy_campaign import write_campaign
from typer.testing import CliRunner, Result

from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.flow import CampaignMaker
from dpa4_flows.campaigns.run import open_run, prepare_run, stored_campaign
from dpa4_flows.campaigns.snapshot import take_snapshot
from dpa4_flows.cli import app
from dpa4_flows.documents.schemas import StageResult
from dpa4_flows.engines import run_local
from dpa4_flows.reference.table import ReferenceTable
from dpa4_flows.store.table import ResultsTable

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

DUMP = Path(__file__).parent.parent / "data" / "campaigns" / "toy_run.sql.gz"


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Run folder of the toy campaign as the program wrote it when each limit had a name of its own."""
    folder = tmp_path / "before"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "results.sqlite")) as connection:
        connection.executescript(gzip.decompress(DUMP.read_bytes()).decode())
    return folder


def test_stored_run_of_before_is_shown_as_it_was(before: Path) -> None:
    snapshot = take_snapshot(open_run(before))
    assert [stage.stage for stage in snapshot.stages] == snapshot.funnel.names
    (row,) = snapshot.rows(["LiCoO2"])
    assert "volume_change_percent" in row.values() and "fmax" not in row.values()
    for command in ("status", "report"):
        done = dpa4(command, before)
        assert done.exit_code == 0, done.output
    assert "Electrode properties" in dpa4("status", before).stdout
    assert dpa4("export", before, "-o", before / "all.extxyz").exit_code == 0
    assert (before / "all.extxyz").read_text().count("Lattice=") == 8  # 5 relaxed, 3 charged, each once


def test_stored_settings_of_before_mean_what_they_meant(before: Path) -> None:
    campaign, engine = stored_campaign(before)
    assert engine == "local"
    assert campaign.hull.energy_above_hull.max == 0.6
    assert campaign.charged_hull.energy_above_hull_charged.max == 1.0
    assert (campaign.electrode.average_voltage.min, campaign.electrode.average_voltage.max) == (0.0, 20.0)
    assert campaign.relax.volume_change_percent.otherwise == "flag"
    assert not campaign.relax.check_minimum


SEARCHED = ("n_steps", "fmax", "decomposition")
"""Values that tell of the way to a minimum, or hold such numbers in words."""


def verdicts(table: ResultsTable) -> dict[tuple[str, str], StageResult]:
    return {(stage, i): found for stage in table.stage_counts() for i, found in table.stage(stage).items()}


def test_a_run_of_today_finds_what_the_stored_one_found(before: Path, tmp_path: Path) -> None:
    """Within 1 meV/atom and 0.01 V: the last digits of a relaxation follow from its first push."""
    prepared = prepare_run(load_campaign(write_campaign(tmp_path)), tmp_path / "run")
    run_local(CampaignMaker(run=prepared.run).make(), tmp_path / "jobs")
    old, new = verdicts(open_run(before)), verdicts(prepared.table)
    assert old.keys() == new.keys()
    for key, one in old.items():
        other = new[key]
        assert one.status == other.status, key
        for name, value in one.values.items():
            if name in SEARCHED or value is None:
                continue
            if isinstance(value, float):
                absolute = {"V": 0.01, "%": 0.5}.get(one.units[name], 1e-3)
                value = pytest.approx(value, rel=2e-3, abs=absolute)
            assert other.values[name] == value, (key, name)
        if key[0] != "sanity":  # each cause has a code of its own there now
            said = [sorted((r.code, sorted(r.voids), r.decides) for r in found.reasons) for found in (one, other)]
            assert said[0] == said[1], key
    for first, second in zip(open_run(before).ranking(), prepared.table.ranking(), strict=True):
        assert (first.candidate_id, first.pareto) == (second.candidate_id, second.pareto)
        assert sorted(first.voided) == sorted(second.voided)
        assert first.score_interval == pytest.approx(second.score_interval, abs=2e-3)
        assert first.score_parts == pytest.approx(second.score_parts, abs=2e-3)


def test_stored_run_of_before_goes_on(before: Path) -> None:
    shutil.copytree(before, before.parent / "copy")
    table = ResultsTable(before / "results.sqlite")
    table.set_meta("state", "running")
    keys = {document.key for document in table.iter_calculations()}
    done = dpa4("resume", before)
    assert done.exit_code == 0, done.output
    assert {document.key for document in table.iter_calculations()} >= keys
    competed = {row["key"] for row in open_run(before.parent / "copy").get_meta("references")}
    assert competed == {row["key"] for row in table.get_meta("references")}
    assert competed <= {phase.key for phase in ReferenceTable.in_run(table).phases()}
    assert [row.candidate_id for row in table.ranking()] == [
        row.candidate_id for row in open_run(before.parent / "copy").ranking()
    ]
