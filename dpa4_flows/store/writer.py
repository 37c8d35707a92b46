"""How results get into a store while a loop runs: soon after they are there, and a few at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from dpa4_flows.documents.schemas import Document
from dpa4_flows.store.protocol import Store
from dpa4_flows.store.table import ResultsError

logger = logging.getLogger(__name__)


class Writer:
    """Writes documents and parts of plans in small transactions, at most ``every_s`` seconds after they came.

    A timer writes what waits when nothing further arrives for a while: next to one slow structure the finished ones
    are safe. Closing writes the rest.

    Args:
        every_s: s, longest time that something waits.
        every: documents and parts after which a transaction is due earlier.
    """

    def __init__(self, every_s: float = 2.0, every: int = 100) -> None:
        self.every_s = every_s
        self.every = every
        self._stores: dict[int, Store] = {}
        self._documents: dict[int, dict[str, Document]] = {}
        self._parts: dict[int, dict[str, dict[str, str]]] = {}  # by owner
        self._n_waiting = 0
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, store: Store, key: str, document: Document) -> None:
        """Take one document; writes if it is time to."""
        with self._lock:
            self._stores[id(store)] = store
            self._documents.setdefault(id(store), {})[key] = document
            self._due()

    def add_parts(self, store: Store, owner: str, parts: Mapping[str, str]) -> None:
        """Take calculations of the plan that ``owner`` is the document of."""
        with self._lock:
            self._stores[id(store)] = store
            self._parts.setdefault(id(store), {}).setdefault(owner, {}).update(parts)
            self._due()

    def waiting(self, store: Store) -> dict[str, Document]:
        """Documents that are not written yet."""
        with self._lock:
            return dict(self._documents.get(id(store), {}))

    def parts(self, store: Store, keys: Mapping[str, object]) -> dict[str, str]:
        """Calculations by key that are not written yet, of those that are asked for."""
        with self._lock:
            some = self._parts.get(id(store), {}).values()
            return {key: parts[key] for parts in some for key in parts.keys() & keys.keys()}

    def _due(self) -> None:
        self._n_waiting += 1
        if self._n_waiting >= self.every or time.monotonic() - self._last >= self.every_s:
            self.flush()
        elif self._timer is None:
            self._timer = threading.Timer(self.every_s, self._flush_late)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Write everything that waits; the time since the last writing is shared among the documents."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            now = time.monotonic()
            n_documents = sum(map(len, self._documents.values()))
            for place, store in self._stores.items():  # what cannot be written waits on
                documents = self._documents.get(place, {})
                for document in documents.values():
                    origin = getattr(document, "provenance", None)
                    if origin is not None and origin.wall_time_s is None:
                        origin.wall_time_s = (now - self._last) / n_documents
                if documents:
                    store.put_documents(documents)
                for owner, parts in self._parts.get(place, {}).items():
                    store.put_parts(owner, parts)
            self._stores, self._documents, self._parts = {}, {}, {}
            self._n_waiting, self._last = 0, now

    def _flush_late(self) -> None:
        try:
            self.flush()
        except ResultsError as error:  # what waits is written by the next flush of the loop, which raises or mends it
            logger.warning("writing results is delayed: %s", error)
