"""The model of a Maker: a name, a path, a `ModelRef`, or the output of an earlier job.

    train = TrainMaker(...).make("frames.extxyz")
    relax = DPA4RelaxMaker(model=train.output.model).make(structure)
    responses = run_local(Flow([train, relax]), "run")

`ModelField` is the field that all Makers have. jobflow resolves references in the arguments of a job, not in the fields
of its Maker: `takes_model` hands those in the fields, at any depth, on as an argument, so that they work with every
engine and inside every atomate2 flow.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import InitVar, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

from jobflow import Maker, OutputReference

from dpa4_core.model.registry import sha256_of, split_branch
from dpa4_flows.makers.arguments import check_arguments
from dpa4_flows.model_ref import ModelRef, ModelRefError
from dpa4_flows.site_conversion import all_with_written_masses

M = TypeVar("M", bound=Maker)
ModelLike = ModelRef | str | Path | OutputReference
"""What can be given where a Maker wants a model."""

_SEPARATOR = "/"  # of the fields on the way to a reference; a dot cannot be in a key of MongoDB


def as_model(model: ModelLike | dict[str, Any]) -> ModelRef | OutputReference:
    """What a job needs to find exactly this model, whichever folder it runs in.

    A path becomes absolute and gets the checksum that the file has now: a job refuses another file in its place, for
    example on another machine. A `ModelRef` without checksum takes any file. A file that only the worker can see needs
    its absolute path.

    Args:
        model: name of a published model, path, ``"package.module:callable"``, `ModelRef`, a reference to the output of
            a job, or the dictionary of a `ModelRef`.

    Raises:
        DPA4Error: an unknown name, a relative path of no file, or something else.
    """
    if isinstance(model, OutputReference):
        return model
    if isinstance(model, dict):
        given = {key: value for key, value in model.items() if not key.startswith("@")}
        if "name" in given and given.keys() <= ModelRef.__dataclass_fields__.keys():
            return ModelRef(**given).located()
    if isinstance(model, ModelRef):
        return model.located()
    if not isinstance(model, str | Path):
        raise ModelRefError(
            "a model is given as a name such as 'dpa4-neo', as a path, as ModelRef(...) or as job.output.model of a "
            "training job; an ASE calculator as 'package.module:callable'"
        )
    reference = ModelRef(str(model)).located()
    if not reference.is_file:
        return reference
    path, _ = split_branch(reference.name)
    if path.is_file():
        return replace(reference, sha256=sha256_of(path))
    if not path.is_absolute():
        raise ModelRefError(
            f"there is no model file {model} in {Path.cwd()}: one that only a worker has needs its absolute path"
        )
    return reference


class ModelField:
    """A field of a Maker, DPA4-Neo by default, that takes whatever `as_model` understands and holds what it gives."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, maker: None, owner: type) -> ModelRef: ...
    @overload
    def __get__(self, maker: object, owner: type) -> ModelRef: ...
    def __get__(self, maker: object | None, owner: type) -> ModelRef:
        if maker is None:
            return ModelRef()  # where a dataclass looks for the default
        try:
            model: ModelRef = vars(maker)[self.name]
        except KeyError as error:
            raise AttributeError(self.name) from error
        return model

    def __set__(self, maker: object, model: ModelLike) -> None:
        vars(maker)[self.name] = as_model(model)


@dataclass(kw_only=True)
class WholeMaker(Maker):
    """Base of flows whose parts hold the model: ``model=...`` gives it to all of them.

    Args:
        model: potential of all parts, given here instead of to each of them.
    """

    model: InitVar[ModelLike | None] = None

    def __post_init__(self, model: ModelLike | None) -> None:
        if model is not None:
            wanted = as_model(model)
            for name, part in _parts(self).items():
                setattr(self, name, with_model(part, wanted))


