"""A stage of a campaign as a value: what it computes, how it judges, what its document carries, what it needs.

Everything that a campaign does follows from its stages: jobs, limits in the campaign file, dry run, progress, columns,
keys of the ranking, reasons, report.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from dpa4_flows.campaigns.sections import Limits, Section
from dpa4_flows.compute.plan import Ask, Property
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.store.table import ResultsTable

if TYPE_CHECKING:
    from dpa4_flows.campaigns.config import Campaign
    from dpa4_flows.campaigns.context import Case, Scene


class Computation(ABC):
    """What a stage computes before it judges. It is the only place where a campaign asks for computer time.

    Attributes:
        of: what is computed, in words: ``charged hosts``.
        judges: whether each candidate has one calculation of its own here, whose document its verdict is about.
        gives_structures: whether the structures of its documents stand for the input of the candidates that have one.
        reasons: kinds of the reasons that `failed` gives, by code.
    """

    reasons: ClassVar[Mapping[str, ReasonKind]] = {}
    judges: ClassVar[bool] = False
    gives_structures: ClassVar[bool] = False
    of: str

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        """Tables of the campaign file with its settings, ``""`` for that of the stage; several may share one."""
        return {}

    def further_systems(self, campaign: Campaign, table: Section) -> Iterable[str]:
        """Chemical systems of which phases with the elements of each candidate compete, too; ``table`` is that of the
        stage in the file of the campaign.
        """
        return ()

    @property
    def shown(self) -> Property[Any] | None:
        """The property whose figures and caveats a report has for the stage, before those of its own."""
        return None

    @property
    def from_inputs(self) -> bool:
        """Whether what it computes follows from the input structures alone."""
        return True

    @abstractmethod
    def work(self, scene: Scene, ids: Sequence[str]) -> dict[str, int]:
        """Atoms by key of every calculation for the candidates ``ids``, stored or not."""

    def foreseen(self, scene: Scene, ids: Sequence[str]) -> tuple[int, int] | None:
        """Where `from_inputs` is false: how many calculations there may be at most, and their atoms; None if nobody can
        tell.
        """
        return None

    def asks(self, scene: Scene, keys: Sequence[str]) -> Iterator[tuple[str, Ask[Any]]]:
        """What a job asks for that has got some of the calculations, where `judges` says that they are not of each."""
        return iter(())

    def ask(self, case: Case) -> Ask[Any] | None:
        """What is asked for about one candidate, where `judges` says that each has its own; None if nothing is."""
        return None

    def covers(self, other: Computation) -> bool:
        """Whether ``other``, of a later stage and so of no more candidates, computes nothing else."""
        return self == other

    def stored(self, table: ResultsTable, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are there already."""
        return table.existing_keys(keys)

    def documents(self, table: ResultsTable, keys: Iterable[str]) -> dict[str, Document]:
        """Documents by key, where `judges` says that candidates have one each."""
        return {}

    def judged(self, case: Case) -> Finding:
        """What is found out about a candidate where the stage has no judge of its own."""
        return Finding(case.id)

    def failed(self, case: Case) -> Finding | None:
        """Why its calculation says nothing about a candidate, which then leaves; None if it does."""
        return None


@dataclass(frozen=True)
class Finding:
    """What a stage found out about one candidate.

    Attributes:
        candidate_id: the candidate.
        reasons: code and sentence each; the stage declares the codes. Their kinds decide what becomes of the candidate.
        values: document whose quantities are the values of the verdict; None if there is none.
        document: document to be stored with the verdict.
        sentences: for quantities whose limits need other words than ``VALUE is above LIMIT``: a format of ``value``,
            ``limit`` and ``side``, which is ``"above "`` or ``"below "``.
        errors_above: how far values may be below the true ones, by name, where that is not their standard deviation.
        limits: limits among the settings of the stage, by name of the value, to be shown.
        waives: names of values whose limits do not decide about it, since others do.
        keys: keys of the calculations behind the values.
        provenance: of the values.
    """

    candidate_id: str
    reasons: Sequence[Reason] = ()
    values: BaseModel | None = None
    document: BaseModel | None = None
    sentences: Mapping[str, str] = field(default_factory=dict)
    errors_above: Mapping[str, float | None] = field(default_factory=dict)
    limits: Mapping[str, float | None] = field(default_factory=dict)
    waives: Collection[str] = ()
    keys: Sequence[str] = ()
    provenance: Provenance | None = None


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a campaign.

    Attributes:
        name: in tables, and that of its table in the campaign file.
        title: for people.
        judge: what it finds out about one candidate, which does not depend on others; by default what was computed.
        over_all: instead, about all that came so far at once, which are read each time that it goes through them.
        by_formula: whether ``over_all`` compares those of one formula at most, so that not all need to be in memory.
        quantities: document whose quantities are its values; limits on each of them are keys of its table.
        criteria: limits where a campaign file names none.
        settings: what else its table holds.
        reasons: kinds of the reasons that it gives, by code.
        needs: stages that must have come before; their verdicts and calculations are in every `Case`.
        computes: what is computed before it judges.
        figures: ``package.module:function`` of the snapshot of a run and its rows, gives the blocks of its report
            behind those of the property that it computes.
        caveats: what to know before its values are quoted, beside those of this property.
    """

    name: str
    title: str
    judge: Callable[[Case], Finding] | None = None
    over_all: Callable[[Scene, Iterable[Case]], Iterable[Finding]] | None = None
    by_formula: bool = False
    quantities: type[BaseModel] | None = None
    criteria: Mapping[str, Limits] = field(default_factory=dict)
    settings: type[Section] = Section
    reasons: Mapping[str, ReasonKind] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    computes: Computation | None = None
    figures: str = ""
    caveats: tuple[str, ...] = ()

    @property
    def shown(self) -> Property[Any] | None:
        """The property whose figures and caveats stand for it in a report."""
        return None if self.computes is None else self.computes.shown

    @property
    def kinds(self) -> dict[str, ReasonKind]:
        """Kinds of all reasons that it gives, by code."""
        return {**(self.computes.reasons if self.computes else {}), **self.reasons}

    @property
    def of_each(self) -> Computation | None:
        """What it computes of each candidate by itself."""
        return self.computes if self.computes is not None and self.computes.judges else None

    @property
    def of_all(self) -> Computation | None:
        """What it computes for all candidates together."""
        return self.computes if self.of_each is None else None
