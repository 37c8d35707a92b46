"""Calculations of a plan on its way as text: kept until its document is there."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.predict import Prediction
from dpa4_core.relax import Band, BandResult, Relax, RelaxResult, RelaxStep, Request, Result, Static
from dpa4_flows.documents.calculations import calculation_key, input_hash, plain_structure
from dpa4_flows.model_ref import ModelRef

_ARRAYS = ("forces", "stress", "atom_energies", "member_energies", "forces_std", "stress_std")


def request_key(request: Request, model: ModelRef) -> str:
    """Name of a calculation: structure, model and every option."""
    options: dict[str, Any] = {"dtype": model.dtype}
    if isinstance(request, Static):
        options |= {"static": {"min_distance_ratio": request.min_distance_ratio}}
        return calculation_key(input_hash(request.structure), model, options)
    numbers = {name: _plain(value) for name, value in vars(request.options).items()}
    if isinstance(request, Relax):
        return calculation_key(input_hash(request.structure), model, options | {"relax": numbers})
    others = {"energies": request.energies, "images": [input_hash(image) for image in request.images[1:]]}
    return calculation_key(input_hash(request.images[0]), model, options | {"band": numbers | others})


def text_of_part(result: Result) -> str:
    """A result as JSON; numbers come back to the last digit."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if isinstance(result, RelaxResult):
        fields["structure"] = plain_structure(result.structure).as_dict()
    if isinstance(result, BandResult):
        fields["images"] = [plain_structure(image).as_dict() for image in result.images]
    return json.dumps({name: _plain(value) for name, value in fields.items()})


def part_of_text(text: str, request: Request) -> Result:
    """What `text_of_part` wrote of the result of ``request``."""
    fields = json.loads(text)
    for name in _ARRAYS:
        if fields.get(name) is not None:
            fields[name] = np.array(fields[name], dtype=np.float64)
    if isinstance(request, Static):
        return Prediction(**fields)
    if isinstance(request, Band):
        fields["images"] = tuple(map(structure_of_fields, fields["images"]))
        return BandResult(**fields | {"energies": tuple(fields["energies"])})
    fields["structure"] = structure_of_fields(fields["structure"])
    fields["flags"] = tuple(fields["flags"])
    if fields["trajectory"] is not None:
        fields["trajectory"] = [RelaxStep(*step) for step in fields["trajectory"]]
    return RelaxResult(**fields)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
