"""Properties in campaigns: what a stage computes of each candidate, in chunk jobs, each with the one loop."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, get_origin

from jobflow import Response, job
from pydantic import Field, create_model

from dpa4_flows.campaigns.context import Case, Scene, Screening, scene_of
from dpa4_flows.campaigns.sections import Section
from dpa4_flows.campaigns.stage import Computation, Finding
from dpa4_flows.compute.driver import Counts, Retry
from dpa4_flows.compute.driver import compute as compute_asks
from dpa4_flows.compute.plan import Ask, Crystal, Property
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import ChunkSummary, Document, RelaxationDocument
from dpa4_flows.makers.chunks import gathered, split
from dpa4_flows.makers.property import RETRY_SINCE
from dpa4_flows.store.table import ResultsTable


def as_given(case: Case) -> Crystal:
    """The structure of a candidate as it was read."""
    return Crystal(case.structure, case.id)


def relaxed(case: Case) -> Crystal:
    """A candidate as the stage ``relax`` left it."""
    document = case.calculations["relax"]
    return Crystal(case.relaxed("relax"), case.id, relaxed=document)


@dataclass(frozen=True)
class Measured(Computation):
    """A property of one crystal for each candidate. The fields of the property are keys of the table of the stage.

    Attributes:
        measures: what is computed, with the settings where a campaign file names none.
        of: of what, in words.
        crystal: makes the crystal of a candidate.
    """

    reasons: ClassVar[Mapping[str, ReasonKind]] = {
        "not_computed": ReasonKind("not computed", "a calculation failed", status="error")
    }
    measures: Property[Any]
    of: str = "candidates"
    crystal: Callable[[Case], Crystal] = as_given

    judges: ClassVar[bool] = True

    @property
    def from_inputs(self) -> bool:
        return self.crystal is as_given

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"": _section(self.measures)}

    def settled(self, scene: Scene) -> Property[Any]:
        """The property with the settings of the campaign."""
        names = [field.name for field in dataclasses.fields(self.measures)]
        return dataclasses.replace(self.measures, **{name: getattr(scene.settings, name) for name in names})

    def work(self, scene: Scene, ids: Sequence[str]) -> dict[str, int]:
        settled = self.settled(scene)
        crystals = map(self.crystal, scene.cases(ids, own=False))
        return {_key(settled, scene, crystal): len(crystal.structure) for crystal in crystals}

    def stored(self, table: ResultsTable, keys: Iterable[str]) -> set[str]:
        kind = self.measures.document
        return table.existing_keys(keys) if kind is RelaxationDocument else set(table.documents(kind, keys))

    def documents(self, table: ResultsTable, keys: Iterable[str]) -> dict[str, Document]:
        return table.documents(self.measures.document, keys)

    def keys(self, scene: Scene, cases: Sequence[Case]) -> dict[str, str]:
        settled = self.settled(scene)
        return {case.id: _key(settled, scene, self.crystal(case)) for case in cases}

    def jobs(self, scene: Scene, ids: Sequence[str]) -> Response | ChunkSummary:
        if not ids:
            return ChunkSummary(n_requested=0, n_computed=0, n_reused=0, n_failed=0)
        sizes = [len(self.crystal(case).structure) for case in scene.cases(ids, own=False)]
        parts = split(ids, sizes, scene.run.campaign.engine.chunk_size)
        jobs = [compute_part(scene.run, scene.stage.name, part) for part in parts]
        return Response(replace=gathered(jobs, self.of))

    def failed(self, case: Case) -> Finding | None:
        error = getattr(case.found, "error", None)
        if error is None:
            return None
        return Finding(
            case.id,
            [Reason(code="not_computed", sentence=error)],
            keys=[case.key],
            provenance=getattr(case.found, "provenance", None),
        )

    def judged(self, case: Case) -> Finding:
        """What the property found, with its doubts; limits are those of the campaign. The document is in the table."""
        return Finding(
            case.id,
            getattr(case.found, "doubts", ()),
            values=case.found,
            keys=[case.key],
            provenance=getattr(case.found, "provenance", None),
        )


@job(output_schema=ChunkSummary)
def compute_part(run: Screening, stage: str, ids: list[str]) -> ChunkSummary:
    """What a stage computes of the candidates ``ids``, as far as the table of the run lacks it."""
    scene = scene_of(run, stage)
    computes = scene.stage.computes
    assert isinstance(computes, Measured)
    settled, counts = computes.settled(scene), Counts()
    asks = ((case.id, Ask(settled, computes.crystal(case))) for case in scene.cases(ids, own=False))
    since = scene.table.get_meta(RETRY_SINCE)
    documents = compute_asks(
        asks,
        run.model,
        scene.table,
        max_atoms_per_batch=run.campaign.engine.max_atoms_per_batch,
        retry=Retry(since=None if since is None else datetime.fromisoformat(since)),
        counts=counts,
    )
    failed = unconverged = 0
    for _, document in documents:
        failed += getattr(document, "error", None) is not None
        unconverged += getattr(document, "error", None) is None and not getattr(document, "converged", True)
    return ChunkSummary(
        n_requested=len(ids),
        n_computed=counts.n_made,
        n_reused=counts.n_found,
        n_failed=failed,
        n_unconverged=unconverged,
    )


def _key(measured: Property[Any], scene: Scene, crystal: Crystal) -> str:
    key = measured.key(crystal, scene.run.model)
    assert key is not None, f"{measured.name} is not stored, and no stage could find it again"
    return key


def _section(measured: Property[Any]) -> type[Section]:
    """Table of a campaign file whose keys are the fields of a property, with their values as defaults."""
    types = typing.get_type_hints(type(measured), include_extras=True)
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(measured):
        kind = types[item.name]
        if get_origin(kind) is tuple:  # TOML has lists
            kind = Annotated[kind, Field(strict=False)]
        fields[item.name] = (kind, getattr(measured, item.name))
    return create_model(f"Table_{measured.name}", __base__=Section, **fields)
