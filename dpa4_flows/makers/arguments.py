"""Arguments of a Maker are looked at where a flow is built, not when its jobs run and earlier ones were paid for."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jobflow import OutputReference
from pymatgen.core import Molecule, Structure

from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_flows.store.table import TableRef

_WORDS: dict[Any, str] = {
    Structure: "a pymatgen Structure",
    Molecule: "a pymatgen Molecule",
    TableRef: "a results table",
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_LONGEST = 60


class ArgumentError(DPA4Error):
    """An argument of ``make`` with which the job could not run; one sentence."""


def check_arguments(make: Callable[..., Any], maker: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse what the job could not run with. The output of an earlier job, not known yet, stands for anything.

    Args:
        make: the method, its first parameter the Maker.
        maker: the Maker.
        args: what it is called with.
        kwargs: the same by name.

    Raises:
        ArgumentError: an unknown name, a missing value, or one of another kind; a single structure that cannot be
            computed.
    """
    where, signature = f"{type(maker).__name__}.make", inspect.signature(make)
    names = [name for name in signature.parameters if name != "self"]
    if len(args) > len(names):
        raise ArgumentError(f"{where} takes {', '.join(names)}, and was given {len(args)} values")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if unknown := [name for name in given if name not in names]:
        raise ArgumentError(f"{where} takes no {unknown[0]}; it takes {', '.join(names)}")
    needed = [name for name in names if signature.parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in given]:
        raise ArgumentError(f"{where} needs {missing[0]}")
    hints = get_type_hints(make)
    for name, value in given.items():
        hint = hints.get(name, Any)
        if not _fits(hint, value):
            raise ArgumentError(f"{where}: {name} is {_words(hint)}, or the output of a job, not {_shown(value)}")
        if isinstance(value, Structure | Molecule):
            try:
                to_system(value)
            except DPA4Error as error:
                raise ArgumentError(f"{where}: {name}, {value.composition.reduced_formula}: {error}") from error


def _fits(hint: Any, value: Any) -> bool:
    if hint is Any or isinstance(value, OutputReference):
        return True
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin in (list, Sequence):
        parts = get_args(hint)
        return isinstance(value, list | tuple) and all(_fits(parts[0], item) for item in value)
    if hint in (Structure, Molecule) and isinstance(value, dict):
        return True  # as JSON has it
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str | Path)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint) if part is not type(None))
    if origin in (list, Sequence):
        return f"a list ({_words(get_args(hint)[0])} each)"
    if origin is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
