"""What every job of a campaign knows (`Screening`), and what a stage works with when its turn comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from monty.json import MSONable
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.schemes import REFIT, scheme_name
from dpa4_flows.campaigns.config import Campaign, campaign_of
from dpa4_flows.campaigns.funnel import NOT_JUDGED, NOT_READABLE, Funnel, limit_codes
from dpa4_flows.campaigns.sections import RelaxSection, Section, part_of
from dpa4_flows.campaigns.stage import Computation, Finding, Stage
from dpa4_flows.compute.plan import Ask, PlanError, of_this_crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.quantities import STD, quantities
from dpa4_flows.documents.reasons import Reason, voided
from dpa4_flows.documents.schemas import Candidate, Document, RelaxationDocument, StageResult
from dpa4_flows.makers.model_reference import as_model
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.table import ReferenceTable
from dpa4_flows.store.table import ResultsError, ResultsTable, TableRef

REFIT_FILE = "corrections.yaml"
"""Copy of the refit that a campaign names, in its run folder."""

SLICE = 500
"""Candidates that are read together, with their documents."""
_STATUS = ("passed", "flagged", "failed", "error")  # the worst of the reasons decides

T = TypeVar("T")
D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Screening(MSONable):
    """What every job of a run needs to know; small, since it is serialised with each of them.

    Args:
        table: absolute path of the results table.
        model: potential, best with its checksum.
        campaign: the campaign file.
        corrections: name of the correction scheme, chosen.
        shared_table: it lies on a network file system and several machines write to it.
        run_id: of the table.
        models: by name, those that stages name for themselves.
    """

    table: str
    model: ModelRef
    campaign: Campaign
    corrections: str
    shared_table: bool = False
    run_id: str | None = None
    models: Mapping[str, ModelRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_model(self.model))
        object.__setattr__(self, "models", {name: as_model(model) for name, model in self.models.items()})

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"campaign": self.campaign.to_dict()}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        found = super().from_dict(d | {"campaign": campaign_of(d["campaign"])})
        assert isinstance(found, cls)
        return found

    @property
    def ref(self) -> TableRef:
        """What jobs open."""
        return TableRef(self.table, self.run_id, self.shared_table)

    def scheme(self) -> str:
        """Name of the correction scheme. A refit is read from the run folder, since a worker need not have it in its
        cache, from which it is found by name afterwards.
        """
        file = Path(self.table).with_name(REFIT_FILE)
        return scheme_name(str(file)) if self.corrections.startswith(REFIT) and file.is_file() else self.corrections

    def open(self) -> ResultsTable:
        """The results table, which is there.

        Raises:
            ResultsError: it cannot be seen from this host, or is that of another run.
        """
        return self.ref.open()

    def relaxation(self, **changes: Any) -> dict[str, Any]:
        """Options of the table ``[relax]``, and others instead of some."""
        return part_of(self.campaign.relax, RelaxSection) | changes

    @property
    def relaxed(self) -> Relaxed:
        """How candidates relax, and what is compared with them: only equal settings give comparable energies."""
        return Relaxed(**self.relaxation())


@dataclass
class Scene:
    """One stage of a run, at work.

    Attributes:
        run: the run.
        stage: the stage.
        table: results table of the run.
        elements: atomic numbers that the model knows.
    """

    run: Screening
    stage: Stage
    table: ResultsTable
    known_elements: Collection[int] | None = None
    _shared: dict[Callable[[Scene], Any], Any] = field(default_factory=dict)

    @property
    def elements(self) -> Collection[int]:
        return self.run.model.info().elements if self.known_elements is None else self.known_elements

    @cached_property
    def funnel(self) -> Funnel:
        return self.run.campaign.funnel

    @cached_property
    def competing(self) -> ReferenceTable:
        """The table with the phases that compete in the run."""
        return ReferenceTable.in_run(self.table)

    @property
    def settings(self) -> Any:
        """Table of the stage in the campaign file."""
        return getattr(self.run.campaign, self.stage.name, Section())

    @property
    def model(self) -> ModelRef:
        """What computes the stage."""
        named = getattr(self.settings, "model", None)
        return self.run.model if named is None else self.run.models[named]

    def shared(self, function: Callable[[Scene], T]) -> T:
        """``function(self)``, computed once for all candidates."""
        if function not in self._shared:
            self._shared[function] = function(self)
        found: T = self._shared[function]
        return found

    def ids(self) -> list[str]:
        """Candidates that enter the stage, in their order.

        Raises:
            ResultsError: one was lost on the way.
        """
        before = self.funnel.before(self.stage.name)
        if before is not None:
            return self.table.survivors(before, self.funnel.names)
        sizes = self.table.sizes()
        if not sizes:
            raise ResultsError(f"results table {self.table.path} holds no candidates; start the run again")
        return [i for i, n_atoms in sizes.items() if n_atoms]

    def key(self, ask: Ask[Any]) -> str:
        """Key under which what is asked for about a candidate is stored."""
        key = ask.key(self.run.model)
        assert key is not None, f"{ask.property.name} is not stored, and no stage could find it again"
        return key

    def cases(self, ids: Iterable[str], *, own: bool = True, needs: Collection[str] | None = None) -> Iterator[Case]:
        """The candidates with what the stage needs of them, read in slices.

        Args:
            ids: of the candidates.
            own: also with what this stage has computed.
            needs: stages before it whose findings are read; by default those that it needs.

        Raises:
            ResultsError: a calculation is not there although its job has ended.
        """
        everybody, needs = list(ids), self.stage.needs if needs is None else needs
        for start in range(0, len(everybody), SLICE):
            part = everybody[start : start + SLICE]
            candidates = self._ordered(self.table.candidates(part))
            verdicts = {name: self.table.stage(name, part) for name in needs}
            cases = [Case(self, c, {n: found[c.candidate_id] for n, found in verdicts.items()}) for c in candidates]
            for name in needs:
                if (computes := self.funnel.stage(name).of_each) is not None:
                    made = {
                        i: verdict.calculation_keys[0]
                        for i, verdict in verdicts[name].items()
                        if verdict.calculation_keys
                    }
                    self._load(name, computes, cases, made)
            if own and (computes := self.stage.of_each) is not None:
                asked = {case.id: computes.ask(case) for case in cases}
                keys = {i: self.key(ask) for i, ask in asked.items() if ask is not None}
                self._load(self.stage.name, computes, cases, keys)
            yield from cases

    def _ordered(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, those whose sites are shared with the cell to which a stage before has ordered them."""
        found = {candidate.candidate_id: candidate for candidate in candidates}
        shared = [i for i, candidate in found.items() if candidate.is_disordered]
        names = self.funnel.names
        for stage in self.funnel.orders if shared else ():
            if names.index(stage.name) >= names.index(self.stage.name) or stage.computes is None:
                continue
            keys = {i: v.calculation_keys[0] for i, v in self.table.stage(stage.name, shared).items() if v.goes_on}
            documents = stage.computes.documents(self.table, keys.values())
            for i, key in keys.items():
                found[i] = with_structure(found[i], documents[key])
        return list(found.values())

    def _load(self, stage: str, computes: Computation, cases: list[Case], keys: Mapping[str, str]) -> None:
        """Give the cases the documents that a stage has computed of them, as far as it computes something of each."""
        stored = computes.documents(self.table, keys.values())
        if missing := [i for i, key in keys.items() if key not in stored]:
            raise ResultsError(
                f"{len(missing)} calculations are not in {self.table.path}, that of {missing[0]!r} is the first; "
                "start the run again"
            )
        for case in cases:
            if case.id in keys:
                case.keys[stage], case.documents[stage] = keys[case.id], stored[keys[case.id]]

    def verdicts(self) -> Iterator[StageResult]:
        """Judge everybody who enters, one after the other where the stage does not look at all at once."""
        yield from self.unreadable()
        over_all = self.stage.over_all
        if over_all is None:
            yield from map(self._judged_alone, self.cases(self.ids()))
            return
        for part in self._apart():
            cases = _Usable(self, part)
            yield from map(self.verdict, over_all(self, cases))
            yield from map(self.verdict, cases.others())

    def _apart(self) -> Iterator[list[str]]:
        """Candidates that are judged together: all, or as many as are read together and have no equal elsewhere."""
        if not self.stage.by_formula or self.funnel.orders:  # a cell may be ordered to another formula
            yield self.ids()
            return
        formulas, alike = self.table.formulas(), dict[str, list[str]]()
        for i in self.ids():
            alike.setdefault(formulas[i], []).append(i)
        part: list[str] = []
        for group in alike.values():
            part += group
            if len(part) >= SLICE:
                yield part
                part = []
        if part:
            yield part

    def unreadable(self) -> Iterator[StageResult]:
        """Verdicts of the first stage on candidates that are none."""
        if self.funnel.before(self.stage.name) is None:
            without = [i for i, n_atoms in self.table.sizes().items() if not n_atoms]
            yield from map(self.verdict, map(_unreadable, self.table.candidates(without)))

    def judged(self, case: Case) -> StageResult:
        """What a stage finds that looks at one candidate at a time."""
        stage, computes = self.stage, self.stage.of_each
        found = None if computes is None else computes.failed(case)
        if found is None and stage.judge is not None:
            found = stage.judge(case)
        elif found is None:
            found = Finding(case.id) if computes is None else computes.judged(case)
        return self.verdict(found)

    def _judged_alone(self, case: Case) -> StageResult:
        try:
            return self.judged(case)
        except Exception as problem:  # noqa: BLE001 - whatever a judge may raise about a strange candidate
            return self.not_judged(case.id, of_this_crystal(problem, self.stage.name))

    def not_judged(self, candidate_id: str, error: PlanError) -> StageResult:
        """A candidate that the stage cannot make sense of leaves there, alone."""
        return self.verdict(Finding(candidate_id, [Reason(code=NOT_JUDGED, sentence=str(error))]))

    def verdict(self, finding: Finding) -> StageResult:
        """What becomes of a candidate: the worst of its reasons, and of the limits on its values, decides."""
        stage, funnel = self.stage, self.funnel
        declared = quantities(stage.quantities) if stage.quantities else {}
        values = {} if finding.values is None else {name: getattr(finding.values, name, None) for name in declared}
        values = {name: value for name, value in values.items() if value is not None}
        reasons = [funnel.completed(reason) for reason in finding.reasons]
        status = max((funnel.kind(r.code).status for r in reasons), key=_STATUS.index, default="passed")
        thresholds = dict(finding.limits)
        void = set(voided(reasons))
        rejecting: list[Reason] = []
        flagging: list[Reason] = []
        for name, limits in self.run.campaign.limits(stage).items():
            if name in finding.waives:
                continue
            thresholds |= _thresholds(name, limits)
            value = values.get(name)
            if value is None or status == "error" or (limits.otherwise == "flag" and name in void):
                continue  # a flag on a value that is void says nothing more; a rejection stands
            size = abs(value) if declared[name].goal == "zero" else value
            sides = ("within ±", "beyond ±") if declared[name].goal == "zero" else ("below ", "above ")
            kept = (
                limits.min is None or size >= limits.min,
                limits.max is None or declared[name].within(size, limits.max),
            )
            codes = limit_codes(name, declared[name])
            spared = getattr(finding.values, name + STD, None) if declared[name].spares_error else None
            above = finding.errors_above.get(name, spared)
            ends = zip(codes, sides, sides[::-1], (limits.min, limits.max), kept, strict=True)
            for code, side, other, limit, keeps in ends:
                error = above if limit is not None and size < limit else spared
                unsure = error is not None and limit is not None and abs(size - limit) <= error
                if keeps and not (unsure and declared[name].unsure):
                    continue
                words = finding.sentences.get(name) or _sentence(declared[name].label, declared[name].unit)
                if unsure:
                    code = declared[name].unsure or code
                    off = f"{error:.{declared[name].digits}f}" if declared[name].digits >= 0 else f"{error:.2g}"
                    words += f", by less than its error of {off} {declared[name].unit}"
                words = words.format(value=value, limit=limit, side=other if keeps else side)
                reason = funnel.completed(Reason(code=code, sentence=words))
                rejects = limits.otherwise == "reject" and not unsure
                (rejecting if rejects else flagging).append(reason.model_copy(update={"decides": rejects}))
        if rejecting and status != "error":
            status = "failed"
        elif flagging and status == "passed":
            status = "flagged"
        return StageResult(
            candidate_id=finding.candidate_id,
            stage=stage.name,
            status=status,
            values=values,
            units={name: declared[name].unit for name in values},
            thresholds=thresholds,
            reasons=[*rejecting, *reasons, *flagging],
            calculation_keys=list(finding.keys),
            document=None if finding.document is None else finding.document.model_dump(mode="json"),
            provenance=finding.provenance,
        )


