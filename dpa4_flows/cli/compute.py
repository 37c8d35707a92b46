"""`dpa4 compute`: any properties of the structures in files, all in one batch."""

from __future__ import annotations

import copy
import inspect
import json
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import override
from dpa4_flows.cli.console import end, out, print_json, say, warn
from dpa4_flows.cli.console import remark as say_aside
from dpa4_flows.cli.lists import parts
from dpa4_flows.cli.options import (
    KINDS_OF_FILES,
    OUTPUT,
    AsJson,
    BatchMachine,
    Model,
    RetryErrors,
    flag,
    grouped,
    option,
)
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.run_output import interruptible
from dpa4_flows.cli.targets import a_file, a_folder
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.registry import canonical, closest, property_class, property_names
from dpa4_flows.properties.settings import settings_of, summary
from dpa4_flows.properties.table import Results
from dpa4_flows.reference.crystals import is_material, read_crystals
from dpa4_flows.report.caveats import property_caveats
from dpa4_flows.report.picture_file import check_format, write_pictures
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How


@dataclass(frozen=True)
class Resting:
    """The relaxation before properties of relaxed crystals."""

    fmax: float = option(
        AT_REST.fmax, "Largest force at the end of the relaxation before properties of crystals, eV/Å."
    )
    max_steps: int = option(AT_REST.max_steps, "Optimiser steps of this relaxation.", min=1)
    check_minimum: bool = option(
        AT_REST.check_minimum,
        "Let it go down from a saddle; by default it keeps the symmetry given.",
        "--check-minimum/--no-check-minimum",
    )
    as_given: bool = flag("No relaxation before properties of crystals.")

    def relaxation(self) -> Relaxed | None:
        if self.as_given:
            return None
        return Relaxed(fmax=self.fmax, max_steps=self.max_steps, check_minimum=self.check_minimum)


_MORE = "Its settings, below, are options; with -o FOLDER the same command goes on where it stopped."

_RESTING = {
    f"--{no}{item.name.replace('_', '-')}" for item in fields(Resting) if item.name != "as_given" for no in ("", "no-")
}


