"""How results get into the table while a job runs: soon after they are there, and a few at a time."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from dpa4_flows.results import ResultsError, ResultsTable
from dpa4_flows.schemas import RelaxationDocument

logger = logging.getLogger(__name__)


class ResultWriter:
    """Streams documents to a results table in small transactions, at most ``every_s`` seconds after they
    came.

    A timer writes what waits when no further document arrives for a while: next to one slow structure the
    finished ones are safe. Closing writes the rest.

    Args:
        table: where to write.
        every_s: s, longest time that a finished document waits.
        every: documents after which a transaction is due earlier.
    """

    def __init__(self, table: ResultsTable, every_s: float = 2.0, every: int = 100) -> None:
        self.table = table
        self.every_s = every_s
        self.every = every
        self._pending: list[RelaxationDocument] = []
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, document: RelaxationDocument) -> None:
        """Take one document; writes if it is time to."""
        with self._lock:
            self._pending.append(document)
            if len(self._pending) >= self.every or time.monotonic() - self._last >= self.every_s:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(self.every_s, self._flush_late)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write everything that waits, in one transaction; the time since the last one is shared among the
        documents.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._pending:
                return
            now = time.monotonic()
            for document in self._pending:
                document.provenance.wall_time_s = (now - self._last) / len(self._pending)
            self.table.put_calculations(self._pending)
            self._pending, self._last = [], now

    def _flush_late(self) -> None:
        try:
            self.flush()
        except ResultsError as error:  # the documents still wait: the next flush of the job raises or mends it
            logger.warning("writing results is delayed: %s", error)
