"""Trainings of committees: a folder with those of the members and their common model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from dpa4_core.train.config import TrainConfig
from dpa4_flows.report.committee import UNCERTAINTY_HEADS, committee_rows, write_committee_report
from dpa4_flows.runs.run import How, Outcome, Run, RunStatus
from dpa4_flows.runs.training import TrainingFolder, trained_on
from dpa4_flows.training import (
    CONFIG_FILE,
    MODEL_FILE,
    committee_members,
    digits,
    error_row,
    is_running,
    measured,
    members_without_gain,
    uncertainty_rows,
)


def uncertainty_table(found: Mapping[str, Mapping[str, float]], note: str = "") -> Table:
    """What the deviations of a committee are worth, as `dpa4_core.calibration` found it; ``note`` ends the title."""
    title = f"deviations of the committee beside its errors{note}"
    table = Table(*UNCERTAINTY_HEADS, title=title, title_justify="left")
    for row in uncertainty_rows(found):
        table.add_row(*row)
    return table


class CommitteeFolder(Run):
    """The folder of a committee."""

    kind: ClassVar[str] = "committee"

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return (folder / CONFIG_FILE).is_file() and bool(committee_members(folder))

    @property
    def config(self) -> TrainConfig:
        """Of the whole, in the folder where it is by now."""
        return replace(TrainConfig.from_toml(self.folder / CONFIG_FILE), output=str(self.folder.resolve()))

    @property
    def members(self) -> list[TrainingFolder]:
        """Those that were begun."""
        return [TrainingFolder(folder) for folder in committee_members(self.folder)]

    def status(self) -> RunStatus:
        parts, n_members = [member.status() for member in self.members], self.config.committee.members
        each = max(part.n_total for part in parts)
        done, total = sum(part.n_done for part in parts), sum(part.n_total for part in parts)
        whole = measured(self.folder) is not None and len(parts) == n_members
        complete = whole and all(part.state == "complete" for part in parts)
        state = "complete" if complete else "running" if is_running(self.folder) else "stopped"
        facts = {"members": n_members, "name": self.config.name, **self._metrics()}
        go_on = f"the command that started it goes on where it stopped, or: dpa4 resume {self.folder}"
        rate = next((part.per_second for part in parts if part.per_second), None)
        n_total = total + each * (n_members - len(parts))
        next_step = go_on if state == "stopped" else ""
        codes = tuple(sorted({code for part in parts for code in part.codes}))
        return RunStatus(state, "steps", done, n_total, rate, facts, (), next_step, codes)

    def show(self, console: Console, *, everyone: bool = False) -> None:
        super().show(console, everyone=everyone)
        if found := self._metrics().get("uncertainty"):
            console.print(uncertainty_table(found, "; those that it gives are enlarged by the ratios above 1"))
        for sentence in members_without_gain(self.folder):
            console.print(f"[yellow]warning:[/] {sentence}", highlight=False)

    def resume(self, how: How) -> Outcome:
        """Go on with the configuration in the folder: with the member that was stopped.

        Raises:
            KeyboardInterrupt: it was stopped again; what was trained is kept.
            DPA4Error: what `run_training` raises.
        """
        reused = self.status().state == "complete"
        trained_on(self.config, how)
        self.report(self.page)
        return Outcome({"model": self.folder / MODEL_FILE, "html": self.page}, reused=reused)

    def table(self) -> Iterator[dict[str, Any]]:
        """Errors of each member on the validation frames, and of their mean."""
        for name, errors in committee_rows(self.folder):
            yield {"model": name} | {f"{word} MAE, {unit}": digits(value) for word, value, unit in error_row(errors)}

    def report(self, path: Path) -> None:
        """Write the page, and into the folder those of the members."""
        write_committee_report(self.folder, path)

    def _metrics(self) -> dict[str, Any]:
        return (measured(self.folder) or {}).get("validation") or {}
