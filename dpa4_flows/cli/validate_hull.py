"""`dpa4 validate hull`: does a model find the same phases stable as the calculations in a file?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dpa4_core.errors import DPA4Error, plural
from dpa4_core.files import write_csv
from dpa4_flows.analysis.hull_comparison import NEAR_HULL, ComparedPhase
from dpa4_flows.cli.computing import documents_of, table_in
from dpa4_flows.cli.console import number, out, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model, option
from dpa4_flows.cli.relaxing import Convergence
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.compute.plan import Ask, Crystals
from dpa4_flows.plots.words import right
from dpa4_flows.properties.hull_comparison import Comparison, HullComparison
from dpa4_flows.report.parity_plot import check_plot_name, write_parity_plot

TABLE = "hull.sqlite"
"""Results table in the folder of `dpa4 validate hull`."""

MAX_NAMED = 20
"""Phases without an energy, or judged differently, that are named on the screen; --csv and --json have all."""


@dataclass(frozen=True)
class Comparing:
    """What is compared, and where it goes."""

    corrections: list[str] | None = option(
        None, f"For the model: auto, none, MP2020, OMat24 or the file of a refit; {SEVERAL}.", "--corrections", "-c"
    )
    threshold: list[float] | None = option(
        None, f"Stable means this close to the hull, eV/atom; {SEVERAL}; default: 0,0.05.", min=0.0
    )
    max_atoms: int | None = option(None, "Leave out larger cells, but for those on the hull of the file.", min=1)
    folder: Kept = None
    csv_file: Path | None = option(
        None, "Write a line for each phase.", "--csv", metavar="FILE", callback=a_file_beside
    )
    plot: Path | None = option(
        None, "Draw both against each other: .html or .png.", metavar="FILE", callback=a_file_beside
    )

    def settings(self) -> dict[str, Any]:
        """The same as fields of the property; what was not given is left to it."""
        given = {"corrections": self.corrections, "thresholds": self.threshold}
        return {"max_atoms": self.max_atoms, **{name: tuple(values) for name, values in given.items() if values}}

    def check(self) -> None:
        """Refuse what cannot be drawn, before anything is computed."""
        if self.plot is not None:
            check_plot_name(self.plot)


def hull(
    entries: Annotated[
        Path,
        typer.Argument(metavar="ENTRIES", help="JSON of computed entries with structures, as pymatgen writes them."),
    ],
    model: Model = "dpa4-neo",
    *,
    comparing: Comparing,
    relaxing: Convergence,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """A whole hull of the model against that of computed entries, such as those of the Materials Project.

    Every structure of the file is relaxed by the model and stands on a hull of the model's energies alone; the energies
    of the file, with their own corrections, make the other hull. Compared are the distances to the two hulls: their
    order, their size, and which phases each puts on the hull. No phase outside the file competes, so that neither says
    what is stable. Elements must be in the file.

    For example:

      dpa4 validate hull Li-Co-Ni-O.json.gz -o li-co-ni-o --plot parity.png

      dpa4 validate hull exported.json.gz -m my.dpa4 -c auto -c none --max-atoms 40
    """
    comparing.check()
    machine.use_threads()
    asked = HullComparison(str(entries), relaxing.relaxation(), **comparing.settings())
    computes = machine.model(model).resolve()
    with table_in(comparing.folder, TABLE) as table:
        (found,) = documents_of({0: Ask(asked, Crystals())}, computes, table, machine, quiet=as_json).values()
    if found.error is not None:
        raise DPA4Error(found.error)
    info = computes.info()
    if comparing.csv_file is not None:
        _write_csv(comparing.csv_file, found.comparisons)
    if comparing.plot is not None:
        best = found.comparisons[0]
        write_parity_plot(comparing.plot, best.phases, expected=entries.name, found=f"{info.name}, {best.scheme}")
    if as_json:
        print_json(
            {
                "model": info.name,
                "model_sha256": info.sha256,
                "file": str(entries),
                "n_entries": found.n_entries,
                "n_too_large": found.n_too_large,
                "settings": asked.settings(computes),
                "without_energy": found.without_energy,
                "comparisons": [_plain(c) for c in found.comparisons],
            }
        )
    else:
        n_large = found.n_too_large
        left = f"; {plural(n_large, 'larger cell')} above the hull left out" if n_large else ""
        say(f"{info.name} against {entries.name}: {plural(len(found.formulas), 'phase')} of {found.n_entries}{left}")
        _print(found.comparisons)
        for written in (comparing.csv_file, comparing.plot):
            if written is not None:
                say(f"wrote {written}")
    failures = found.without_energy
    for name, reason in list(failures.items())[:MAX_NAMED]:
        warn("left out", f"{found.formulas[name]} ({name}): {reason}")
    if len(failures) > MAX_NAMED:
        remark(f"and {len(failures) - MAX_NAMED} more; --json lists them all")
    if failures:
        raise typer.Exit(SOME_FAILED)


def _print(comparisons: Sequence[Comparison]) -> None:
    heads = right("number", "Spearman", "Kendall", "distance, MAE", "formation, MAE", "bias")
    title = "Compounds: order and size of the distances to the hull"
    table = Table("corrections", "which", *heads, title=title, title_justify="left")
    near = f"within {NEAR_HULL:g} eV/atom"
    for comparison in comparisons:
        entries, crystals = comparison.entries, comparison.crystals
        for which, ranks in (
            ("all entries", entries.everything),
            (f"entries {near}", entries.near),
            ("all crystals", crystals.everything),
            (f"crystals {near}", crystals.near),
        ):
            if ranks is not None:
                errors = (ranks.mae_above_hull, ranks.mae_formation, ranks.bias_formation)
                table.add_row(
                    comparison.scheme,
                    which,
                    str(ranks.n_phases),
                    number(ranks.spearman, 3),
                    number(ranks.kendall, 3),
                    *(number(value, 3) for value in errors),
                )
    out.print(table)
    heads = right("within, eV/atom", "by both", "false positives", "false negatives", "neither", "precision", "recall")
    title = "On the hull of these phases alone, elements included"
    table = Table("corrections", "of", *heads, title=title, title_justify="left")
    for comparison in comparisons:
        for which, agreement in (("entries", comparison.entries), ("crystals", comparison.crystals)):
            for count in agreement.counts:
                numbers = (count.both, count.false_positives, count.false_negatives, count.neither)
                shares = (number(count.precision, 2), number(count.recall, 2))
                table.add_row(comparison.scheme, which, f"{count.threshold:g}", *map(str, numbers), *shares)
    out.print(table)
    say("crystals: the same crystal in several magnetic or electronic states counts once, in the lowest")


def _plain(comparison: Comparison) -> dict[str, Any]:
    plain = comparison.model_dump()
    for name, agreement in (("entries", comparison.entries), ("crystals", comparison.crystals)):
        for row, count in zip(plain[name]["counts"], agreement.counts, strict=True):
            row |= {"precision": count.precision, "recall": count.recall, "f1": count.f1}
    return plain


def _write_csv(path: Path, comparisons: Sequence[Comparison]) -> None:
    lines = [
        {"corrections": one.scheme}
        | {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(phase).items()}
        for one in comparisons
        for phase in one.phases
    ]
    write_csv(path, lines, ["corrections", *ComparedPhase.__dataclass_fields__])
