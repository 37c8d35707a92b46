"""What came out for many structures, as a table that shows itself, converts and writes."""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error, named
from dpa4_core.files import write_csv, write_json
from dpa4_flows.documents.quantities import STD, Listing
from dpa4_flows.plots.figure import Block, FigureBlock, TableBlock
from dpa4_flows.properties.answers import RELAXED, STRUCTURES, Answer, Question
from dpa4_flows.properties.columns import Column, Scalar, columns, file_head, listings, scalar_fields, scalars
from dpa4_flows.structure_files import Computed, write_structures

T = TypeVar("T")

_MAX_ROWS = 50  # in a terminal and a notebook
_MAX_TABLES = 20  # of single structures
_NARROW = 30  # characters of a column in which words are wrapped
_RELAXATIONS = (RELAXED, "relax", "stability")
"""Documents that say whether the structure came to rest."""
_MAX_REMARKS = 20
_NAMED = 3  # structures of one remark


class Failure(NamedTuple):
    """What has no answer.

    Attributes:
        name: of the structure.
        document: what could not be computed; empty where the structure could not be read.
        error: one sentence.
    """

    name: str
    document: str
    error: str

    @property
    def words(self) -> str:
        """One line."""
        return named(f"{self.name}{_of(self.document)}", self.error)


