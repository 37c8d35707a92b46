"""What the loop remembers: documents by key, and results that only a plan on its way needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from dpa4_flows.documents.schemas import Document

D = TypeVar("D", bound=Document)


class Store(Protocol):
    """Documents by key; `ResultsTable` on disk, `MemoryStore` in memory."""

    def documents(self, kind: type[D], keys: Iterable[str]) -> dict[str, D]:
        """Documents by key; keys that are not there are left out."""

    def put_documents(self, documents: Mapping[str, Document]) -> None:
        """Store documents under their keys, instead of those of before."""

    def part_owners(self) -> set[str]:
        """Plans of which there are parts: those that a process before has left unfinished."""

    def parts(self, keys: Iterable[str]) -> dict[str, str]:
        """Results of unfinished plans by key, as text; keys that are not there are left out."""

    def put_parts(self, owner: str, parts: Mapping[str, str]) -> None:
        """Store results until the plan ``owner`` has its document."""

    def drop_parts(self, owners: Iterable[str]) -> None:
        """Forget the results of plans that are done."""


class MemoryStore:
    """A store that lasts as long as the process."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._parts: dict[str, tuple[str, str]] = {}

    def documents(self, kind: type[D], keys: Iterable[str]) -> dict[str, D]:
        return {key: found for key in keys if isinstance(found := self._documents.get(key), kind)}

    def put_documents(self, documents: Mapping[str, Document]) -> None:
        self._documents.update(documents)

    def part_owners(self) -> set[str]:
        return {owner for owner, _ in self._parts.values()}

    def parts(self, keys: Iterable[str]) -> dict[str, str]:
        return {key: self._parts[key][1] for key in keys if key in self._parts}

    def put_parts(self, owner: str, parts: Mapping[str, str]) -> None:
        self._parts.update({key: (owner, text) for key, text in parts.items()})

    def drop_parts(self, owners: Iterable[str]) -> None:
        gone = set(owners)
        self._parts = {key: part for key, part in self._parts.items() if part[0] not in gone}
