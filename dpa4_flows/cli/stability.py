"""`dpa4 stability`: is a compound stable against other phases, against strain, against displacements of its atoms?"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.competition import AskMP, ask_project
from dpa4_flows.cli.compute import finish
from dpa4_flows.cli.console import say
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import OUTPUT, AsJson, BatchMachine, Corrections, Files, Model, flag, grouped, option
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.relaxing import Library, Rattle, library_name
from dpa4_flows.cli.run_output import interruptible
from dpa4_flows.cli.targets import a_folder
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import RATTLE
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.answers import Question
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.phonons import TEMPERATURES, Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How

FOLLOW_STEPS = 3

app = typer.Typer()


@dataclass(frozen=True)
class Answers:
    """What is asked, and where the answers are kept."""

    output: Path | None = option(
        None,
        "Keep everything here and find it again: answers (JSON, CSV), structures, force constants for phonopy.",
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
    question = Question([asked.property(fmax, max_steps, hull.property())], None)
    question.check()
    subjects = question.subjects(read_crystals(files))
    machine.use_threads()
    computes, how = machine.model(model), How(ConsoleWatch(quiet=as_json))
    with nullcontext() if asked.output is None else interruptible(f"dpa4 resume {asked.output}"):
        results = compute_in(asked.output, question, subjects, computes, how, machine.max_atoms_per_batch)
    if not as_json:
        info = computes.resolve().info()
        say(f"{info.name}: {info.level_of_theory}")
    finish(results, as_json=as_json)
