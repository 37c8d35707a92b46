"""Options of relaxations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dpa4_flows.cli.options import option
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import RATTLE
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.competition import CACHE
from dpa4_flows.reference.store import ReferenceStore

Library = Annotated[
    Path | None, typer.Option("--library", metavar="FOLDER", help="Folder of the library; default: in the cache.")
]
Rattle = Annotated[
    float,
    typer.Option(min=0.0, max=0.2, help="Random displacements that relaxations start with, Å; 0 keeps the symmetry."),
]


@dataclass(frozen=True)
class Convergence:
    """When a relaxation is done."""

    fmax: float = option(0.02, "Largest force at the end of a relaxation, eV/Å.", min=1e-6)
    max_steps: int = option(500, "Optimiser steps before giving up.", min=1)

    def relaxation(self) -> Relaxed:
        """The relaxation that is done then."""
        return Relaxed(fmax=self.fmax, max_steps=self.max_steps)


@dataclass(frozen=True)
class LibraryRelaxations(Convergence):
    """Relaxations that are kept in the library of competing phases and found there."""

    fmax: float = option(0.02, "Largest force on atoms and cell at the end, eV/Å.", min=1e-6)
    rattle: Rattle = RATTLE
    library: Library = None

    def relaxation(self) -> Relaxed:
        return dataclasses.replace(super().relaxation(), rattle=self.rattle)

    def store(self, model: ModelRef) -> ReferenceStore:
        """The library of a model and these relaxations."""
        return ReferenceStore.for_model(model, self.relaxation(), self.library)


def library_name(folder: Path | None) -> str:
    """The library as a property names it."""
    return CACHE if folder is None else str(folder.absolute())
