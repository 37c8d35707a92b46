"""What somebody may have meant who names an option that a command has not."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import get_type_hints

from dpa4_core.train.config import TrainConfig
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.settings import settings_of

_MOST = 3


def explain(error: Exception) -> None:
    """Complete the sentence about an option that does not exist; other errors of a parser stay as they are."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is None or context is None or not hasattr(error, "possibilities"):
        return
    flags = {flag for one in context.command.params for flag in (*one.opts, *one.secondary_opts)}
    asked = getattr(context.command, "asked", None)  # properties whose settings are options, too
    own = {f"--{name.replace('_', '-')}" for name in _settings(asked or ())}
    near = difflib.get_close_matches(option, sorted(flags | own), n=_MOST)
    error.possibilities = []
    closest = f"Did you mean {' or '.join(near)}?" if near else ""
    parts = (
        f"No such option: {option}.",
        closest,
        _elsewhere(option, "compute" if asked is not None else context.info_name),
    )
    error.message = " ".join(filter(None, parts))  # type: ignore[attr-defined]


def _elsewhere(option: str, command: str) -> str:
    """Where a setting of this name belongs; empty if nothing has one."""
    name = option.lstrip("-").replace("-", "_")
    if command in ("train", "finetune"):
        found = [section for section, kind in get_type_hints(TrainConfig).items() if name in _fields(kind)]
        return f"Write --set {found[0]}.{name}=VALUE." if found else ""
    homes = [one for one in property_names() if name in _settings([one])]
    if not homes or command == "compute":
        return f"It is a setting of {', '.join(homes[:_MOST])}." if homes else ""
    if command == "screen":
        return f"Settings stand in the campaign file, in the table of their stage: {name} = VALUE (see dpa4 init)."
    return f"It is a setting of properties: dpa4 compute {homes[0]} FILES --set {homes[0]}.{name}=VALUE."


def _settings(properties: Sequence[str]) -> set[str]:
    return {setting.name for one in properties for setting in settings_of(property_class(one))}


def _fields(kind: object) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
