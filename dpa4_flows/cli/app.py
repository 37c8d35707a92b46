"""The `dpa4` command: its options and the table of its subcommands."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any, ClassVar

import typer

from dpa4_core.version import code_version
from dpa4_flows.cli.lazy import LazyCommand, LazyGroup
from dpa4_flows.properties.registry import canonical, property_names

_MODELS = "Models"
_STRUCTURES = "Structures"
_STABILITY = "Stability"
_TRAINING = "Training"
_CAMPAIGNS = "Screening campaigns"
_RUNS = "Runs of any kind"

_HELP = """Energies, relaxations and materials screening with the DPA4 interatomic potential.

First steps:

  dpa4 screen battery                       the bundled cathode campaign, to a ranked table
  dpa4 relax POSCAR -o relaxed.cif          relax one structure
  dpa4 finetune frames.extxyz               fit DPA4-Neo to your own calculations
  dpa4 doctor                               what this installation can do

Exit codes: 0 everything was done; 1 one sentence says what to change; 2 the command line is wrong;
3 some structures could not be computed and are listed; 75 a training run was stopped by a signal and can go on.
"""


class Dpa4Group(LazyGroup):
    """All subcommands."""

    commands_by_name: ClassVar = {
        "info": LazyCommand("dpa4_flows.cli.models", "Show the models, or all that is known about one.", _MODELS),
        "fetch": LazyCommand("dpa4_flows.cli.models", "Put a model into the cache and check it.", _MODELS),
        "convert": LazyCommand("dpa4_flows.cli.models", "Convert between official .pt and .dpa4 files.", _MODELS),
        "evaluate": LazyCommand("dpa4_flows.cli.evaluate", "Compare a model with labelled structures.", _MODELS),
        "doctor": LazyCommand("dpa4_flows.cli.doctor", "Check what this installation can do.", _MODELS),
        "predict": LazyCommand("dpa4_flows.cli.structures", "Energies, forces and stress of files.", _STRUCTURES),
        "relax": LazyCommand("dpa4_flows.cli.structures", "Relax the structures in files.", _STRUCTURES),
        "compute": LazyCommand("dpa4_flows.cli.compute", "Any properties of the structures in files.", _STRUCTURES),
        "neb": LazyCommand("dpa4_flows.cli.neb", "The barrier between two structures.", _STRUCTURES),
        "md": LazyCommand("dpa4_flows.cli.md", "Molecular dynamics of the structures in files.", _STRUCTURES),
        "msd": LazyCommand("dpa4_flows.cli.msd", "How fast ions diffuse in trajectories.", _STRUCTURES),
        "hull": LazyCommand("dpa4_flows.cli.hull", "Is a compound stable? Energies above the hull.", _STABILITY),
        "stability": LazyCommand(
            "dpa4_flows.cli.stability", "Against other phases, strain and displacements of atoms.", _STABILITY
        ),
        "pourbaix": LazyCommand("dpa4_flows.cli.pourbaix", "Does a solid last in water?", _STABILITY),
        "reference": LazyCommand("dpa4_flows.cli.reference", "The library of competing phases.", _STABILITY),
        "validate": LazyCommand("dpa4_flows.cli.validate", "Check a model against measurements.", _STABILITY),
        "train": LazyCommand("dpa4_flows.cli.train", "Train a model on labelled structures.", _TRAINING),
        "finetune": LazyCommand("dpa4_flows.cli.train", "Fit a published model to your structures.", _TRAINING),
        "init": LazyCommand("dpa4_flows.cli.screen", "Copy a bundled campaign to adapt it.", _CAMPAIGNS),
        "screen": LazyCommand("dpa4_flows.cli.screen", "Run a campaign to a ranked table.", _CAMPAIGNS),
        "resume": LazyCommand("dpa4_flows.cli.runs", "Continue a run that was stopped.", _RUNS),
        "status": LazyCommand("dpa4_flows.cli.runs", "How far a run is and what came out so far.", _RUNS),
        "report": LazyCommand("dpa4_flows.cli.runs", "Write the HTML report of a run.", _RUNS),
        "export": LazyCommand("dpa4_flows.cli.runs", "Write results as CSV or JSON, structures as files.", _RUNS),
    }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Also the name of a property, before which `compute` may be left out."""
        if args[0] in self.commands_by_name or canonical(args[0]) not in property_names():
            return super().resolve_command(ctx, args)
        _, command, rest = super().resolve_command(ctx, ["compute", *args])
        return args[0], command.about(args[0]), rest[1:]


app = typer.Typer(
    name="dpa4",
    cls=Dpa4Group,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dpa4 {code_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere.")] = False,
) -> None:
    """Options before the command; ``debug`` is read by the group."""


def main() -> None:
    """Entry point of the console script. Warnings of libraries go to the log of a run, not between its results."""
    # OpenMP threads spin while they wait; when another program needs one of the cores that costs a factor of ten and
    # more (two 2-thread runs on 2 cores). Sleeping instead is as fast on an idle machine. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.captureWarnings(True)
    app()
