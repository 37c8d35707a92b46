"""What structures stand against, as `--against` says: the library, files, or energies of the Materials Project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import BatchMachine, Corrections, option
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.relaxing import LibraryRelaxations, library_name
from dpa4_flows.cli.run_output import interruptible
from dpa4_flows.large.inputs import distinct
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Question
from dpa4_flows.properties.competition import CACHE, Competing
from dpa4_flows.properties.table import Results
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.reference.entries import correction_scheme
from dpa4_flows.reference.gather import AskProject
from dpa4_flows.runs.property import compute, compute_in
from dpa4_flows.runs.run import How

MP = "mp"

AskMP = Annotated[
    bool | None,
    typer.Option("--mp/--no-mp", help="Ask the Materials Project for structures; default: with an API key."),
]


@dataclass(frozen=True)
class Competition:
    """What competes, and how energies are corrected."""

    against: list[str] | None = option(
        None,
        "What competes: cache, the library that grows by what is missing; FILE, structures in files; both "
        f"relaxed by the same model; {SEVERAL}. mp: energies of the Materials Project, for a model on their scale.",
    )
    corrections: Corrections = "auto"
    mp: AskMP = None

    @property
    def kinds(self) -> list[str]:
        """``["cache"]``, ``["mp"]``, or names of files, each once."""
        named = dict.fromkeys(self.against or [CACHE])
        files = distinct(Path(one) for one in named if one not in (CACHE, MP))
        kinds = [*(one for one in named if one in (CACHE, MP)), *map(str, files)]
        if len(kinds) > 1 and {CACHE, MP} & set(kinds):
            raise DPA4Error(
                f"--against takes one of cache, mp, or files, not {' and '.join(kinds)}: energies of different origin "
                "never meet on one hull; files join the library with `dpa4 reference build --from FILE`"
            )
        for kind in kinds:
            if kind not in (CACHE, MP) and not Path(kind).exists():
                raise DPA4Error(f"there is no file {kind} to stand against; --against takes cache, mp, or a file")
        return kinds

    @property
    def words(self) -> str:
        """What competes."""
        names = {CACHE: "the library", MP: "energies of the Materials Project"}
        listed = ", ".join(names.get(kind, kind) for kind in self.kinds)
        return listed if self.kinds == [MP] else f"{listed}, relaxed by the same model"

    def settings(self, relaxing: LibraryRelaxations) -> dict[str, Any]:
        """The same as fields of a property that compares, see `properties.competition`."""
        kinds = self.kinds
        common = {"relaxation": relaxing.relaxation(), "corrections": self.corrections}
        if kinds == [MP]:
            return {**common, "materials_project": "energies"}
        if kinds != [CACHE]:
            return {**common, "library": None, "files": tuple(kinds), "bundled": False, "prototypes": False}
        library = library_name(relaxing.library)
        return {**common, "library": library, "materials_project": ask_project(self.mp)}


def ask_project(mp: bool | None) -> AskProject:
    """Whether ``--mp``, ``--no-mp`` or neither asks the Materials Project."""
    return "if possible" if mp is None else "always" if mp else "never"


def answered(
    properties: Sequence[Competing[Any]],
    files: Sequence[Path],
    competition: Competition,
    relaxing: LibraryRelaxations,
    machine: BatchMachine,
    model: ModelRef,
    quiet: bool,
    output: Path | None = None,
) -> tuple[Results[Any], str]:
    """Properties of the structures in files, whose relaxations a folder keeps, or the library beside those of what
    competes.

    Returns:
        What came out, and in words whose energies these are.
    """
    question = Question([one.located() for one in properties], None)
    question.check()
    subjects = question.subjects(read_crystals(files))
    machine.use_threads()
    store = relaxing.store(model)
    scheme = correction_scheme(store.info, competition.corrections)
    how = How(ConsoleWatch(quiet=quiet))
    if output is None:
        results = compute(question, subjects, store.model, store.table, how, machine.max_atoms_per_batch)
    else:
        with interruptible(f"dpa4 resume {output}"):
            results = compute_in(output, question, subjects, store.model, how, machine.max_atoms_per_batch)
    return (
        results,
        f"{store.info.name}: {store.info.level_of_theory}; corrections {scheme}; against {competition.words}",
    )
