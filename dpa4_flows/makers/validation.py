"""Rows of tables that validate a model: a computed number beside its reference, and whether it lies near enough."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.frames import is_pbe
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.table import ResultsTable

_DATA = Path(__file__).parents[1] / "data"

Key = tuple[str, str]
"""What is asked for, and of which solid."""


class Tolerance(NamedTuple):
    """How far a value may lie from its reference: the larger of both."""

    relative: float = 0.0
    absolute: float = 0.0

    def words(self, unit: str) -> str:
        parts = [f"{100 * self.relative:g} %"] if self.relative else []
        return " or ".join([*parts, f"{self.absolute:g} {unit}"] if self.absolute else parts)


class ValidationRow(Document):
    """One quantity of one solid."""

    formula: str
    quantity: str = Field(description="What is compared: a, K, C11, f max, γ (111), O on (111), ...")
    unit: str = ""
    value: float | None = Field(None, description="Computed; None where the part failed")
    reference: list[float] | None = Field(None, description="One number, or both ends of a range")
    reference_source: str
    experiment: list[float] | None = Field(None, description="One number, or both ends of a range")
    deviation: float | None = Field(None, description="From the reference, or its nearer end")
    deviation_experiment: float | None = Field(None, description="From experiment, or its nearer end")
    tolerance: str
    passed: bool


class ValidationDocument(Document):
    """A whole table."""

    rows: list[ValidationRow]
    failures: dict[str, str] = Field(description="Sentence for each calculation without an answer")
    n_passed: int
    provenance: Provenance


@functools.cache
def references(name: str) -> dict[str, Any]:
    """A bundled table of references by the name of its file."""
    facts: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def validation(
    asks: Mapping[Key, Ask[Any]],
    rows: Callable[[Mapping[Key, Any]], Iterable[ValidationRow]],
    model: ModelRef,
    table: ResultsTable,
    *,
    failures: Callable[[Mapping[Key, Any]], Mapping[str, str]] | None = None,
    max_atoms_per_batch: int | None = None,
    counts: Counts | None = None,
) -> ValidationDocument:
    """Compute what a results table lacks, and compare.

    Args:
        asks: what the rows are about.
        rows: of the documents by the keys of the asks.
        model: the potential.
        table: relaxations and documents are found and kept here.
        failures: sentences for what has no answer; by default those of the documents.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        counts: told what is done.
    """
    found = dict(compute(asks.items(), model, table, max_atoms_per_batch=max_atoms_per_batch, counts=counts))
    compared_rows = list(rows(found))
    return ValidationDocument(
        rows=compared_rows,
        failures=dict((failures or errors)(found)),
        n_passed=sum(row.passed for row in compared_rows),
        provenance=provenance(model, {" ".join(key): ask.property.settings(model) for key, ask in asks.items()}),
    )


def errors(found: Mapping[Key, Any]) -> dict[str, str]:
    """Sentences for what has no answer."""
    return {f"{what} of {name}": one.error for (what, name), one in found.items() if one.error is not None}


def against_pbe(model: ModelRef) -> str:
    """The level of theory of a model that can be compared with PBE.

    Raises:
        DPA4Error: it cannot.
    """
    info = model.info()
    if not is_pbe(info.level_of_theory):
        told = f"the references are PBE, and {info.name} gives {info.level_of_theory}"
        raise DPA4Error(f"{told}: they cannot be compared")
    return info.level_of_theory


def verdict(formula: str, quantity: str, source: str, expected: str, passed: bool) -> ValidationRow:
    """Something that is no number."""
    return ValidationRow(formula=formula, quantity=quantity, reference_source=source, tolerance=expected, passed=passed)


def order(values: Mapping[str, float], quantity: str, unit: str, source: str) -> ValidationRow:
    """Whether values, given in the order of the references, descend as those do."""
    descending = " > ".join(sorted(values, key=lambda name: -values[name]))
    numbers = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    kept = descending == " > ".join(values)
    return verdict(descending, f"{quantity}: {numbers} {unit}", source, "the same order", kept)


def source_of(group: Mapping[str, Any]) -> str:
    """Where the references of a group come from, and how far they can be trusted."""
    return f"{group['source']} [{group['trust']}]"


def compared(
    formula: str,
    quantity: str,
    unit: str,
    value: float | None,
    reference: Any,
    source: str,
    tolerance: Tolerance,
    experiment: Any = None,
) -> ValidationRow:
    """A number beside its reference; reference and experiment are a number, a range, or for the latter None."""
    ends, measured = _ends(reference), _ends(experiment)
    assert ends is not None
    deviation = None if value is None else _distance(value, ends)
    allowed = max(tolerance.absolute, tolerance.relative * min(abs(end) for end in ends))
    return ValidationRow(
        formula=formula,
        quantity=quantity,
        unit=unit,
        value=value,
        reference=ends,
        reference_source=source,
        experiment=measured,
        deviation=deviation,
        deviation_experiment=None if value is None or measured is None else _distance(value, measured),
        tolerance=tolerance.words(unit),
        passed=deviation is not None and abs(deviation) <= allowed,
    )


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ends(value: Any) -> list[float] | None:
    if value is None:
        return None
    return [float(x) for x in value] if isinstance(value, list | tuple) else [float(value)]


def _distance(value: float, ends: list[float]) -> float:
    """Signed distance to a range; 0 inside."""
    low, high = min(ends), max(ends)
    return value - low if value < low else value - high if value > high else 0.0
