"""`dpa4 stability`: is a compound stable against other phases, against strain, against displacements of its atoms?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pymatgen.core import Structure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_json
from dpa4_flows.cli.competition import AskMP, crystal
from dpa4_flows.cli.console import err, print_json, say, tell_failed, warn
from dpa4_flows.cli.hull_output import incomplete_words
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Model, grouped
from dpa4_flows.cli.reference_build import build_library
from dpa4_flows.cli.relaxing import LibraryRelaxations
from dpa4_flows.cli.stability_output import print_answers, result_rows, structures_to_write
from dpa4_flows.cli.structures import read_inputs
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.hull import HullSet, hull_set
from dpa4_flows.makers.stability import StabilityMaker
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonons import TEMPERATURES, Phonons
from dpa4_flows.properties.relaxed import Relaxed
from dpa4_flows.properties.stability import Stability
from dpa4_flows.reference.entries import chemical_system, correction_scheme
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.results import ResultsTable
from dpa4_flows.site_conversion import free_crystal
from dpa4_flows.structure_files import Computed, write_structures

TABLE = "stability.sqlite"
"""Results table in the folder of `dpa4 stability`."""
ANSWERS = "stability.json"
FOLLOW_STEPS = 3

app = typer.Typer()


@app.callback()
def _family() -> None:
    """Stability."""


@dataclass(frozen=True)
class Question:
    """What is asked."""

    no_hull: Annotated[bool, typer.Option("--no-hull", help="Without the distance to other phases.")] = False
    no_elastic: Annotated[bool, typer.Option("--no-elastic", help="Without the elastic tensor.")] = False
    no_phonons: Annotated[bool, typer.Option("--no-phonons", help="Without phonons.")] = False
    follow_modes: Annotated[
        bool,
        typer.Option(
            "--follow-modes", help="From an unstable crystal down along its imaginary mode, up to three times."
        ),
    ] = False
    min_length: Annotated[
        float, typer.Option(min=3.0, help="Distance between an atom and its image in phonon supercells, Å.")
    ] = 10.0
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", "-T", min=0.0, help="K, of the thermal properties; may be repeated."),
    ] = None
    corrections: Annotated[
        str, typer.Option(help="Of hull energies: auto, none, MP2020, OMat24, or the .yaml file of a refit.")
    ] = "auto"
    mp: AskMP = None

    def check(self) -> None:
        """Refuse what makes no sense, and what cannot be computed here."""
        if self.no_hull and self.no_elastic and self.no_phonons:
            raise DPA4Error("nothing is left to ask: drop one of --no-hull, --no-elastic, --no-phonons")
        if self.no_phonons and self.follow_modes:
            raise DPA4Error("--follow-modes needs phonons: drop --no-phonons")
        if not self.no_phonons:
            require_extra("phonons", "a calculation of phonons (left out by --no-phonons)")


@dataclass(frozen=True)
class StrictRelaxations(LibraryRelaxations):
    """Relaxations before strains and phonons; those of the hull converge as the library does."""

    fmax: Annotated[
        float, typer.Option(min=1e-6, help="Largest force before strains and phonons, eV/Å; the hull has its own.")
    ] = 1e-3
    max_steps: Annotated[int, typer.Option(min=1, help="Optimiser steps before giving up.")] = 1000


@app.command()
@grouped
def stability(
    files: Files,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Keep everything here and find it again: answers (JSON), structures, force constants for phonopy.",
        ),
    ] = None,
    *,
    asked: Question,
    model: Model = "dpa4-neo",
    relaxing: StrictRelaxations,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Energy above the hull, elastic tensor and phonons of structures, with a verdict and reasons.

    Three questions: would it turn into other phases (hull), does a strain lower its energy (Born criteria of the
    elastic tensor), does a displacement of its atoms (imaginary phonons)? Strains and phonons are those of the
    structure with the symmetry of the file. Competing phases are those of the library, as in dpa4 hull.

    For example:

      dpa4 stability LiCoO2.cif

      dpa4 stability candidates/ --no-hull -o stability

      dpa4 stability BaTiO3-cubic.cif --no-hull --follow-modes -o batio3
    """
    asked.check()
    inputs = [crystal(entry) for entry in read_inputs(files)]
    machine.use_threads()
    folder = None if output is None or asked.no_phonons else str((output / "force_constants").resolve())
    property_ = Stability(
        relaxation=Relaxed(fmax=relaxing.fmax, max_steps=relaxing.max_steps),
        elastic=None if asked.no_elastic else Elastic(),
        phonons=None
        if asked.no_phonons
        else Phonons(
            min_length=asked.min_length,
            temperatures_k=tuple(asked.temperature or TEMPERATURES),
            force_constants_folder=folder,
        ),
        max_follow_steps=FOLLOW_STEPS if asked.follow_modes else 0,
    )
    maker = StabilityMaker(
        model=machine.model(model).resolve(),
        property=property_,
        hull=None,  # placed here, where a terminal shows progress
        max_atoms_per_batch=machine.max_atoms_per_batch,
    )
    good = [i for i, entry in enumerate(inputs) if entry.error is None]
    structures: list[Structure] = [inputs[i].structure for i in good]
    place = tempfile.TemporaryDirectory() if output is None else nullcontext(str(output))
    with place as path:
        table = ResultsTable(Path(path) / TABLE)
        placed: HullSet | None = None
        notes: list[str] = []
        if not asked.no_hull and structures:
            relaxation = BatchRelaxMaker(
                property=Relaxed(rattle=relaxing.rattle),
                model=maker.model,
                max_atoms_per_batch=machine.max_atoms_per_batch,
            )
            placed, notes = _on_hull(
                relaxation, table, structures, asked.corrections, relaxing.library, asked.mp, quiet=as_json
            )
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = as_json or not err.is_terminal
        with Progress(*columns, console=err, transient=True, disable=hidden) as bar:
            task = bar.add_task("relaxing, straining, displacing", total=len(structures))
            found = maker.run(table, structures, placed, lambda n: bar.advance(task, n))
    rows = result_rows(inputs, good, found)
    notes = list(dict.fromkeys([*notes, *found.warnings]))
    info = maker.model.info()
    answer = {
        "model": info.name,
        "model_sha256": info.sha256,
        "level_of_theory": info.level_of_theory,
        "settings": property_.settings(maker.model),
        "structures": rows,
        "warnings": notes,
    }
    written = [] if output is None else _write(output, answer, inputs, good, found.documents)
    if as_json:
        print_json(answer)
    else:
        say(f"{info.name}: {info.level_of_theory}")
        print_answers(rows)
        for file in written:
            say(f"wrote {file}")
    _finish(rows, notes, incomplete_words(placed.completeness) if placed is not None else [])


