"""`dpa4 pourbaix`: does this solid last in water?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pymatgen.analysis.pourbaix_diagram import PourbaixDiagram, PourbaixEntry
from pymatgen.core import Structure
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.analysis.pourbaix import (
    TEMPERATURE,
    ReferencedIon,
    aqueous_stability,
    check_ions,
    pourbaix_entries,
    reference_shifts,
)
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError
from dpa4_flows.cli.competition import MP, Against, AskMP, Corrections, against_kinds, compete, crystal
from dpa4_flows.cli.console import number, out, print_json, say, tell_failed, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Model, grouped
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.structures import read_inputs, warn_of_inputs
from dpa4_flows.makers.hull import HullPhases, hull_phases
from dpa4_flows.reference.entries import chemical_system, correction_scheme
from dpa4_flows.reference.ions import read_ions
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.report.pourbaix_plot import write_pourbaix_html
from dpa4_flows.structure_files import Computed

PH = (0.0, 7.0, 14.0)
SHOWN_AS_ZERO = 0.005
"""eV/atom: what the table shows as 0.00."""
POTENTIALS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Conditions:
    """pH, potentials in V against the standard hydrogen electrode, and the concentration of ions in mol/L."""

    ph: tuple[float, ...]
    potential: tuple[float, ...]
    concentration: float


app = typer.Typer()


@app.callback()
def _family() -> None:
    """Stability."""


@dataclass(frozen=True)
class Question:
    """What is asked, and against what."""

    ions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured ions, TOML; see docs/stability.md for its form.")
    ] = None
    ph: Annotated[list[float] | None, typer.Option("--ph", help="pH, may be repeated; default: 0, 7, 14.")] = None
    potential: Annotated[
        list[float] | None,
        typer.Option(help="V against the standard hydrogen electrode, may be repeated; default: -1 to 1.5."),
    ] = None
    concentration: Annotated[float, typer.Option(min=1e-12, max=10.0, help="Of each ion, mol/L.")] = 1e-6
    against: Against = None
    corrections: Corrections = "auto"
    mp: AskMP = None
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the diagrams: .html.")] = None


@app.command()
@grouped
def pourbaix(
    files: Files,
    *,
    asked: Question,
    model: Model = "dpa4-neo",
    relaxing: LibraryRelaxations,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Energy above the stable species in water, at given pH and potential.

    Solids are Gibbs energies at 300 K by the model; ions are measured, and moved by the error that the model makes for
    a solid that the file of ions names. Below about 0.2 eV/atom a solid may last, above 0.5 it dissolves. Films that
    protect a surface, and complexes that are not in the file, are not seen.

    For example:

      dpa4 pourbaix ZnO.cif --ions zinc.toml

      dpa4 pourbaix *.cif --ions ions.toml --ph 7 --potential 0 --potential 1.23 --plot pourbaix.html
    """
    known = _checked(asked.ions, asked.plot)
    kinds = against_kinds(asked.against)
    inputs = [crystal(entry) for entry in read_inputs(files)]
    machine.use_threads()
    maker = relaxing.maker(model, machine)
    store = ReferenceStore.for_model(maker, relaxing.library)
    scheme = correction_scheme(store.info, asked.corrections)
    rows, wanted = _sorted_out(inputs, known)
    systems = {_system(structure, own) for structure, own in wanted.values()}
    competition = compete(store, systems, kinds, scheme, asked.mp, quiet=as_json)
    references = competition.references if kinds == [MP] else store.with_structures(competition.references)
    store.maker.run(store.table, [structure for structure, _ in wanted.values()])
    conditions = Conditions(tuple(asked.ph or PH), tuple(asked.potential or POTENTIALS), asked.concentration)
    diagrams = []
    for position, (structure, own) in wanted.items():
        key = store.maker.key(structure)
        phases = hull_phases([store.table.calculations([key])[key]], references, scheme, TEMPERATURE)
        try:
            found, phase, diagram = _stability(phases, own, conditions)
        except ThermodynamicsError as error:
            rows[position]["error"] = str(error)
            continue
        in_water = "-".join(sorted({"O", "H", *chemical_system(structure).split("-")}))
        survey = competition.surveys.get(_system(structure, own))
        competing = references.completeness(in_water, survey, formula=rows[position]["formula"])
        rows[position] |= found | {"completeness": competing.model_dump()}
        diagrams.append((f"{rows[position]['formula']} ({rows[position]['name']})", phase, diagram))
    words = f"{store.info.name}: {store.info.level_of_theory}; corrections {scheme}, Gibbs {TEMPERATURE:g} K"
    notes = list(dict.fromkeys([*competition.notes, *(text for row in rows for text in _caveats(row))]))
    if asked.plot is not None and diagrams:
        write_pourbaix_html(asked.plot, diagrams, words, asked.concentration, notes)
    if as_json:
        print_json(
            {
                "model": store.info.name,
                "model_sha256": store.info.sha256,
                "corrections": scheme,
                "concentration": asked.concentration,
                "structures": rows,
                "warnings": notes,
            }
        )
    else:
        say(f"{words}; ions {asked.concentration:g} mol/L")
        for row in rows:
            if row["error"] is None:
                _print(row)
        if asked.plot is not None and diagrams:
            say(f"wrote {asked.plot}")
    warn_of_inputs(inputs)
    _finish(rows, notes)