@dataclass
class _Usable:
    """Cases about which the calculations of a stage say something, read from the table each time that somebody goes
    through them: a stage keeps what it needs.
    """

    scene: Scene
    ids: Sequence[str]
    _others: list[Finding] | None = None

    def __iter__(self) -> Iterator[Case]:
        computes, others = self.scene.stage.of_each, list[Finding]()
        for case in self.scene.cases(self.ids):
            failed = None if computes is None else computes.failed(case)
            if failed is None:
                yield case
            else:
                others.append(failed)
        self._others = others

    def others(self) -> list[Finding]:
        """About those of which they say nothing."""
        if self._others is None:  # the stage has not seen all
            deque(self, maxlen=0)
        return self._others or []


@dataclass(frozen=True)
class Case:
    """One candidate in front of a stage.

    Attributes:
        scene: the stage at work.
        candidate: as it was read.
        verdicts: of the stages that this one needs.
        documents: by stage, what it has computed of the candidate; also that of this stage.
        keys: their keys in the table.
    """

    scene: Scene
    candidate: Candidate
    verdicts: Mapping[str, StageResult]
    documents: dict[str, Document] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.candidate.candidate_id

    @property
    def settings(self) -> Any:
        """Table of the stage in the campaign file."""
        return self.scene.settings

    @property
    def structure(self) -> Structure:
        """Input structure."""
        assert self.candidate.structure is not None  # who has none has left
        return structure_of_fields(self.candidate.structure)

    @property
    def found(self) -> Document:
        """What this stage has computed."""
        return self.documents[self.scene.stage.name]

    def document(self, kind: type[D]) -> D:
        """What this stage, or the last one before it that it needs, has computed of this kind."""
        return next(found for found in reversed(self.documents.values()) if isinstance(found, kind))

    @property
    def key(self) -> str:
        """Key of what this stage has computed."""
        return self.keys[self.scene.stage.name]

    @property
    def calculations(self) -> dict[str, RelaxationDocument]:
        """Those of the documents that are relaxations, by stage."""
        return {name: found for name, found in self.documents.items() if isinstance(found, RelaxationDocument)}

    @property
    def calculation(self) -> RelaxationDocument:
        """The relaxation of this stage."""
        return self.calculations[self.scene.stage.name]

    def relaxed(self, stage: str) -> Structure:
        """Structure that a stage before relaxed."""
        stored = self.calculations[stage].structure
        assert stored is not None, stage  # what is not converged has left
        return structure_of_fields(stored)

    def said(self, stage: str) -> dict[str, Any]:
        """Document that a stage before stored with its verdict."""
        return self.verdicts[stage].document or {}


