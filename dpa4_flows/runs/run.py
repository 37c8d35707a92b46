"""What every run folder answers, whatever made it: how far it is, what came out, how it goes on.

A kind of run is one class in one file beside this one. It says by which file it knows its folders, and answers what
makes sense for it; what does not is refused with one sentence. Nothing but `Run.resume` writes into the folder.
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from ase import Atoms
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.plots.words import duration

ROWS = 50
"""Lines of a long table that a terminal shows."""


class Note(NamedTuple):
    """A sentence to read beside the numbers, with a word about its kind in front."""

    label: str
    text: str
    style: str = "yellow"


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        state: not started, running, stopped or complete.
        unit: what is counted, in the plural.
        n_done: of ``n_total``; those that could not be computed count as done.
        n_total: how many there are.
        per_second: how many are done in a second at present; None if nobody is at work or it is not known.
        facts: all else, plain JSON types.
        notes: what to read beside it.
        next_step: what one may do now; empty where nothing is left.
        codes: versions of the code that made what is there, see `dpa4_core.version`.
    """

    state: str
    unit: str
    n_done: int
    n_total: int
    per_second: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    next_step: str = ""
    codes: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> float | None:
        """None if it is not known."""
        return (self.n_total - self.n_done) / self.per_second if self.per_second else None

    @property
    def words(self) -> str:
        """One line."""
        parts = [self.state, f"{self.n_done:,} of {self.n_total:,} {self.unit} done"]
        if self.per_second and self.seconds_left is not None:
            parts += [f"{self.per_second:.3g} {self.unit}/s", f"{duration(self.seconds_left)} left"]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        named = {name: getattr(self, name) for name in ("state", "unit", "n_done", "n_total", "per_second")}
        return {**self.facts, **named, "seconds_left": self.seconds_left, "code_versions": list(self.codes)}


@dataclass(frozen=True)
class Part:
    """A part of the work of a run, as a line of its progress.

    Attributes:
        title: what is done.
        done: work done, of ``total``, in a unit of the part.
        total: work.
        count: what to show of that: ``3/7``.
        words: what came out so far.
        finished: nothing more comes.
    """

    title: str
    done: float
    total: float
    count: str = ""
    words: str = ""
    finished: bool = False


class Watch(Protocol):
    """Who looks on while a run is computed."""

    def note(self, label: str, text: str) -> None:
        """Something to read before the numbers."""
        ...

    def remark(self, text: str) -> None:
        """What is being done."""
        ...

    def showing(self, parts: Callable[[], Sequence[Part]]) -> AbstractContextManager[object]:
        """Ask for the parts of the work again and again while the block runs."""
        ...


class Nobody:
    """Does not look."""

    def note(self, label: str, text: str) -> None: ...

    def remark(self, text: str) -> None: ...

    def showing(self, parts: Callable[[], Sequence[Part]]) -> AbstractContextManager[object]:
        return nullcontext()


@dataclass(frozen=True)
class How:
    """How a run is gone about.

    Attributes:
        watch: who looks on.
        retry_errors: compute again what failed before.
    """

    watch: Watch = field(default_factory=Nobody)
    retry_errors: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was computed or submitted.

    Attributes:
        files: what was written for people, by name.
        reused: everything was there before.
        n_failed: what could not be computed.
        words: instead of its results, for a run that others compute: what to do next.
        facts: all else, plain JSON types.
    """

    files: dict[str, Path] = field(default_factory=dict)
    reused: bool = False
    n_failed: int = 0
    words: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunStructure:
    """A structure of a run, and what became of it.

    Attributes:
        name: of the candidate, or of the place in a file.
        formula: reduced.
        verdict: what became of the candidate.
        numbers: some of those that the run names, plain types; names carry their units.
        atoms: the structure; None if there is none.
        survives: whether the candidate is still in.
        role: which of the structures of its candidate it is: the name of the stage that computed it, say.
        at: the stage at which it left, or the last that it passed; empty without stages.
        reasons: why it left, or flags.
    """

    name: str
    formula: str
    verdict: str
    numbers: dict[str, Any]
    atoms: Atoms | None = None
    survives: bool = False
    role: str = ""
    at: str = ""
    reasons: str = ""


@dataclass(frozen=True)
class Run(ABC):
    """A run in a folder.

    Attributes:
        folder: where it is.
        launchpad: ``my_launchpad.yaml`` of a run whose jobs are on a LaunchPad; None for the usual one.
        kind: in a word.
        numbers: of its structures, by name.
    """

    folder: Path
    launchpad: Path | None = None
    kind: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether a run of this kind was begun in ``folder``."""

    @classmethod
    def open(cls, folder: Path, launchpad: Path | None = None) -> Self:
        """The run in ``folder``."""
        return cls(folder, launchpad)

    @property
    def page(self) -> Path:
        """Where its report lies, unless somebody names another place."""
        return self.folder / "report.html"

    @abstractmethod
    def status(self) -> RunStatus:
        """How far it is."""

    def show(self, console: Console, *, everyone: bool = False) -> None:
        """Print what came out so far; by default the rows of the table.

        Args:
            console: where.
            everyone: all lines of long tables.
        """
        rows = list(islice(self.table(), None if everyone else ROWS))
        names = list(dict.fromkeys(name for row in rows for name in row))
        grid = Table(*names)
        for row in rows:
            grid.add_row(*(escape("–" if row.get(name) is None else str(row[name])) for name in names))
        console.print(grid)

    @abstractmethod
    def resume(self, how: How) -> Outcome:
        """Compute what is missing, with what is stored in the folder."""

    @abstractmethod
    def table(self) -> Iterator[dict[str, Any]]:
        """Rows of plain types, in a sensible order."""

    def to_dataframe(self) -> Any:
        """The rows of the table as a ``pandas.DataFrame``."""
        import pandas as pd

        return pd.DataFrame(list(self.table()))

    def _repr_html_(self) -> str:
        """How far it is, and the table, for a notebook."""
        head = f"<p>{html.escape(str(self.folder))}: {html.escape(self.status().words)}</p>"
        return head + self.to_dataframe().to_html(max_rows=ROWS, na_rep="–", index=False)

    @abstractmethod
    def report(self, path: Path) -> None:
        """Write a page that needs no network, finished or not."""

    def structures(self) -> Iterator[RunStructure]:
        """Each structure once, and a line without one for each candidate that has none.

        Raises:
            DPA4Error: a run of this kind has no structures.
        """
        raise DPA4Error(f"{self.folder} holds a {self.kind} run, which has no structures to export; name a .csv file")

    @property
    def writers(self) -> dict[str, Callable[[Path], str]]:
        """By suffix, what writes results in a way of its own and says in a phrase what it wrote."""
        return {}
