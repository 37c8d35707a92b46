"""Answers of the Materials Project on disk, one file for each query and database version.

A file is gzipped JSON, a line each: first a header (query, endpoint, database version, dates, number of
documents), then the documents as served. It appears under its name only when it is complete; a file that
does not hold what its header says counts as absent. Nothing here knows an API key.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpa4_core.errors import DPA4Error
from dpa4_core.files import WriteError, replacing
from dpa4_core.model import registry

ENDPOINT = "https://api.materialsproject.org/"

_FORMAT = "dpa4 materials project answer 1"
_SOURCE = "Materials Project, CC BY 4.0, A. Jain et al., APL Mater. 1, 011002 (2013)"


class MaterialsProjectError(DPA4Error):
    """The Materials Project gave no usable answer; one sentence without the API key.

    Attributes:
        status: HTTP status, where one was received.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Query:
    """Thermodynamic documents of one chemical system, without its sub-systems, or of one material.

    Attributes:
        chemsys: symbols in alphabetical order, "Co-Li-O"; or the id of the material, "mp-22526".
        thermo_type: hull that the documents belong to, for example "GGA_GGA+U".
        max_above_hull: largest energy above that hull, eV/atom; None for all.
    """

    chemsys: str
    thermo_type: str
    max_above_hull: float | None = None

    def __str__(self) -> str:
        limit = "all" if self.max_above_hull is None else f"up to {self.max_above_hull:g} eV/atom above the hull"
        return f"{self.chemsys} ({self.thermo_type}, {limit})"

    @property
    def is_material(self) -> bool:
        return self.chemsys.startswith(("mp-", "mvc-"))

    @property
    def file_name(self) -> str:
        limit = "all" if self.max_above_hull is None else repr(float(self.max_above_hull))
        return f"{self.chemsys}.{self.thermo_type}.{limit}.json.gz"


@dataclass(frozen=True)
class CachedQuery:
    """What the header of a cached answer says.

    Attributes:
        query: what was asked.
        endpoint: server that was asked.
        database_version: release of the Materials Project that answered.
        fetched: when the documents came.
        checked: when the server last said that this version is current.
        n_documents: number of documents.
        path: file that holds them.
    """

    query: Query
    endpoint: str
    database_version: str
    fetched: datetime
    checked: datetime
    n_documents: int
    path: Path

    @property
    def age_days(self) -> float:
        """Days since the answer was last known to be current."""
        return (datetime.now(UTC) - self.checked).total_seconds() / 86400.0


def cache_dir() -> Path:
    """Folder of cached answers: ``materials_project`` in the folder of fetched weights (``DPA4_CACHE``)."""
    return registry.cache_dir() / "materials_project"


class ResponseCache:
    """Answers of one endpoint below ``root``; processes may read and write it at the same time."""

    def __init__(self, root: Path, endpoint: str) -> None:
        self.endpoint = endpoint
        self.folder = root / re.sub(r"[^A-Za-z0-9.-]+", "_", endpoint.partition("://")[2]).strip("_")

    def versions(self) -> list[str]:
        """Database versions with an answer, newest first (they are dates)."""
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        names = [folder.name for folder in folders if any(folder.glob("*.json.gz"))]
        return sorted(names, key=lambda name: (name[:1].isdigit(), name), reverse=True)

    def newest_check(self, version: str) -> float:
        """Age in days of the youngest answer of a version; infinite where none is readable."""
        headers = (_header(path) for path in (self.folder / version).glob("*.json.gz"))
        return min((header.age_days for header in headers if header is not None), default=math.inf)

    def load(self, query: Query, version: str) -> tuple[CachedQuery, list[dict[str, Any]]] | None:
        """Header and documents of an answer; None where it is absent or damaged."""
        found = _read(self.folder / version / query.file_name, with_documents=True)
        asked = (query, self.endpoint, version)
        if found is None or (found[0].query, found[0].endpoint, found[0].database_version) != asked:
            return None
        return found

    def documents(self, version: str, thermo_type: str) -> Iterator[dict[str, Any]]:
        """All documents of a version."""
        for path in sorted((self.folder / version).glob(f"*.{thermo_type}.*.json.gz")):
            if (found := _read(path, with_documents=True)) is not None:
                yield from found[1]

    def store(
        self,
        query: Query,
        version: str,
        documents: Sequence[dict[str, Any]],
        *,
        fetched: datetime | None = None,
    ) -> None:
        """Write an answer, current as of now; another writer of the same answer may win.

        Raises:
            MaterialsProjectError: the folder cannot be written.
        """
        now = datetime.now(UTC)
        header = {
            "format": _FORMAT,
            "query": asdict(query),
            "endpoint": self.endpoint,
            "database_version": version,
            "fetched": (fetched or now).isoformat(timespec="seconds"),
            "checked": now.isoformat(timespec="seconds"),
            "n_documents": len(documents),
            "source": _SOURCE,
        }
        path = self.folder / version / query.file_name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, (json.dumps(row, separators=(",", ":")) for row in (header, *documents)))
        except (WriteError, OSError) as error:
            raise MaterialsProjectError(
                f"cannot write the cache of Materials Project answers in {path.parent} ({error}); "
                "set DPA4_CACHE to a folder that can be written"
            ) from error

    def confirm(self, header: CachedQuery) -> None:
        """Note that the server names the version of this answer as current."""
        answer = self.load(header.query, header.database_version)
        if answer is not None:
            self.store(header.query, header.database_version, answer[1], fetched=header.fetched)


def _write(path: Path, lines: Iterator[str]) -> None:
    """Write lines to a file that has its name only when it is whole and on the disk."""
    with (
        replacing(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
    ):
        for line in lines:
            packed.write(line.encode() + b"\n")


def _header(path: Path) -> CachedQuery | None:
    found = _read(path, with_documents=False)
    return found[0] if found is not None else None


def _read(path: Path, *, with_documents: bool) -> tuple[CachedQuery, list[dict[str, Any]]] | None:
    """Header and documents, from one opening: the name may pass to a newer answer at any time."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            row = json.loads(next(lines))
            if row["format"] != _FORMAT:
                return None
            documents = [json.loads(line) for line in lines] if with_documents else []
        header = CachedQuery(
            query=Query(**row["query"]),
            endpoint=row["endpoint"],
            database_version=row["database_version"],
            fetched=datetime.fromisoformat(row["fetched"]),
            checked=datetime.fromisoformat(row["checked"]),
            n_documents=row["n_documents"],
            path=path,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, StopIteration, zlib.error):
        return None
    return None if with_documents and len(documents) != header.n_documents else (header, documents)
