"""Engines run flows: one file each, one protocol."""

from __future__ import annotations

from pathlib import Path

from dpa4_flows.engines.engine import Engine, EngineError, JobId
from dpa4_flows.engines.fireworks import FireWorks, open_launchpad, submit_fireworks
from dpa4_flows.engines.local import Local, run_local

__all__ = [
    "Engine",
    "EngineError",
    "FireWorks",
    "JobId",
    "Local",
    "engine_of",
    "open_launchpad",
    "run_local",
    "submit_fireworks",
]


def engine_of(name: str, folder: Path, launchpad_file: Path | None = None) -> Engine:
    """The engine of that name.

    Args:
        name: local or fireworks.
        folder: where jobs of this process run.
        launchpad_file: of FireWorks, see `open_launchpad`.

    Raises:
        EngineError: there is none.
    """
    engines: dict[str, Engine] = {e.name: e for e in (Local(folder), FireWorks(launchpad_file))}
    if name not in engines:
        raise EngineError(f"unknown engine {name!r}; choose from {', '.join(engines)}")
    return engines[name]
