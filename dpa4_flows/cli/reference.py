"""`dpa4 reference`: the library of competing phases that all hulls share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pymatgen.core import Composition, Element
from rich.markup import escape
from rich.table import Table

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error, plural
from dpa4_flows.campaigns.bundled import find_campaign
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import Campaign, load_campaign
from dpa4_flows.campaigns.context import Screening
from dpa4_flows.campaigns.run import model_of
from dpa4_flows.campaigns.sections import CACHE, NONE
from dpa4_flows.cli.competition import AskMP, ask_project
from dpa4_flows.cli.computing import showing
from dpa4_flows.cli.console import out, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, BatchMachine, Corrections, Model, RetryErrors, flag, grouped, option
from dpa4_flows.cli.relaxing import Library, LibraryRelaxations
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.compute.driver import Counts
from dpa4_flows.reference.catalogue import export_entries, stores, summarise
from dpa4_flows.reference.entries import chemical_system, correction_scheme
from dpa4_flows.reference.gather import gather_phases
from dpa4_flows.reference.store import ReferenceStore, library_folder

MAX_FAILURES = 20
"""Phases without an energy that are named on the screen; --json has them all."""

app = typer.Typer()
reference = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(reference, name="reference")


@reference.callback()
def _reference() -> None:
    """Competing phases, relaxed once by each model and shared by all hulls.

    For example:

      dpa4 reference build Li-Co-O Na-Fe-P-O

      dpa4 reference list
    """


@dataclass(frozen=True)
class Phases:
    """What is built."""

    files: list[Path] | None = option(None, f"Structures to add; {SEVERAL}.", "--from", metavar="FILE")
    survey: bool = flag("The files of --from hold all known phases of these systems.")
    mp: AskMP = None
    campaign: str | None = option(
        None,
        "All systems of the candidates of a campaign (file or bundled), with its model and settings.",
        metavar="CAMPAIGN",
    )
    refresh: bool = flag("Ask for phases again that were asked for before.")
    retry_errors: RetryErrors = False


@reference.command()
@grouped
def build(
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="SYSTEMS...", help="Chemical systems, as Li-Co-O, or formulas.")
    ] = None,
    *,
    phases: Phases,
    model: Model = "dpa4-neo",
    relaxing: LibraryRelaxations,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Relax the competing phases of chemical systems and keep them.

    Structures come from the bundled elements and compounds, from files, and from the Materials Project; energies are
    always those of the model. Building again computes only what is missing. Naming a file makes no hull complete:
    --survey says that it holds all known phases of the systems that its compounds reach over.

    For example:

      dpa4 reference build Li-Co-O

      dpa4 reference build Li-Co-O --from my_phases.json --survey --no-mp

      dpa4 reference build --campaign campaign.toml
    """
    wanted, extra = list(systems or []), list(phases.files or [])
    computes, relaxation, library = machine.model(model), relaxing.relaxation(), relaxing.library
    budget = machine.max_atoms_per_batch
    if phases.campaign is not None:
        content = load_campaign(find_campaign(phases.campaign)[0])
        if content.competition is None:
            raise DPA4Error(f"campaign {content.campaign.name} compares nothing with competing phases")
        computes = model_of(content)
        relaxation = Screening("", computes, content, corrections="none").relaxed
        library = library or _campaign_library(content)
        budget = budget or content.engine.max_atoms_per_batch
        wanted += _campaign_systems(content)
        extra += [Path(file) for file in content.hull.competing]
    if phases.survey and not extra:
        raise DPA4Error("--survey speaks of the files of --from: name one")
    if not wanted:
        raise DPA4Error(
            "name a chemical system, as in `dpa4 reference build Li-Co-O`, or a campaign, as in "
            "`dpa4 reference build --campaign battery`"
        )
    machine.use_threads()
    store = ReferenceStore.for_model(computes, relaxation, library)
    wanted = [system_of(text) for text in wanted]
    notes = gather_phases(
        store, wanted, extra, ask_project(phases.mp), files_survey=phases.survey, refresh=phases.refresh
    )
    counts = Counts()
    with showing(counts, quiet=as_json):
        summary = store.build(wanted, [], retry_errors=phases.retry_errors, max_atoms_per_batch=budget, counts=counts)
    completeness = store.completeness(summary.chemical_systems)
    if phases.survey:
        names = " and ".join(file.name for file in extra)
        notes += [
            f"{names} does not count as a survey of {system}: it has no compounds that reach over its elements"
            for system, found in completeness.items()
            if found.survey is None
        ]
    if as_json:
        graded = {system: found.model_dump() for system, found in completeness.items()}
        print_json({**summary.model_dump(), "completeness": graded, "warnings": notes, "path": str(store.table.path)})
    else:
        say(
            f"{', '.join(summary.chemical_systems)}: {plural(summary.n_phases, 'phase')}, {summary.n_computed} relaxed "
            f"now, {summary.n_reused} before, {len(summary.failures)} without a usable energy"
        )
        say(f"library of {store.info.name}: {store.table.path}")
    for note in notes:
        warn("mind", note)
    for found in completeness.values():
        if found.survey is None:
            warn("incomplete", found.sentence)
    for failure in summary.failures[:MAX_FAILURES]:
        warn("no energy", failure, "bold red")
    if len(summary.failures) > MAX_FAILURES:
        remark(f"and {len(summary.failures) - MAX_FAILURES} more; --json lists them all")
    if summary.missing_elements:
        warn(
            "no reference", f"{', '.join(summary.missing_elements)}: no formation energies in their systems", "bold red"
        )
    if summary.failures or summary.missing_elements:
        raise typer.Exit(USER_ERROR if len(summary.failures) == summary.n_phases else SOME_FAILED)


