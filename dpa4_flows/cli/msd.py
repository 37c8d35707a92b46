"""`dpa4 msd`: how fast ions diffuse in trajectories that are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_flows.cli.compute import finish
from dpa4_flows.cli.console import out
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, grouped, option
from dpa4_flows.cli.targets import a_file
from dpa4_flows.documents.diffusion import DiffusivityDocument
from dpa4_flows.plots.figure import TableBlock
from dpa4_flows.properties.table import Results
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.tracks import TrajectoryReading, diffusion_in

app = typer.Typer()


@dataclass(frozen=True)
class Frames:
    """How trajectories are to be understood; fields of `TrajectoryReading`."""

    working_ion: str = option(TrajectoryReading.working_ion, "Element that diffuses.")
    interval_fs: float | None = option(
        TrajectoryReading.interval_fs, "Between two frames, fs; runs of dpa4 md say it themselves.", min=0.0
    )
    temperature_k: list[float] | None = option(
        None, f"K, one for all or one for each; {SEVERAL}; runs of dpa4 md say it themselves."
    )
    skip_ps: float = option(TrajectoryReading.skip_ps, "Left out at the beginning, ps.", min=0.0)

    def reading(self) -> TrajectoryReading:
        return TrajectoryReading(self.working_ion, self.interval_fs, tuple(self.temperature_k or ()), self.skip_ps)


@app.command()
@grouped
def msd(
    trajectories: Annotated[
        list[Path], typer.Argument(help="Trajectories (.traj, .extxyz, also compressed), or folders of dpa4 md.")
    ],
    *,
    frames: Frames,
    report: Annotated[
        Path | None,
        typer.Option(metavar="HTML", callback=a_file, help="Draw displacements and diffusivities, as a page."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Diffusivity of an ion in trajectories: mean square displacement, error bars, activation energy, conductivity.

    Nothing is computed by a model. Trajectories of one composition at several temperatures are one answer, that of dpa4
    diffusivity, with its refusals.

    For example:

      dpa4 msd 800K.traj 1000K.traj 1200K.traj --skip-ps 5

      dpa4 msd aimd.extxyz --interval-fs 2 --temperature-k 800 --report msd.html
    """
    results = diffusion_in(trajectories, frames.reading())
    if report is not None:
        write_properties_report(results, report, title="Diffusion", model=None)
    if not as_json:
        _show_temperatures(results)
    finish(results, as_json=as_json)


def _show_temperatures(results: Results[DiffusivityDocument]) -> None:
    for block in results.figures():
        if isinstance(block, TableBlock):
            table = Table(caption=block.caption, caption_justify="left")
            for column in block.columns:
                head = f"{column.label}, {column.unit}" if column.unit else column.label
                table.add_column(head, justify="right" if column.number else "left")
            for row in block.rows:
                table.add_row(*map(escape, row))
            out.print(table)