def _checked(ions: Path | None, plot: Path | None) -> list[ReferencedIon]:
    """The ions of the file, after what can be wrong with the command line."""
    if ions is None:
        raise DPA4Error(
            "a Pourbaix diagram needs energies of ions in water, which no model of solids gives and this program does "
            "not hold: name a file of measured ones with --ions; its form is in docs/stability.md"
        )
    if plot is not None and plot.suffix.lower() != ".html":
        raise DPA4Error(f"cannot draw into {plot.name!r}; end the name of the plot in .html")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise DPA4Error(f"there is no folder {plot.parent} for {plot.name}")
    return read_ions(ions)


def _sorted_out(
    inputs: Sequence[Computed], known: Sequence[ReferencedIon]
) -> tuple[list[dict[str, Any]], dict[int, tuple[Structure, list[ReferencedIon]]]]:
    """A row for each input, and by position the structures that have ions, with these."""
    rows: list[dict[str, Any]] = [
        {"name": e.name, "formula": None, "warnings": list(e.warnings), "error": e.error} for e in inputs
    ]
    wanted: dict[int, tuple[Structure, list[ReferencedIon]]] = {}
    for position, entry in enumerate(inputs):
        if entry.error is not None:
            continue
        composition = entry.structure.composition.element_composition
        elements = frozenset(composition.get_el_amt_dict())
        rows[position]["formula"] = composition.reduced_formula
        try:
            check_ions(elements, known)
        except ThermodynamicsError as error:
            rows[position]["error"] = str(error)
        else:
            wanted[position] = entry.structure, [ion for ion in known if ion.element in elements]
    return rows, wanted


def _stability(
    phases: HullPhases, ions: Sequence[ReferencedIon], at: Conditions
) -> tuple[dict[str, Any], PourbaixEntry, PourbaixDiagram]:
    """Plain types for the row of one structure, its entry and the diagram.

    Raises:
        ThermodynamicsError: it has no Gibbs energy, or a reference is missing.
    """
    if 0 in phases.reasons:
        raise ThermodynamicsError(phases.reasons[0])
    own = phases.candidates[0]
    entries = [own, *phases.competing]
    solids = pourbaix_entries(entries, ions)
    phase = next(solid for solid in solids if solid.entry_id == str(own.entry_id))
    found, diagram = aqueous_stability(phase, solids, ph=at.ph, potential=at.potential, concentration=at.concentration)
    row = {
        "ph": found.ph,
        "potential": found.potential,
        "decomposition_energy": found.decomposition_energy.tolist(),
        "products": found.products,
        "reference_shifts": reference_shifts(entries, ions),
        "sources": sorted({ion.source for ion in ions}),
    }
    return row, phase, diagram


def _system(structure: Structure, ions: Sequence[ReferencedIon]) -> str:
    """Elements of a structure, of water and of the reference solids."""
    elements = {"O", "H", *chemical_system(structure).split("-")}.union(*(ion.reference_elements for ion in ions))
    return "-".join(sorted(elements))


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


def _finish(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> None:
    for note in notes:
        warn("incomplete", note)
    failed = [row for row in rows if row["error"] is not None]
    for row in failed:
        tell_failed(row["name"], row["error"])
    if failed:
        raise typer.Exit(USER_ERROR if len(failed) == len(rows) else SOME_FAILED)
