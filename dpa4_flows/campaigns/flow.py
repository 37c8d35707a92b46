"""A campaign as one flow of jobs: the legs of its funnel one after the other; the ranking at the end.

Within a leg every candidate goes from stage to stage by itself, and one batch in flight computes for all of them. Where
workers share a run, a leg fans out into chunk jobs when it starts, since only then it is known who is left. Jobs
exchange the place of the results table and counts: they read candidates from the table and write one verdict for each
of them, and no job gathers structures or numbers of others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any, Self, get_args

from jobflow import Flow, Job, JobOrder, Maker, Response, job
from pydantic import Field

from dpa4_flows.campaigns.context import Screening, scene_of
from dpa4_flows.campaigns.passage import passages
from dpa4_flows.campaigns.ranking import put_ranking
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute import driver
from dpa4_flows.compute.driver import Counts
from dpa4_flows.compute.plan import Ask
from dpa4_flows.documents.schemas import ChunkSummary, Document, StageResult, Status
from dpa4_flows.makers.chunks import gathered, split
from dpa4_flows.makers.model_reference import ModelLike, as_model
from dpa4_flows.makers.property import retry_of
from dpa4_flows.store.table import ResultsTable

_WRITE_AT_ONCE = 1000
_WRITE_EVERY_S = 2.0  # who looks on sees verdicts this soon


class Verdicts:
    """Puts verdicts into the table of a run as they come, a few at a time and the rest at the end, and counts them."""

    def __init__(self, table: ResultsTable) -> None:
        self.counts: Counter[str] = Counter()
        self._table = table
        self._waiting: list[StageResult] = []
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def add(self, verdict: StageResult) -> None:
        self._waiting.append(verdict)
        self.counts[verdict.status] += 1
        if len(self._waiting) >= _WRITE_AT_ONCE or time.monotonic() - self._last > _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Store those that wait."""
        self._table.put_stages(self._waiting)
        self._waiting, self._last = [], time.monotonic()


class StageSummary(Document):
    """What a stage job hands on: counts only, the verdicts are in the table."""

    stage: str
    n_passed: int = Field(description="Go on without remark")
    n_flagged: int = Field(description="Go on with a warning")
    n_failed: int = Field(description="Rejected by a criterion")
    n_error: int = Field(description="Could not be computed")


@dataclass
class CampaignMaker(Maker):
    """A whole campaign as one flow.

    Args:
        run: table, model and campaign.
        name: name of the flow.
        model: potential in place of that of ``run``; or ``job.output.model`` of a training job in the same flow.
    """

    run: Screening = field(kw_only=True)
    name: str = "campaign"
    model: InitVar[ModelLike | None] = field(default=None, kw_only=True)

    def __post_init__(self, model: ModelLike | None) -> None:
        if model is not None:
            self.run = replace(self.run, model=as_model(model))  # type: ignore[arg-type]

    def make(self) -> Flow:
        """Flow over the candidates that are in the results table when it runs."""
        jobs: list[Flow | Job] = []
        funnel = self.run.campaign.funnel
        for leg in funnel.legs:
            first, last, streaming = leg[0], leg[-1], _streaming(leg)
            if first.of_all is not None and first in funnel.computing:
                jobs.append(_named(compute(self.run, first.name), first.of_all.of))
            if streaming:
                jobs.append(_named(advance(self.run, first.name), _title(streaming)))
            if last.over_all is not None:
                jobs.append(_named(judge(self.run, last.name), last.title))
        return Flow([*jobs, rank(self.run)], name=self.name, order=JobOrder.LINEAR)


def _named(made: Job, name: str) -> Job:
    made.name = name
    return made


def _streaming(leg: Sequence[Stage]) -> list[Stage]:
    """The stages of a leg that look at one candidate at a time, or compute something of each."""
    return [stage for stage in leg if stage.over_all is None or stage.of_each is not None]


def _title(stages: Sequence[Stage]) -> str:
    return " to ".join(dict.fromkeys((stages[0].title, stages[-1].title)))


@job  # no output_schema: jobflow would apply it to the reference that stands for the replacing flow, and fail
def compute(run: Screening, stage: str) -> Response | ChunkSummary:
    """What a stage computes for all candidates that are left."""
    scene = scene_of(run, stage)
    computes = scene.stage.of_all
    assert computes is not None
    return _dealt(compute_part, run, stage, computes.work(scene, scene.ids()), computes.of)


@job(output_schema=ChunkSummary)
def compute_part(run: Screening, stage: str, keys: list[str]) -> ChunkSummary:
    """Some of what a stage computes for all, as far as the table of the run lacks it."""
    scene = scene_of(run, stage)
    assert scene.stage.of_all is not None
    return _run(run, scene.table, scene.stage.of_all.asks(scene, keys), len(keys))


@job
def advance(run: Screening, stage: str) -> Response | ChunkSummary:
    """Takes the candidates through the leg that begins with ``stage``."""
    scene = scene_of(run, stage)
    write_verdicts(scene.table, stage, scene.unreadable())
    sizes = scene.table.sizes()
    return _dealt(advance_part, run, stage, {i: sizes[i] for i in scene.ids()}, _title(_streaming(_leg(run, stage))))


@job(output_schema=ChunkSummary)
def advance_part(run: Screening, stage: str, ids: list[str]) -> ChunkSummary:
    """Takes some of the candidates through a leg."""
    with Verdicts(table := run.open()) as verdicts:
        return _run(run, table, passages(run, _streaming(_leg(run, stage)), ids, verdicts.add), len(ids))


def _dealt(part: Any, run: Screening, stage: str, sizes: Mapping[str, int], title: str) -> Response | ChunkSummary:
    """Work by name, with its atoms: here and at once, so that one batch stays full to the end, or in chunk jobs where
    workers share the run.
    """
    if not (run.shared_table and sizes):
        done: ChunkSummary = part.original(run, stage, list(sizes))
        return done
    chunks = split(list(sizes), list(sizes.values()), run.campaign.engine.chunk_size)
    return Response(replace=gathered([part(run, stage, chunk) for chunk in chunks], title))


def _leg(run: Screening, stage: str) -> Sequence[Stage]:
    return next(leg for leg in run.campaign.funnel.legs if leg[0].name == stage)


def _run(run: Screening, table: ResultsTable, asks: Iterable[tuple[str, Ask[Any]]], n_asked: int) -> ChunkSummary:
    """All that is asked for, through the one loop."""
    counts = Counts()
    documents = driver.compute(
        asks,
        run.model,
        table,
        max_atoms_per_batch=run.campaign.engine.max_atoms_per_batch,
        retry=retry_of(table),
        keep_failures=True,  # who is judged must have been computed
        counts=counts,
    )
    for _ in documents:
        pass
    return counts.summary(n_asked)


@job(output_schema=StageSummary)
def judge(run: Screening, stage: str) -> StageSummary:
    """Verdicts of a stage on the candidates that came to it."""
    scene = scene_of(run, stage)
    return write_verdicts(scene.table, stage, scene.verdicts())


@job
def rank(run: Screening) -> dict[str, int]:
    """Score and order what is left, and close the run."""
    return {"n_ranked": put_ranking(run)}


def write_verdicts(table: ResultsTable, stage: str, verdicts: Iterable[StageResult]) -> StageSummary:
    """Store the verdicts of one stage as they come and count them."""
    with Verdicts(table) as writer:
        for verdict in verdicts:
            writer.add(verdict)
    return StageSummary(stage=stage, **{f"n_{status}": writer.counts[status] for status in get_args(Status)})
