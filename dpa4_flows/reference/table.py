"""The file of a reference library: phases, who told them of which chemical systems, calculations and entries.

The calculations are those of a `ResultsTable`, so that the batch Makers write them as everywhere else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.reference.library import MATERIALS_PROJECT, ReferencePhase
from dpa4_flows.store.table import ResultsTable

_MANY = 500  # bound variables of one query

_NO_SURVEY, _CLAIMED, _SURVEYED = 0, 1, 2
"""How an answer is stored: earlier versions took the word of any source, and so of any file that was named."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS phases (
    key TEXT PRIMARY KEY, chemsys TEXT NOT NULL, name TEXT NOT NULL, formula TEXT NOT NULL, n_atoms INTEGER NOT NULL,
    source TEXT NOT NULL, role TEXT NOT NULL, structure TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS phases_by_system ON phases (chemsys);
CREATE TABLE IF NOT EXISTS answers (
    chemsys TEXT NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL, reach REAL NOT NULL, surveys INTEGER NOT NULL,
    n_phases INTEGER NOT NULL, asked TEXT NOT NULL, PRIMARY KEY (chemsys, source));
CREATE TABLE IF NOT EXISTS entries (
    key TEXT NOT NULL, scheme TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (key, scheme));
"""


class PhaseRow(NamedTuple):
    """One phase without its structure; ``key`` is that of its relaxation."""

    key: str
    chemsys: str
    name: str
    formula: str
    n_atoms: int
    source: str
    role: str


class Answer(NamedTuple):
    """What one source told about one chemical system and its sub-systems.

    Attributes:
        chemsys: elements in alphabetical order.
        source: its name.
        version: of the source.
        reach: eV/atom above its own hull.
        surveys: whether it told all known phases.
        n_phases: how many it told.
        asked: time.
    """

    chemsys: str
    source: str
    version: str
    reach: float
    surveys: bool
    n_phases: int
    asked: str

    def covers(self, chemsys: str) -> bool:
        """Whether the answer held the phases of ``chemsys`` too."""
        return set(chemsys.split("-")) <= set(self.chemsys.split("-"))

    def survey(self) -> Survey:
        """The answer as a survey of phases."""
        return Survey(source=self.source, version=self.version, date=self.asked[:10])


class State(NamedTuple):
    """What became of the relaxation of a phase."""

    converged: bool
    error: str | None


class ReferenceTable(ResultsTable):
    """A results table that also holds phases, answers of sources and corrected entries.

    By default it has a rollback journal and no write-ahead log: the folder of the library is often shared between
    machines.
    """

    def __init__(self, path: str | Path, *, shared: bool = True, read_only: bool = False) -> None:
        super().__init__(path, shared=shared, read_only=read_only)
        with self._connect() as connection:
            if not read_only:
                connection.executescript(_SCHEMA)
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'phases'").fetchone()
            self.has_phases = known is not None  # not so in a run of an earlier version that is only read

    @classmethod
    def in_run(cls, table: ResultsTable) -> ReferenceTable:
        """The phases that compete in a run, in its own results table."""
        return cls(table.path, shared=table.shared, read_only=table.read_only)

    # ---- phases ----------------------------------------------------------------------------------------------------

    def put_answer(self, answer: Answer, phases: Iterable[tuple[str, ReferencePhase, Structure]]) -> None:
        """Store what a source told: its phases as in `put_phases`, and the answer."""
        self.put_phases(phases)  # first: phases without an answer are asked for again, an answer is believed
        kind = _SURVEYED if answer.surveys else _NO_SURVEY
        self._put("answers", [(*answer[:4], kind, *answer[5:])])

    def put_phases(self, phases: Iterable[tuple[str, ReferencePhase, Structure]]) -> None:
        """Store phases: (key, phase, its structure without labels). A phase that is known stays."""
        rows = []
        for key, phase, structure in phases:
            facts = (phase.name, structure.composition.reduced_formula, len(structure), phase.source, phase.role)
            rows.append((key, "-".join(sorted(phase.elements)), *facts, json.dumps(structure.as_dict())))
        with self._connect() as connection:
            connection.executemany("INSERT OR IGNORE INTO phases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def replace_phases(
        self, phases: Iterable[tuple[str, ReferencePhase, Structure]], surveys: Mapping[str, Survey]
    ) -> None:
        """Store phases as in `put_phases`, and surveys of chemical systems, instead of all that is known."""
        with self._connect() as connection:
            connection.execute("DELETE FROM phases")
            connection.execute("DELETE FROM answers")
            rows = [(system, s.source, s.version, 0.0, _SURVEYED, 0, s.date) for system, s in surveys.items()]
            connection.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.put_phases(phases)

    def phases(self, chemical_systems: Iterable[str] | None = None) -> list[PhaseRow]:
        """Phases of the systems and their sub-systems, elements first; all of them without an argument."""
        if not self.has_phases:
            return []
        query = "SELECT key, chemsys, name, formula, n_atoms, source, role FROM phases"
        with self._connect() as connection:
            if chemical_systems is None:
                rows = connection.execute(query).fetchall()
            else:
                wanted = sorted({part for system in chemical_systems for part in subsystems(system)})
                rows = list(_where(connection, query, "chemsys", wanted))
        return sorted((PhaseRow(*row) for row in rows), key=lambda row: (row.chemsys.count("-"), row[1:], row.key))

    def structures(self, keys: Sequence[str]) -> dict[str, Structure]:
        """Structures of phases as they were read, by key."""
        found = self._select("phases", "key", list(keys), column="structure")
        return {key: structure_of_fields(json.loads(text)) for key, text in found.items()}

    def answers(self) -> list[Answer]:
        """What all sources told so far."""
        found = [Answer(*row) for row in self._rows("SELECT * FROM answers ORDER BY chemsys, source")]
        return [a._replace(surveys=_is_survey(a.source, a.surveys)) for a in found]

    # ---- calculations and entries ----------------------------------------------------------------------------------

    def states(self, keys: Sequence[str]) -> dict[str, State]:
        """What became of relaxations, without reading their documents; keys that are not computed are left out."""
        with self._connect() as connection:
            rows = _where(connection, "SELECT key, converged, error FROM calculations", "key", keys)
            return {key: State(bool(converged), error) for key, converged, error in rows}

    def entries(self, keys: Sequence[str], scheme: str) -> dict[str, dict[str, Any]]:
        """Corrected entries by key, as stored."""
        with self._connect() as connection:
            rows = _where(connection, "SELECT key, document FROM entries", "key", keys, "AND scheme = ?", scheme)
            return {key: json.loads(text) for key, text in rows}

    def put_entries(self, scheme: str, entries: dict[str, dict[str, Any]]) -> None:
        self._put("entries", [(key, scheme, json.dumps(entry)) for key, entry in entries.items()])


def usable_problem(states: Mapping[str, State], key: str) -> str | None:
    """Why a phase has no usable energy; None if it has one."""
    state = states.get(key)
    if state is None:
        return "not computed yet"
    return state.error or (None if state.converged else "the relaxation did not converge")


def _is_survey(source: str, stored: int) -> bool:
    return stored == _SURVEYED or (stored == _CLAIMED and source == MATERIALS_PROJECT)


def subsystems(chemical_system: str) -> list[str]:
    """The system and all systems of fewer of its elements, names in alphabetical order."""
    symbols = sorted(set(chemical_system.split("-")))
    return ["-".join(part) for size in range(1, len(symbols) + 1) for part in combinations(symbols, size)]


def _where(
    connection: sqlite3.Connection, query: str, column: str, values: Sequence[str], more: str = "", *bound: str
) -> Iterator[tuple[Any, ...]]:
    """Rows of ``query`` whose ``column`` has one of ``values``; names are ours, values are bound."""
    for start in range(0, len(values), _MANY):
        part = values[start : start + _MANY]
        marks = ",".join("?" * len(part))
        yield from connection.execute(f"{query} WHERE {column} IN ({marks}) {more}", (*part, *bound))
