"""Kinds of campaigns: their stages, the order of these, and what ranks. Built-in, installed, or by import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from dpa4_core.strict import meant
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.sections import CampaignSection, ConfigError
from dpa4_flows.campaigns.stage import Stage

ENTRY_POINTS = "dpa4_flows.campaigns"
"""Group under which an installed package offers kinds of campaigns by name."""

_BUILT_IN = {
    "battery": "dpa4_flows.campaigns.battery:BATTERY",
    "anode": "dpa4_flows.campaigns.battery_anode:ANODES",
    "catalyst": "dpa4_flows.campaigns.catalyst:CATALYST",
    "electrolyte": "dpa4_flows.campaigns.electrolyte:ELECTROLYTE",
    "semiconductor": "dpa4_flows.campaigns.semiconductor:SEMICONDUCTOR",
}


@dataclass(frozen=True, eq=False)
class CampaignKind:
    """One kind of campaign.

    Attributes:
        name: as campaign files name it.
        stages: those of a campaign whose file names none, in their order.
        ranking: what counts by default: goal, weight, ... by name of the value, see `ObjectiveSection`.
        instead: by the name of what counts, what does in its place where a stage finds it.
        further: stages that a file may add.
        front: stages that a table of their name in a file puts before all others.
        section: the table ``[campaign]``.
        variant: name of the kind that the content of a file makes of it, where its roles have stages of their own.
        upgrade: turns the content of a campaign file of before, or that of a stored run, into that of today.
    """

    name: str
    stages: tuple[Stage, ...]
    ranking: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    further: tuple[Stage, ...] = ()
    front: tuple[Stage, ...] = ()
    section: type[CampaignSection] = CampaignSection
    variant: Callable[[Mapping[str, Any]], str] | None = None
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict

    @property
    def every(self) -> tuple[Stage, ...]:
        """All that a file may name."""
        return (*self.front, *self.stages, *self.further)

    def funnel(self, names: list[str] | None = None) -> Funnel:
        """The stages ``names``, each of this kind or ``package.module:STAGE``; by default those of this kind.

        Raises:
            ConfigError: there is no such stage, or one lacks what it needs.
        """
        if names is None:
            return Funnel(self.stages)
        known = {stage.name: stage for stage in self.every}
        found = [known[name] if name in known else self._imported(name, list(known)) for name in names]
        if not found:
            raise ConfigError("campaign.stages is empty; name at least one stage, or leave the key out")
        return Funnel(tuple(found))

    def _imported(self, name: str, known: list[str]) -> Stage:
        if ":" not in name:
            raise ConfigError(f"campaign.stages: unknown stage {name!r}; {meant(name, known)}")
        found = _import(name, "campaign.stages")
        if not isinstance(found, Stage):
            raise ConfigError(f"campaign.stages: {name!r} is not a stage")
        return found


def kind_names() -> list[str]:
    """Kinds that have a name."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_kind(name: str) -> CampaignKind:
    """A kind by its name or as ``package.module:KIND``.

    Raises:
        ConfigError: there is none.
    """
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    path = ({**installed, **_BUILT_IN}).get(name, name)
    if ":" not in path:
        raise ConfigError(f"campaign.kind = {name!r} is unknown; {meant(name, kind_names())}")
    found = _import(path, "campaign.kind")
    if not isinstance(found, CampaignKind):
        raise ConfigError(f"campaign.kind = {name!r} is not a kind of campaign")
    return found


def _import(path: str, key: str) -> object:
    module, _, attribute = path.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}: {path!r} cannot be imported: {error}") from None
    return found
