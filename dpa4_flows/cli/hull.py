"""`dpa4 hull`: is this compound stable against everything it could fall apart into?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pymatgen.core import Structure
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.calculations import RATTLE
from dpa4_flows.cli.console import number, out, plural, print_json, remark, say, warn
from dpa4_flows.cli.hull_output import against_words, decomposition_words, result_rows, write_csv, write_plot
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.outputs import Computed
from dpa4_flows.cli.reference import AskMP, Fmax, Library, MaxSteps, Rattle
from dpa4_flows.cli.reference_build import build_library
from dpa4_flows.cli.structures import MAX_ROWS, AsJson, Batch, Device, Dtype, Files, Model, Threads, read_inputs
from dpa4_flows.makers.batch import BatchMaker, BatchRelaxMaker, BatchStaticMaker
from dpa4_flows.makers.hull import CACHE, HullSet, hull_set
from dpa4_flows.makers.references import ReferenceEntries, chemical_system, correction_scheme
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.library import LibraryError, ReferencePhase, bundled_elements, select_for_chemsys
from dpa4_flows.reference.mp_frame import check_materials_project_scale, materials_project_references
from dpa4_flows.reference.sources import as_crystal, open_materials_project, read_phases
from dpa4_flows.reference.store import ReferenceStore

MP = "mp"

SHOWN_AS_ZERO = 5e-4
"""eV/atom: two relaxations of one phase differ by so much; smaller distances are 0.000 in the table."""

app = typer.Typer()


@app.callback()
def _family() -> None:
    """Stability."""


@dataclass(frozen=True)
class Competition:
    """What the structures stand against.

    Attributes:
        references: competing phases in the frame of the model.
        gaps: sentence for each chemical system whose phases nobody surveyed.
        computed_by: who computed their energies.
        notes: what could not be asked.
    """

    references: ReferenceEntries
    gaps: dict[str, str]
    computed_by: str = "the same model"
    notes: tuple[str, ...] = ()


@app.command()
def hull(
    files: Files,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="What competes: cache, the library that grows by what is missing; FILE, structures in files; both "
            "relaxed by the same model. mp: energies of the Materials Project, for a model on their scale."
        ),
    ] = None,
    corrections: Annotated[
        str,
        typer.Option(help="auto takes those that fit the model; none, MP2020, OMat24, or the .yaml file of a refit."),
    ] = "auto",
    no_relax: Annotated[bool, typer.Option("--no-relax", help="Take the structures of FILES as they are.")] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="The structures of FILES do not compete with each other.")
    ] = False,
    mp: AskMP = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a table.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the hulls: .html or .png.")] = None,
    model: Model = "dpa4-neo",
    fmax: Fmax = 0.02,
    max_steps: MaxSteps = 500,
    rattle: Rattle = RATTLE,
    library: Library = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Threads = 0,
    max_atoms_per_batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Energy above the convex hull, formation energy, and what each structure would decompose into.

    Structures and competing phases are relaxed by the same model with the same settings and corrected by the same
    rules. The result is 0 K without vibrations, and as good as the set of competing phases is complete.

    For example:

      dpa4 hull LiCoO2.cif

      dpa4 hull candidates/ --against my_phases.json --csv hull.csv --plot hull.html

      dpa4 hull LiCoO2.cif --against mp --model dpa4-pro-mptrj
    """
    kinds = _kinds(against)
    _check_outputs(csv_file, plot)
    inputs = [_crystal(entry) for entry in read_inputs(files)]
    if threads:
        torch.set_num_threads(threads)
    maker = BatchRelaxMaker(
        model=ModelRef(model, device=device, dtype=dtype),
        fmax=fmax,
        max_steps=max_steps,
        max_atoms_per_batch=max_atoms_per_batch,
        rattle=rattle,
    )
    store = ReferenceStore.for_model(maker, library)
    scheme = correction_scheme(store.info, corrections)
    if kinds == [MP]:
        check_materials_project_scale(store.info, scheme)
    good = [i for i, entry in enumerate(inputs) if entry.error is None]
    structures: list[Structure] = [inputs[i].structure for i in good]
    systems = sorted({chemical_system(structure) for structure in structures})
    competition = _competition(store, systems, kinds, scheme, mp, quiet=as_json)
    calculator: BatchMaker = (
        BatchStaticMaker(model=store.maker.model, max_atoms_per_batch=max_atoms_per_batch) if no_relax else store.maker
    )
    calculator.run(store.table, structures)
    keys = [calculator.key(structure) for structure in structures]
    documents = store.table.calculations(keys)
    found = hull_set(
        [documents[key] for key in keys],
        competition.references,
        store.info,
        scheme,
        settings=calculator.settings(),
        candidates_compete=not alone,
        gaps=competition.gaps,
        competing_energies=competition.computed_by,
    )
    rows = result_rows(inputs, good, [documents[key] for key in keys], found)
    if csv_file is not None:
        write_csv(csv_file, rows)
    words = f"{store.info.name}: {store.info.level_of_theory}; corrections {scheme}"
    notes = [*competition.notes, *found.warnings]
    drawn = write_plot(plot, found.summary, words) if plot is not None else []
    if as_json:
        print_json(
            {
                "model": store.info.name,
                "model_sha256": store.info.sha256,
                "level_of_theory": store.info.level_of_theory,
                "corrections": scheme,
                "against": against_words(kinds, competition.computed_by),
                "relaxed": not no_relax,
                "structures": rows,
                "warnings": notes,
            }
        )
    else:
        _print(rows, f"{words}; against {against_words(kinds, competition.computed_by)}")
        for path in ([csv_file] if csv_file else []) + drawn:
            say(f"wrote {path}")
    if plot is not None and not drawn:
        warn("not drawn", f"nothing for {plot}: a hull needs two elements, and all their references")
    _finish(rows, found, notes)


