"""How the electrons of crystals answer to a field, which no model of energies knows: a TOML file for the splitting of
polar modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import build, read_toml
from dpa4_flows.analysis.force_constants import PhononCalculation
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import PlanError, Property
from dpa4_flows.documents.schemas import Document

D = TypeVar("D", bound=Document)

Tensor = float | tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class FieldResponse:
    """Of one crystal.

        dielectric = 2.4
        born = { Na = 1.1, Cl = -1.1 }

    A tensor in place of a number is a list of three rows in the axes of the crystal's file. One charge stands for all
    atoms of an element. In a table of its formula, ``[NaCl]``, it is for this crystal among several.

    Attributes:
        dielectric: constant of the electrons alone.
        born: Born effective charge of each element, e.
    """

    dielectric: Tensor
    born: dict[str, Tensor]


@dataclass(frozen=True)
class FieldResponses:
    """Of all crystals of a file, by reduced formula; under "" of any crystal."""

    path: str
    found: Mapping[str, FieldResponse]

    @classmethod
    def read(cls, path: str | None) -> FieldResponses:
        """Those of a file; none without one.

        Raises:
            DPA4Error: the file is none of these.
        """
        if path is None:
            return cls("", {})
        data = read_toml(Path(path), "file of Born charges")
        if not all(isinstance(table, Mapping) for table in data.values()) or "born" in data or not data:
            return cls(path, {"": build(FieldResponse, data, path)})
        tables = {name: build(FieldResponse, table, f"{path}, {name}") for name, table in data.items()}
        return cls(path, {_formula(name, path): response for name, response in tables.items()})

    def put_into(self, calculation: PhononCalculation) -> bool:
        """Let the polar modes of a crystal feel their field, if the file has its response; whether it has.

        Raises:
            PlanError: an element of the crystal has no charge.
        """
        formula = calculation.primitive.composition.reduced_formula
        response = self.found.get(formula, self.found.get(""))
        if response is None:
            return False
        charges = {element: _matrix(value) for element, value in response.born.items()}
        try:
            calculation.set_field_response(charges, _matrix(response.dielectric))
        except ValueError as error:
            raise PlanError(f"{self.path}: {error}", "no_charge") from error
        return True


def _said(path: str) -> dict[str, Any]:
    """What a file says, for keys."""
    plain = {formula: asdict(response) for formula, response in FieldResponses.read(path).found.items()}
    return plain.get("", plain)


NAMES_RESPONSES = names_files(_said)
"""Metadata of a field that names such a file."""


def _formula(name: str, path: str) -> str:
    try:
        return str(Composition(name, strict=True).reduced_formula)
    except ValueError:
        raise DPA4Error(f"{path}: the table [{name}] should have the formula of a crystal as its name") from None


def _matrix(value: Tensor) -> NDArray[np.float64]:
    return np.eye(3) * value if isinstance(value, float) else np.array(value)


class PolarProperty(Property[D]):
    """Base of properties with a setting ``field_response``, the name of such a file or None."""

    if TYPE_CHECKING:
        field_response: str | None

    @property
    def responses(self) -> FieldResponses:
        """Raises:
        DPA4Error: the file cannot be used.
        """
        return FieldResponses.read(self.field_response)
