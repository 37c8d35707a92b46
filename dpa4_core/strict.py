"""Plain values, as JSON and TOML give them, made into dataclasses: types, bounds and names are checked, in that order.

One schema for everything that is read from files: the type hints of the fields, ``Annotated[int, Within(1, 64)]``
where a number has bounds. What is not in the hints is refused by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dpa4_core.errors import DPA4Error

T = TypeVar("T")


_FEW = 40
"""Names that a sentence can hold; there are more elements."""


class Typed(str):
    """Text of a command line that is no TOML; where a list is asked for, commas divide it."""

    __slots__ = ()

    @property
    def parts(self) -> list[Any]:
        return [_value(part.strip()) for part in self.split(",")]


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the closest known one, or all of them if they are few."""
    names = list(known)
    near = [one for one in names if one.lower() == name.lower()] or difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(names) > _FEW:
        return f"the closest are {', '.join(difflib.get_close_matches(name, names, n=5, cutoff=0.0))}"
    return f"choose from {', '.join(names)}"


@dataclass(frozen=True)
class Within:
    """Bounds of a number, both allowed; numbers that are not finite lie outside of any."""

    low: float
    high: float

    def check(self, value: float, where: str) -> None:
        """Refuse a ``value`` outside."""
        if math.isnan(value) or value < self.low:
            raise DPA4Error(f"{where} must be at least {self.low:g}, got {value}")
        if value > self.high:
            raise DPA4Error(f"{where} must be at most {self.high:g}, got {value}")


@dataclass(frozen=True)
class AtMost:
    """Largest number of entries of a list."""

    length: int


def build(kind: type[T], data: Any, where: str) -> T:
    """An instance of the dataclass ``kind`` from plain types.

    Args:
        kind: its fields are the schema; a class method ``from_short`` may turn a short form into a table.
        data: what was read.
        where: file and section for the sentence.

    Raises:
        DPA4Error: an unknown or missing key, a wrong type, a number out of bounds.
    """
    if isinstance(data, kind):
        return data
    short = getattr(kind, "from_short", None)
    if short is not None and isinstance(data, str):
        data = short(data)
    if not isinstance(data, Mapping):
        raise DPA4Error(f"{where}: expected a table for {kind.__name__}, got {_shown(data)}")
    hints = get_type_hints(kind, include_extras=True)
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise DPA4Error(f"{where}: unknown key {_shown(key)}; {meant(str(key)[:100], known)}")
    values = {key: typed(hints[key], value, f"{where}, {key}") for key, value in data.items()}
    lacking = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if lacking:
        raise DPA4Error(f"{where}: {lacking[0]!r} is missing")
    try:
        return kind(**values)
    except DPA4Error as error:
        raise DPA4Error(f"{where}: {error}") from error


def check_fields(instance: Any) -> None:
    """Types and bounds of the fields of a dataclass that was made from values, for its ``__post_init__``."""
    for name, hint in get_type_hints(type(instance), include_extras=True).items():
        typed(hint, getattr(instance, name), name)


def typed(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``; lists become tuples and whole numbers decimal ones where these are asked for."""
    origin = get_origin(hint)
    if isinstance(value, Typed) and origin not in (Annotated, Union, types.UnionType):
        value = value.parts if origin in (tuple, list) else str(value)
    if origin is Annotated:
        return _annotated(hint, value, where)
    if origin is Literal:
        if isinstance(value, str | int) and value in get_args(hint):
            return value
        raise DPA4Error(f"{where} must be one of {', '.join(map(str, get_args(hint)))}, not {_shown(value)}")
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, where)
    if origin is tuple:
        inner = get_args(hint)
        items = list(value) if isinstance(value, list | tuple) else [value]
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(typed(inner[0], item, where) for item in items)
        if len(items) != len(inner):
            raise DPA4Error(f"{where}: expected {len(inner)} values, got {len(items)}")
        return tuple(typed(part, item, where) for part, item in zip(inner, items, strict=True))
    if origin is list:
        if not isinstance(value, list | tuple):
            raise DPA4Error(f"{where}: expected a list, got {_shown(value)}")
        return [typed(get_args(hint)[0], item, where) for item in value]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise DPA4Error(f"{where}: expected a table, got {_shown(value)}")
        inner_kind = get_args(hint)[1]
        return {str(key): typed(inner_kind, item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        if hint is float and math.isnan(value):
            raise DPA4Error(f"{where}: expected a number, got {value}")
        return value
    raise DPA4Error(f"{where}: expected {_called(hint)}, got {_shown(value)}")


def override(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """``data`` with ``section.key=value`` applied; a value that is no TOML is taken as text, or a list with commas.

    Raises:
        DPA4Error: one that is no assignment.
    """
    changed: dict[str, Any] = json.loads(json.dumps(data))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise DPA4Error(f"{assignment!r} is no assignment; write section.key=value")
        value = _value(text)
        *sections, last = key.strip().split(".")
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise DPA4Error(f"{assignment!r}: {section} is no section")
        place[last] = value
    return changed


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return Typed(text)


def _annotated(hint: Any, value: Any, where: str) -> Any:
    inner, *rules = get_args(hint)
    if isinstance(value, Typed) and get_origin(inner) in (tuple, list):
        value = value.parts
    for rule in rules:
        length = len(value) if isinstance(value, list | tuple) else 1
        if isinstance(rule, AtMost) and length > rule.length:
            raise DPA4Error(f"{where} has {length} entries, at most {rule.length} are possible")
    result = typed(inner, value, where)
    for rule in rules:
        if isinstance(rule, Within):
            rule.check(result, where)
    return result


def _union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is type(None):
            continue
        try:
            return typed(option, value, where)
        except DPA4Error as error:
            problems.append(error)
    raise (
        problems[-1]
        if len(problems) == 1
        else DPA4Error(f"{where}: {_shown(value)} fits none of {', '.join(_called(option) for option in options)}")
    )


def _called(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(repr(choice) for choice in get_args(option))
    words = {dict: "a table", list: "a list", tuple: "a list", str: "text", float: "a number", int: "a whole number"}
    words[bool] = "true or false"
    kind = get_origin(option) or option
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def read_toml(path: Path, what: str, kind: type[DPA4Error] = DPA4Error) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: the file.
        what: what it is, for the sentence: ``campaign file``.
        kind: of the error.

    Raises:
        DPA4Error: of this kind, if there is no such file or it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise kind(f"{what} {path} does not exist") from None
    except IsADirectoryError:
        raise kind(f"{path} is a folder; name the {what} in it") from None
    except OSError as error:
        raise kind(f"{what} {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise kind(f"{path} is not a text file") from None
    except tomllib.TOMLDecodeError as error:
        raise kind(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise kind(f"{path} is nested too deeply for a {what}") from None


def parsed(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        DPA4Error: no JSON, or one that is nested without end.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise DPA4Error(f"{where} cannot be read") from None
