"""Several properties of many structures in one batch: from what was read to a document for each of them.

Properties of relaxed crystals begin with one relaxation, which all of them share, in the same loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from pymatgen.core import Molecule, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.data.readers import NamedStructure
from dpa4_core.data.structures import StructureError
from dpa4_core.data.system import unknown_elements
from dpa4_core.errors import DPA4Error
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, PlanError, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.reasons import remarks
from dpa4_flows.documents.schemas import FOR_READERS, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AT_REST, AtRest, Unread
from dpa4_flows.properties.columns import parts
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.properties.registry import canonical, property_class
from dpa4_flows.properties.settings import with_settings
from dpa4_flows.site_conversion import as_pymatgen, free_crystal
from dpa4_flows.store.protocol import Store

RELAXED = "relaxed"
"""Name of the relaxation that properties start from, among the documents of a structure."""
STRUCTURES = (RELAXED, "relax", "static", "ordering", "stability")
"""Documents that hold the structure that the others are about, the first that is there."""
ALL = -1
"""In place of the number of a structure: all of them together."""


@dataclass(frozen=True)
class Subject:
    """A structure that something is asked about.

    Attributes:
        name: for people.
        structure: None if it could not be read.
        error: why not.
        warnings: what its file made doubtful, one sentence each.
    """

    name: str
    structure: Structure | Molecule | None
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, read: NamedStructure, *, takes_disorder: bool = False) -> Subject:
        """What was read from a file or given as an object; shared sites are an error, but for who takes them."""
        if takes_disorder and read.is_disordered:
            return cls(read.name, read.structure, None, read.warnings)
        if read.error is not None:
            return cls(read.name, None, read.error, read.warnings)
        try:
            return cls(read.name, as_pymatgen(read.structure), None, read.warnings)
        except StructureError as error:
            return cls(read.name, None, str(error), read.warnings)

    @property
    def formula(self) -> str | None:
        return None if self.structure is None else self.structure.composition.reduced_formula


class Foreseen(NamedTuple):
    """What a property of a structure takes.

    Attributes:
        name: of the structure.
        property: name of the property.
        cost: calculations and the atoms in them; None where only the plan itself can tell.
        refused: why it takes none.
    """

    name: str
    property: str
    cost: tuple[int, int] | None
    refused: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked about each structure.

    Attributes:
        properties: with their settings.
        relaxation: before those that start from rest; None takes the structures as they are.
    """

    properties: Sequence[Property[Any]]
    relaxation: Relaxed | None = AT_REST

    @classmethod
    def of(
        cls,
        properties: Sequence[str | Property[Any]],
        settings: Mapping[str, Mapping[str, Any]],
        relaxation: Relaxed | None = AT_REST,
    ) -> Question:
        """What is asked by names, with settings by name where they are not the defaults.

        Raises:
            DPA4Error: no such property, one asked for twice, settings of one that is not asked for, or wrong ones.
        """
        given = {canonical(name): values for name, values in settings.items()}
        made = [
            with_settings(property_class(one), given.pop(canonical(one), {})) if isinstance(one, str) else one
            for one in properties
        ]
        question = cls(made, relaxation)
        names = question.names
        if not names:
            raise DPA4Error("no property is asked for; `dpa4 compute --list` shows all")
        if given:
            raise DPA4Error(
                f"there are settings of {next(iter(given))}, which is not asked for; it is {', '.join(names)}"
            )
        if twice := [name for name in names if names.count(name) > 1]:
            raise DPA4Error(f"{twice[0]} is asked for twice")
        return question

    def check(self) -> None:
        """Refuse what cannot be computed, before anything is.

        Raises:
            DPA4Error: a setting makes no sense or would do nothing, or an optional package is missing.
        """
        if self.relaxation not in (None, AT_REST) and RELAXED not in self.kinds:
            own = next((name for name, one in zip(self.names, self.properties, strict=True) if _relaxes(one)), "")
            remedy = f"; its own are set by {own}.relaxation.fmax and the like" if own else ""
            raise DPA4Error(
                f"fmax, max_steps and check_minimum are of the relaxation before a property, and "
                f"{', '.join(self.names)} begins with none: leave them out{remedy}"
            )
        for property_ in self.kinds.values():
            property_.check()

    @property
    def names(self) -> list[str]:
        """Of the properties, as they are asked for by name."""
        return [canonical(property_.name) for property_ in self.properties]

    def foreseen(self, subjects: Iterable[Subject], elements: Collection[int] | None = None) -> Iterator[Foreseen]:
        """What each property of each structure takes, as far as the structures given tell, which are not relaxed yet.

        A structure that has no document, or needs a larger cell than the settings allow, takes no calculation, and so
        does one with others than the ``elements`` that the model knows, atomic numbers, where these are known.
        """
        for subject in subjects:
            for name, property_ in zip(self.names, self.properties, strict=True):
                if subject.structure is None:
                    yield Foreseen(subject.name, name, (0, 0), subject.error or "it was not read")
                    continue
                crystal = Crystal(subject.structure, name=subject.name)
                try:
                    if isinstance(subject.structure, Molecule) and (property_.starts_from_rest or property_.together):
                        whole_crystal(crystal)
                    property_.admit(crystal)
                    cost = property_.cost(crystal)
                    numbers = [element.Z for element in subject.structure.composition.element_composition]
                    if elements is not None and cost != (0, 0) and (unknown := unknown_elements(numbers, elements)):
                        raise PlanError(unknown, "refused")
                    yield Foreseen(subject.name, name, cost)
                except PlanError as error:
                    yield Foreseen(subject.name, name, (0, 0), str(error))

    def subjects(self, read: Iterable[NamedStructure]) -> list[Subject]:
        """What was read, as it can be asked about."""
        takes_disorder = all(property_.takes_disorder for property_ in self.properties)
        return [Subject.of(one, takes_disorder=takes_disorder) for one in read]

    @cached_property
    def kinds(self) -> dict[str, Property[Any]]:
        """Every property by the name of its document, the relaxation that others start from first."""
        named = dict(zip(self.names, self.properties, strict=True))
        if self.relaxation is not None and any(property_.starts_from_rest for property_ in self.properties):
            return {RELAXED: self.relaxation, **named}
        return named

    def told(self, subject: Subject) -> Subject:
        """The subject with what is done to it before it is computed."""
        frees = RELAXED in self.kinds or any(property_.together for property_ in self.properties)
        if not frees or subject.structure is None:
            return subject
        return replace(subject, warnings=(*subject.warnings, *free_crystal(subject.structure)[1]))

    def asks(self, subjects: Sequence[Subject]) -> Iterator[tuple[tuple[int, str], Ask[Any]]]:
        """Keyed by the number of the subject, or `ALL` that could be read, and the name of the document."""
        for name, property_ in self.kinds.items():
            if property_.together and (crystals := crystals_of(subjects)).crystals:
                yield (ALL, name), Ask(property_, crystals)
        for number, subject in enumerate(subjects):
            refused = self._refused(subject)
            for name, property_ in self.kinds.items():
                if name in refused:
                    crystal = Crystal(subject.structure or Molecule([], []), subject.name)
                    yield (number, name), Ask(Unread(property_, str(refused[name]), refused[name].code), crystal)
                elif name == RELAXED and len(refused) == sum(one.starts_from_rest for one in self.properties):
                    continue  # for nothing
                elif subject.structure is None or not property_.together:
                    yield (number, name), self._ask(name, property_, subject)

    def _refused(self, subject: Subject) -> dict[str, PlanError]:
        """Properties that have no document of what a structure relaxes to, whatever that is, by name."""
        found: dict[str, PlanError] = {}
        if subject.structure is None or self.relaxation is None:
            return found
        for name, property_ in zip(self.names, self.properties, strict=True):
            try:
                if property_.starts_from_rest:
                    property_.admit(_free(subject))
            except PlanError as error:
                found[name] = error
        return found

    def _ask(self, name: str, property_: Property[Any], subject: Subject) -> Ask[Any]:
        if subject.structure is None:
            return Ask(Unread(property_, subject.error or "it was not read"), Crystal(Molecule([], []), subject.name))
        if name == RELAXED:
            return Ask(property_, _free(subject))
        if property_.starts_from_rest and self.relaxation is not None:
            return Ask(AtRest(property_, self.relaxation), _free(subject))
        return Ask(property_, Crystal(subject.structure, subject.name))


