"""A campaign as one flow of jobs: for each stage what it computes, then its verdicts; the ranking at the end.

Computations fan out into chunk jobs when they start, since only then it is known who is left. Jobs exchange the place
of the results table and counts: a stage reads its candidates from the table and writes one verdict for each of them,
and no job gathers structures or numbers of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from itertools import islice

from jobflow import Flow, Job, JobOrder, Maker, Response, job
from pydantic import Field

from dpa4_flows.campaigns.context import Screening, scene_of
from dpa4_flows.campaigns.ranking import put_ranking
from dpa4_flows.compute import driver
from dpa4_flows.compute.driver import Counts
from dpa4_flows.documents.schemas import ChunkSummary, Document, StageResult
from dpa4_flows.makers.chunks import gathered, split
from dpa4_flows.makers.model_reference import ModelLike, as_model
from dpa4_flows.makers.property import retry_of
from dpa4_flows.store.table import ResultsTable

_WRITE_AT_ONCE = 1000


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
        for stage in funnel.stages:
            if stage in funnel.computing and stage.computes is not None:
                jobs.append(_named(compute(self.run, stage.name), stage.computes.of))
            jobs.append(_named(judge(self.run, stage.name), stage.title))
        return Flow([*jobs, rank(self.run)], name=self.name, order=JobOrder.LINEAR)


def _named(made: Job, name: str) -> Job:
    made.name = name
    return made


@job  # no output_schema: jobflow would apply it to the reference that stands for the replacing flow, and fail
def compute(run: Screening, stage: str) -> Response | ChunkSummary:
    """What a stage computes of the candidates that are left; replaces itself by chunk jobs."""
    scene = scene_of(run, stage)
    computes = scene.stage.computes
    assert computes is not None
    parts = computes.parts(scene, scene.ids())
    if not parts:
        return ChunkSummary(n_requested=0, n_computed=0, n_reused=0, n_failed=0)
    chunks = split(list(parts), list(parts.values()), run.campaign.engine.chunk_size)
    return Response(replace=gathered([compute_part(run, stage, chunk) for chunk in chunks], computes.of))


@job(output_schema=ChunkSummary)
def compute_part(run: Screening, stage: str, parts: list[str]) -> ChunkSummary:
    """Some of what a stage computes, as far as the table of the run lacks it."""
    scene, counts = scene_of(run, stage), Counts()
    computes = scene.stage.computes
    assert computes is not None
    documents = driver.compute(
        computes.asks(scene, parts),
        run.model,
        scene.table,
        max_atoms_per_batch=run.campaign.engine.max_atoms_per_batch,
        retry=retry_of(scene.table),
        keep_failures=True,  # who is judged must have been computed
        counts=counts,
    )
    for _ in documents:
        pass
    return counts.summary(len(parts))


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
    counts: Counter[str] = Counter()
    coming: Iterator[StageResult] = iter(verdicts)
    while part := list(islice(coming, _WRITE_AT_ONCE)):
        table.put_stages(part)
        counts.update(verdict.status for verdict in part)
    return StageSummary(
        stage=stage,
        n_passed=counts["passed"],
        n_flagged=counts["flagged"],
        n_failed=counts["failed"],
        n_error=counts["error"],
    )
