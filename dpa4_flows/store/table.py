"""The results table: one SQLite file per run that chunk jobs write and every later stage reads.

jobflow neither caches nor resumes, and gathering many job outputs is quadratic in their number; so jobs exchange
keys and
counts, and the numbers live here. A calculation is keyed by structure, model and settings: running again computes
only what is missing. SQLite's write-ahead log survives a kill at any moment; each call below is one transaction.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import tempfile
import time
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from monty.json import MSONable
from pydantic import ValidationError

from dpa4_core.errors import DPA4Error
from dpa4_core.files import size_of
from dpa4_core.version import code_version
from dpa4_flows.documents.schemas import Candidate, Document, RankedCandidate, RelaxationDocument, StageResult

D = TypeVar("D", bound=Document)

SCHEMA_VERSION = 3
"""Since 2 a table has a run id, since 3 documents of any kind have a place of their own and are no facts any more.
Tables of earlier versions get both when they are opened for writing."""

_QUIET_S = 60.0  # without a write, after which nobody is expected to write soon
_PACKING = 1  # the fastest: half the size of text, and more effort gains little on digits
_QUERY_CHUNK = 500  # SQLite's oldest limit on bound variables is 999

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS candidates (
    candidate_id TEXT PRIMARY KEY, position INTEGER NOT NULL, formula TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calculations (
    key TEXT PRIMARY KEY, structure_hash TEXT NOT NULL, model_sha256 TEXT NOT NULL, formula TEXT NOT NULL,
    n_atoms INTEGER NOT NULL, energy_per_atom REAL, converged INTEGER NOT NULL, error TEXT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parts (key TEXT PRIMARY KEY, owner TEXT NOT NULL, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS parts_by_owner ON parts (owner);
CREATE TABLE IF NOT EXISTS stages (
    candidate_id TEXT NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (candidate_id, stage));
CREATE TABLE IF NOT EXISTS ranking (rank INTEGER PRIMARY KEY, candidate_id TEXT NOT NULL, document TEXT NOT NULL);
"""
_TO_DOCUMENTS = """
INSERT OR IGNORE INTO documents SELECT name, value FROM meta WHERE name GLOB '* DIGEST';
DELETE FROM meta WHERE name GLOB '* DIGEST';
""".replace("DIGEST", 64 * "[0-9a-f]")