def _relaxes(property_: Property[Any]) -> bool:
    return isinstance(getattr(property_, "relaxation", None), Relaxed)


def _free(subject: Subject) -> Crystal:
    """The crystal without what keeps its atoms in place."""
    return Crystal(free_crystal(subject.structure)[0], subject.name)


def crystals_of(subjects: Sequence[Subject]) -> Crystals:
    """All that could be read."""
    return Crystals(tuple(_free(subject) for subject in subjects if subject.structure is not None))


@dataclass(frozen=True)
class Answer:
    """What came out for one structure: a document for each name of `Question.kinds`, None where it is not there yet."""

    subject: Subject
    documents: dict[str, Any] = field(default_factory=dict)

    @property
    def formula(self) -> str | None:
        """Of what the numbers are about: an ordered cell has less of an element than its parent."""
        found = (self.documents.get(name) for name in STRUCTURES)
        return next((one.formula for one in found if one is not None and one.structure), self.subject.formula)

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """What its file and its documents say against its numbers: name of the document that says so first, empty for
        the file, and sentence.
        """
        found = dict.fromkeys(self.subject.warnings, "")
        for name, document in self.documents.items():
            none = [document.error] if document is not None and document.has_none else []
            for sentence in [] if document is None else [*none, *remarks(document)]:
                found.setdefault(sentence, name)
        return [(name, sentence) for sentence, name in found.items()]

    def errors(self, names: Iterable[str]) -> dict[str, str]:
        """Sentences by name of the document; one for all where the structure could not be read or relaxed."""
        if self.subject.error is not None:
            return {"": self.subject.error}
        failed: dict[str, str] = {}
        for name in names:
            document = self.documents[name]
            inner = parts(type(document)) if document is not None and document.error is None else {}
            found = {name: document} | {f"{name}, {part}": getattr(document, part) for part in inner}
            failed |= {key: one.error for key, one in found.items() if _is_failure(one)}
        return {RELAXED: failed[RELAXED]} if RELAXED in failed else failed

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all came out."""
        there = [one for name, one in self.documents.items() if one is not None and name != RELAXED]
        return all(_is_failure(one) for one in there)

    def row(self) -> dict[str, Any]:
        """Plain JSON types: the documents with what they are about. Parts of a document stand beside it, not within,
        unless their name is that of another document.
        """
        there = {name: one for name, one in self.documents.items() if one is not None}
        documents = {name: one.model_dump(mode="json", context=FOR_READERS) for name, one in there.items()}
        inner = {
            part: documents[name].pop(part)
            for name, one in there.items()
            for part in parts(type(one))
            if part not in self.documents
        }
        about = {"name": self.subject.name, "formula": self.formula, "warnings": list(self.subject.warnings)}
        return {**about, "error": self.subject.error, **inner, **dict.fromkeys(self.documents), **documents}


def _is_failure(document: Document | None) -> bool:
    return document is not None and getattr(document, "error", None) is not None and not document.has_none


def gathered(
    question: Question, subjects: Sequence[Subject], found: Iterable[tuple[tuple[int, str], Any]], model: ModelRef
) -> list[Answer]:
    """Documents under the keys of `Question.asks`, by subject and in order."""
    answers = [Answer(question.told(subject), dict.fromkeys(question.kinds)) for subject in subjects]
    for (number, name), document in found:
        if number == ALL:
            crystals = replace(crystals_of(subjects), model=model, info=model.info())
            read = [one for one in answers if one.subject.structure is not None]
            for one, single in zip(read, question.kinds[name].each(crystals, document), strict=True):
                one.documents[name] = single
        else:
            answers[number].documents[name] = document
    return answers


def stored_answers(question: Question, subjects: Sequence[Subject], model: ModelRef, store: Store) -> list[Answer]:
    """What a store has of everything that is asked; nothing is computed.

    Args:
        question: what is asked.
        subjects: about these.
        model: with its checksum, so that it need not be loaded.
        store: is only read.
    """
    answers = gathered(question, subjects, (), model)
    later: list[tuple[int, str, Property[Any]]] = []
    wanted: list[tuple[int, str, Property[Any], Crystal]] = []
    for (number, name), ask in question.asks(subjects):
        if number == ALL:
            continue  # made anew each time
        if isinstance(ask.property, AtRest):
            later.append((number, name, ask.property.of))
        elif not isinstance(ask.property, Unread):
            wanted.append((number, name, ask.property, ask.crystal))
    _look_up(answers, wanted, model, store)
    at_rest = []
    for number, name, property_ in later:
        relaxed = answers[number].documents[RELAXED]
        if relaxed is not None and relaxed.error is None:
            at_rest.append((number, name, property_, Crystal(structure_of_fields(relaxed.structure))))
    _look_up(answers, at_rest, model, store)
    return answers


def parts_of(question: Question) -> Question:
    """What the plans of a question ask for about the same crystals, and the question does not."""
    parts = {canonical(part.name): part for one in question.properties for part in one.parts}
    return Question([part for name, part in parts.items() if name not in question.names], question.relaxation)


def _look_up(
    answers: Sequence[Answer],
    wanted: Sequence[tuple[int, str, Property[Any], Crystal]],
    model: ModelRef,
    store: Store,
) -> None:
    """Fill in the documents that the store has."""
    keys: dict[type[Document], dict[str, list[tuple[int, str]]]] = {}
    for number, name, property_, crystal in wanted:
        if (key := property_.key(crystal, model)) is not None:
            keys.setdefault(property_.document, {}).setdefault(key, []).append((number, name))
    for kind, places in keys.items():
        for key, document in store.documents(kind, places).items():
            for number, name in places[key]:
                answers[number].documents[name] = document