class Remark(NamedTuple):
    """What is to be known before numbers of structures are quoted.

    Attributes:
        names: of the structures.
        document: what the numbers are in; empty for what the file made doubtful.
        sentence: what.
    """

    names: tuple[str, ...]
    document: str
    sentence: str

    @property
    def words(self) -> str:
        """One line."""
        more = len(self.names) - _NAMED
        named = ", ".join(self.names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{named}{_of(self.document)}: {self.sentence}"


def _of(document: str) -> str:
    return {"": "", RELAXED: ", relaxation"}.get(document, f", {document.replace('_', ' ')}")


def listed(remarks: Sequence[Remark]) -> list[str]:
    """Remarks as lines for people, the first of them."""
    left = len(remarks) - _MAX_REMARKS
    more = [f"{left:,} more such sentences are in the answers"] if left > 0 else []
    return [*(remark.words for remark in remarks[:_MAX_REMARKS]), *more]


class Results(Sequence[T], Generic[T]):
    """One entry for each structure, in order.

    An entry is the document of a property; where several properties were asked for, the `Answer` with all documents. A
    structure that failed has a document that says why, see `failed`.

    Attributes:
        question: what was asked.
        answers: documents by structure.
        parts: what the properties rest on, see `Property.parts`, as far as it was computed.
    """

    def __init__(self, question: Question, answers: Sequence[Answer], parts: Results[Any] | None = None) -> None:
        self.question = question
        self.answers = list(answers)
        self.parts = parts

    # ---- a sequence --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.answers)

    @overload
    def __getitem__(self, which: int) -> T: ...
    @overload
    def __getitem__(self, which: slice) -> Results[T]: ...
    @overload
    def __getitem__(self, which: str) -> Results[Any]: ...
    def __getitem__(self, which: int | slice | str) -> Any:
        """The entry of a structure by its number, some of them, or by name the results of one property."""
        if isinstance(which, slice):
            return Results(self.question, self.answers[which], self.parts and self.parts[which])
        if isinstance(which, str):
            return self._only(which)
        return self._entry(self.answers[which])

    def __iter__(self) -> Iterator[T]:
        return map(self._entry, self.answers)

    def _entry(self, answer: Answer) -> Any:
        return answer.documents[self.question.names[0]] if len(self.question.names) == 1 else answer

    def _only(self, name: str) -> Results[Any]:
        if name not in self.question.names:
            raise KeyError(f"{name} was not asked for; there are {', '.join(self.question.names)}")
        [property_] = [p for n, p in zip(self.question.names, self.question.properties, strict=True) if n == name]
        return Results(Question([property_], self.question.relaxation), self.answers)

    # ---- what is in it -----------------------------------------------------------------------------------------------

    @property
    def failed(self) -> list[Failure]:
        """What could not be read or computed, and why."""
        return [
            Failure(answer.subject.name, name, sentence)
            for answer in self.answers
            for name, sentence in answer.errors(self.question.kinds).items()
        ]

    @property
    def failures(self) -> list[str]:
        """The same as lines for people, each sentence once with all whom it concerns."""
        found: dict[tuple[str, str], list[Failure]] = {}
        for one in self.failed:
            found.setdefault((one.document, one.error), []).append(one)
        return [
            some[0].words if len(some) == 1 else Remark(tuple(one.name for one in some), *said).words
            for said, some in found.items()
        ]

    @property
    def remarks(self) -> list[Remark]:
        """What files and documents say against the numbers, each sentence once with all whom it concerns."""
        found: dict[tuple[str, str], list[str]] = {}
        for answer in self.answers:
            for said in answer.remarks:
                found.setdefault(said, []).append(answer.subject.name)
        return [Remark(tuple(names), *said) for said, names in found.items()]

    @property
    def unconverged(self) -> list[str]:
        """Names of the structures whose relaxation ran out of steps."""
        return [
            answer.subject.name
            for answer in self.answers
            for name in _RELAXATIONS
            if name in self.question.kinds
            and (document := answer.documents[name]) is not None
            and document.error is None
            and not document.converged
        ]

    @property
    def computed(self) -> list[str]:
        """Names of the properties behind whose documents a model stands, as far as there are any."""

        def by_model(name: str) -> bool:
            origins = [getattr(one.documents[name], "provenance", None) for one in self.answers]
            known = [origin for origin in origins if origin is not None]
            return not known or any(origin.model_sha256 for origin in known)

        return [name for name in self.question.names if by_model(name)]

    @property
    def columns(self) -> list[Column]:
        """What is shown: the quantities of the documents that were asked for; deviations where they are known."""
        found = columns({name: self.question.kinds[name] for name in self.question.names})
        return [
            column
            for column in found
            if not (column.of_part or column.field.endswith(STD))
            or any(column.value(a.documents) is not None for a in self.answers)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Plain JSON types: the documents of each structure by name, with what they are about."""
        kinds = self.question.kinds
        return [
            {key: value for key, value in answer.row().items() if key in kinds or key not in answer.documents}
            for answer in self.answers
        ]

    def records(self) -> list[dict[str, Scalar]]:
        """One flat row for each structure with every plain value, named ``PROPERTY.FIELD`` where there are several."""
        return [self._record(answer) for answer in self.answers]

    def _record(self, answer: Answer) -> dict[str, Scalar]:
        row: dict[str, Scalar] = {"name": answer.subject.name, "formula": answer.formula}
        for name in self.question.names:
            prefix = "" if len(self.question.names) == 1 else f"{name}."
            document = answer.documents[name]
            values = {} if document is None else scalars(document)
            row |= {prefix + field: value for field, value in values.items() if prefix or field not in row}
        origins = (getattr(answer.documents[name], "provenance", None) for name in self.question.names)
        origin = next(filter(None, origins), None)
        made = {} if origin is None else {"model": origin.model_name, "code_version": origin.code_version}
        said = dict.fromkeys(sentence for _, sentence in answer.remarks)
        errors = dict.fromkeys(answer.errors(self.question.kinds).values())
        return row | made | {"warnings": "; ".join(said) or None, "error": "; ".join(errors) or None}

    def _with_units(self) -> list[dict[str, Scalar]]:
        """The flat rows under heads that tell units, for spreadsheets."""
        heads: dict[str, str] = {}
        for name in self.question.names:
            kind, prefix = self.question.kinds[name].document, "" if len(self.question.names) == 1 else f"{name}."
            heads |= {prefix + field: prefix + file_head(kind, field) for field in scalar_fields(kind)}
        return [{heads.get(name, name): value for name, value in row.items()} for row in self.records()]

    # ---- other forms -------------------------------------------------------------------------------------------------

    def to_dataframe(self) -> Any:
        """The flat rows as a ``pandas.DataFrame``."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def to_csv(self, path: str | Path) -> Path:
        """Write the flat rows as CSV, whatever the name of the file ends in."""
        path = Path(path).expanduser()
        write_csv(path, self._with_units())
        return path

    def to(self, path: str | Path) -> Path:
        """Write one file: ``.csv`` and ``.json`` hold the numbers, ``.cif``, ``.extxyz`` and POSCAR the structures.

        Raises:
            DPA4Error: another ending, or structures that the format cannot hold.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() == ".csv":
            self.to_csv(path)
        elif path.suffix.lower() == ".json":
            write_json(path, self.rows())
        else:
            write_structures(path, self.structures())
        return path

    def write(self, folder: str | Path) -> list[Path]:
        """Write answers (JSON, CSV) and structures (extended XYZ) into a folder, those within documents in a file of
        their own.
        """
        folder = Path(folder).expanduser()
        written = [self.to(folder / name) for name in ("answers.json", "answers.csv", "structures.extxyz")]
        file, further = folder / "further.extxyz", self.further()
        if not further:
            file.unlink(missing_ok=True)  # of a question before
            return written
        write_structures(file, further)
        return [*written, file]

    def structures(self) -> list[Computed]:
        """The structures that the numbers are about: relaxed where they were relaxed."""
        return [_computed(answer, self.question.kinds, self._record(answer)) for answer in self.answers]

    def further(self) -> list[Computed]:
        """Structures within the documents: supercells with defects, images of a path, the end of an imaginary mode."""
        return [
            Computed(f"{answer.subject.name} {label}", structure_of_fields(fields), {"of": answer.subject.name})
            for answer in self.answers
            for document in (answer.documents[name] for name in self.question.names)
            if document is not None
            for label, fields in document.further.items()
        ]

    def figures(self) -> list[Block]:
        """Blocks of a page: plotly figures (``.figure``), pictures and tables of the properties, and of their parts."""
        found: list[Block] = []
        for name in self.question.names:
            module, _, function = self.question.kinds[name].figures.partition(":")
            if function:
                named = {answer.subject.name: answer.documents[name] for answer in self.answers}
                draw = getattr(importlib.import_module(module), function)
                found += draw({key: document for key, document in named.items() if document is not None})
        return [*found, *(self.parts.figures() if self.parts else ())]

    def plot(self) -> Any:
        """The figure of the property as a plotly figure, or its pictures, which a notebook shows.

        Raises:
            DPA4Error: it has none; or there are several, see `figures`.
        """
        found = [block for block in self.figures() if not isinstance(block, TableBlock)]
        if not found:
            raise DPA4Error(f"there is no figure of {', '.join(self.question.names)}")
        if len(found) > 1:
            raise DPA4Error(
                f"there are {len(found)} figures: choose one property or structure, as in results['surface'][:1].plot()"
            )
        return found[0].figure if isinstance(found[0], FigureBlock) else found[0]

    # ---- showing -----------------------------------------------------------------------------------------------------

    def print(self, console: Console, limit: int | None = _MAX_ROWS) -> None:
        """Print a table for each property, with as many columns as there is room for.

        Args:
            console: where.
            limit: lines at most; None prints all.
        """
        for results in self._each():
            title = results.question.names[0].replace("_", " ") if len(self.question.names) > 1 else None
            table = Table("name", "formula", title=title, title_justify="left")
            good = [answer for answer in results.answers if answer.subject.error is None]
            shown = good[:limit]
            lines = [[answer.subject.name, answer.formula or ""] for answer in shown]
            room = console.width - sum(map(_width, zip(("name", "formula"), *lines, strict=True))) - 1
            for head, cells, words, width in _fitting(results.columns, shown, room):
                table.add_column(escape(head), justify="left" if words else "right", max_width=width)
                for line, cell in zip(lines, cells, strict=True):
                    line.append(cell)
            for line in lines:
                table.add_row(*map(escape, line))
            if good:
                console.print(table)
            if len(good) > len(shown):
                console.print(f"and {len(good) - len(shown)} more", highlight=False)
            listed = [one for one in shown if one.documents[results.question.names[0]] is not None]
            for answer in listed[:_MAX_TABLES]:
                for listing in listings(answer.documents[results.question.names[0]]):
                    _print_listing(console, answer.subject.name, listing)

    def _each(self) -> list[Results[Any]]:
        """The results of each property."""
        names = self.question.names
        return [self] if len(names) == 1 else [self._only(name) for name in names]

    def __repr__(self) -> str:
        console = Console(width=120, no_color=True, force_terminal=False)
        with console.capture() as capture:
            self.print(console)
        return "\n".join(filter(None, [capture.get().rstrip(), *self._below()]))

    def _repr_html_(self) -> str:
        several = len(self.question.names) > 1
        parts = []
        for results in self._each():
            title = f"<h4>{html.escape(results.question.names[0].replace('_', ' '))}</h4>" if several else ""
            parts.append(title + html_table(results))
        more = len(self) - _MAX_ROWS
        below = [*([f"and {more} more"] if more > 0 else []), *self._below()]
        return f"<div>{''.join(parts)}{''.join(f'<p>{html.escape(line)}</p>' for line in below)}</div>"

    def _below(self) -> list[str]:
        """What stands below the tables."""
        failed = [f"failed: {words}" for words in self.failures[:_MAX_ROWS]]
        return [*failed, *(f"mind: {words}" for words in listed(self.remarks))]


def html_table(results: Results[Any]) -> str:
    """A table for a notebook: numbers to the right, notes when the mouse rests on a head."""
    left, right = 'style="text-align:left"', 'style="text-align:right"'
    shown = results.columns
    heads = "".join(
        f'<th {right} title="{html.escape(column.quantity.tooltip)}">{html.escape(column.head)}</th>'
        for column in shown
    )
    lines = []
    for answer in results.answers[:_MAX_ROWS]:
        cells = "".join(f"<td {right}>{html.escape(column.text(answer.documents))}</td>" for column in shown)
        name, formula = html.escape(answer.subject.name), html.escape(answer.formula or "–")
        lines.append(f"<tr><td {left}>{name}</td><td {left}>{formula}</td>{cells}</tr>")
    return (
        f"<table><thead><tr><th {left}>name</th><th {left}>formula</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


class _Shown(NamedTuple):
    """A column of a table in a terminal; ``width`` is where its words are wrapped."""

    head: str
    cells: list[str]
    words: bool
    width: int = 0


def _fitting(columns: Sequence[Column], answers: Sequence[Answer], room: int) -> list[_Shown]:
    """The columns for which there is room; where there is little, heads are short and words wrapped."""
    found: list[_Shown] = []
    for short in (False, True):
        found, left = [], room
        for column in columns:
            quantity, values = column.quantity, [column.value(answer.documents) for answer in answers]
            label = quantity.short if short and quantity.short else quantity.label
            head = "\n".join(filter(None, (label, quantity.unit)))
            one = _Shown(head, [column.text(a.documents) for a in answers], any(isinstance(v, str) for v in values))
            width = _width([*head.split("\n"), *one.cells])
            if one.words and short and column is not columns[-1]:
                width = min(width, _NARROW)
            if width > left and not (one.words and left >= _NARROW):
                break
            width = min(width, left)
            found.append(one._replace(width=width - 3))
            left -= width
        if len(found) >= sum(not column.quantity.detail for column in columns):
            break
    return found


def _print_listing(console: Console, name: str, listing: Listing) -> None:
    table = Table(title=escape(f"{name}: {listing.title}"), title_justify="left")
    for number, head in enumerate(listing.heads):
        cells = [row[number] for row in listing.rows]
        table.add_column(escape(head), justify="right" if number and all(map(_is_number, cells)) else "left")
    for row in listing.rows[:_MAX_ROWS]:
        table.add_row(*map(escape, row))
    console.print(table)
    if len(listing.rows) > _MAX_ROWS:
        console.print(f"and {len(listing.rows) - _MAX_ROWS} more", highlight=False)
    if listing.note:
        console.print(escape(listing.note), highlight=False, soft_wrap=True)


def _is_number(cell: str) -> bool:
    return not any(character.isalpha() for character in cell.split(" ± ")[0].replace("e", ""))


def _width(cells: Sequence[str]) -> int:
    """Characters that a column takes with its padding and its line."""
    return max(map(cell_len, cells)) + 3


def _computed(answer: Answer, kinds: Iterable[str], numbers: Mapping[str, Scalar]) -> Computed:
    """A structure for a file, with the plain values of its documents."""
    subject = answer.subject
    structure, energy, error = subject.structure, None, subject.error
    if error is None:
        for document in filter(None, (answer.documents[name] for name in STRUCTURES if name in kinds)):
            structure, energy, error = document.structure, document.energy, document.error
            structure = None if structure is None else structure_of_fields(structure)
            break
    elsewhere = ("name", "formula", "error", "energy")
    facts = {name: value for name, value in numbers.items() if name not in elsewhere}
    return Computed(subject.name, structure, facts, energy=energy, error=error, warnings=subject.warnings)