@reference.command("list")
def list_libraries(library: Library = None, as_json: AsJson = False) -> None:
    """What the library holds: models, chemical systems, where their phases come from.

    For example:

      dpa4 reference list
    """
    found = [summarise(store) for store in stores(library)]
    if as_json:
        print_json([summary.model_dump() for summary in found])
        return
    if not found:
        say(f"nothing in {library_folder(library)} yet; begin with: dpa4 reference build Li-Co-O")
    for summary in found:
        rattle = f"rattle {summary.settings.get('rattle', 0.0):g} Å"
        settings = f"fmax {summary.settings['fmax']:g} eV/Å, {rattle}, {summary.settings['dtype']}"
        title = (
            f"{summary.model} {summary.model_sha256[:12]}, {settings}: {summary.n_computed}/{summary.n_phases} phases"
        )
        table = Table("system", "phases", "usable", "what competes", "from", title=escape(title), title_justify="left")
        for system in summary.systems:
            counts = (str(system.n_phases), str(system.n_computed), escape(system.completeness.sentence))
            table.add_row(system.chemical_system, *counts, escape("\n".join(system.sources)))
        out.print(table)


@reference.command()
def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", callback=a_file_beside, help="File to write: .json or .json.gz.")
    ],
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="SYSTEMS...", help="Chemical systems; default: all.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name or checksum of the model, if there are several.")
    ] = None,
    fmax: Annotated[
        float | None, typer.Option(min=0.0, help="Threshold of the relaxations, if there are several, eV/Å.")
    ] = None,
    rattle: Annotated[
        float | None, typer.Option(min=0.0, help="Displacements of the relaxations, if there are several, Å.")
    ] = None,
    corrections: Corrections = "auto",
    library: Library = None,
) -> None:
    """Write relaxed phases with corrected energies as pymatgen entries.

    The file can be built into another library with --from, where another model relaxes its structures.

    For example:

      dpa4 reference export li_co_o.json.gz Li-Co-O
    """
    if not file.name.lower().endswith((".json", ".json.gz")):
        raise DPA4Error(f"cannot tell the format from {file.name!r}; end the name in .json or .json.gz")
    store = _choose(stores(library), model, fmax, rattle, library)
    n_written = export_entries(store, file, correction_scheme(store.info, corrections), systems or None)
    if n_written == 0:
        raise DPA4Error(
            f"the library has no phases of {', '.join(systems or [])}; build it with `dpa4 reference build`"
        )
    say(f"wrote {plural(n_written, 'entry').replace('entrys', 'entries')} of {store.info.name} to {file}")


def system_of(text: str) -> str:
    """The chemical system that a user names: ``Li-Co-O``, or the formula of a compound in it."""
    if "-" in text or Element.is_valid_symbol(text):
        return text
    try:
        return "-".join(sorted(Composition(text, strict=True).get_el_amt_dict()))
    except (ValueError, KeyError):
        return text  # the library says what is wrong with it


def _campaign_library(campaign: Campaign) -> Path | None:
    """Folder of the library that a campaign reads; None for that in the cache."""
    name = campaign.hull.library
    if name == NONE:
        raise DPA4Error(
            f'campaign {campaign.campaign.name} has library = "none" in [hull] and would not read what is built; '
            "change that first, or name a folder with --library"
        )
    return None if name == CACHE else Path(name)


def _campaign_systems(campaign: Campaign) -> list[str]:
    candidates = read_candidates(campaign.campaign.candidates, disordered=bool(campaign.funnel.orders))
    return sorted({chemical_system(structure_of_fields(c.structure)) for c in candidates if c.structure is not None})


def _choose(
    found: Sequence[ReferenceStore],
    model: str | None,
    fmax: float | None,
    rattle: float | None,
    library: Path | None,
) -> ReferenceStore:
    """The one library that ``model``, ``fmax`` and ``rattle`` name."""
    fitting = [
        store
        for store in found
        if (model is None or model in (store.info.name, store.model.title) or store.info.sha256.startswith(model))
        and (fmax is None or store.relaxation.fmax == fmax)
        and (rattle is None or store.relaxation.rattle == rattle)
    ]
    if len(fitting) == 1:
        return fitting[0]
    folder = library_folder(library)
    if not fitting:
        which = "nothing" if model is None else f"nothing of {model}"
        raise DPA4Error(f"the library {folder} holds {which}; begin with `dpa4 reference build Li-Co-O`")
    names = ", ".join(
        f"{s.info.name} {s.info.sha256[:12]} fmax {s.relaxation.fmax:g} rattle {s.relaxation.rattle:g} {s.model.dtype}"
        for s in fitting
    )
    option = "--fmax" if len({store.relaxation.fmax for store in fitting}) > 1 else "--rattle"
    if len({store.info.sha256 for store in fitting}) > 1:
        option = "--model"
    raise DPA4Error(f"the library {folder} holds {len(fitting)} sets of phases; choose with {option} from {names}")
