"""What the loop remembers: documents by key, and the calculations that they were made of."""

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

    def has_parts(self) -> bool:
        """Whether there are calculations of plans, unfinished or done."""

    def parts(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Calculations of plans by key, as text; keys that are not there are left out."""

    def put_parts(self, owner: str, parts: Mapping[str, str]) -> None:
        """Store calculations that the plan of the document ``owner`` has got."""


class MemoryStore:
    """A store that lasts as long as the process."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}

    def documents(self, kind: type[D], keys: Iterable[str]) -> dict[str, D]:
        return {key: found for key in keys if isinstance(found := self._documents.get(key), kind)}

    def put_documents(self, documents: Mapping[str, Document]) -> None:
        self._documents.update(documents)

    def has_parts(self) -> bool:
        return False

    def parts(self, keys: Iterable[str]) -> Mapping[str, str]:
        return {}

    def put_parts(self, owner: str, parts: Mapping[str, str]) -> None:
        """Forgotten: nothing is left of a process that is killed, and none outlasts its code."""
