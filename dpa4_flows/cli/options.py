"""Options that belong together: a frozen dataclass whose fields are flags, and the groups that several commands share.

A field says default and help, ``fmax: float = option(0.02, "Largest force, eV/Å.")``, and a command takes the group in
place of its flags. A group may derive from another and change a default or a help.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch
import typer

from dpa4_core.potential import PotentialLike
from dpa4_core.properties import PropertyPredictor, load_property
from dpa4_flows.cli.targets import a_file_or_folder, a_folder
from dpa4_flows.model_ref import ModelRef


def option(default: Any, words: str, *names: str, **more: Any) -> Any:
    """A field of a group that is an option of the command.

    Args:
        default: where it is not given.
        words: its help.
        *names: where they do not follow from that of the field.
        **more: further arguments of `typer.Option`.
    """
    return dataclasses.field(default=default, metadata={_OPTION: (names, {"help": words, **more})})


def flag(words: str, *names: str) -> Any:
    """The same of what is off unless it is given, and has no opposite."""
    return option(False, words, *(names or ("--{}",)))


_OPTION = "option"


def options_of(group: type) -> list[inspect.Parameter]:
    """A keyword parameter for each field of a dataclass, as typer reads them."""
    hints = get_type_hints(group, include_extras=True)
    found = []
    for field in dataclasses.fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        annotation = hints[field.name]
        if _OPTION in field.metadata:
            names, more = field.metadata[_OPTION]
            written = [name.format(field.name.replace("_", "-")) for name in names]
            annotation = Annotated[annotation, typer.Option(*written, **more)]
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(field.name, kind, default=default, annotation=annotation))
    return found


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer sees it: with the flags of a group in place of each parameter that is a dataclass."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and dataclasses.is_dataclass(parameter.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            parameters += options_of(groups[name])
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    flat.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return flat


# ---- single options

KINDS_OF_FILES = (
    "CIF, POSCAR, (ext)xyz, JSON, JSON lines, ASE database, a tar or zip archive or a folder of them; or mp-22526 or "
    "LiCoO2, a material of the Materials Project"
)
Files = Annotated[list[Path], typer.Argument(metavar="FILES...", help=f"{KINDS_OF_FILES}.")]
OUTPUT = ("--output", "--out", "-o")
"""Names of the option that says where results go."""
ANEW = ("--restart", "--overwrite", "--force")
"""Names of the option that forgets what is there."""
Output = Annotated[
    Path | None,
    typer.Option(
        *OUTPUT,
        metavar="OUT",
        callback=a_file_or_folder,
        help="File to write: .extxyz, .json, .cif or POSCAR; or for any number of structures a folder or .parquet.",
    ),
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Registry name, .pt or .dpa4 file, or package.module:callable.")
]
Kept = Annotated[
    Path | None,
    typer.Option(*OUTPUT, metavar="DIR", callback=a_folder, help="Keep what is computed here and reuse it."),
]
RetryErrors = Annotated[
    bool, typer.Option("--retry-errors", help="Compute again what failed before; want of memory always is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for machines.")]
Corrections = Annotated[
    str,
    typer.Option(
        "--corrections",
        "-c",
        help="Of energies: auto takes those that fit the model; none, MP2020, OMat24, or the .yaml file of a refit.",
    ),
]


# ---- groups


@dataclass(frozen=True)
class Machine:
    """Where the model computes, how precisely, and with what added."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1.")
    dtype: str = option("float32", "float32 or float64.")
    dispersion: str | None = option(None, "Add dispersion: d3bj-pbe, d3bj-pbesol or d3bj-r2scan.", metavar="NAME")
    threads: int = option(0, "CPU threads; 0 leaves the choice to torch.", min=0)

    def use_threads(self) -> None:
        """Give torch as many threads as were asked for."""
        if self.threads:
            torch.set_num_threads(self.threads)

    def model(self, name: str) -> ModelRef:
        """The model as it computes on this machine, not loaded yet."""
        return ModelRef(name, device=self.device, dtype=self.dtype, dispersion=self.dispersion)

    def load(self, name: str) -> PotentialLike:
        """The model, ready to compute with the threads that were asked for."""
        self.use_threads()
        return self.model(name).load()

    def load_property(self, name: str) -> PropertyPredictor:
        """The same of a property model."""
        if self.dispersion is not None:
            raise typer.BadParameter("a property model has no energy to add to", param_hint="--dispersion")
        self.use_threads()
        return load_property(name, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class BatchMachine(Machine):
    """A machine that computes many structures at the same time."""

    max_atoms_per_batch: int | None = option(None, "Atoms computed at the same time.", min=1)
