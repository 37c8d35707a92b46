"""`dpa4 stability`: is a compound stable against other phases, against strain, against displacements of its atoms?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_json
from dpa4_flows.cli.competition import AskMP, ask_project, crystal
from dpa4_flows.cli.computing import documents_of, table_in
from dpa4_flows.cli.console import finish, print_json, say, warn
from dpa4_flows.cli.hull_output import incomplete_words
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import OUTPUT, AsJson, BatchMachine, Corrections, Files, Model, flag, grouped, option
from dpa4_flows.cli.relaxing import Library, Rattle, library_name
from dpa4_flows.cli.stability_output import print_answers, result_rows, structures_to_write
from dpa4_flows.cli.structures import read_inputs
from dpa4_flows.cli.targets import a_folder
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import RATTLE
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.documents.stability import StabilitySet
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.phonons import TEMPERATURES, Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.structure_files import Computed, write_structures

TABLE = "stability.sqlite"
"""Results table in the folder of `dpa4 stability`."""
ANSWERS = "stability.json"
FOLLOW_STEPS = 3

app = typer.Typer()


@dataclass(frozen=True)
class Answers:
    """What is asked, and where the answers are kept."""

    output: Path | None = option(
        None,
        "Keep everything here and find it again: answers (JSON), structures, force constants for phonopy.",
        *OUTPUT,
        metavar="DIR",
        callback=a_folder,
    )
    no_hull: bool = flag("Without the distance to other phases.")
    no_elastic: bool = flag("Without the elastic tensor.")
    no_phonons: bool = flag("Without phonons.")
    follow_modes: bool = flag("From an unstable crystal down along its imaginary mode, up to three times.")
    min_length: float = option(10.0, "Distance between an atom and its image in phonon supercells, Å.", min=3.0)
    temperature: list[float] | None = option(
        None, f"K, of the thermal properties; {SEVERAL}.", "--temperature", "-T", min=0.0
    )

    def check(self) -> None:
        """Refuse what leaves nothing to do, or what cannot be done."""
        if self.no_hull and self.no_elastic and self.no_phonons:
            raise DPA4Error("nothing is left to ask: drop one of --no-hull, --no-elastic, --no-phonons")
        if self.no_phonons and self.follow_modes:
            raise DPA4Error("--follow-modes needs phonons: drop --no-phonons")
        if not self.no_phonons:
            require_extra("phonons", "a calculation of phonons (left out by --no-phonons)")

    def property(self, fmax: float, max_steps: int, hull: Hull) -> Stability:
        """Strains and phonons, after a relaxation that ends there, and the place on the hull."""
        folder = None if self.output is None else str((self.output / "force_constants").resolve())
        temperatures = tuple(self.temperature or TEMPERATURES)
        phonons = Phonons(self.min_length, temperatures_k=temperatures, force_constants_folder=folder)
        return Stability(
            relaxation=Relaxed(fmax=fmax, max_steps=max_steps),
            elastic=None if self.no_elastic else Elastic(),
            phonons=None if self.no_phonons else phonons,
            max_follow_steps=FOLLOW_STEPS if self.follow_modes else 0,
            hull=None if self.no_hull else hull,
        )


@dataclass(frozen=True)
class HullOptions:
    """How the distance to other phases is found."""

    corrections: Corrections = "auto"
    mp: AskMP = None
    rattle: Rattle = RATTLE
    library: Library = None

    def property(self) -> Hull:
        """The same as a property."""
        return Hull(
            relaxation=Relaxed(rattle=self.rattle),
            corrections=self.corrections,
            library=library_name(self.library),
            materials_project=ask_project(self.mp),
        )


@app.command()
@grouped
def stability(
    files: Files,
    *,
    asked: Answers,
    hull: HullOptions,
    model: Model = "dpa4-neo",
    fmax: Annotated[
        float, typer.Option(min=1e-6, help="Largest force before strains and phonons, eV/Å; the hull has its own.")
    ] = 1e-3,
    max_steps: Annotated[int, typer.Option(min=1, help="Optimiser steps before giving up.")] = 1000,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Energy above the hull, elastic tensor and phonons of structures, with a verdict and reasons.

    Three questions: would it turn into other phases (hull), does a strain lower its energy (Born criteria of the
    elastic tensor), does a displacement of its atoms (imaginary phonons)? Phonons, and strains beside them, are those
    of the structure with the symmetry of the file, which they judge; with --no-phonons a structure on a saddle point
    goes down first. The table shows the space group before and after. Competing phases are those of the library, as in
    dpa4 hull, whose relaxations leave saddle points, too.

    For example:

      dpa4 stability LiCoO2.cif

      dpa4 stability candidates/ --no-hull -o stability

      dpa4 stability BaTiO3-cubic.cif --no-hull --follow-modes -o batio3
    """
    asked.check()
    inputs = [crystal(entry) for entry in read_inputs(files)]
    machine.use_threads()
    computes = machine.model(model).resolve()
    what, output = asked.property(fmax, max_steps, hull.property()), asked.output
    good = [i for i, entry in enumerate(inputs) if entry.error is None]
    crystals = Crystals(tuple(Crystal(inputs[i].structure, inputs[i].name) for i in good))
    with table_in(output, TABLE) as table:
        found: StabilitySet = documents_of({"": Ask(what, crystals)}, computes, table, machine, quiet=as_json)[""]
    rows = result_rows(inputs, good, found)
    notes = list(dict.fromkeys(found.warnings))
    info = computes.info()
    answer = {
        **origin_row(info),
        "settings": what.settings(computes),
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
    _finish(rows, notes, incomplete_words(found.completeness))


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
            if not {text, words := f"{row['name']}: {text}"} & set(notes):
                warn("mind", words)
        for part in ("hull", "elastic", "phonons"):
            error = (row.get(part) or {}).get("error")
            if error is not None:
                warn("failed", f"{row['name']}, {part}: {error}", "bold red")
                incomplete = True
        incomplete = incomplete or row.get("relaxed", {"converged": True})["converged"] is False
    finish(((row["name"], row["error"]) for row in rows), unfinished=incomplete)
