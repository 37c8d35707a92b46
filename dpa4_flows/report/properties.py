"""The page of a property run: a table for each property, distributions, what could not be computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpa4_core.files import write_text
from dpa4_flows.documents.provenance import codes_of
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.plots.figure import Column, FigureBlock, TableBlock, histogram
from dpa4_flows.properties.columns import Column as QuantityColumn
from dpa4_flows.properties.settings import plain_settings
from dpa4_flows.properties.table import Results
from dpa4_flows.report.caveats import property_caveats
from dpa4_flows.report.page import render_page
from dpa4_flows.report.sections import flatten

_BINS = 40
_FEWEST = 5  # values of which a distribution says something
_SHOWN = 500  # lines of a table; the CSV file has all


def write_properties_report(results: Results[Any], path: Path, *, title: str, model: ModelRef | None) -> None:
    """Write the page, finished or not.

    Args:
        results: what is there.
        path: HTML file.
        title: of the page.
        model: that computes; None where nothing is computed by one.
    """
    model = model if results.computed else None
    blocks = results.figures()
    figures = [block for block in blocks if isinstance(block, FigureBlock)]
    figures += [block for column in results.columns if (block := _distribution(results, column)) is not None]
    failed = {failure.name for failure in results.failed}
    n_done = sum(all(one.documents[name] is not None for name in results.question.names) for one in results.answers)
    count = "1 structure" if len(results) == 1 else f"{len(results):,} structures"
    page = render_page(
        "large.html",
        figures,
        title=title,
        kicker="dpa4 compute" if model else "from files",
        state="" if n_done == len(results) else f"{n_done:,} of {len(results):,}",
        summary=_summary(results, count, model),
        tiles=[
            ("structures", f"{len(results):,}"),
            ("failed", f"{len(failed):,}"),
            ("not converged", f"{len(results.unconverged):,}"),
        ],
        figures=figures,
        tables=[*(block for block in blocks if not isinstance(block, FigureBlock)), *_tables(results)],
        caveats=property_caveats(results),
        facts=_facts(results, model),
    )
    write_text(path, page)


def _summary(results: Results[Any], count: str, model: ModelRef | None) -> str:
    """What is asked about how many structures, and what of it the model computes."""
    names = results.question.names
    parts = {f"of {count}": names}
    if model is not None:
        without = [name for name in names if name not in results.computed]
        parts = {f"of {count} with {model.title}": results.computed, "without a model": without}
    words = {end: ", ".join(name.replace("_", " ") for name in listed) for end, listed in parts.items() if listed}
    return f"{'; '.join(f'{what} {end}' for end, what in words.items())}."


def _tables(results: Results[Any]) -> Iterator[TableBlock]:
    note = f"The first {_SHOWN} of {len(results):,}; a CSV file has all: dpa4 export." if len(results) > _SHOWN else ""
    for name in results.question.names:
        columns = [column for column in results.columns if column.document == name]
        rows = [
            [one.subject.name, one.formula or "–", *(column.text(one.documents) for column in columns)]
            for one in results.answers[:_SHOWN]
        ]
        heads = [Column("structure"), Column("formula")]
        heads += [Column(c.quantity.label, c.quantity.unit, number=not _has_words(results, c)) for c in columns]
        yield TableBlock(name, name.replace("_", " ").capitalize(), "", heads, rows, note)
    if results.failed:
        rows = [[name, document.replace("_", " ") or "–", error] for name, document, error in results.failed[:_SHOWN]]
        heads = [*map(Column, ("structure", "property", "what happened"))]
        yield TableBlock("failed", "Not computed", "", heads, rows)


def _has_words(results: Results[Any], column: QuantityColumn) -> bool:
    return any(isinstance(column.value(one.documents), str) for one in results.answers)


def _distribution(results: Results[Any], column: QuantityColumn) -> FigureBlock | None:
    """Of the values of one column; None where they are too few, or all the same."""
    found = [column.value(one.documents) for one in results.answers]
    values = [value for value in found if isinstance(value, float) and math.isfinite(value)]
    if len(set(values)) < _FEWEST:
        return None
    name, declared = f"{column.document}-{column.field}", column.quantity
    return histogram(name, declared.label, declared.note, column.head, values, _BINS)


def _facts(results: Results[Any], model: ModelRef | None) -> list[tuple[str, str]]:
    question = results.question
    settings = {name: plain_settings(one) for name, one in question.kinds.items()}
    if model is None:
        documents = (document for one in results.answers for document in one.documents.values())
        origins = filter(None, (getattr(document, "provenance", None) for document in documents))
        origin = next(origins, None)
        return [] if origin is None else flatten(origin.settings)
    codes = ", ".join(codes_of(document for one in results.answers for document in one.documents.values()))
    origin = {"model": model.title, "checksum": model.sha256, "dtype": model.dtype, "dpa4-flows": codes}
    return flatten({**origin, **settings})
