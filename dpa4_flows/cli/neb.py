"""`dpa4 neb`: the barrier between two structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.compute import finish
from dpa4_flows.cli.console import say
from dpa4_flows.cli.options import OUTPUT, AsJson, BatchMachine, Model, grouped, option
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.targets import a_file
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.neb import Neb, NebDocument
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How
from dpa4_flows.structure_files import Computed, output_format, write_structures

app = typer.Typer()


@dataclass(frozen=True)
class Search:
    """How the path is looked for; fields of the property."""

    n_images: int = option(Neb.n_images, "Images between the ends.", min=1)
    fmax: float = option(Neb.fmax, "Largest force across the path at the end, eV/Å.")
    end_fmax: float = option(Neb.end_fmax, "Largest force on both ends, which relax first, eV/Å.")
    max_steps: int = option(Neb.max_steps, "Optimiser steps of the band, and of each end.", min=1)
    climb: bool = option(Neb.climb, "Let the highest image climb to the saddle.")
    spring: float = option(Neb.spring, "Between neighbouring images, eV/Å².")
    symmetric: bool = option(
        Neb.symmetric, "Of a path that a symmetry takes to its reverse, relax one end and the middle alone."
    )


@app.command()
@grouped
def neb(
    start: Annotated[Path, typer.Argument(help="File with the structure at which the path begins.")],
    end: Annotated[Path, typer.Argument(help="The same atoms in the same cell where it ends, in any order.")],
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, metavar="FILE", callback=a_file, help="Write the images: .extxyz, .cif, .json."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", callback=a_file, help="Draw the energy along the path, as a page.")
    ] = None,
    *,
    search: Search,
    model: Model = "dpa4-neo",
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Barrier between two structures: relax both, and the path of lowest energy between them (nudged elastic band).

    The cell stays. Atoms are matched by the shortest ways; fixed atoms of the start stay.

    For example:

      dpa4 neb before.vasp after.vasp -o path.extxyz --report path.html
    """
    if output is not None:
        output_format(output)
    first, last = _single(start), _single(end)
    asked = Neb(**vars(search), end=last.structure)
    machine.use_threads()
    question, how = Question([asked], None), How(ConsoleWatch(quiet=as_json))
    question.check()
    results = compute_in(None, question, [first], machine.model(model), how, machine.max_atoms_per_batch)
    document = results.answers[0].documents["neb"]
    if report is not None:
        write_properties_report(results, report, title="Path", model=machine.model(model).resolve())
    if output is not None and isinstance(document, NebDocument) and document.images:
        origin = origin_row(machine.model(model).info())
        images = [
            Computed(f"image {i}", structure_of_fields(image), origin, energy=(document.energy or 0.0) + energy)
            for i, (image, energy) in enumerate(zip(document.images, document.energies, strict=True))
        ]
        write_structures(output, images)
        if not as_json:
            say(f"wrote {output}")
    finish(results, as_json=as_json)


def _single(file: Path) -> Subject:
    """The structure in a file.

    Raises:
        DPA4Error: it cannot be read, or there are several.
    """
    found = read_crystals([file])
    if len(found) != 1:
        raise DPA4Error(f"{file} holds {len(found)} structures; an end of a path is one")
    subject = Subject.of(found[0])
    if subject.error is not None:
        raise DPA4Error(f"{file}: {subject.error}")
    return subject
