"""Properties in campaigns: what a stage computes of each candidate, in chunk jobs, each with the one loop."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_origin

from pydantic import AfterValidator, Field, ValidationInfo, create_model, model_validator

from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.sections import ModelName, Section, files_in, input_file, part_of
from dpa4_flows.campaigns.stage import Computation, Finding
from dpa4_flows.compute.files import NamedFiles
from dpa4_flows.compute.plan import Ask, Crystal, Property
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.documents.stability import StabilityPart
from dpa4_flows.store.table import ResultsTable

Codes = Mapping[str, str | None]
"""Codes of the reasons by those of errors, "" for all others, before whose words the phrase of the reason stands; None
is a candidate that goes on without numbers and without a reason."""
LOST = dict.fromkeys(("not_computed", "out_of_memory", "crashed", "analysis_failed"), "not_computed")
"""What becomes of errors that are no finding about the crystal."""


def as_given(case: Case) -> Crystal:
    """The structure of a candidate as it was read."""
    return Crystal(case.structure, case.id)


def finding(case: Case, reasons: Sequence[Reason], *, answered: bool = True) -> Finding:
    """What the property of a stage says of a candidate, whose document is in the table.

    Args:
        case: the candidate.
        reasons: of the stage.
        answered: whether the quantities of the document are values of the verdict.
    """
    return Finding(
        case.id,
        reasons,
        values=case.found if answered else None,
        keys=[case.key],
        provenance=getattr(case.found, "provenance", None),
    )


def each_once(reasons: Sequence[Reason], failed: str) -> list[Reason]:
    """Of several reasons of one kind the first; that a part was not computed has the code ``failed``, since of a whole
    candidate it would be the end.
    """
    said = {reason.code: reason for reason in reversed(reasons)}
    if one := said.pop("not_computed", None):
        said[failed] = one.model_copy(update={"code": failed})
    return list(said.values())


def by_verdict(**codes: str) -> Callable[[Case], Finding]:
    """A judge that gives the reason of a part of stability under the code of its verdict, and what is not at rest."""

    def judge(case: Case) -> Finding:
        part = case.document(StabilityPart)
        decided = [Reason(code=codes[part.verdict], sentence=part.reason)] if part.verdict in codes else []
        return finding(case, [*decided, *part.unsettled])

    return judge


def relaxed(case: Case, stage: str = "relax") -> Crystal:
    """A candidate as a stage of relaxation left it."""
    return Crystal(case.relaxed(stage), case.id, relaxed=case.calculations[stage])


@dataclass(frozen=True)
class Measured(Computation):
    """A property of one crystal for each candidate. The fields of the property are keys of the table of the stage, and
    so is ``model``, where another one than that of the campaign computes it.

    Class attributes:
        decided: fields of the property that no table has, since the campaign decides them.

    Attributes:
        measures: what is computed, with the settings where a campaign file names none.
        of: of what, in words.
        adds: whether it computes what no stage before has computed.
        crystal: makes the crystal of a candidate.
        table: of the stage; by default one with all settings.
        without: what is said of a candidate whose document has an error.
        parts: fields that are properties with a table of their own: its name, and what it holds.
    """

    reasons: ClassVar[Mapping[str, ReasonKind]] = {
        "not_computed": ReasonKind("not computed", "a calculation failed", status="error")
    }
    decided: ClassVar[tuple[str, ...]] = ()
    measures: Property[Any]
    of: str = "candidates"
    crystal: Callable[[Case], Crystal] = as_given
    adds: bool = True
    table: type[Section] | None = None
    without: Codes = field(default_factory=dict)
    parts: Mapping[str, tuple[str, type[Section]]] = field(default_factory=dict)

    judges: ClassVar[bool] = True

    @property
    def shown(self) -> Property[Any]:
        return self.measures

    @property
    def from_inputs(self) -> bool:
        return self.crystal is as_given

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"": self.table or section_of(self.measures, self.decided), **dict(self.parts.values())}

    def settled(self, scene: Scene) -> Property[Any]:
        """The property with the settings of the campaign."""
        fields = {one.name for one in dataclasses.fields(self.measures)} & {*type(scene.settings).model_fields}
        given = {name: getattr(scene.settings, name) for name in fields}
        for name, (table, kind) in self.parts.items():
            own = part_of(getattr(scene.run.campaign, table), kind)
            given[name] = dataclasses.replace(getattr(self.measures, name), **own)
        return dataclasses.replace(self.measures, **given)

    def of_case(self, case: Case) -> Property[Any]:
        """The same for one candidate, where what stages before have found decides settings, too."""
        return self.settled(case.scene)

    def ask(self, case: Case) -> Ask[Any] | None:
        return Ask(self.of_case(case), self.crystal(case), model=case.scene.model)

    def work(self, scene: Scene, ids: Sequence[str]) -> dict[str, int]:
        asks = [ask for case in scene.cases(ids, own=False) if (ask := self.ask(case)) is not None]
        return {scene.key(ask): len(ask.crystal.structure) for ask in asks}

    def foreseen(self, scene: Scene, ids: Sequence[str]) -> tuple[int, int] | None:
        """Calculations and their atoms, as far as the input structures tell."""
        if not self.adds:
            return 0, 0
        settled, cases = self.settled(scene), [Case(scene, candidate, {}) for candidate in scene.table.candidates(ids)]
        costs = [settled.cost_if_any(as_given(case)) for case in cases]
        known = [cost for cost in costs if cost is not None]
        return None if len(known) < len(costs) else (sum(n for n, _ in known), sum(atoms for _, atoms in known))

    def stored(self, table: ResultsTable, keys: Iterable[str]) -> set[str]:
        kind = self.measures.document
        return table.existing_keys(keys) if kind is RelaxationDocument else set(table.documents(kind, keys))

    def documents(self, table: ResultsTable, keys: Iterable[str]) -> dict[str, Document]:
        return table.documents(self.measures.document, keys)

    def failed(self, case: Case) -> Finding | None:
        error = getattr(case.found, "error", None)
        if error is None:
            return None
        told = getattr(case.found, "error_code", None)
        code = self.without.get(told or "", self.without.get("", "not_computed"))
        if code is None:
            return finding(case, [], answered=False)
        if "" in self.without and told not in self.without:
            error = f"{case.scene.stage.kinds[code].phrase}: {error}"
        return finding(case, [Reason(code=code, sentence=error)], answered=False)

    def judged(self, case: Case) -> Finding:
        """What the property found, with its doubts; limits are those of the campaign. The document is in the table."""
        return finding(case, getattr(case.found, "doubts", ()))


def section_of(measured: Property[Any], without: Collection[str] = ()) -> type[Section]:
    """Table of a campaign file whose keys are a model and the fields of a property, with their values as defaults.

    Args:
        measured: the property.
        without: keys that the table leaves out.
    """
    types = typing.get_type_hints(type(measured), include_extras=True)
    fields: dict[str, Any] = {} if "model" in without else {"model": (ModelName | None, None)}
    for item in dataclasses.fields(measured):
        kind = types[item.name]
        if get_origin(kind) is tuple:  # TOML has lists
            kind = Annotated[kind, Field(strict=False)]
        if (files := item.metadata.get("files")) is not None:
            kind = Annotated[kind, AfterValidator(partial(_located, files))]
        if item.name not in without:
            fields[item.name] = (kind, getattr(measured, item.name))

    def refuse(table: Section) -> Section:
        given = {name: getattr(table, name) for name in fields if name != "model"}
        if all(Path(one).exists() for value in given.values() for one in files_in(value)):  # a worker may have none
            dataclasses.replace(measured, **given).check()
        return table

    checked: Any = {"settings_make_sense": model_validator(mode="after")(refuse)}
    return create_model(f"Table_{measured.name}", __base__=Section, __validators__=checked, **fields)


def _located(files: NamedFiles, value: Any, info: ValidationInfo) -> Any:
    """A setting with the files that it names, which must exist while a campaign file is read."""
    return files.each(lambda name: input_file(name, info), value)
