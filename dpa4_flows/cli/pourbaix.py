"""`dpa4 pourbaix`: does this solid last in water?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.pourbaix import TEMPERATURE
from dpa4_flows.cli.competition import Competition, answered
from dpa4_flows.cli.compute import finish
from dpa4_flows.cli.console import say
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Kept, Model, grouped, option
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.plots.figure import FigureBlock
from dpa4_flows.plots.pages import write_page
from dpa4_flows.properties.pourbaix import Pourbaix
from dpa4_flows.report.caveats import property_caveats

app = typer.Typer()


@dataclass(frozen=True)
class Water:
    """Where the solid is put."""

    ions: Path | None = option(
        None,
        "Measured ions, TOML; see docs/stability.md for its form; by default a table of 41 elements.",
        metavar="FILE",
    )
    ph: list[float] | None = option(None, f"pH; {SEVERAL}; default: 0,7,14.")
    potential: list[float] | None = option(
        None, f"V against the standard hydrogen electrode; {SEVERAL}; default: -1 to 1.5."
    )
    concentration: float = option(1e-6, "Of each ion, mol/L.", min=1e-12, max=10.0)

    def settings(self) -> dict[str, Any]:
        """The same as fields of the property; what was not given is left to it."""
        given = {"ions": self.ions and str(self.ions), "ph": self.ph, "potential": self.potential}
        chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v}
        return {**chosen, "concentration": self.concentration}


@app.command()
@grouped
def pourbaix(
    files: Files,
    *,
    water: Water,
    competition: Competition,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=a_file_beside, help="Draw the diagrams: .html.")
    ] = None,
    output: Kept = None,
    model: Model = "dpa4-neo",
    relaxing: LibraryRelaxations,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Energy above the stable species in water, at given pH and potential.

    Solids are Gibbs energies at 300 K by the model; ions are measured, and moved by the error that the model makes for
    a solid that the table of ions names. Below about 0.2 eV/atom a solid may last, above 0.5 it dissolves. Films that
    protect a surface, and complexes that are not in the file, are not seen.

    For example:

      dpa4 pourbaix ZnO.cif

      dpa4 pourbaix *.cif --ions my-ions.toml --ph 7 --potential 0,1.23 --plot pourbaix.html
    """
    _check(plot)
    asked = Pourbaix(**competition.settings(relaxing), **water.settings())
    results, words = answered([asked], files, competition, relaxing, machine, machine.model(model), as_json, output)
    figures = [block for block in results.figures() if isinstance(block, FigureBlock)] if plot is not None else []
    if plot is not None and figures:
        write_page(plot, "Stability in water", figures, words, property_caveats(results))
    if not as_json:
        say(f"{words}; Gibbs energies at {TEMPERATURE:g} K")
        if figures:
            say(f"wrote {plot}")
    finish(results, as_json=as_json)


def _check(plot: Path | None) -> None:
    if plot is not None and plot.suffix.lower() != ".html":
        raise DPA4Error(f"cannot draw into {plot.name!r}; end the name of the plot in .html")