def with_model(maker: M, model: ModelRef | OutputReference) -> M:
    """``maker`` with this model in it and in all Makers that it holds.

    Raises:
        ModelRefError: one of them was given another model.
    """
    changes: dict[str, Any] = {}
    for field in fields(maker):
        value = getattr(maker, field.name)
        if isinstance(value, ModelRef | OutputReference):
            if value not in (ModelRef(), model):
                raise ModelRefError(
                    f"{maker.name!r} has the {field.name} {_called(value)} inside a flow with {_called(model)}: "
                    "name the model once, for the whole flow"
                )
            changes[field.name] = model
    for name, part in _parts(maker).items():
        if (changed := with_model(part, model)) is not part:
            changes[name] = changed
    return replace(maker, **changes) if changes else maker


def takes_model(decorate: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for ``make`` in place of ``decorate``, for every Maker with a model in it: the job that it builds
    also takes the keyword ``references``. Its arguments are checked, see `check_arguments`, and the Maker may look at
    them in a method ``at_build``; masses of the structures that it is given are written into them.

    Args:
        decorate: ``job``, ``job(...)`` or a decorator made of it.
    """

    def decorator(method: Callable[..., Any]) -> Any:
        @functools.wraps(method)
        def run(self: Any, *args: Any, references: dict[str, Any] | None = None, **kwargs: Any) -> Any:
            return method(_filled(self, references) if references else self, *args, **kwargs)

        make = decorate(run)

        @functools.wraps(make)
        def build(self: Any, *args: Any, **kwargs: Any) -> Any:
            check_arguments(method, self, args, kwargs)
            if hasattr(self, "at_build"):
                self.at_build(*args, **kwargs)
            if references := _references(self):
                kwargs.setdefault("references", references)
            written = {name: all_with_written_masses(value) for name, value in kwargs.items()}
            return make(self, *map(all_with_written_masses, args), **written)

        return build

    return decorator


def _references(holder: Any, way: str = "") -> dict[str, OutputReference]:
    """References in the fields of ``holder`` and of what it holds, also in lists and tables, by the way to them."""
    found = {}
    for name, value in _held(holder).items():
        if isinstance(value, OutputReference):
            found[way + name] = value
        else:
            found |= _references(value, way + name + _SEPARATOR)
    return found


def _held(holder: Any) -> dict[str, Any]:
    """What a dataclass, a table or a list holds, by name."""
    if is_dataclass(holder) and not isinstance(holder, type):
        return {field.name: getattr(holder, field.name) for field in fields(holder)}
    if isinstance(holder, dict):
        return {str(key): value for key, value in holder.items()}
    return {str(i): value for i, value in enumerate(holder)} if isinstance(holder, list | tuple) else {}


def _filled(maker: Any, references: dict[str, Any]) -> Any:
    """``maker`` with the values of references in their places, except where it was given another model since."""
    maker = copy.deepcopy(maker)
    for way, value in references.items():
        maker = _replaced(maker, way.split(_SEPARATOR), value)
    return maker


def _replaced(holder: Any, way: list[str], value: Any) -> Any:
    """``holder`` with ``value`` in place of the reference at the end of ``way``."""
    if not way:
        return value if isinstance(holder, OutputReference) else holder
    name, rest = way[0], way[1:]
    held = _held(holder)
    if name not in held:
        return holder
    new = _replaced(held[name], rest, value)
    if isinstance(holder, dict):
        return {key: new if str(key) == name else item for key, item in holder.items()}
    if isinstance(holder, list | tuple):
        return type(holder)(new if str(i) == name else item for i, item in enumerate(holder))
    object.__setattr__(holder, name, new)  # of a copy; also where it is frozen
    return holder


def _parts(maker: Maker) -> dict[str, Maker]:
    return {name: value for name, value in _held(maker).items() if isinstance(value, Maker)}


def _called(model: ModelRef | OutputReference) -> str:
    return "of an earlier job" if isinstance(model, OutputReference) else model.name