def scene_of(run: Screening, stage: str, table: ResultsTable | None = None) -> Scene:
    """A stage of a run at work, by default in the table of the run."""
    return Scene(run, run.campaign.funnel.stage(stage), run.open() if table is None else table)


def with_structure(candidate: Candidate, document: Document) -> Candidate:
    """A candidate whose sites are shared with the cell of a document in its place."""
    return candidate.model_copy(update={"structure": getattr(document, "structure", None)})


def _unreadable(candidate: Candidate) -> Finding:
    sentence = candidate.error or "the candidate has no structure"
    return Finding(candidate.candidate_id, [Reason(code=NOT_READABLE, sentence=sentence)])


def _thresholds(name: str, limits: Any) -> dict[str, float]:
    """Limits as a verdict stores them: a bare name for a maximum, ``min_NAME`` and ``max_NAME`` for two."""
    if limits.min is None:
        return {} if limits.max is None else {name: limits.max}
    return {f"min_{name}": limits.min} | ({} if limits.max is None else {f"max_{name}": limits.max})


def _sentence(label: str, unit: str) -> str:
    words = label[0].lower() + label[1:] if label[1:2].islower() else label
    unit = f" {unit}" if unit else ""
    return f"{words} {{value:.4g}}{unit} is {{side}}{{limit:g}}{unit}"
