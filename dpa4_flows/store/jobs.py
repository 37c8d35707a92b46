"""Job stores that are complete: atomate2's force-field jobs want an additional store called "data" beside the
documents.

Numbers of a campaign live in the results table; a job store holds the small outputs that jobs hand to each
other.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
from jobflow import SETTINGS, JobStore
from maggma.stores import JSONStore, MemoryStore

from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_bytes


class JobStoreError(DPA4Error):
    """The configured job store cannot be used; one sentence with the remedy."""


class AtomicJSONStore(JSONStore):
    """A writable ``JSONStore`` whose file is replaced as a whole, so that a kill while writing leaves the old
    one.

    One process only, and every update writes the whole file: right for the tens of jobs of a local run.
    """

    def __init__(self, path: str | Path, key: str = "uuid") -> None:
        super().__init__(paths=str(path), read_only=False, key=key)

    def update_json_file(self) -> None:
        """Write all documents to a new file and put it in place of the old one."""
        documents = list(self.query())
        for document in documents:
            document.pop("_id")
        write_bytes(self.paths[0], orjson.dumps(documents, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY))


def _plain(value: Any) -> float:
    """The number behind a kind of number that some YAML readers give, and with them jobs of atomate2."""
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{value!r} cannot be written as JSON")


def complete_job_store(folder: str | Path) -> JobStore:
    """Job store in files of ``folder`` (``outputs.json``, ``data.json``), made if missing; for one process at
    a time.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    documents = AtomicJSONStore(folder / "outputs.json")
    data = AtomicJSONStore(folder / "data.json", key="blob_uuid")
    return JobStore(documents, additional_stores={"data": data})


def load_job_store() -> JobStore:
    """The job store of the usual jobflow configuration (``~/.jobflow.yaml`` or ``JOBFLOW_CONFIG_FILE``), for
    runs in which several processes share outputs.

    Raises:
        JobStoreError: nothing configured, a store in memory, or no additional store called "data".
    """
    store: Any = SETTINGS.JOB_STORE
    if type(store.docs_store) is MemoryStore:
        raise JobStoreError(
            f"jobflow has no job store that workers share (configuration file {SETTINGS.CONFIG_FILE}): "
            "set JOB_STORE there to a MongoStore with an additional store called data, and point "
            "JOBFLOW_CONFIG_FILE to the file if it lies elsewhere"
        )
    if not isinstance(store.additional_stores, defaultdict) and "data" not in store.additional_stores:
        raise JobStoreError(
            f"the job store in {SETTINGS.CONFIG_FILE} has no additional store called data: add one under "
            "additional_stores, for example a GridFSStore in the same database"
        )
    return store
