"""`dpa4 hull`: is this compound stable against everything it could fall apart into?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullVerdict
from dpa4_flows.cli.competition import Competition, against_words, crystal
from dpa4_flows.cli.computing import documents_of
from dpa4_flows.cli.console import MAX_ROWS, finish, number, out, print_json, remark, say, say_rest, warn
from dpa4_flows.cli.hull_output import decomposition_words, incomplete_words, result_rows, write_plot, write_rows
from dpa4_flows.cli.hull_views import add_view, print_views, view_figures
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Model, flag, grouped, option
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.structures import read_inputs, warn_of_inputs
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.documents.quantities import STD
from dpa4_flows.plots.words import right
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials
from dpa4_flows.properties.competition import CACHE, Competing
from dpa4_flows.properties.hull import Hull, HullSet
from dpa4_flows.properties.windows import ElectrochemicalWindows
from dpa4_flows.reference.entries import correction_scheme
from dpa4_flows.report.parity_plot import check_plot_name

app = typer.Typer()


@dataclass(frozen=True)
class Question:
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

    def properties(self, competition: Competition, relaxing: LibraryRelaxations) -> dict[str, Competing[Any]]:
        """The properties that answer, by the names of their fields in a row."""
        common = competition.settings(relaxing) | {
            "temperature": self.temperature,
            "relax": not self.no_relax,
            "candidates_compete": not self.alone,
        }
        found: dict[str, Competing[Any]] = {"hull": Hull(**common)}
        if self.window is not None:
            found["window"] = ElectrochemicalWindows(**common, working_ion=self.window)
        if self.chempots:
            found["chempots"] = ChemicalPotentials(**common)
        for one in found.values():
            one.check()
        return found


@dataclass(frozen=True)
class Outputs:
    """Files to write."""

    csv_file: Path | None = option(None, "Write a table.", "--csv", metavar="FILE", callback=a_file_beside)
    plot: Path | None = option(
        None, "Draw: .html has hulls, windows and potentials, .png hulls.", metavar="FILE", callback=a_file_beside
    )

    def check(self) -> None:
        """Refuse what cannot be drawn, before anything is computed."""
        if self.plot is not None:
            check_plot_name(self.plot)


@app.command()
@grouped
def hull(
    files: Files,
    *,
    competition: Competition,
    question: Question,
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
    properties = question.properties(competition, relaxing)
    inputs = [crystal(entry) for entry in read_inputs(files)]
    machine.use_threads()
    store = relaxing.store(machine.model(model))
    scheme = correction_scheme(store.info, competition.corrections)
    good = [i for i, entry in enumerate(inputs) if entry.error is None]
    crystals = [Crystal(inputs[i].structure, inputs[i].name) for i in good]
    asks: dict[Any, Ask[Any]] = {name: Ask(one, Crystals(tuple(crystals))) for name, one in properties.items()}
    asks |= {i: Ask(properties["hull"].calculation, one) for i, one in enumerate(crystals)}
    answers = documents_of(asks, store.model, store.table, machine, quiet=as_json)
    found: HullSet = answers["hull"]
    if found.error is not None:
        raise DPA4Error(found.error)
    rows = result_rows(inputs, good, [answers[i] for i in range(len(good))], found)
    for name in properties.keys() - {"hull"}:
        add_view(rows, good, name, answers[name])
    notes = list(dict.fromkeys(note for name in properties for note in answers[name].warnings))
    words = f"{store.info.name}: {store.info.level_of_theory}; corrections {found.frame.correction}"
    incomplete = incomplete_words(found.completeness)
    drawn: list[Path] = []
    if outputs.csv_file is not None:
        write_rows(outputs.csv_file, rows)
    if outputs.plot is not None:
        figures = view_figures(rows, found.summary, question.window)
        drawn = write_plot(outputs.plot, found.summary, words, figures, [*notes, *incomplete])
        if figures and outputs.plot.suffix.lower() == ".png":
            remark(f"windows and potentials are drawn in .html files; {outputs.plot.name} has the hulls only")
        if not drawn:
            warn("not drawn", f"nothing for {outputs.plot}: a hull needs two elements, and all their references")
    computed_by = next((place.competing_energies for place in found.documents if place is not None), "")
    against = against_words(competition.kinds, computed_by)
    if as_json:
        print_json(
            {
                **origin_row(store.info),
                "corrections": scheme,
                "temperature": question.temperature,
                "against": against,
                "relaxed": not question.no_relax,
                "structures": rows,
                "completeness": {system: c.model_dump() for system, c in found.completeness.items()},
                "warnings": notes,
            }
        )
    else:
        _print(rows, f"{words}; against {against}")
        print_views(rows, question.window)
        for path in ([outputs.csv_file] if outputs.csv_file else []) + drawn:
            say(f"wrote {path}")
    warn_of_inputs(inputs)
    _finish(rows, notes, incomplete, may_grow=competition.kinds == [CACHE])


def _print(rows: Sequence[dict[str, Any]], words: str) -> None:
    shown = [row for row in rows if row["error"] is None]
    say(words)
    caption, numbers = "eV/atom; products by fraction of atoms", right("above hull", "formation", "phases")
    table = Table("name", "formula", *numbers, "would turn into", caption=caption, caption_justify="left")
    for row in shown[:MAX_ROWS]:
        verdict = HullVerdict.model_validate(row["verdict"])
        phases = f"{row['n_competing']}{'' if row['completeness']['grade'] == 'surveyed' else ' ?'}"
        products = decomposition_words(row["decomposition"], row["formula"])
        table.add_row(
            escape(row["name"]),
            row["formula"],
            "unknown" if verdict.code == "unknown" else _with_std(row, "energy_above_hull"),
            _with_std(row, "formation_energy_per_atom"),
            phases,
            products
            if verdict.code == "above_hull"
            else f"[{'green' if verdict.certain else 'yellow'}]{escape(verdict.sentence)}[/]",
        )
    if shown:
        out.print(table)
    say_rest(len(shown))


def _with_std(row: Mapping[str, Any], name: str) -> str:
    return number(row[name], 3, row[name + STD])


def _finish(rows: Sequence[dict[str, Any]], notes: Sequence[str], incomplete: Sequence[str], *, may_grow: bool) -> None:
    """Warnings and failures on stderr."""
    for note in notes:
        warn("mind", note)
    for text in incomplete:
        warn("incomplete", text)
    if may_grow and any(row["completeness"]["survey"] is None for row in rows if row["error"] is None):
        remark("set MP_API_KEY, or add phases with `dpa4 reference build SYSTEM --from FILE --survey`")
    finish((row["name"], row["error"]) for row in rows)
