"""`dpa4 hull`: is this compound stable against everything it could fall apart into?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from dpa4_flows.cli.competition import Competition, answered
from dpa4_flows.cli.compute import finish
from dpa4_flows.cli.console import remark, say, warn
from dpa4_flows.cli.options import OUTPUT, AsJson, BatchMachine, Files, Model, flag, grouped, option
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.targets import a_file_beside, a_folder
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials
from dpa4_flows.properties.competition import CACHE, Competing
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.table import Results
from dpa4_flows.properties.windows import ElectrochemicalWindows
from dpa4_flows.report.hull_plot import write_hulls
from dpa4_flows.report.parity_plot import check_plot_name

app = typer.Typer()


@dataclass(frozen=True)
class Asked:
    """What is asked, beside the distance."""

    temperature: float | None = option(
        None,
        "Gibbs energies at this temperature, 300 to 2000 K, instead of energies at 0 K.",
        "--temperature",
        "-T",
        metavar="K",
    )
    window: str | None = option(
        None, "Also the voltages against a metal at which nothing is taken up or given off.", metavar="ION"
    )
    chempots: bool = flag("Also the chemical potentials of the elements where a phase is stable.")
    no_relax: bool = flag("Take the structures of FILES as they are.")
    alone: bool = flag("The structures of FILES do not compete with each other.")

    def properties(self, competition: Competition, relaxing: LibraryRelaxations) -> list[Competing[Any]]:
        """The properties that answer."""
        common = competition.settings(relaxing) | {
            "temperature": self.temperature,
            "relax": not self.no_relax,
            "candidates_compete": not self.alone,
        }
        windows = [] if self.window is None else [ElectrochemicalWindows(**common, working_ion=self.window)]
        return [Hull(**common), *windows, *([ChemicalPotentials(**common)] if self.chempots else [])]


@dataclass(frozen=True)
class Outputs:
    """Files to write."""

    output: Path | None = option(
        None,
        "Keep everything here, for dpa4 status, resume, report and export.",
        *OUTPUT,
        metavar="FOLDER",
        callback=a_folder,
    )
    csv_file: Path | None = option(None, "Write a table.", "--csv", metavar="FILE", callback=a_file_beside)
    plot: Path | None = option(
        None, "Draw: .html has hulls, windows and potentials, .png hulls.", metavar="FILE", callback=a_file_beside
    )

    def check(self) -> None:
        """Refuse what cannot be drawn, before anything is computed."""
        if self.plot is not None:
            check_plot_name(self.plot)

    def write(self, results: Results[Any], words: str) -> list[Path]:
        """Write them; gives their names."""
        written = [] if self.csv_file is None else [results.to_csv(self.csv_file)]
        if self.plot is None:
            return written
        drawn = write_hulls(self.plot, results, words)
        if not drawn:
            warn("not drawn", f"nothing for {self.plot}: a hull needs two elements, and all their references")
        elif self.plot.suffix.lower() == ".png" and len(results.question.names) > 1:
            remark(f"windows and potentials are drawn in .html files; {self.plot.name} has the hulls only")
        return [*written, *drawn]


@app.command()
@grouped
def hull(
    files: Files,
    *,
    competition: Competition,
    asked: Asked,
    outputs: Outputs,
    model: Model = "dpa4-neo",
    relaxing: LibraryRelaxations,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Energy above the convex hull, formation energy, and what each structure would decompose into.

    Structures and competing phases are relaxed by the same model with the same settings and corrected by the same
    rules. The result is 0 K without vibrations, and as good as the set of competing phases is complete.

    --temperature takes the published descriptor of Gibbs energies (about 0.05 eV/atom) for solids and measured ones for
    the elements, so that oxides give off oxygen when they are heated. --window gives the electrochemical window of an
    electrolyte or coating, --chempots the conditions under which a phase grows alone; both also at a temperature.

    For example:

      dpa4 hull LiCoO2.cif

      dpa4 hull Li3PS4.cif --window Li --chempots --plot stability.html

      dpa4 hull LiCoO2.cif --temperature 1200

      dpa4 hull candidates/ --against my_phases.json --csv hull.csv --plot hull.html

      dpa4 hull LiCoO2.cif --against mp --model dpa4-pro-mptrj
    """
    outputs.check()
    results, words = answered(
        asked.properties(competition, relaxing),
        files,
        competition,
        relaxing,
        machine,
        machine.model(model),
        as_json,
        outputs.output,
    )
    written = outputs.write(results, words)
    if not as_json:
        say(words)
        for path in written:
            say(f"wrote {path}")
    places = [one.documents["hull"] for one in results.answers]
    known = [place.document for place in places if place is not None and place.document is not None]
    may_grow = competition.kinds == [CACHE] and any(document.completeness.survey is None for document in known)
    finish(results, as_json=as_json, hints=[_GROW] if may_grow else [])


_GROW = "set MP_API_KEY, or add phases with `dpa4 reference build SYSTEM --from FILE --survey`"
