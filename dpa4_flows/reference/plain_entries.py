"""Computed entries from the plain fields of JSON, without the decoder that makes whatever object a file names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedStructureEntry,
    ConstantEnergyAdjustment,
    EnergyAdjustment,
    ManualEnergyAdjustment,
    TemperatureEnergyAdjustment,
)

from dpa4_core.data.plain_fields import plain_value, structure_of_fields

_ADJUSTMENTS: dict[str, tuple[type[EnergyAdjustment], tuple[str, ...], tuple[str, ...]]] = {
    "ConstantEnergyAdjustment": (ConstantEnergyAdjustment, ("value",), ("uncertainty", "name", "description")),
    "ManualEnergyAdjustment": (ManualEnergyAdjustment, ("value",), ()),
    "CompositionEnergyAdjustment": (
        CompositionEnergyAdjustment,
        ("adj_per_atom", "n_atoms"),
        ("uncertainty_per_atom", "name", "description"),
    ),
    "TemperatureEnergyAdjustment": (
        TemperatureEnergyAdjustment,
        ("adj_per_deg", "temp", "n_atoms"),
        ("uncertainty_per_deg", "name", "description"),
    ),
}
"""Class, numbers it needs, and what else it takes, by the name that a file gives."""


def entry_of_fields(fields: Mapping[str, Any]) -> ComputedStructureEntry:
    """Entry with its adjustments from what ``as_dict`` of pymatgen gives.

    Raises:
        StructureError: its structure is none.
        KeyError: a field is missing.
        ValueError: a field is no number, or an adjustment is of a kind that is not known.
    """
    return ComputedStructureEntry(
        structure_of_fields(fields["structure"]),
        float(fields["energy"]),
        composition=fields.get("composition"),
        energy_adjustments=[_adjustment(row) for row in fields["energy_adjustments"]],
        parameters=plain_value(fields.get("parameters") or {}),
        data=plain_value(fields.get("data") or {}),
        entry_id=fields.get("entry_id"),
    )


def _adjustment(fields: Mapping[str, Any]) -> EnergyAdjustment:
    name = fields.get("@class")
    if name not in _ADJUSTMENTS:
        raise ValueError(f"an energy adjustment is of the unknown kind {name!r}")
    make, numbers, options = _ADJUSTMENTS[name]
    values: dict[str, Any] = {key: float(fields[key]) for key in numbers}
    values |= {key: plain_value(fields[key]) for key in options if fields.get(key) is not None}
    if "cls" in fields and make is not ManualEnergyAdjustment:
        values["cls"] = plain_value(fields["cls"])
    return make(**values)
