"""Battery campaigns of before: limits had names of their own, shared the tables of others, and were on full removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOVED = {
    ("relax", "max_volume_change_percent"): ("relax", "volume_change_percent", "max"),
    ("relax", "duplicate_window"): ("relaxed_duplicates", "window", ""),
    ("hull", "max_energy_above_hull"): ("hull", "energy_above_hull", "max"),
    ("charged", "check_minimum"): ("relax_charged", "check_minimum", ""),
    ("charged", "max_energy_above_hull"): ("charged_hull", "energy_above_hull_charged", "max"),
    ("electrode", "min_voltage"): ("electrode", "average_voltage", "min"),
    ("electrode", "max_voltage"): ("electrode", "average_voltage", "max"),
    ("electrode", "min_capacity_grav"): ("electrode", "capacity_grav", "min"),
    ("electrode", "max_volume_change_percent"): ("electrode", "volume_change_percent", "max"),
}
"""Table and key of before; table, key and side of a limit of today."""

_VOLTAGES = {"min": 2.5, "max": 4.5}
"""What a file of before meant where it named one end only."""

_STAGES = [
    "sanity",
    "duplicates",
    "relax",
    "relaxed_duplicates",
    "hull",
    "delithiate",
    "relax_charged",
    "electrode",
    "charged_hull",
]
"""The stages of then."""


def upgrade(data: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of today for those of a campaign file, or of a stored run, of any version.

    Nothing but keys of before is touched, so that what is wrong in a file is found where files are checked.
    """
    tables = {name: dict(table) if isinstance(table, Mapping) else table for name, table in data.items()}
    section = tables.get("campaign")
    for (table, key), (new_table, new_key, side) in _MOVED.items():
        old = tables.get(table)
        if not isinstance(old, dict) or key not in old:
            continue
        if isinstance(section, dict):
            section.setdefault("stages", _STAGES)
        value, new = old.pop(key), tables.setdefault(new_table, {})
        if not side:
            new.setdefault(new_key, value)
            continue
        limits = new.setdefault(new_key, dict(_VOLTAGES) if new_key == "average_voltage" else {})
        limits[side] = value
    if tables.get("charged") == {}:
        del tables["charged"]
    return tables
