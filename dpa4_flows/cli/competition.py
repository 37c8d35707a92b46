"""What structures stand against, as `--against` says: the library, files, or energies of the Materials Project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import Corrections, option
from dpa4_flows.cli.relaxing import LibraryRelaxations, library_name
from dpa4_flows.properties.competition import CACHE
from dpa4_flows.reference.gather import AskProject
from dpa4_flows.reference.library import LibraryError, as_crystal
from dpa4_flows.structure_files import Computed

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
        """``["cache"]``, ``["mp"]``, or names of files."""
        kinds = list(dict.fromkeys(self.against or [CACHE]))
        if len(kinds) > 1 and {CACHE, MP} & set(kinds):
            raise DPA4Error(
                f"--against takes one of cache, mp, or files, not {' and '.join(kinds)}: energies of different origin "
                "never meet on one hull; files join the library with `dpa4 reference build --from FILE`"
            )
        for kind in kinds:
            if kind not in (CACHE, MP) and not Path(kind).exists():
                raise DPA4Error(f"there is no file {kind} to stand against; --against takes cache, mp, or a file")
        return kinds

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


def against_words(kinds: Sequence[str], computed_by: str) -> str:
    """What the structures stand against, in words."""
    if kinds == [CACHE]:
        return "the library, relaxed by the same model"
    return computed_by if kinds == [MP] else f"{', '.join(kinds)}, relaxed by the same model"


def crystal(entry: Computed) -> Computed:
    """The input as a pymatgen structure; a molecule fails alone."""
    if entry.error is not None:
        return entry
    try:
        return replace(entry, structure=as_crystal(entry.structure))
    except LibraryError as error:
        return replace(entry, structure=None, error=str(error))
