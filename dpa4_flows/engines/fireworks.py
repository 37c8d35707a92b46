"""Flows on the workers of a FireWorks LaunchPad.

FireWorks 2.1.4 opens files in a way that monty 2026 refuses, so its offline mode (``rlaunch --offline``,
recovery of offline runs) raises TypeError; everything else works. Workers need a connection to the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fireworks import LaunchPad, fw_config
from jobflow import Flow, Job
from jobflow.managers.fireworks import flow_to_workflow
from monty.serialization import loadfn
from pymongo.errors import PyMongoError
from ruamel.yaml.error import YAMLError

from dpa4_flows.engines.engine import EngineError, JobId
from dpa4_flows.store.jobs import load_job_store

CONNECT_TIMEOUT_MS = 5000
WAITING = frozenset({"READY", "WAITING", "RESERVED", "RUNNING"})
"""States of Fireworks that workers will still end."""


def n_waiting(states: Mapping[str, int]) -> int:
    """How many Fireworks workers will still end, of the numbers by state."""
    return sum(number for state, number in states.items() if state in WAITING)


@dataclass(frozen=True)
class FireWorks:
    """A LaunchPad; ``rlaunch`` or ``qlaunch`` run what is put on it.

    Attributes:
        launchpad_file: see `open_launchpad`.
    """

    launchpad_file: str | Path | None = None
    name: ClassVar[str] = "fireworks"
    in_process: ClassVar[bool] = False

    def check(self) -> None:
        """Ask for a job store that workers share, and for an answer of the database."""
        load_job_store()
        with open_launchpad(self.launchpad_file):
            pass

    def submit(
        self, flow: Flow | Job, *, tags: Iterable[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> list[JobId]:
        """Put ``flow`` on the LaunchPad as one workflow.

        The specs carry no store and so no password: submitter and workers each read the usual jobflow configuration.

        Args:
            flow: a flow or job.
            tags: stored in the workflow's metadata and with every job, so that ``lpad get_wflows -q`` finds the
                campaign.
            metadata: more metadata of the workflow.

        Returns:
            Ids of the Fireworks, ascending. Jobs that are made on the way join the same workflow.

        Raises:
            EngineError: the database does not answer.
            JobStoreError: jobflow's configured store cannot be shared with workers.
        """
        load_job_store()
        tags = list(tags)
        if tags:
            flow.update_metadata({"tags": tags}, dynamic=True)
        workflow = flow_to_workflow(flow, metadata={**(metadata or {}), "tags": tags})
        with open_launchpad(self.launchpad_file) as launchpad:
            return sorted(launchpad.add_wf(workflow).values())

    def state(self, ids: Iterable[JobId]) -> dict[str, int]:
        """Number of Fireworks by state (READY, RUNNING, COMPLETED, FIZZLED, ...) in the workflows that hold ``ids``,
        with those that jobs added on the way; empty if the workflows are gone.

        Raises:
            EngineError: the database does not answer.
        """
        with open_launchpad(self.launchpad_file) as launchpad:
            workflows = list(launchpad.workflows.find({"nodes": {"$in": list(ids)}}, {"fw_states": 1}))
        return dict(Counter(state for workflow in workflows for state in workflow["fw_states"].values()))

    def cancel(self, ids: Iterable[JobId]) -> int:
        """Defuse what has not ended in the workflows that hold ``ids``; the calculations that are there stay.

        Raises:
            EngineError: the database does not answer.
        """
        with open_launchpad(self.launchpad_file) as launchpad:
            found = list(launchpad.workflows.find({"nodes": {"$in": list(ids)}}, {"nodes": 1}))
            nodes = [node for workflow in found for node in workflow["nodes"]]
            waiting = launchpad.get_fw_ids({"fw_id": {"$in": nodes}, "state": {"$in": sorted(WAITING)}})
            for number in waiting:
                launchpad.defuse_fw(number)
        return len(waiting)


def submit_fireworks(
    flow: Flow | Job,
    launchpad_file: str | Path | None = None,
    tags: Iterable[str] = (),
    *,
    metadata: Mapping[str, Any] | None = None,
) -> list[JobId]:
    """`FireWorks.submit` on the LaunchPad of a file."""
    return FireWorks(launchpad_file).submit(flow, tags=tags, metadata=metadata)


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
