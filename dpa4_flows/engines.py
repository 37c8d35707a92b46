"""Run a flow: here and now in one process, or on the workers of a FireWorks LaunchPad.

FireWorks 2.1.4 opens files in a way that monty 2026 refuses, so its offline mode (``rlaunch --offline``,
recovery of offline runs) raises TypeError; everything else works. Workers need a connection to the database.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fireworks import LaunchPad, fw_config
from jobflow import CURRENT_JOB, Flow, Job, JobStore, run_locally
from jobflow.core.job import Response
from jobflow.managers.fireworks import flow_to_workflow
from monty.serialization import loadfn
from pymongo.errors import PyMongoError
from ruamel.yaml.error import YAMLError

from dpa4_core.errors import DPA4Error, words_of
from dpa4_flows.stores import complete_job_store, load_job_store

CONNECT_TIMEOUT_MS = 5000
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LOGGED = ("jobflow", "dpa4_flows", "dpa4_core", "py.warnings")


class EngineError(DPA4Error):
    """A flow could not be run or submitted; one sentence."""


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
            raise EngineError(f"job {name!r} failed: {_first_line(error)} (details in {log})") from error


@contextmanager
def open_launchpad(launchpad_file: str | Path | None = None) -> Iterator[LaunchPad]:
    """A LaunchPad whose database answers; the connection is closed at the end of the block.

    Args:
        launchpad_file: ``my_launchpad.yaml``; by default the one that FireWorks finds (``FW_CONFIG_FILE``,
            the current folder), or else localhost.

    Raises:
        EngineError: file missing, no answer within a few seconds, or the connection breaks inside the block.
    """
    path = launchpad_file or fw_config.LAUNCHPAD_LOC
    launchpad = _launchpad(None if path is None else Path(path))
    try:
        launchpad.connection.admin.command("ping")
        yield launchpad
    except PyMongoError as error:
        where = f"the LaunchPad file {path}" if path else "localhost (no LaunchPad file found)"
        raise EngineError(
            f"the FireWorks database of {where} does not answer: start it or correct host and port"
        ) from error
    finally:
        launchpad.connection.close()


def _launchpad(path: Path | None) -> LaunchPad:
    """LaunchPad of a file, or of localhost, that gives up soon on a database that is not there."""
    if path is not None and not path.is_file():
        raise EngineError(f"there is no LaunchPad file {path}; `lpad init` writes one")
    try:
        settings: dict[str, Any] = {"host": "localhost"} if path is None else loadfn(path)
        options = {
            "serverSelectionTimeoutMS": CONNECT_TIMEOUT_MS,
            **(settings.get("mongoclient_kwargs") or {}),
        }
        return LaunchPad.from_dict({**settings, "strm_lvl": "WARNING", "mongoclient_kwargs": options})
    except (AttributeError, KeyError, TypeError, ValueError, YAMLError, PyMongoError) as error:
        raise EngineError(f"{path} is no LaunchPad file; `lpad init` writes one") from error


def submit_fireworks(
    flow: Flow | Job,
    launchpad_file: str | Path | None = None,
    tags: Iterable[str] = (),
    *,
    metadata: Mapping[str, Any] | None = None,
) -> list[int]:
    """Put ``flow`` on a LaunchPad as one workflow; ``rlaunch`` or ``qlaunch`` run it.

    The specs carry no store and so no password: submitter and workers each read the usual jobflow
    configuration.

    Args:
        flow: a flow or job.
        launchpad_file: see `open_launchpad`.
        tags: stored in the workflow's metadata and with every job, so that ``lpad get_wflows -q`` finds the
            campaign.
        metadata: more metadata of the workflow.

    Returns:
        Ids of the Fireworks, ascending. Jobs that are made on the way join the same workflow:
        `fireworks_state`.

    Raises:
        EngineError: the database does not answer.
        JobStoreError: jobflow's configured store cannot be shared with workers.
    """
    load_job_store()
    tags = list(tags)
    if tags:
        flow.update_metadata({"tags": tags}, dynamic=True)
    workflow = flow_to_workflow(flow, metadata={**(metadata or {}), "tags": tags})
    with open_launchpad(launchpad_file) as launchpad:
        return sorted(launchpad.add_wf(workflow).values())


def fireworks_state(ids: Iterable[int], launchpad_file: str | Path | None = None) -> dict[str, int]:
    """Number of Fireworks by state (READY, RUNNING, COMPLETED, FIZZLED, ...) in the workflows that hold
    ``ids``, with those that jobs added on the way; empty if the workflows are gone.

    Raises:
        EngineError: the database does not answer.
    """
    with open_launchpad(launchpad_file) as launchpad:
        workflows = list(launchpad.workflows.find({"nodes": {"$in": list(ids)}}, {"fw_states": 1}))
    return dict(Counter(state for workflow in workflows for state in workflow["fw_states"].values()))


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


def _first_line(error: BaseException) -> str:
    return words_of(error)
