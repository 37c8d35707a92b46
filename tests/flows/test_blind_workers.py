"""A worker that does not see the folder of its run fails, and nobody goes on with what it left undone."""

import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from jobflow import Flow, Job, JobStore
from maggma.stores import MemoryStore
from pymatgen.core import Structure
from toy_campaign import MORSE, STAGES, candidates, rocksalt, write_campaign

from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.flow import CampaignMaker, advance_part
from dpa4_flows.campaigns.run import PreparedRun, open_run, prepare_run
from dpa4_flows.engines import run_local
from dpa4_flows.makers.corrections import CorrectionRefitMaker
from dpa4_flows.makers.named import BatchRelaxMaker, BatchStaticMaker, ConvexHullMaker, StabilityMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.table import SCHEMA_VERSION, ResultsError, ResultsTable

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

REMEDY = "mount the folder of the run there under the same path, or start the run again in a folder that all workers"


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def other_run(folder: Path) -> None:
    """The folder of another run of the same campaign, at the same place."""
    shutil.rmtree(folder)
    campaign = load_campaign(folder.parent / "campaign.toml") if (folder.parent / "campaign.toml").exists() else None
    if campaign is None:
        ResultsTable(folder / "results.sqlite")
    else:
        prepare_run(campaign, folder)


BLIND = {
    no_folder: "there is no run folder {folder} on {host}",
    empty_folder: "the run folder {folder} holds no results.sqlite on {host}",
    other_run: "the run folder {folder} is on {host} that of another run",
}


def content(folder: Path) -> dict[str, list[str] | bytes]:
    """What is in a folder: dumps of tables, bytes of the rest."""
    found: dict[str, list[str] | bytes] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-shm", "-wal"))):
        if path.suffix == ".sqlite":
            connection = sqlite3.connect(path)
            found[str(path)] = list(connection.iterdump())
            connection.close()
        else:
            found[str(path)] = path.read_bytes()
    return found


def jobs_of(flow: Flow | Job) -> list[Job]:
    return [flow] if isinstance(flow, Job) else [job for part in flow.jobs for job in jobs_of(part)]


def refuse_all(jobs: list[Job], folder: Path, blind: Callable[[Path], None]) -> None:
    """Run every job without its folder; all fail with the sentence, and nothing is written."""
    blind(folder)
    before = content(folder.parent)
    sentence = BLIND[blind].format(folder=folder, host=socket.gethostname())
    for job in jobs:
        with JobStore(MemoryStore(), additional_stores={"data": MemoryStore()}) as store:
            with pytest.raises(ResultsError) as caught:
                job.run(store=store)
            assert store.count() == 0, job.name
        assert str(caught.value).startswith(sentence), job.name
        assert REMEDY in str(caught.value)
    assert content(folder.parent) == before
    assert folder.exists() == (blind is not no_folder)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedRun:
    return prepare_run(load_campaign(write_campaign(tmp_path)), tmp_path / "run")


@pytest.mark.parametrize("blind", BLIND)
def test_no_job_of_a_campaign_works_without_its_run_folder(
    prepared: PreparedRun, blind: Callable[[Path], None]
) -> None:
    jobs = jobs_of(CampaignMaker(run=prepared.run).make())
    ids = [c.candidate_id for c in prepared.table.candidates()][:4]
    chunks = [advance_part(prepared.run, "relax", part) for part in (ids[:2], ids[2:])]
    assert len(jobs) == 10
    assert len(chunks) == 2
    refuse_all([*jobs, *chunks], prepared.folder, blind)


@pytest.mark.parametrize("blind", BLIND)
def test_no_job_of_a_maker_works_without_the_table_that_was_made_with_it(
    tmp_path: Path, blind: Callable[[Path], None]
) -> None:
    table, crystals = tmp_path / "run" / "results.sqlite", [rocksalt("Mg")]
    model = ModelRef(MORSE).resolve()
    relax = BatchRelaxMaker(model=model)
    flows: list[Flow | Job] = [
        relax.make(table=str(table), structures=crystals),
        BatchStaticMaker(model=model).make(table=str(table), structures=crystals),
        ConvexHullMaker(model=model, property=Hull(library=None)).make(crystals, table=str(table)),
        CorrectionRefitMaker(relax_maker=relax).make(table=table),
        StabilityMaker(model=model, property=Stability(hull=None)).make(crystals, table=table),
    ]
    refuse_all([job for flow in flows for job in jobs_of(flow)], table.parent, blind)


