"""The commands as functions: structures in, a table of results out. `functions` has one for each property.

    import dpa4_flows as d4

    elastic = d4.elastic("crystals/", folder="elastic")   # files, folders, ase.Atoms, pymatgen objects, or a list
    elastic                                               # a table in a notebook and in a terminal
    elastic[0].k_vrh_gpa                                  # documents, as `dpa4 compute elastic --json` prints them
    elastic.to("elastic.csv")

Every function gives what `dpa4 compute` with the property of its name gives, and finds in ``folder`` what that has
computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_type_hints

from ase import Atoms
from pymatgen.core import Composition, Molecule, Structure

from dpa4_core.data.readers import NamedStructure
from dpa4_core.data.told_apart import told_apart
from dpa4_core.errors import DPA4Error
from dpa4_core.strict import meant
from dpa4_flows.campaigns.bundled import find_campaign
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.compute.plan import Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.schemas import Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.neb import Neb, NebDocument
from dpa4_flows.properties.registry import canonical
from dpa4_flows.properties.settings import with_settings
from dpa4_flows.properties.table import Results
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.runs.campaign import Assignment, CampaignRun
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How as RunHow

OneStructure = str | Path | Atoms | Structure | Molecule
Structures = OneStructure | Iterable[OneStructure]
"""Files, folders or archives; materials, ``"mp-22526"`` or ``"LiCoO2"``; objects; or any mix of these. An object is
called by its formula and place.
"""

D = TypeVar("D", bound=Document)


class How(TypedDict, total=False):
    """How something is computed.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        dtype: ``"float32"`` or ``"float64"``.
        dispersion: ``"d3bj-pbe"``, ... adds dispersion to the model.
        folder: keeps what is computed, and is where it is found again.
        max_atoms_per_batch: atoms computed at the same time; by default what the device can hold.
        retry_errors: compute again what failed before.
        progress: show a progress bar on stderr.
    """

    device: str
    dtype: Literal["float32", "float64"]
    dispersion: str | None
    folder: str | Path | None
    max_atoms_per_batch: int | None
    retry_errors: bool
    progress: bool


def function_of(kind: type[Property[D]]) -> Callable[..., Results[D]]:
    """What `compute` gives with one property, as a function whose keywords are the settings of the property."""
    from_rest = kind.starts_from_rest
    defaults = {"model": "dpa4-neo", **vars(kind()), **({"relaxation": AT_REST} if from_rest else {})}
    types = {**get_type_hints(kind), "model": str | ModelRef} | ({"relaxation": Relaxed | None} if from_rest else {})

    def computed(structures: Structures, **given: Any) -> Results[D]:
        known = [*defaults, *How.__annotations__]
        if unknown := [name for name in given if name not in known]:
            raise TypeError(f"{computed.__name__} has no keyword {unknown[0]!r}; {meant(unknown[0], known)}")
        how: How = {name: given.pop(name) for name in How.__annotations__ if name in given}  # type: ignore[assignment]
        model = given.pop("model", defaults["model"])
        relaxation = given.pop("relaxation", AT_REST) if from_rest else None
        return _answered(Question([with_settings(kind, given)], relaxation), structures, model, **how)

    settings = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=value, annotation=types[name])
        for name, value in defaults.items()
    ]
    first = Parameter("structures", Parameter.POSITIONAL_OR_KEYWORD, annotation=Structures)
    last = Parameter("how", Parameter.VAR_KEYWORD, annotation=Unpack[How])
    computed.__signature__ = Signature([first, *settings, last], return_annotation=Results)  # type: ignore[attr-defined]
    computed.__name__ = computed.__qualname__ = canonical(kind.name)
    computed.__doc__ = inspect.getdoc(kind)
    return computed


PATH = Neb()


def neb(
    start: OneStructure, end: OneStructure, *, model: str | ModelRef = "dpa4-neo", path: Neb = PATH, **how: Unpack[How]
) -> Results[NebDocument]:
    """The path of lowest energy between two structures with the same atoms in the same cell, as `dpa4 neb` gives it.

    Args:
        start, end: files or objects; both relax first, in their cell.
        model: name, file, or `ModelRef`.
        path: how it is looked for; its ``end`` is taken from here.
        **how: see `How`, without ``folder``: there is one document.

    Raises:
        DPA4Error: a setting that makes no sense, no such model or file, an end that cannot be read.
    """
    if how.get("folder") is not None:
        raise DPA4Error("a path is not kept in a folder; keep its document, neb(...)[0]")
    last = [Subject.of(one) for one in named_structures(end)]
    if len(last) != 1 or last[0].structure is None:
        problem = last[0].error if len(last) == 1 else f"it holds {len(last)} structures"
        raise DPA4Error(f"the end of a path is one structure that can be read: {problem}")
    return _answered(Question.of([replace(path, end=last[0].structure)], {}, None), start, model, **how)


def compute(
    properties: str | Property[Any] | Sequence[str | Property[Any]],
    structures: Structures,
    *,
    model: str | ModelRef = "dpa4-neo",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    relaxation: Relaxed | None = AT_REST,
    **how: Unpack[How],
) -> Results[Any]:
    """One or several properties of structures, all in one batch.

    Args:
        properties: names, as `dpa4 compute --list` shows them, or properties with their settings.
        structures: of these.
        model: name, file, or `ModelRef`.
        settings: by name of the property, where they are not the defaults: ``{"elastic": {"fmax": 1e-4}}``.
        relaxation: before properties of relaxed crystals; None takes the structures as they are.
        **how: see `How`.

    Returns:
        One document for each structure; where several properties are asked for, one `Answer` with their documents by
        name, and ``results["elastic"]`` has the documents of one property.

    Raises:
        DPA4Error: no such property, setting, model or file.
    """
    listed = [properties] if isinstance(properties, str | Property) else list(properties)
    return _answered(Question.of(listed, settings or {}, relaxation), structures, model, **how)


def screen(
    campaign: str | Path,
    *,
    folder: str | Path | None = None,
    retry_errors: bool = False,
    force: bool = False,
    progress: bool = False,
) -> CampaignRun:
    """Run a screening campaign here, as `dpa4 screen` does.

    Args:
        campaign: file, or the name of a bundled one: ``"battery"``.
        folder: of the run; by default ``runs/NAME`` beside the file.
        retry_errors: compute again what failed before.
        force: delete what the folder holds, and compute all anew.
        progress: show progress on stderr.

    Returns:
        The run: a notebook shows its table, ``table()`` gives the rows, ``report(path)`` writes the page.

    Raises:
        DPA4Error: the file makes no sense, or the campaign cannot be run.
    """
    file, runs = find_campaign(str(campaign))
    config = load_campaign(file)
    run = CampaignRun(Path(folder).expanduser() if folder is not None else runs / config.campaign.name)
    how = RunHow(ConsoleWatch(quiet=not progress), retry_errors)
    run.compute(Assignment(config, file=file, force=force), how)
    return run


def _answered(question: Question, structures: Structures, model: str | ModelRef, **how: Unpack[How]) -> Results[Any]:
    subjects = question.subjects(named_structures(structures))
    reference = model if isinstance(model, ModelRef) else ModelRef(model)
    given_how = {name: how[name] for name in ("device", "dtype", "dispersion") if name in how}
    reference = replace(reference, **given_how)  # type: ignore[arg-type]
    going = RunHow(ConsoleWatch(quiet=not how.get("progress", False)), how.get("retry_errors", False))
    folder = None if (given := how.get("folder")) is None else Path(given).expanduser()
    return compute_in(folder, question, subjects, reference, going, how.get("max_atoms_per_batch"))


def named_structures(structures: Structures) -> list[NamedStructure]:
    """What a function was given, in order; a file that cannot be read fails alone among others.

    Raises:
        DPA4Error: something that is no structure, or the only file cannot be read.
    """
    alone = isinstance(structures, str | Path | Atoms | Structure | Molecule)
    given: list[Any] = [structures] if alone else list(structures)  # type: ignore[arg-type]
    found: list[NamedStructure] = []
    for number, one in enumerate(given):
        if isinstance(one, Atoms | Structure | Molecule):
            found.append(NamedStructure(_name(one, None if alone else number), one))
        elif isinstance(one, str | Path):
            found += read_crystals([one], alone=len(given) == 1)
        else:
            raise DPA4Error(f"entry {number} of the structures is neither a structure nor a path: {repr(one)[:100]}")
    return told_apart(found)


def _name(structure: Any, number: int | None) -> str:
    composition = Composition(str(structure.symbols)) if isinstance(structure, Atoms) else structure.composition
    formula = composition.reduced_formula
    return formula if number is None else f"{formula} {number}"
