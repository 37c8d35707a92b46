"""`dpa4 pourbaix`: does this solid last in water?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.analysis.pourbaix import TEMPERATURE
from dpa4_flows.cli.competition import Competition, crystal
from dpa4_flows.cli.computing import documents_of
from dpa4_flows.cli.console import finish, number, out, print_json, say, warn
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Model, grouped, option
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.structures import input_rows, read_inputs, warn_of_inputs
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.plots.pages import write_page
from dpa4_flows.properties.pourbaix import Pourbaix, PourbaixDocument
from dpa4_flows.reference.entries import correction_scheme
from dpa4_flows.report.pourbaix_plot import diagrams

SHOWN_AS_ZERO = 0.005
"""eV/atom: what the table shows as 0.00."""

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
    asked = Pourbaix(**competition.settings(relaxing), **water.settings())
    asked.known_ions()  # refused before anything is read or computed
    _check(plot)
    inputs = [crystal(entry) for entry in read_inputs(files)]
    machine.use_threads()
    store = relaxing.store(machine.model(model))
    scheme = correction_scheme(store.info, competition.corrections)
    asks = {i: Ask(asked, Crystal(e.structure, e.name)) for i, e in enumerate(inputs) if e.error is None}
    found: dict[int, PourbaixDocument] = documents_of(asks, store.model, store.table, machine, quiet=as_json)
    rows = input_rows(inputs)
    for i, document in found.items():
        told = set() if document.error else _TOLD
        rows[i] |= document.model_dump(include={"formula", "error", *told})
    words = f"{store.info.name}: {store.info.level_of_theory}; corrections {scheme}, Gibbs {TEMPERATURE:g} K"
    gathered = [text for document in found.values() for text in document.warnings]
    notes = list(dict.fromkeys([*gathered, *(text for row in rows for text in _caveats(row))]))
    good = {i: document for i, document in found.items() if document.error is None}
    if plot is not None and good:
        drawn = diagrams({inputs[i].name: document for i, document in good.items()})
        write_page(plot, "Stability in water", drawn, f"Ions {water.concentration:g} mol/L. {words}", notes)
    if as_json:
        print_json(
            {
                **origin_row(store.info),
                "corrections": scheme,
                "concentration": water.concentration,
                "structures": rows,
                "warnings": notes,
            }
        )
    else:
        say(f"{words}; ions {water.concentration:g} mol/L")
        for row in rows:
            if row["error"] is None:
                _print(row)
        if plot is not None and good:
            say(f"wrote {plot}")
    warn_of_inputs(inputs)
    for note in notes:
        warn("incomplete", note)
    finish((row["name"], row["error"]) for row in rows)


_TOLD = {"ph", "potential", "decomposition_energy", "products", "reference_shifts", "sources", "completeness"}
"""Fields of a document that a row has."""


def _check(plot: Path | None) -> None:
    if plot is not None and plot.suffix.lower() != ".html":
        raise DPA4Error(f"cannot draw into {plot.name!r}; end the name of the plot in .html")


def _print(row: dict[str, Any]) -> None:
    competing = HullCompleteness.model_validate(row["completeness"])
    stands = "lowest" if competing.grade == "surveyed" else "lowest of what is known"
    style = "green" if competing.grade == "surveyed" else "yellow"
    title = f"{escape(row['name'])} ({row['formula']}): eV/atom above the species that is {stands}"
    table = Table("V (SHE)", *(f"pH {x:g}" for x in row["ph"]), title=title, title_justify="left")
    for volt, energies, products in zip(row["potential"], row["decomposition_energy"], row["products"], strict=True):
        cells = [
            f"[{style}]{_zero(competing)}[/] {escape(name)}"
            if energy < SHOWN_AS_ZERO
            else f"{number(energy, 2)} {escape(name)}"
            for energy, name in zip(energies, products, strict=True)
        ]
        table.add_row(f"{volt:g}", *cells)
    out.print(table)
    shifts = ", ".join(f"{solid} {shift:+.2f} eV" for solid, shift in row["reference_shifts"].items())
    say(f"reference solids, model minus measured, per formula: {shifts}")


def _zero(competing: HullCompleteness) -> str:
    """What to show where the solid itself is the lowest: nothing is known of it without another solid."""
    return number(0.0, 2) if competing.compares else "unknown:"


def _caveats(row: dict[str, Any]) -> list[str]:
    """What is missing among the solids that a structure stands against."""
    if row["error"] is not None:
        return []
    competing = HullCompleteness.model_validate(row["completeness"])
    if competing.grade == "surveyed":
        return []
    words = competing.sentence if competing.compares else f"no known competitor, {competing.sentence}"
    return [f"{row['formula']}: {words}; energies above the stable species are lower bounds", *competing.without_energy]