def test_a_table_that_goes_away_is_not_made_anew_empty(tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    table.path.unlink()
    with pytest.raises(ResultsError, match="results.sqlite cannot be used"):
        table.set_meta("state", "running")
    assert list(tmp_path.iterdir()) == []


def test_a_campaign_in_which_a_blind_worker_took_part_does_not_end(prepared: PreparedRun) -> None:
    """Verdicts that an earlier job should have written are missing: every later stage refuses, also the ranking."""
    run_local(CampaignMaker(run=prepared.run).make(), prepared.folder / "jobs")
    ranking = open_run(prepared.folder).ranking()
    assert ranking
    jobs = [job for job in jobs_of(CampaignMaker(run=prepared.run).make()) if job.name != "competing phases"]
    after = dict(zip(("", *STAGES), _jobs_by_stage(jobs), strict=True))
    for position, stage in enumerate(STAGES):
        with sqlite3.connect(prepared.table.path) as connection:
            rows = connection.execute("SELECT * FROM stages WHERE stage = ?", (stage,)).fetchall()
            lost = next(row for row in rows if row[2] in ("passed", "flagged"))[0]
            connection.execute("DELETE FROM stages WHERE stage = ? AND candidate_id = ?", (stage, lost))
        connection.close()
        for later in (*STAGES[position + 1 :], "rank"):
            for job in after[STAGES[-1] if later == "rank" else STAGES[STAGES.index(later) - 1]]:
                with JobStore(MemoryStore(), additional_stores={"data": MemoryStore()}) as store:
                    words = f"1 candidates .* no verdict of the stage {stage}, '{lost}' is the first"
                    with pytest.raises(ResultsError, match=words):
                        job.run(store=store)
        with sqlite3.connect(prepared.table.path) as connection:
            connection.executemany("INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?)", rows)
        connection.close()
    assert open_run(prepared.folder).ranking() == ranking


def _jobs_by_stage(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that may run once a stage has been judged, for the start and each stage in turn; none within a leg."""
    assert [job.name for job in jobs[:4]] == ["Sanity checks", "Duplicates", "Relaxation", "Duplicates, relaxed"]
    *before, delithiate, electrodes, charged, rank = [[job] for job in jobs]
    assert delithiate[0].name == "Ion removal to Relaxation, charged"
    return [*before, delithiate, [], electrodes, charged, rank]


def test_a_run_without_candidates_is_refused_and_not_finished(prepared: PreparedRun) -> None:
    prepared.table.put_candidates([])
    for job in (jobs_of(CampaignMaker(run=prepared.run).make())[i] for i in (0, 1, -1)):
        with pytest.raises(ResultsError, match="holds no candidates"), JobStore(MemoryStore()) as store:
            job.run(store=store)
    assert open_run(prepared.folder).get_meta("state") == "running"


def test_a_run_of_an_older_version_is_read_and_gets_an_id_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    ResultsTable(path).set_meta("state", "running")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'run_id'")
        connection.execute("UPDATE meta SET value = '1' WHERE name = 'schema_version'")
    connection.close()
    assert open_run(tmp_path).run_id is None
    first = ResultsTable(path)
    assert first.run_id is not None
    assert ResultsTable(path).run_id == open_run(tmp_path).run_id == first.run_id
    assert first.get_meta("schema_version") == SCHEMA_VERSION
    assert first.get_meta("state") == "running"


def test_jobs_of_an_older_version_find_their_table_and_make_none(tmp_path: Path) -> None:
    structures: list[Structure] = [candidates()["LiCoO2"]]
    maker = BatchStaticMaker(model=ModelRef(MORSE).resolve())
    with pytest.raises(ResultsError, match="there is no run folder"):
        maker.make.original(maker, table=str(tmp_path / "run" / "results.sqlite"), structures=structures)
    assert list(tmp_path.iterdir()) == []
    ResultsTable(tmp_path / "results.sqlite")
    assert maker.make.original(maker, table=str(tmp_path / "results.sqlite"), structures=structures).n_computed == 1


def test_a_killed_run_can_be_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ResultsTable(tmp_path / "run" / "results.sqlite")
    open_log = sqlite3.connect(table.path)  # as long as it is open the log stays, as after a kill
    open_log.execute("SELECT * FROM meta").fetchone()
    table.set_meta("state", "running")
    shutil.copytree(tmp_path / "run", tmp_path / "mounted")
    open_log.close()
    (tmp_path / "mounted" / "results.sqlite-shm").unlink()
    assert (tmp_path / "mounted" / "results.sqlite-wal").stat().st_size
    connect = sqlite3.connect

    def on_read_only_mount(database: str, *arguments: object, **options: object) -> sqlite3.Connection:
        if "mounted" in str(database) and "immutable" not in str(database):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database, *arguments, **options)

    before = {p.name: p.read_bytes() for p in (tmp_path / "mounted").iterdir()}
    monkeypatch.setattr("dpa4_flows.store.table.sqlite3.connect", on_read_only_mount)
    assert open_run(tmp_path / "mounted").get_meta("state") == "running"
    assert {p.name: p.read_bytes() for p in (tmp_path / "mounted").iterdir()} == before
