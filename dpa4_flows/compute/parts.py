"""Calculations of a plan on its way as text: kept until its document is there."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from typing import Any

import numpy as np

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.digests import digest
from dpa4_core.errors import words_of
from dpa4_core.predict import Prediction
from dpa4_core.relax import (
    Band,
    BandResult,
    Dynamics,
    DynamicsResult,
    Phase,
    Relax,
    RelaxResult,
    RelaxStep,
    Request,
    Result,
    Static,
)
from dpa4_flows.documents.calculations import calculation_key, input_hash, plain_structure
from dpa4_flows.model_ref import ModelRef

logger = logging.getLogger(__name__)

_ARRAYS = ("forces", "stress", "atom_energies", "member_energies", "forces_std", "stress_std")


def request_key(request: Request, model: ModelRef) -> str:
    """Name of a calculation: structure, model and every option."""
    options: dict[str, Any] = {"dtype": model.dtype}
    if isinstance(request, Static):
        options |= {"static": {"min_distance_ratio": request.min_distance_ratio}}
        return calculation_key(input_hash(request.structure), model, options)
    if isinstance(request, Dynamics):
        motion = request.settings.identity() | {"n_steps": request.n_steps or request.settings.n_steps}
        begin = None if request.begin is None else digest(_fields(request.begin))
        return calculation_key(input_hash(request.structure), model, options | {"dynamics": motion | {"begin": begin}})
    numbers = {name: _plain(value) for name, value in vars(request.options).items()}
    if isinstance(request, Relax):
        return calculation_key(input_hash(request.structure), model, options | {"relax": numbers})
    others = {"energies": request.energies, "images": [input_hash(image) for image in request.images[1:]]}
    return calculation_key(input_hash(request.images[0]), model, options | {"band": numbers | others})


def text_of_part(result: Result) -> str:
    """A result as JSON; numbers come back to the last digit."""
    fields = _fields(result)
    if isinstance(result, RelaxResult):
        fields["structure"] = plain_structure(result.structure).as_dict()
    if isinstance(result, DynamicsResult):
        return json.dumps(fields)
    if isinstance(result, BandResult):
        fields["images"] = [plain_structure(image).as_dict() for image in result.images]
    return json.dumps({name: _plain(value) for name, value in fields.items()})


def part_of_text(text: str, request: Request) -> Result | None:
    """What `text_of_part` wrote of the result of ``request``; None of a text that is torn or of another version."""
    try:
        return _read_part(json.loads(text), request)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning("a calculation that was kept cannot be read and is made anew: %s", words_of(error))
        return None


def _read_part(fields: dict[str, Any], request: Request) -> Result:
    if isinstance(request, Dynamics):
        return DynamicsResult(**_read(fields) | {"end": fields["end"] and Phase(**_read(fields["end"]))})
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


def _fields(value: Any) -> dict[str, Any]:
    """Fields by name; of a trajectory ready for JSON, arrays as their bytes, since text would be four times as long."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, DynamicsResult | Phase):
        return {name: _packed(one) for name, one in fields.items()}
    return fields


def _packed(value: Any) -> Any:
    if isinstance(value, Phase):
        return _fields(value)
    if isinstance(value, np.ndarray):
        return {"type": value.dtype.str, "shape": value.shape, "bytes": base64.b64encode(value.tobytes()).decode()}
    return value


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    """What `_packed` made of arrays, as arrays."""
    return {
        name: np.frombuffer(base64.b64decode(value["bytes"]), value["type"]).reshape(value["shape"]).copy()
        if isinstance(value, dict) and "bytes" in value
        else value
        for name, value in fields.items()
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
