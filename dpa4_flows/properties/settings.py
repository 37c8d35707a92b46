"""Settings of properties from plain values, as files and command lines give them, and what is to be said of them.

The fields of a property are its settings; their types are the schema, and the docstring says what they mean.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from dpa4_core.strict import build
from dpa4_flows.compute.plan import Property
from dpa4_flows.properties.registry import canonical

P = TypeVar("P", bound=Property[Any])

_ENTRY = re.compile(r"^ {4}(\w[\w, ]*): (.*)$")
"""``fmax: eV/Å, of the atoms`` below ``Attributes:``; one entry may be about several fields."""


class Setting(NamedTuple):
    """One setting of a property.

    Attributes:
        name: with that of the property it is nested in: ``relaxation.fmax``.
        default: None also where it has none.
        words: meaning and unit; empty if the docstring leaves it out.
    """

    name: str
    default: Any
    words: str


def with_settings(kind: type[P], given: Mapping[str, Any]) -> P:
    """A property with settings other than its defaults, which settings within settings keep, too.

    Raises:
        DPA4Error: an unknown name, a wrong type, a value that the property refuses.
    """
    defaults = {setting: value for setting, value in _defaults(kind).items() if setting in given}
    made = build(kind, _completed(defaults, given), canonical(kind.name))
    made.check()
    return made


def plain_settings(property_: Property[Any]) -> dict[str, Any]:
    """All settings as plain values, from which `with_settings` makes the property again."""
    plain: dict[str, Any] = _plain(property_)
    return plain


def settings_of(
    kind: type[Property[Any]], prefix: str = "", defaults: Mapping[str, Any] | None = None
) -> Iterator[Setting]:
    """The settings of a property with defaults and meaning, those of a property within it by ``NAME.NAME``."""
    words = _words(kind)
    for name, default in (_defaults(kind) if defaults is None else defaults).items():
        if isinstance(default, Property):
            yield from settings_of(type(default), f"{prefix}{name}.", _values(default))
        else:
            yield Setting(prefix + name, _short(default), words.get(name, ""))


def summary(kind: type[Property[Any]]) -> str:
    """First sentence of the docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _defaults(kind: type[Property[Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        else:
            found[field.name] = None if field.default is dataclasses.MISSING else field.default
    return found


def _values(property_: Any) -> dict[str, Any]:
    return {f.name: getattr(property_, f.name) for f in dataclasses.fields(property_)}


def _completed(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given``, in which a table for a property is completed by what its default holds."""
    out: dict[str, Any] = {}
    for name, value in given.items():
        default = known.get(name)
        if isinstance(default, Property) and isinstance(value, Mapping):
            inner = _values(default)
            value = inner | _completed(inner, value)
        out[name] = value
    return out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _plain(one) for name, one in _values(value).items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _short(value: Any) -> Any:
    """A default as one writes it: values that have a short form by that, their name."""
    if isinstance(value, tuple | list):
        return [_short(one) for one in value]
    return value.name if hasattr(value, "from_short") else value


def _words(kind: type[Property[Any]]) -> dict[str, str]:
    """What the docstrings say of each field, those of the classes that it derives from, too."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        found |= _words_of(inspect.cleandoc(part.__doc__ or ""))
    return found


def _words_of(doc: str) -> dict[str, str]:
    _, _, text = doc.partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if entry := _ENTRY.match(line):
            names = [name.strip() for name in entry[1].split(",")]
            found |= dict.fromkeys(names, entry[2])
        elif line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found