class ComputeCommand(TyperCommand):
    """Takes and shows the settings of the properties that stand on the line as options of its own.

    Attributes:
        asked: names on the line that are properties.
        first: the property that the command itself is called by, if it is.
    """

    asked: Sequence[str] = ()
    first: str | None = None

    def about(self, name: str) -> ComputeCommand:
        """The command that a property gives its name, with the help of that property."""
        own = copy.copy(self)
        kind = property_class(name)
        words, _, _ = (inspect.getdoc(kind) or "").partition("\nAttributes:")
        own.first, own.name = name, name
        example = f"For example:\n\n  dpa4 {name} {escape(kind.example)}"
        own.help = "\n\n".join([escape(words.strip().replace("`", "")), _MORE, example])
        own.params = [copy.copy(one) for one in self.params]
        for one in own.params:
            if one.name == "what":
                one.metavar, one.help = "FILES", f"{KINDS_OF_FILES}; further properties may come first."  # type: ignore[attr-defined]
            elif not kind.starts_from_rest and {*one.opts, *one.secondary_opts} & (_RESTING | {"--as-given"}):
                one.hidden = True  # type: ignore[attr-defined]  # nothing relaxes before
        return own

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = args if self.first is None else [self.first, *args]
        self.asked = [name for name in args if canonical(name) in property_names()]
        own = {flag for option in self.params for flag in (*option.opts, *option.secondary_opts)}
        if not any(property_class(canonical(name)).starts_from_rest for name in self.asked):
            own -= _RESTING  # there is no relaxation before: they are those of the property
        return super().parse_args(ctx, list(_assigned(args, self.asked, own)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        if self.asked:
            show_properties(self.asked)


def _assigned(args: Sequence[str], asked: Sequence[str], own: Collection[str]) -> Iterator[str]:
    """``--setting VALUE`` of the properties ``asked`` as ``--set PROPERTY.SETTING=VALUE``; ``own`` flags stay."""
    homes: dict[str, list[str]] = {}
    switches: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name in dict.fromkeys(map(canonical, asked)):
        for setting in settings_of(property_class(name)):
            flag = setting.name.replace("_", "-")
            homes.setdefault(f"--{flag}", []).append(f"{name}.{setting.name}")
            if isinstance(setting.default, list):
                lists[f"{name}.{setting.name}"] = []
            if isinstance(setting.default, bool):
                homes.setdefault(f"--no-{flag}", []).append(f"{name}.{setting.name}")
                switches |= {f"--{flag}": "true", f"--no-{flag}": "false"}
    rest = iter(args)
    for one in rest:
        flag, given, value = one.partition("=")
        if flag in own or flag not in homes:
            yield one
            continue
        if not given:
            value = switches.get(flag) or next(rest, "")
        for setting_name in homes[flag]:
            if setting_name in lists:
                lists[setting_name].append(value)
            else:
                yield from ("--set", f"{setting_name}={value}")
    for setting_name, values in lists.items():
        if values:
            several = [part for value in values for part in parts(value)]
            yield from ("--set", f"{setting_name}={values[0] if len(values) == 1 else _list_of(several)}")


def _list_of(values: Sequence[str]) -> str:
    """A list in TOML; what is no value of TOML is text."""
    return f"[{', '.join(one if _is_toml(one) else json.dumps(one) for one in values)}]"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return False
    return True


app = typer.Typer()


@app.command(cls=ComputeCommand)
@grouped
def compute(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROPERTY... FILES...",
            help=f"Names of properties, then files: {KINDS_OF_FILES}.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            *OUTPUT,
            metavar="FOLDER",
            callback=a_folder,
            help="Keep everything here and find it again: results table, answers (JSON, CSV), structures.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all properties, or those named, with settings.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PROPERTY.SETTING=VALUE",
            help="A setting of a property; may be repeated. --SETTING VALUE is the same for all that have it.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="HTML",
            callback=a_file,
            help="Write figures, pictures and tables as one page that needs no network.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=a_file,
            help="Draw the pictures of surfaces and sites into a file: .png or .svg.",
        ),
    ] = None,
    *,
    resting: Resting,
    model: Model = "dpa4-neo",
    machine: BatchMachine,
    retry_errors: RetryErrors = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check files, settings and the model, say what a new folder takes; compute nothing.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Properties of the structures in files: energies, relaxations, elastic tensors, phonons, surfaces, ...

    Everything that is asked about all structures is computed in one batch. Properties of crystals begin with a tight
    relaxation, which they share. One structure that cannot be read or computed fails alone. The word compute may be
    left out: dpa4 elastic Cu.cif.

    For example:

      dpa4 compute --list

      dpa4 compute elastic --help

      dpa4 compute elastic phonons crystals/ -o crystals-properties --set elastic.fmax=1e-4

      dpa4 compute surface Cu.cif mp-126 --max-index 2 --json

      dpa4 adsorption Pt.cif --report sites.html --plot sites.png
    """
    names, files = split(what or [])
    if listed:
        show_properties(names or property_names())
        return
    if not names:
        raise DPA4Error(f"name a property, then files; there are {', '.join(property_names())} (dpa4 compute --list)")
    question = Question.of(names, settings_given(assignments or []), resting.relaxation())
    question.check()
    if not files:
        raise DPA4Error("name the files with the structures after the properties")
    subjects = question.subjects(read_crystals(files))
    if plot is not None:
        check_format(plot)
    if dry_run:
        foresee(question, subjects, machine.model(model), as_json=as_json)
        return
    machine.use_threads()
    how = How(ConsoleWatch(quiet=as_json), retry_errors)
    with nullcontext() if output is None else interruptible(f"dpa4 resume {output}"):
        results = compute_in(output, question, subjects, machine.model(model), how, machine.max_atoms_per_batch)
    if report is not None:
        title = ", ".join(name.replace("_", " ") for name in names)
        write_properties_report(results, report, title=title.capitalize(), model=machine.model(model).resolve())
    if plot is not None:
        write_pictures(plot, results.figures(), property_caveats(results))
    finish(results, as_json=as_json)


def split(what: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Properties and files of a command line: the names come first.

    Raises:
        DPA4Error: something that is neither, and nearly the name of a property.
    """
    known = property_names()
    n_names = next((i for i, one in enumerate(what) if canonical(one) not in known), len(what))
    for one in what[n_names:]:
        if not (Path(one).exists() or is_material(one) or "." in one) and (near := closest(one)):
            raise DPA4Error(f"{one!r} is neither a file nor a property; did you mean {near!r}?")
    return [canonical(one) for one in what[:n_names]], [Path(one) for one in what[n_names:]]


def settings_given(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by property from ``PROPERTY.SETTING=VALUE``.

    Raises:
        DPA4Error: another form.
    """
    for one in assignments:
        if "." not in one.partition("=")[0]:
            raise DPA4Error(f"{one!r} names no property; write for example --set elastic.{one}")
    return override({}, assignments)


def show_properties(names: Sequence[str]) -> None:
    """What properties are, and their settings with defaults and units."""
    for name in dict.fromkeys(map(canonical, names)):
        kind = property_class(name)
        out.print(f"\n[bold]{name}[/]  {escape(summary(kind))}", highlight=False)
        table = Table(box=None, padding=(0, 2, 0, 2))
        table.add_column("setting", no_wrap=True)  # a name that is cut is none
        for head in ("default", "meaning"):
            table.add_column(head)
        settings = list(settings_of(kind))
        for setting in settings:
            table.add_row(f"{name}.{setting.name}", escape(_plain(setting.default)), escape(setting.words))
        if settings:
            out.print(table)


def _plain(default: Any) -> str:
    """A default as one writes it behind ``--set``."""
    return "" if default is None else default if isinstance(default, str) else json.dumps(default)


def foresee(question: Question, subjects: Sequence[Subject], model: ModelRef, *, as_json: bool) -> None:
    """What a dry run found out. A model that is not here is not fetched.

    Raises:
        DPA4Error: no such model, or one that none of the crystals can be computed with.
    """
    elements = None
    if (note := model.not_here) is not None:
        warn("note", note)
    else:
        elements = model.info().elements
        for property_ in question.kinds.values():
            property_.check_model(model)
    found = list(question.foreseen(subjects, elements))
    if as_json:
        print_json([one._asdict() for one in found])
        return
    table = Table("structure", "property", "calculations", "atoms in them", title="To compute", title_justify="left")
    for one in found:
        n, atoms = ("?", "?") if one.cost is None else (f"{one.cost[0]:,}", f"{one.cost[1]:,}")
        table.add_row(*map(escape, (one.name, one.property, n, atoms)))
    out.print(table)
    say(
        "relaxations before them are not counted, nor is what a calculation takes: of dynamics each is one force call; "
        "what a folder holds already is not taken off"
    )
    for one in found:
        if one.refused:
            warn("mind", f"{one.name}, {one.property}: {one.refused}")


def finish(results: Results[Any], *, as_json: bool, hints: Sequence[str] = ()) -> None:
    """Show what came out; exit with 3 if something failed or did not converge, with 1 if everything failed.

    Args:
        results: what was computed.
        as_json: for machines.
        hints: what would make the answers better; they go to stderr.
    """
    if as_json:
        print_json(results.rows())
    else:
        results.print(out)
    for remark in results.remarks:
        warn("mind", remark.words)
    for hint in hints:
        say_aside(hint)
    for words in results.failures:
        warn("failed", words, "bold red")
    for name in results.unconverged:
        warn("not converged", f"{name}: the relaxation ran out of steps; raise --max-steps", "bold yellow")
    unfinished = bool(results.failed or results.unconverged)
    end(sum(one.is_empty for one in results.answers), len(results), unfinished=unfinished)
