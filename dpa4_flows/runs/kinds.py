"""Which kinds of run folders there are, and which of them a folder is."""

from __future__ import annotations

from pathlib import Path

from dpa4_core.errors import DPA4Error
from dpa4_flows.runs.campaign import CampaignRun
from dpa4_flows.runs.committee import CommitteeFolder
from dpa4_flows.runs.dynamics import DynamicsRun
from dpa4_flows.runs.large import LargeRun
from dpa4_flows.runs.property import PropertyRun
from dpa4_flows.runs.run import Run
from dpa4_flows.runs.training import TrainingFolder
from dpa4_flows.training import is_running

KINDS: tuple[type[Run], ...] = (PropertyRun, CampaignRun, LargeRun, TrainingFolder, CommitteeFolder, DynamicsRun)


def open_run(folder: str | Path, launchpad: Path | None = None) -> Run:
    """The run in a folder, whatever made it.

    Args:
        folder: of the run; for molecular dynamics also a trajectory.
        launchpad: ``my_launchpad.yaml`` of a run whose jobs are on a LaunchPad.

    Raises:
        DPA4Error: there is none.
    """
    folder = Path(folder)
    for kind in KINDS:
        if kind.is_in(folder):
            return kind.open(folder, launchpad)
    if not folder.exists():
        raise DPA4Error(f"there is no folder {folder}; give that of a run")
    if is_running(folder):
        raise DPA4Error(
            f"a model is being trained in {folder}, but no step was taken: its frames and base are still read"
        )
    made_by = (
        "`dpa4 screen`, `dpa4 train`, `dpa4 md` and, into a folder, `dpa4 compute`, `relax` and `predict` make one"
    )
    raise DPA4Error(f"{folder} is not a run folder; {made_by}")
