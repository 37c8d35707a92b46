"""Phases and entries of the Materials Project, from a cache on disk or from its server.

All documents of one answer belong to one version of the database. A question that the cache can answer sends
nothing; otherwise the missing chemical systems are fetched and stored, one file for each, empty ones too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from emmet.core.mpid import AlphaID
from pymatgen.core import Element, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import words_of
from dpa4_flows.reference.mp_cache import CachedQuery, MaterialsProjectError, Query, ResponseCache, cache_dir
from dpa4_flows.reference.mp_server import Server
from dpa4_flows.reference.plain_entries import entry_of_fields

__all__ = ["MPPhase", "MaterialsProject", "MaterialsProjectError"]

THERMO_TYPES = ("GGA_GGA+U", "R2SCAN", "GGA_GGA+U_R2SCAN")

_MAX_ELEMENTS = 9  # 511 sub-systems
_CORRECTION_TOLERANCE = 1e-4  # eV/atom
_Documents = list[dict[str, Any]]
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, eq=False)
class MPPhase:
    """A phase that the Materials Project knows.

    Attributes:
        material_id: its id, "mp-135" or the newer "mp-aaaaaaff".
        structure: relaxed by the Materials Project with the functional of ``thermo_type``.
        energy_above_hull: above the Materials Project's own hull, eV/atom. Metadata: it belongs to another
            frame than any energy of a potential.
        thermo_type: the hull in question.
        deprecated: whether the Materials Project withdrew the material.
        database_version: release that said so.
    """

    material_id: str
    structure: Structure
    energy_above_hull: float
    thermo_type: str
    deprecated: bool
    database_version: str


class MaterialsProject:
    """Polite client of the Materials Project with a cache on disk.

    Nothing is sent before the cache fails to answer. Answers carry CC BY 4.0: cite the Materials Project.

    Args:
        cache: folder of answers, by default `mp_cache.cache_dir`.
        api_key: by default MP_API_KEY, PMG_MAPI_KEY or the settings of pymatgen, looked up when needed.
        endpoint: by default MP_API_ENDPOINT or the public server.
        offline: answer from the cache alone, however old.
        max_age_days: ask the server whether older answers are still current; None trusts them for ever.
    """

    def __init__(
        self,
        cache: Path | None = None,
        *,
        api_key: str | None = None,
        endpoint: str | None = None,
        offline: bool = False,
        max_age_days: float | None = None,
    ) -> None:
        if max_age_days is not None and not max_age_days >= 0:
            raise MaterialsProjectError(f"max_age_days is {max_age_days}; give days from 0, or None for any age")
        self._server = Server(endpoint, api_key)
        self._cache = ResponseCache(cache or cache_dir(), self._server.endpoint)
        self._max_age = math.inf if offline or max_age_days is None else max_age_days
        self._offline = offline
        self._version: str | None = None

    def __repr__(self) -> str:
        return (
            f"MaterialsProject({self._server.endpoint!r}, cache={str(self._cache.folder)!r}, offline={self._offline})"
        )

    def phases(
        self, chemsys: str, *, max_above_hull: float | None = 0.1, thermo_type: str = "GGA_GGA+U"
    ) -> list[MPPhase]:
        """Phases of a chemical system and all its sub-systems, by system and id.

        Args:
            chemsys: "Li-Co-O", in any order.
            max_above_hull: leave out phases that lie higher, eV/atom; None keeps all.
            thermo_type: "GGA_GGA+U"; "R2SCAN" or "GGA_GGA+U_R2SCAN" also know materials without a PBE run.

        Raises:
            MaterialsProjectError: the question has no answer in the cache and none from the server.
        """
        documents, version = self._documents(chemsys, thermo_type, max_above_hull)
        return [_phase(document, version) for document in documents]

    def material(self, material_id: str, *, thermo_type: str = "GGA_GGA+U") -> MPPhase:
        """One material by its id, ``"mp-22526"``.

        Raises:
            MaterialsProjectError: there is no such material, or no answer.
        """
        query = Query(material_id, thermo_type)
        version, answers = self._from_cache([query]) or self._remembered(query) or self._from_server([query])
        if not answers[0]:
            raise MaterialsProjectError(f"{material_id} is no material of the Materials Project (database {version})")
        return _phase(answers[0][0], version)

    def entries(self, chemsys: str, *, thermo_type: str = "GGA_GGA+U") -> list[ComputedStructureEntry]:
        """Entries of a chemical system with the energies and corrections that the Materials Project serves.

        For a hull in its own frame only: "GGA_GGA+U" carries MP2020 corrections, "R2SCAN" none.

        Raises:
            MaterialsProjectError: as for `phases`, and for the mixed thermo type, whose corrections refer to
                one chemical system each and cannot be pooled.
        """
        if thermo_type == THERMO_TYPES[2]:
            raise MaterialsProjectError(
                f"entries of thermo type {thermo_type} of several chemical systems are on different scales; "
                "ask for GGA_GGA+U or R2SCAN"
            )
        documents, version = self._documents(chemsys, thermo_type, None)
        return [entry for document in documents for entry in _entries(document, version)]

    def database_version(self) -> str:
        """Version behind the last answer; before one, of the newest cached answer, else of the server."""
        if self._version is not None:
            return self._version
        cached = (name for name in self._cache.versions() if self._cache.newest_check(name) <= self._max_age)
        version = next(cached, None)
        if version is None:
            if self._offline:
                raise MaterialsProjectError(
                    f"the database version of {self._server.endpoint} is not known offline: the cache "
                    f"{self._cache.folder} is empty; ask once with offline=False"
                )
            version = self._server.database_version()
        return version

    def _documents(self, chemsys: str, thermo_type: str, max_above_hull: float | None) -> tuple[_Documents, str]:
        """Documents of the system and its sub-systems, all of one version of the database, and that version."""
        if thermo_type not in THERMO_TYPES:
            raise MaterialsProjectError(f"unknown thermo type {thermo_type!r}; choose from {', '.join(THERMO_TYPES)}")
        if max_above_hull is not None and not 0 <= max_above_hull < math.inf:
            raise MaterialsProjectError(f"max_above_hull is {max_above_hull}; give eV/atom from 0, or None for all")
        queries = [Query(system, thermo_type, max_above_hull) for system in _sub_systems(chemsys)]
        self._version, answers = self._from_cache(queries) or self._from_server(queries)
        return [document for answer in answers for document in answer], self._version

    def _from_cache(self, queries: Sequence[Query]) -> tuple[str, list[_Documents]] | None:
        """Newest version that answers every query and is fresh."""
        for version in self._cache.versions():
            answers: list[_Documents] = []
            for query in queries:
                answer = self._load(query, version)
                if answer is None or answer[0].age_days > self._max_age:
                    break
                answers.append(answer[1])
            else:
                return version, answers
        return None

    def _remembered(self, query: Query) -> tuple[str, list[_Documents]] | None:
        """A material among the answers to other questions; whoever can ask the server does not search them."""
        for version in self._cache.versions() if self._offline else []:
            for document in self._cache.documents(version, query.thermo_type):
                if AlphaID(document["material_id"]) == AlphaID(query.chemsys):  # mp-1960 is also mp-aaaaacxk
                    return version, [[document]]
        return None

    def _from_server(self, queries: Sequence[Query]) -> tuple[str, list[_Documents]]:
        if self._offline:
            raise MaterialsProjectError(self._missing(queries))
        version = self._server.database_version()
        answers: dict[Query, _Documents] = {}
        for query in queries:
            answer = self._load(query, version)
            if answer is not None:
                header, answers[query] = answer
                if header.age_days > self._max_age:
                    self._cache.confirm(header)
        missing = [query for query in queries if query not in answers]
        answers |= self._fetch(missing, version)
        return version, [answers[query] for query in queries]

    def _fetch(self, queries: Sequence[Query], version: str) -> dict[Query, _Documents]:
        """Ask for the queries, which differ in their system only, and store each answer."""
        if not queries:
            return {}
        first = queries[0]
        answers: dict[str, _Documents] = {query.chemsys: [] for query in queries}
        for document in self._server.thermo(list(answers), first.thermo_type, first.max_above_hull):
            _phase(document, version), _entries(document, version)  # what cannot be read must not reach the cache
            system = first.chemsys if first.is_material else str(document.get("chemsys"))
            if system not in answers:
                raise MaterialsProjectError(
                    f"the Materials Project sent a document of {system}, which was not asked for; update mp-api"
                )
            answers[system].append(document)
        for query in queries:
            answers[query.chemsys].sort(key=lambda document: str(document["material_id"]))
            self._cache.store(query, version, answers[query.chemsys])
        return {query: answers[query.chemsys] for query in queries}

    def _load(self, query: Query, version: str) -> tuple[CachedQuery, _Documents] | None:
        """Answer of the cache to a query, or to the same one without limit."""
        exact = self._cache.load(query, version)
        if exact is not None or query.max_above_hull is None:
            return exact
        whole = self._cache.load(Query(query.chemsys, query.thermo_type), version)
        if whole is None:
            return None
        limit = query.max_above_hull
        return whole[0], [document for document in whole[1] if document["energy_above_hull"] <= limit]

    def _missing(self, queries: Sequence[Query]) -> str:
        versions = self._cache.versions()
        absent = min(
            ([query for query in queries if self._load(query, version) is None] for version in versions),
            key=len,
            default=list(queries),
        )
        first = absent[0] if absent else queries[-1]
        more = f" and {len(absent) - 1} more of its answers" if len(absent) > 1 else ""
        return (
            f"the cache {self._cache.folder} lacks {first}{more}, and the client is offline; ask once with "
            "offline=False"
        )


def _sub_systems(chemsys: str) -> list[str]:
    """The system and its sub-systems as the Materials Project writes them, elements first."""
    symbols = sorted({symbol.strip() for symbol in chemsys.split("-")})
    unknown = [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]
    if unknown or len(symbols) > _MAX_ELEMENTS:
        reason = f"{unknown[0]!r} is not an element" if unknown else f"it has more than {_MAX_ELEMENTS} elements"
        raise MaterialsProjectError(f"cannot ask for the chemical system {chemsys!r}: {reason}; write it as Li-Co-O")
    return ["-".join(chosen) for size in range(1, len(symbols) + 1) for chosen in combinations(symbols, size)]


def _phase(document: dict[str, Any], version: str) -> MPPhase:
    """Phase of a thermo document; its structure is that of the entry behind the energy."""

    def read() -> MPPhase:
        entries = document["entries"]
        name = document.get("energy_type")
        entry = entries[name] if name in entries else next(iter(entries.values()))
        return MPPhase(
            material_id=str(document["material_id"]),
            structure=structure_of_fields(entry["structure"]),
            energy_above_hull=float(document["energy_above_hull"]),
            thermo_type=str(document["thermo_type"]),
            deprecated=bool(document.get("deprecated")),
            database_version=version,
        )

    return _parse(read, document, version)


def _entries(document: dict[str, Any], version: str) -> list[ComputedStructureEntry]:
    return _parse(lambda: [_entry(row) for row in document["entries"].values()], document, version)


def _entry(row: dict[str, Any]) -> ComputedStructureEntry:
    """Entry as served; empty values are dropped, since corrections ask whether a key is there."""
    kept = {
        key: {name: value for name, value in (row.get(key) or {}).items() if value is not None}
        for key in ("data", "parameters")
    }
    adjustments = row["energy_adjustments"] or []  # without them the energy would lose its corrections in silence
    entry = entry_of_fields({**row, **kept, "energy_adjustments": adjustments})
    served = float(row.get("correction") or 0.0)
    if abs(entry.correction - served) > _CORRECTION_TOLERANCE * len(entry.structure):
        raise ValueError(f"adjustments add up to {entry.correction} eV, not to the correction {served} eV")
    return entry


def _parse(read: Callable[[], _Parsed], document: Any, version: str) -> _Parsed:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        name = document.get("material_id", "without id") if isinstance(document, dict) else "without fields"
        problem = f"it lacks {error}" if isinstance(error, KeyError) else words_of(error)
        raise MaterialsProjectError(
            f"cannot read document {name} of the Materials Project (database {version}): {problem}; its format "
            "changed, update mp-api and dpa4-flows"
        ) from error
