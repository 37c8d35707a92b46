"""What hands jobs to a computer: here and now, or to the workers of a queue. A further one is a file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

from jobflow import Flow, Job

from dpa4_core.errors import DPA4Error

JobId = int | str


class EngineError(DPA4Error):
    """A flow could not be run or submitted; one sentence."""


class Engine(Protocol):
    """Runs flows.

    Attributes:
        name: as campaigns and commands call it.
        in_process: whether the jobs are done when `submit` returns.
    """

    name: ClassVar[str]
    in_process: ClassVar[bool]

    def check(self) -> None:
        """Say what keeps a flow from being submitted, before anything is prepared for it.

        Raises:
            EngineError, JobStoreError: one sentence with the remedy.
        """
        ...

    def submit(
        self, flow: Flow | Job, *, tags: Iterable[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> list[JobId]:
        """Run a flow, or put it where workers find it.

        Args:
            flow: a flow or job.
            tags: by which it can be found again.
            metadata: what else to note about it.

        Returns:
            Ids of its jobs, for `state` and `cancel`.

        Raises:
            EngineError: a job failed, or the flow could not be submitted.
        """
        ...

    def state(self, ids: Iterable[JobId]) -> dict[str, int]:
        """Number of jobs by state, in the words of the engine, with those that were added on the way."""
        ...

    def cancel(self, ids: Iterable[JobId]) -> int:
        """Keep jobs that have not ended from running; gives their number."""
        ...