def table_files(path: Path) -> list[Path]:
    """What SQLite puts beside a table, whether it exists or not, and the table."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal", "")]


def move_table(path: Path, new: Path) -> None:
    """Give a table another name, with what a process that was killed had not yet put into it; the table comes last, so
    that a move that was interrupted goes on.
    """
    for old, moved in zip(table_files(path), table_files(new), strict=True):
        with suppress(FileNotFoundError):
            old.replace(moved)


class ResultsError(DPA4Error):
    """The results table cannot be used; one sentence that names the file."""


class EmptyTableError(ResultsError):
    """Nothing was written into the table, as on a disk that was full when it was made."""


@dataclass(frozen=True)
class TableRef(MSONable):
    """Where jobs find a results table, and which one it is: the table of a job's own run, never just any at its place.

    Attributes:
        path: absolute.
        run_id: of the table; None in jobs of an older version, which take what is there.
        shared: see `ResultsTable`.
    """

    path: str
    run_id: str | None = None
    shared: bool = False

    def open(self) -> ResultsTable:
        """The table, which the submission has made.

        Raises:
            ResultsError: it cannot be seen from this host, or is that of another run.
        """
        return ResultsTable(self.path, shared=self.shared, create=False, run_id=self.run_id)


def table_for_jobs(table: str | Path | TableRef, *, shared: bool = False) -> TableRef:
    """What to give to jobs: makes the table of a path, where jobs are made, since jobs only open it."""
    return table if isinstance(table, TableRef) else ResultsTable(Path(table).resolve(), shared=shared).ref()


def open_for_job(table: str | TableRef, *, shared: bool = False) -> ResultsTable:
    """The table of a job; a bare path is that of a job of an older version.

    Raises:
        ResultsError: see `TableRef.open`.
    """
    return (table if isinstance(table, TableRef) else TableRef(str(table), shared=shared)).open()


class ResultsTable:
    """Calculations, candidates, stage verdicts and ranking of one run.

    Holds only the path, so that it is cheap to make in every job and safe across processes; a connection lives as long
    as one call.

    Args:
        path: SQLite file; made with its folder if missing, unless it is opened to be read or by a job.
        shared: True for a file on a network file system: rollback journal instead of the write-ahead log, which
            needs shared memory and works on one machine only.
        read_only: True to look at an existing file, which may lie where the user cannot write.
        create: False in jobs, for which a table that is not there is an error.
        run_id: with ``create=False``, that of the table that is meant.

    Attributes:
        run_id: a table keeps it as long as it lives; None in one of version 1 that was only read.

    Raises:
        ResultsError: the file is not a results table, or of a newer version; with ``create=False`` also one that is
            not there or has another id.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shared: bool = False,
        read_only: bool = False,
        create: bool = True,
        run_id: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.shared = shared
        self.read_only = read_only
        self._copy: Path | None = None
        if not create:
            self._check_that_it_is_here(run_id)
        elif not read_only:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained():
                sqlite3.connect(self.path).close()  # makes the file; from here on nothing else does
        with self._connect() as connection:
            if not read_only:
                connection.executescript(_SCHEMA)
            begun = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is not None
            version = "SELECT value FROM meta WHERE name = 'schema_version'"
            row = connection.execute(version).fetchone() if begun else None
            if row is None and read_only:
                raise EmptyTableError(f"results table {self.path} holds nothing yet; start the run again")
            stored_version = SCHEMA_VERSION if row is None else json.loads(row[0])
            if stored_version not in range(1, SCHEMA_VERSION + 1):
                raise ResultsError(
                    f"results table {self.path} has version {stored_version}, this program reads {SCHEMA_VERSION}; "
                    "start the run in a new folder"
                )
            if not read_only:
                connection.executemany(
                    "INSERT OR IGNORE INTO meta VALUES (?, ?)",
                    [("run_id", json.dumps(uuid.uuid4().hex)), ("schema_version", json.dumps(SCHEMA_VERSION))],
                )
                if stored_version != SCHEMA_VERSION:
                    connection.executescript(_TO_DOCUMENTS)
                    connection.execute(
                        "UPDATE meta SET value = ? WHERE name = 'schema_version'", (json.dumps(SCHEMA_VERSION),)
                    )
            self._has_documents = not read_only or stored_version == SCHEMA_VERSION
            row = connection.execute("SELECT value FROM meta WHERE name = 'run_id'").fetchone()
            self.run_id: str | None = None if row is None else json.loads(row[0])

    def ref(self) -> TableRef:
        """What jobs need to find this table and no other."""
        return TableRef(str(self.path.resolve()), self.run_id, self.shared)

    def _check_that_it_is_here(self, run_id: str | None) -> None:
        """Refuse a table that is not there or not the one that is meant; writes nothing."""
        folder, host = self.path.parent, socket.gethostname()
        if not folder.is_dir():
            problem = f"there is no run folder {folder} on {host}"
        elif not self.path.is_file():
            problem = f"the run folder {folder} holds no {self.path.name} on {host}"
        elif run_id is not None and ResultsTable(self.path, read_only=True).run_id != run_id:
            problem = f"the run folder {folder} is on {host} that of another run"
        else:
            return
        raise ResultsError(
            f"{problem}: mount the folder of the run there under the same path, or start the run again in a folder "
            "that all workers share"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ResultsError(f"results table {self.path} cannot be used: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that changes nothing, for queries that are not here.

        Raises:
            ResultsError: the table cannot be read.
        """
        table = self if self.read_only else ResultsTable(self.path, read_only=True)
        with table._connect() as connection:
            yield connection

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            before = self._stamp() if self.read_only and self._is_at_rest() else None
            connection = self._reading(at_rest=before is not None) if self.read_only else self._writing()
            try:
                if not self.read_only:
                    connection.execute(f"PRAGMA journal_mode = {'DELETE' if self.shared else 'WAL'}")
                    connection.execute(
                        "PRAGMA synchronous = NORMAL" if not self.shared else "PRAGMA synchronous = FULL"
                    )
                with connection:
                    yield connection
            finally:
                connection.close()
                if before not in (None, self._stamp()):
                    raise ResultsError(f"results table {self.path} was written to while it was read; ask again")

    def _writing(self) -> sqlite3.Connection:
        """A connection to the file, which is there: one that has gone is not made anew, empty."""
        uri = f"{self.path.resolve().as_uri()}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=60.0)

    def _is_at_rest(self) -> bool:
        """Whether the table can be read as it lies there: nobody has it open, since its write-ahead log is gone, which
        the last one to close it removes; and nobody is about to, as in a run that goes on.
        """
        try:
            with self.path.open("rb") as file:
                in_wal_mode = file.read(20)[18:19] == b"\2"  # the "read version" of the file format
            if not in_wal_mode or self._log.exists():
                return False
        except OSError:
            return False
        return self._is_frozen() or time.time() - self.path.stat().st_mtime > _QUIET_S or self._is_complete()

    def _is_frozen(self) -> bool:
        """Whether nothing may be put beside the table; a superuser, who could, leaves the folder alone too."""
        folder = self.path.resolve().parent
        return not folder.stat().st_mode & 0o222 or not os.access(folder, os.W_OK)

    def _is_complete(self) -> bool:
        uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                row = connection.execute("SELECT value FROM meta WHERE name = 'state'").fetchone()
        except sqlite3.DatabaseError:  # who reads it will say so
            return False
        return row == ('"complete"',)

    def _stamp(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _reading(self, *, at_rest: bool) -> sqlite3.Connection:
        """A connection that cannot write.

        SQLite reads a table with a write-ahead log only where it can put the index of the log, and leaves both there.
        A table at rest is read as it is; where a log is, that of a process that was killed, and nothing may be put
        beside it, a copy is.
        """
        if self._copy is not None:
            return sqlite3.connect(self._copy / self.path.name)
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        if at_rest:
            return sqlite3.connect(f"{uri}&immutable=1", uri=True)
        has_log = size_of(self._log) > 0
        if has_log and self._is_frozen():
            return self._copied(self._log)
        connection = None
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=60.0)
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            if connection is not None:
                connection.close()
            return self._copied(self._log) if has_log else sqlite3.connect(f"{uri}&immutable=1", uri=True)
        except sqlite3.DatabaseError:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _copied(self, log: Path) -> sqlite3.Connection:
        self._copy = Path(tempfile.mkdtemp(prefix="dpa4-"))
        weakref.finalize(self, shutil.rmtree, self._copy, ignore_errors=True)
        shutil.copyfile(self.path, self._copy / self.path.name)
        with suppress(FileNotFoundError):  # who wrote it has just closed the table, and all is in there
            shutil.copyfile(log, self._copy / log.name)
        return sqlite3.connect(self._copy / self.path.name)

    # ---- meta ------------------------------------------------------------------------------------------------------

    def set_meta(self, name: str, value: Any) -> None:
        """Store one JSON value under ``name`` (campaign, model, state, ...)."""
        self.put_meta({name: value})

    def put_meta(self, values: Mapping[str, Any]) -> None:
        """Several of them, all or none."""
        self._put("meta", [(name, json.dumps(value)) for name, value in values.items()])

    def get_meta(self, name: str, default: Any = None) -> Any:
        rows = self._rows("SELECT value FROM meta WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else default

    # ---- candidates ------------------------------------------------------------------------------------------------

    def put_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Store the candidates of the campaign in their order, instead of those of before; calculations stay."""
        rows = [(c.candidate_id, i, c.formula, c.model_dump_json()) for i, c in enumerate(candidates)]
        self._put("candidates", rows, instead=True)

    def candidates(self, ids: Iterable[str] | None = None) -> list[Candidate]:
        """All candidates in input order, or those with the given ids in that order."""
        if ids is None:
            rows = self._rows("SELECT document FROM candidates ORDER BY position")
            return [Candidate.model_validate_json(row[0]) for row in rows]
        ids = list(ids)
        found = self._select("candidates", "candidate_id", ids)
        return [Candidate.model_validate_json(found[i]) for i in ids if i in found]

    def sizes(self) -> dict[str, int]:
        """Atoms of all candidates by id, in input order; 0 for one that has no structure."""
        n_atoms = "COALESCE(json_array_length(document, '$.structure.sites'), 0)"
        return dict(self._rows(f"SELECT candidate_id, {n_atoms} FROM candidates ORDER BY position"))  # noqa: S608

    def formulas(self) -> dict[str, str]:
        """Reduced formulas of all candidates by id, in input order; names of those that have none."""
        return dict(self._rows("SELECT candidate_id, formula FROM candidates ORDER BY position"))

    # ---- calculations ----------------------------------------------------------------------------------------------

    def put_calculations(self, documents: Iterable[RelaxationDocument]) -> None:
        rows: list[tuple[Any, ...]] = []
        for d in documents:
            named = (d.key, d.structure_hash, d.provenance.model_sha256, d.formula, d.n_atoms, d.energy_per_atom)
            rows.append((*named, int(d.converged), d.error, d.model_dump_json()))
        self._put("calculations", rows)

    def calculations(self, keys: Iterable[str]) -> dict[str, RelaxationDocument]:
        """Documents by key; keys that are not there are left out."""
        found = self._select("calculations", "key", list(keys))
        return {key: RelaxationDocument.model_validate_json(text) for key, text in found.items()}

    def existing_keys(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are already computed."""
        return set(self._select("calculations", "key", list(keys), column="key"))

    def iter_calculations(self) -> Iterator[RelaxationDocument]:
        """Every calculation, read in slices so that memory stays bounded."""
        query, last = "SELECT key, document FROM calculations WHERE key > ? ORDER BY key LIMIT ?", ""
        while rows := self._rows(query, last, _QUERY_CHUNK):
            for _, text in rows:
                yield RelaxationDocument.model_validate_json(text)
            last = rows[-1][0]

    # ---- documents of any kind -------------------------------------------------------------------------------------

    def documents(self, kind: type[D], keys: Iterable[str]) -> dict[str, D]:
        """Documents of one kind by key; keys that are not there are left out."""
        if kind is RelaxationDocument:
            found = self._select("calculations", "key", list(keys))
        elif self._has_documents:
            found = self._select("documents", "key", list(keys))
        else:
            found = self._select("meta", "name", list(keys), column="value")
        try:
            return {key: kind.model_validate_json(text) for key, text in found.items()}
        except ValidationError as error:
            made = {
                (json.loads(text).get("provenance") or {}).get("code_version", "unknown") for text in found.values()
            }
            raise ResultsError(
                f"{self.path} holds answers ({kind.__name__}) that dpa4-flows {code_version()} cannot read; they were "
                f"made by {', '.join(sorted(made))}: use that version, or compute in a new folder"
            ) from error

    def put_documents(self, documents: Mapping[str, Document]) -> None:
        """Store documents under their keys; a relaxation is a calculation and has its key in itself."""
        self.put_calculations(d for d in documents.values() if isinstance(d, RelaxationDocument))
        others = [(k, d.model_dump_json()) for k, d in documents.items() if not isinstance(d, RelaxationDocument)]
        self._put("documents", others)

    def versions_behind(self, stage: str, name: str, kind: type[Document]) -> list[tuple[dict[str, int], int]]:
        """Versions of the science, by name, that answers of the property ``name`` without an error rest on, as far as
        the verdicts of a stage rest on them; with the numbers of the answers.
        """
        if not self._has_documents:
            return []
        places = ("calculations", "*") if kind is RelaxationDocument else ("documents", f"{name} *")
        query = (  # names are ours, values are bound
            "SELECT json_extract(d.document, '$.provenance.versions'), COUNT(*) FROM stages s, "  # noqa: S608
            f"json_each(s.document, '$.calculation_keys') k JOIN {places[0]} d ON d.key = k.value "
            "WHERE s.stage = ? AND k.value GLOB ? AND json_extract(d.document, '$.error') IS NULL GROUP BY 1"
        )
        return [(json.loads(made or "{}"), number) for made, number in self._rows(query, stage, places[1])]

    def has_parts(self) -> bool:
        """Whether there are calculations of plans."""
        return bool(self._rows("SELECT 1 FROM parts LIMIT 1"))

    def parts(self, keys: Iterable[str]) -> dict[str, str]:
        """Calculations of plans by key; see `store.protocol.Store`."""
        found: dict[str, str | bytes] = self._select("parts", "key", list(keys))
        return {key: one if isinstance(one, str) else _unpacked(one) for key, one in found.items()}

    def put_parts(self, owner: str, parts: Mapping[str, str]) -> None:
        """Store calculations, packed, that the plan ``owner`` has got."""
        self._put("parts", [(key, owner, zlib.compress(text.encode(), _PACKING)) for key, text in parts.items()])

    # ---- stages ----------------------------------------------------------------------------------------------------

    def put_stages(self, results: Iterable[StageResult]) -> None:
        self._put("stages", [(r.candidate_id, r.stage, r.status, r.model_dump_json()) for r in results])

    def stage(self, stage: str, ids: Iterable[str] | None = None) -> dict[str, StageResult]:
        """Verdicts of one stage by candidate id, all of them or those of ``ids`` that have one."""
        if ids is None:
            found = dict(self._rows("SELECT candidate_id, document FROM stages WHERE stage = ?", stage))
        else:
            found = self._select("stages", "candidate_id", list(ids), stage=stage)
        return {candidate_id: StageResult.model_validate_json(text) for candidate_id, text in found.items()}

    def survivors(self, stage: str, order: Sequence[str] = ()) -> list[str]:
        """Ids that passed ``stage``, flagged ones included, in input order.

        Args:
            stage: name of the stage.
            order: all stages in their order; then everybody who came as far as ``stage`` must have been judged.

        Raises:
            ResultsError: a candidate is without the verdict of a stage that it came to.
        """
        if order:
            self._require_verdicts(order[: order.index(stage) + 1])
        query = (
            "SELECT s.candidate_id FROM stages s JOIN candidates c USING (candidate_id) "
            "WHERE s.stage = ? AND s.status IN ('passed', 'flagged') ORDER BY c.position"
        )
        return [row[0] for row in self._rows(query, stage)]

    def _require_verdicts(self, stages: Sequence[str]) -> None:
        """Refuse to go on when a candidate was lost on the way."""
        came = "SELECT candidate_id FROM candidates"
        bound: tuple[str, ...] = ()
        with self._connect() as connection:
            if connection.execute("SELECT 1 FROM candidates LIMIT 1").fetchone() is None:
                raise ResultsError(f"results table {self.path} holds no candidates; start the run again")
            for stage in stages:
                # names are ours, values are bound
                query = f"{came} EXCEPT SELECT candidate_id FROM stages WHERE stage = ? ORDER BY candidate_id"  # noqa: S608
                if lost := connection.execute(query, (*bound, stage)).fetchall():
                    raise ResultsError(
                        f"{len(lost)} candidates in {self.path} have no verdict of the stage {stage}, {lost[0][0]!r} "
                        "is the first: a job before has not done its work; start the run again"
                    )
                came = "SELECT candidate_id FROM stages WHERE stage = ? AND status IN ('passed', 'flagged')"
                bound = (stage,)

    def clear_stages(self) -> None:
        """Forget verdicts and ranking, not calculations: they are recomputed in seconds and may follow new criteria."""
        with self._connect() as connection:
            connection.execute("DELETE FROM stages")
            connection.execute("DELETE FROM ranking")

    def stage_counts(self) -> dict[str, dict[str, int]]:
        """{stage: {status: number of candidates}}."""
        counts: dict[str, dict[str, int]] = {}
        for stage, status, number in self._rows("SELECT stage, status, COUNT(*) FROM stages GROUP BY stage, status"):
            counts.setdefault(stage, {})[status] = number
        return counts

    def verdicts_since(self, row: int) -> list[tuple[int, str, str, str]]:
        """Row, candidate, stage and status of the verdicts that were stored after a row, in that order; 0 for all."""
        return self._rows("SELECT rowid, candidate_id, stage, status FROM stages WHERE rowid > ? ORDER BY rowid", row)

    # ---- ranking ---------------------------------------------------------------------------------------------------

    def put_ranking(self, rows: Sequence[RankedCandidate]) -> None:
        self._put("ranking", [(r.rank, r.candidate_id, r.model_dump_json()) for r in rows], instead=True)

    def ranking(self) -> list[RankedCandidate]:
        rows = self._rows("SELECT document FROM ranking ORDER BY rank")
        return [RankedCandidate.model_validate_json(row[0]) for row in rows]

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def _rows(self, query: str, *bound: Any) -> list[Any]:
        with self._connect() as connection:
            return connection.execute(query, bound).fetchall()

    def _put(self, table: str, rows: Sequence[tuple[Any, ...]], *, instead: bool = False) -> None:
        """Write rows in place of those with their keys, or instead of all."""
        if not (rows or instead):
            return
        verb = "INSERT" if instead else "INSERT OR REPLACE"
        with self._connect() as connection:  # names are ours, values are bound
            if instead:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
            if rows:
                connection.executemany(f"{verb} INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    def _select(
        self, table: str, key_column: str, keys: list[str], column: str = "document", stage: str | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        bound, only = ((), "") if stage is None else ((stage,), "stage = ? AND ")
        with self._connect() as connection:
            for start in range(0, len(keys), _QUERY_CHUNK):
                part = keys[start : start + _QUERY_CHUNK]
                marks = ",".join("?" * len(part))
                # names are ours, values are bound
                query = f"SELECT {key_column}, {column} FROM {table} WHERE {only}{key_column} IN ({marks})"  # noqa: S608
                found.update(connection.execute(query, (*bound, *part)).fetchall())
        return found


def _unpacked(packed: bytes) -> str:
    """The text of a calculation; an empty one of bytes that are torn, which nobody can read either."""
    try:
        return zlib.decompress(packed).decode()
    except (UnicodeDecodeError, zlib.error):
        return ""
