"""What a property is: settings, and a plan that asks for calculations and turns them into a document.

    @dataclass(frozen=True)
    class Compressed(Property[CompressedDocument]):
        \"\"\"Energy of a crystal that is pressed together.\"\"\"

        name: ClassVar[str] = "compressed"
        document: ClassVar[type[Document]] = CompressedDocument
        strain: float = 0.01

        def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
            smaller = crystal.structure.copy().apply_strain(-self.strain)
            found = yield {"before": Static(crystal.structure), "after": Static(smaller)}
            cost = checked(found["after"]).energy - checked(found["before"]).energy
            return CompressedDocument(cost=cost, provenance=self.origin(crystal))

A plan is deterministic and cheap, so that it may be run again from its start: what was computed comes back at once. It
knows neither batches nor files nor other plans, which run beside it.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from monty.json import MSONable
from pymatgen.core import Molecule, Structure

from dpa4_core.data.structures import StructureError
from dpa4_core.errors import DPA4Error, words_of
from dpa4_core.model.info import ModelInfo
from dpa4_core.predict import Prediction
from dpa4_core.relax import BandResult, DynamicsResult, RelaxResult
from dpa4_core.relax import Request as Calculation
from dpa4_flows.documents.calculations import input_hash, relaxation_key
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.schemas import AnswerDocument, Document, Provenance, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.protocol import Store

logger = logging.getLogger(__name__)

D = TypeVar("D", bound=Document)
A = TypeVar("A", AnswerDocument, RelaxationDocument)
R = TypeVar("R", RelaxResult, Prediction, BandResult, DynamicsResult)
T = TypeVar("T")


class PlanError(DPA4Error):
    """One crystal has no document of a property; the others go on.

    Args:
        sentence: why.
        code: for logic, which never reads sentences.
    """

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def of_this_crystal(problem: Exception, what: str) -> PlanError:
    """Why one crystal has no answer, whatever was raised about it; ``what`` was asked for goes into the log.

    Raises:
        DPA4Error, OSError: the problem, where another crystal would meet it, too: model, store, disk.
    """
    if isinstance(problem, PlanError):
        return problem
    if isinstance(problem, StructureError):
        return PlanError(str(problem), "refused")
    if isinstance(problem, DPA4Error | OSError):
        raise problem
    logger.warning("%s failed:", what, exc_info=problem)
    return PlanError(f"the analysis failed: {words_of(problem)}", "analysis_failed")


@dataclass(frozen=True)
class Crystal:
    """What a property starts from.

    Attributes:
        structure: what the property is about.
        name: for people.
        relaxed: the relaxation behind ``structure``, if there was one.
        model: that computes; the loop fills it in before it asks for a plan.
        info: identity card of the model, filled in beside it.
    """

    structure: Structure | Molecule
    name: str = ""
    relaxed: RelaxationDocument | None = None
    model: ModelRef = field(default_factory=ModelRef)
    info: ModelInfo = field(default_factory=ModelInfo)


@dataclass(frozen=True)
class Crystals:
    """Several crystals that a property looks at together, where a `Crystal` stands for one.

    Attributes:
        crystals: in the order of the answers.
        aside: positions of those that stand against no other.
        model, info: as in `Crystal`.
    """

    crystals: tuple[Crystal, ...] = ()
    aside: frozenset[int] = frozenset()
    model: ModelRef = field(default_factory=ModelRef)
    info: ModelInfo = field(default_factory=ModelInfo)


@dataclass(frozen=True)
class Property(MSONable, ABC, Generic[D]):
    """Base of properties: frozen dataclasses whose fields are the settings.

    They are the keys of a TOML table, the options of a command and the fields of a Maker, and they decide, with
    structure and model, under which key the document is stored: a field that changes no number says ``field(...,
    metadata=NO_NUMBER)``, one that names a file ``metadata=names_files()``.

    Class attributes:
        name: of the property, also in keys.
        document: type of what the plan returns.
        version: of its science. A change that gives its numbers another meaning raises it: documents of before, and
            those that rest on them, are then made anew, from the calculations that stores keep.
        keeps_failures: whether a document with an error is stored and found again; else the next run tries again.
        keeps_calculations: whether what its plan asked for is kept beside the document.
        anew: whether documents are made anew each time, since what they rest on may change.
        starts_from_rest: whether it is one of relaxed crystals, which whoever asks for it has to relax first.
        takes_heads: whether its model may be a property model, whose value is the energy of a `Static`.
        takes_disorder: whether crystals whose sites are shared are what it is about; they are an error for others.
        example: files and options of a call on the command line, for its help.
        shown: declares what tables show of its documents, where ``document`` does not.
        figures: ``package.module:function`` of documents by the name of their structure, gives the blocks of a page.
        caveats: what to know before its numbers are quoted, one sentence each.
    """

    name: ClassVar[str]
    document: ClassVar[type[Document]]
    version: ClassVar[int] = 1
    keeps_failures: ClassVar[bool] = False
    keeps_calculations: ClassVar[bool] = True
    anew: ClassVar[bool] = False
    starts_from_rest: ClassVar[bool] = False
    takes_heads: ClassVar[bool] = False
    takes_disorder: ClassVar[bool] = False
    example: ClassVar[str] = "Cu.cif"
    shown: ClassVar[type[Document] | None] = None
    figures: ClassVar[str] = ""
    caveats: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" in vars(cls):
            _KINDS[cls.name] = cls

    @property
    def parts(self) -> tuple[Property[Any], ...]:
        """Properties that its plan asks for about the same crystal, whose documents a page shows beside its own."""
        return ()

    @property
    def together(self) -> bool:
        """Whether several structures are asked for at once, as `Crystals`, since they stand against each other; `each`
        then tells their documents apart.
        """
        return False

    def check(self) -> None:
        """Refuse, before anything is computed, settings that no crystal can be computed with.

        Raises:
            DPA4Error: a setting makes no sense, or an optional package is missing.
        """

    def check_model(self, model: ModelRef) -> None:
        """Refuse, before anything is computed, a model that no crystal can be computed with.

        Raises:
            DPA4Error: a property model, whose value is no energy.
        """
        if not self.takes_heads and model.head() is not None:
            model.load()  # which says that it is no potential

    def admit(self, crystal: Crystal) -> None:
        """Refuse a crystal that has no document whatever it relaxes to, before its relaxation is paid for.

        Raises:
            PlanError: why.
        """

    def cost(self, crystal: Crystal) -> tuple[int, int] | None:
        """Calculations of its plan and their atoms, for a dry run; None where only the plan itself can tell.

        Raises:
            PlanError: none, since the crystal is refused.
        """
        return None

    def cost_if_any(self, crystal: Crystal) -> tuple[int, int] | None:
        """The same, nothing of a crystal that is refused."""
        try:
            return self.cost(crystal)
        except PlanError:
            return 0, 0

    def located(self) -> Self:
        """With absolute paths, which hold in the folder of a job, also of the properties among its settings."""
        changes: dict[str, Any] = {}
        for one in dataclasses.fields(self):
            value, files = getattr(self, one.name), one.metadata.get("files")
            if isinstance(value, Property):
                changes[one.name] = value.located()
            elif files is not None:
                changes[one.name] = files.located(value)
        return dataclasses.replace(self, **changes)

    @abstractmethod
    def plan(self, crystal: Crystal) -> Plan[D]:
        """Ask for calculations, step by step, and return the document.

        Raises:
            PlanError: there is none for this crystal.
        """

    def each(self, crystals: Crystals, found: Any) -> list[D]:
        """Documents of single crystals from that of all; for properties that look at them together."""
        raise NotImplementedError(f"{self.name} looks at one crystal at a time")

    def document_of(self, subject: Crystal | Crystals, found: Any) -> Any:
        """The document of a subject: of several crystals what was found, of one its part of that."""
        if isinstance(subject, Crystals):
            return found
        return self.each(Crystals((subject,), model=subject.model, info=subject.info), found)[0]

    def failed(self, crystal: Crystal, error: PlanError) -> D:
        """The document of a crystal that has none: it says why."""
        told = {"error": str(error), "error_code": error.code, "provenance": self.origin(crystal)}
        return cast("D", self.document(**told, **self.facts(crystal, error)))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        """What else the document of a crystal without an answer has to say: by default its formula and the settings."""
        known = {"formula": crystal.structure.composition.reduced_formula, **vars(self)}
        required = {name for name, field in self.document.model_fields.items() if field.is_required()}
        return {name: value for name, value in known.items() if name in required}

    def settings(self, model: ModelRef) -> dict[str, Any]:
        """Every setting that changes the numbers."""
        return {"calculation": self.name, **_numbers(self), "dtype": model.dtype}

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """Key under which the document is stored; None for one that is made anew each time."""
        return None if self.anew else f"{self.name} {relaxation_key(crystal.structure, model, self.settings(model))}"

    def origin(self, crystal: Crystal | Crystals) -> Provenance:
        """Where a document on ``crystal`` comes from."""
        return provenance(crystal.info, self.settings(crystal.model))

    @property
    def versions(self) -> dict[str, int]:
        """Versions of the science of this property, of those among its settings, and of what else numbers of it rest
        on, by name.
        """
        found = {self.name: self.version}
        for value in vars(self).values():
            for one in value if isinstance(value, tuple | list) else (value,):
                if isinstance(one, Property):
                    found |= one.versions
        return found


def versions_of(document: Document) -> dict[str, int]:
    """Versions of the science that a document says it rests on, by name of the property."""
    versions: dict[str, int] = getattr(getattr(document, "provenance", None), "versions", {})
    return versions


def marked(document: D, versions: Mapping[str, int]) -> D:
    """The document, or those in it, with the versions that it rests on; what rests on nothing but its own first one
    needs no mark.
    """
    if len(versions) == 1 and set(versions.values()) == {1}:
        return document
    origin = getattr(document, "provenance", None)
    if origin is not None:
        return document.model_copy(update={"provenance": origin.model_copy(update={"versions": dict(versions)})})
    several = getattr(document, "documents", None)
    if several is None:
        return document
    return document.model_copy(update={"documents": [one and marked(one, versions) for one in several]})


def mended(property_: Property[Any], document: Document) -> dict[str, int]:
    """Properties whose science was mended since a document of ``property_`` was made, with their versions of today:
    itself, those among its settings, and all that its plan asked for.
    """
    return mended_since(property_, versions_of(document))


def mended_since(property_: Property[Any], made: Mapping[str, int]) -> dict[str, int]:
    """The same of a document that rests on the versions ``made``."""
    today = {name: _KINDS[name].version for name in made if name in _KINDS} | property_.versions
    return {name: version for name, version in today.items() if version > made.get(name, 1)}


_KINDS: dict[str, type[Property[Any]]] = {}
"""Properties that were imported, by name."""

NO_NUMBER: Mapping[str, bool] = {"changes_numbers": False}
"""Metadata of a field of a property that changes no number."""


@dataclass(frozen=True, eq=False)
class Ask(Generic[D]):
    """A request for a document: found in the store, shared with other plans that ask for it, or planned.

    Attributes:
        property: what is wanted.
        crystal: of what; several for a property that looks at them together.
        store: where it is found and kept; None for that of the loop.
        model: that computes it and all that its plan asks for; None for that of the plan that asks, or of the loop.
    """

    property: Property[D]
    crystal: Any  # a Crystal, or Crystals
    store: Store | None = None
    model: ModelRef | None = None

    def key(self, model: ModelRef) -> str | None:
        """Key of the document, by ``model`` where the request names none; None for one that is made anew each time."""
        return self.property.key(self.crystal, self.model or model)


@dataclass(frozen=True, eq=False)
class Until:
    """A request for nothing but time: other plans go on until something has happened elsewhere.

    Attributes:
        so_far: whether it has; asked again and again.
    """

    so_far: Callable[[], bool]


Request = Calculation | Ask[Any] | Until
Answer = Any  # of a calculation its result, of an Ask its document, of an Until True
Plan = Generator[Mapping[str, Request], Mapping[str, Answer], D]
"""Asks for requests by names of its own, gets their answers by the same names, and returns a document."""
Steps = Generator[Mapping[str, Request], Mapping[str, Answer], T]
"""Part of a plan: returns what the rest of it needs."""


def checked(result: R, what: str = "a calculation") -> R:
    """``result``, if it has one.

    Raises:
        PlanError: it failed.
    """
    if result.error is not None:
        raise PlanError(f"{what} failed: {result.error}", "not_computed")
    return result


def _numbers(settings: Property[Any]) -> dict[str, Any]:
    """Fields that change numbers; of a file its content."""
    found = {}
    for one in dataclasses.fields(settings):
        if one.metadata != NO_NUMBER:
            value, files = getattr(settings, one.name), one.metadata.get("files")
            found[one.name] = _plain(value if files is None else files.each(files.content, value))
    return found


def answered(document: A) -> A:
    """``document``, if it is an answer.

    Raises:
        PlanError: with its error, and the code of that.
    """
    if document.error is not None:
        raise PlanError(document.error, document.error_code or "not_computed")
    return document


def _plain(value: Any) -> Any:
    """Settings as JSON has them: 1 and 1.0 are the same where a field is a float."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, Property):
        return {"calculation": value.name, **_numbers(value)}
    if isinstance(value, Structure | Molecule):
        return input_hash(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
