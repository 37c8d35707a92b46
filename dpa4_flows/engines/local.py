"""Flows here and now, in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jobflow import CURRENT_JOB, Flow, Job, JobStore, run_locally
from jobflow.core.job import Response

from dpa4_core.errors import words_of
from dpa4_flows.engines.engine import EngineError, JobId
from dpa4_flows.store.jobs import complete_job_store

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LOGGED = ("jobflow", "dpa4_flows", "dpa4_core", "py.warnings")


@dataclass(frozen=True)
class Local:
    """The process itself: a flow has run when it is submitted.

    Attributes:
        folder: see `run_local`.
    """

    folder: Path
    name: ClassVar[str] = "local"
    in_process: ClassVar[bool] = True

    def check(self) -> None:
        """Nothing is needed."""

    def submit(
        self, flow: Flow | Job, *, tags: Iterable[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> list[JobId]:
        """Run ``flow``; tags and metadata are stored with its outputs."""
        noted = {"tags": list(tags), **(metadata or {})}
        flow.update_metadata({key: value for key, value in noted.items() if value}, dynamic=True)
        return list(run_local(flow, self.folder))

    def state(self, ids: Iterable[JobId]) -> dict[str, int]:
        """How many have stored an output; the others have not ended."""
        ids = list(ids)
        with complete_job_store(self.folder) as store:
            done = len(store.distinct("uuid", {"uuid": {"$in": ids}}))
        return {name: count for name, count in (("COMPLETED", done), ("LOST", len(ids) - done)) if count}

    def cancel(self, ids: Iterable[JobId]) -> int:
        """Nothing is left to cancel: what runs in a process is stopped with it."""
        return 0


def run_local(flow: Flow | Job, folder: str | Path, *, store: JobStore | None = None) -> dict[str, dict[int, Response]]:
    """Run ``flow`` in this process, one job after another, and stop at the first job that fails.

    jobflow does not resume: run the same flow again, and jobs that work on the results table compute only
    what is missing.

    Args:
        flow: a flow or job.
        folder: gets ``run.log`` and, unless ``store`` is given, the job store; jobs run in it.
        store: job store; by default files in ``folder``.

    Returns:
        Responses by job uuid and index, as ``jobflow.run_locally`` gives them.

    Raises:
        EngineError: a job failed; names the job, its error and the log with the traceback.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "run.log"
    with _log_to(log):
        try:
            return run_locally(
                flow,
                log=False,
                store=store or complete_job_store(folder),
                root_dir=folder,
                raise_immediately=True,
            )
        except Exception as error:  # whatever a job may raise
            name = CURRENT_JOB.job.name if CURRENT_JOB.job is not None else flow.name
            CURRENT_JOB.reset()
            logging.getLogger(__name__).exception("job %s failed", name)
            raise EngineError(f"job {name!r} failed: {words_of(error)} (details in {log})") from error


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Send the log of jobs to ``path`` and nowhere else while the block runs."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter(_LOG_FORMAT))
    saved = []
    for name in _LOGGED:
        logger = logging.getLogger(name)
        saved.append((logger, logger.level, logger.propagate, logger.handlers))
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.handlers = [file]
    logging.captureWarnings(True)  # jobflow, spglib and others warn about themselves
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, level, propagate, old in saved:
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers = old
        file.close()