def _kinds(against: Sequence[str] | None) -> list[str]:
    """``["cache"]``, ``["mp"]``, or names of files."""
    kinds = list(dict.fromkeys(against or [CACHE]))
    if len(kinds) > 1 and {CACHE, MP} & set(kinds):
        raise DPA4Error(
            f"--against takes one of cache, mp, or files, not {' and '.join(kinds)}: energies of different origin "
            "never meet on one hull; files join the library with `dpa4 reference build --from FILE`"
        )
    for kind in kinds:
        if kind not in (CACHE, MP) and not Path(kind).exists():
            raise DPA4Error(f"there is no file {kind} to stand against; --against takes cache, mp, or a file")
    return kinds


def _check_outputs(csv_file: Path | None, plot: Path | None) -> None:
    for path in (csv_file, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise DPA4Error(f"there is no folder {path.parent} for {path.name}")
    if plot is not None and plot.suffix.lower() not in (".html", ".png"):
        raise DPA4Error(f"cannot tell the format from {plot.name!r}; end the name of the plot in .html or .png")


def _crystal(entry: Computed) -> Computed:
    """The input as a pymatgen structure; a molecule fails alone."""
    if entry.error is not None:
        return entry
    try:
        return Computed(entry.name, as_crystal(entry.structure))
    except LibraryError as error:
        return Computed(entry.name, error=str(error))


def _competition(
    store: ReferenceStore, systems: Sequence[str], kinds: Sequence[str], scheme: str, mp: bool | None, *, quiet: bool
) -> Competition:
    if not systems:
        return Competition(ReferenceEntries([], []), {})
    if kinds == [MP]:
        client = open_materials_project()
        entries = {e.entry_id: e for system in systems for e in client.entries(system)}
        references = materials_project_references(entries.values(), store.info)
        return Competition(references, {}, f"Materials Project {client.database_version()}")
    if kinds == [CACHE]:
        _, notes = build_library(store, systems, mp=mp, quiet=quiet)
        return Competition(store.references(systems, scheme), store.gaps(systems), notes=tuple(notes))
    phases: list[ReferencePhase] = [phase for kind in kinds for phase in read_phases(Path(kind))]
    elements = {symbol for system in systems for symbol in system.split("-")}
    phases = [*bundled_elements(elements), *select_for_chemsys(phases, systems)]
    return Competition(store.entries_of(phases, scheme), {})


def _print(rows: Sequence[dict[str, Any]], words: str) -> None:
    shown = [row for row in rows if row["error"] is None]
    say(words)
    table = Table("name", "formula", caption="eV/atom; products by fraction of atoms", caption_justify="left")
    for title in ("above hull", "formation", "phases"):
        table.add_column(title, justify="right")
    table.add_column("would turn into")
    for row in shown[:MAX_ROWS]:
        stable = row["energy_above_hull"] < SHOWN_AS_ZERO
        phases = f"{row['n_competing']}{'' if row['references_complete'] else ' ?'}"
        table.add_row(
            escape(row["name"]),
            row["formula"],
            number(row["energy_above_hull"], 3),
            number(row["formation_energy_per_atom"], 3),
            phases,
            "[green]stable[/]" if stable else decomposition_words(row["decomposition"], row["formula"]),
        )
    if shown:
        out.print(table)
    if len(shown) > MAX_ROWS:
        say(f"and {plural(len(shown) - MAX_ROWS, 'more structure')}")


def _finish(rows: Sequence[dict[str, Any]], found: HullSet, notes: Sequence[str]) -> None:
    """Warnings and failures on stderr; 3 if something failed, 1 if everything did."""
    for note in notes:
        warn("mind", note)
    missing = {
        text for d in found.documents if d is not None and not d.references_complete for text in d.missing_references
    }
    for text in sorted(missing):
        warn("incomplete", f"{text}; distances are lower bounds")
    if any("no survey" in text for text in missing):
        remark("set MP_API_KEY, or add phases with `dpa4 reference build SYSTEM --from FILE`")
    failed = [row for row in rows if row["error"] is not None]
    for row in failed:
        error = row["error"]
        warn("failed", error if row["name"] in error else f"{row['name']}: {error}", "bold red")
    if failed:
        raise typer.Exit(USER_ERROR if len(failed) == len(rows) else SOME_FAILED)