def _on_hull(
    relaxation: BatchRelaxMaker,
    table: ResultsTable,
    structures: Sequence[Structure],
    corrections: str,
    library: Path | None,
    mp: bool | None,
    *,
    quiet: bool,
) -> tuple[HullSet, list[str]]:
    """Places on the hulls of the library, which grows by what is missing; and what could not be asked."""
    store = ReferenceStore.for_model(relaxation, library)
    scheme = correction_scheme(store.info, corrections)
    systems = sorted({chemical_system(structure) for structure in structures})
    _, notes = build_library(store, systems, mp=mp, quiet=quiet)
    free = [free_crystal(structure)[0] for structure in structures]
    relaxation.run(table, free)
    documents = table.calculations(relaxation.key(structure) for structure in free)
    placed = hull_set(
        [documents[relaxation.key(structure)] for structure in free],
        store.references(systems, scheme),
        store.info,
        scheme,
        settings=relaxation.settings(),
        surveys=store.surveys(systems),
    )
    return placed, list(notes)


def _write(
    folder: Path, answer: dict[str, Any], inputs: Sequence[Computed], good: Sequence[int], documents: Sequence[Any]
) -> list[Path]:
    """Answers and structures; each file whole or not at all."""
    path = folder / ANSWERS
    write_json(path, answer, default=str)
    written = [path]
    for name, structures in structures_to_write(inputs, good, documents).items():
        if structures:
            for note in write_structures(folder / name, structures).notes:
                warn("mind", note)
            written.append(folder / name)
    return written


def _finish(rows: Sequence[dict[str, Any]], notes: Sequence[str], missing: Sequence[str]) -> None:
    """Warnings and failures on stderr; 3 if something has no answer, 1 if nothing has."""
    for note in notes:
        warn("mind", note)
    incomplete = False
    for text in missing:
        warn("incomplete", text)
    for row in rows:
        for text in row.get("warnings", []):
            if text not in notes:
                warn("mind", f"{row['name']}: {text}")
        for part in ("hull", "elastic", "phonons"):
            error = (row.get(part) or {}).get("error")
            if error is not None:
                warn("failed", f"{row['name']}, {part}: {error}", "bold red")
                incomplete = True
        incomplete = incomplete or row.get("relaxed", {"converged": True})["converged"] is False
    failed = [row for row in rows if row["error"] is not None]
    for row in failed:
        tell_failed(row["name"], row["error"])
    if failed or incomplete:
        raise typer.Exit(USER_ERROR if len(failed) == len(rows) else SOME_FAILED)
