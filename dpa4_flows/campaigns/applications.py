"""Applications: bundled tables that a campaign file gets beside its own, key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpa4_core.strict import meant
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.sections import ConfigError

FILE = Path(__file__).parents[1] / "data" / "applications.toml"
GENERAL = "general"


@cache
def applications() -> Mapping[str, Mapping[str, Any]]:
    """The tables of each, by its name."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def known_application(name: str) -> str:
    """Raises:
    ValueError: there is no such application.
    """
    if name not in applications():
        raise ValueError(f"there is no application {name!r}; {meant(name, applications())}")
    return name


def with_application(data: dict[str, Any], funnel_of: Callable[[list[str] | None], Funnel]) -> dict[str, Any]:
    """The content of a campaign file with what its application says, where it says nothing itself.

    Args:
        data: tables by name.
        funnel_of: gives the stages by the names that the file has of them.

    Raises:
        ConfigError: the application is about stages none of which is there.
    """
    campaign = data.get("campaign", {})
    name = campaign.get("application", GENERAL)
    tables = applications().get(name, {}) if isinstance(name, str) else {}
    funnel = funnel_of(campaign.get("stages"))
    about = [table for table in tables if table != "ranking"]
    if about and not set(about) & {*funnel.names}:
        raise ConfigError(
            f"campaign.application = {name!r} is about the stages {', '.join(about)}, none of which is in "
            f"campaign.stages; add {about[0]!r}"
        )
    for table in about:
        if table in funnel.names:
            data[table] = {**tables[table], **data.get(table, {})}
    found = {value for _, value, _ in funnel.values()}
    if "ranking" not in data and (ranking := _about(tables.get("ranking", {}), found)):
        data["ranking"] = ranking
    return data


def _about(ranking: Mapping[str, Any], values: Collection[str]) -> dict[str, Any]:
    return {name: objective for name, objective in ranking.items() if name in values}
