"""Rows, table and structures of `dpa4 stability`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.stability import NOT_ASKED
from dpa4_flows.cli.console import MAX_ROWS, number, out, say, say_rest
from dpa4_flows.cli.structures import input_rows
from dpa4_flows.documents.stability import StabilityDocument, StabilitySet
from dpa4_flows.plots.words import right
from dpa4_flows.structure_files import Computed

_SPACE_GROUPS = ("space_group_before", "space_group")
_STYLES = {"stable": "green", "metastable": "yellow", "undecided": "yellow", "unstable": "bold red"}


def result_rows(inputs: Sequence[Computed], computed: Sequence[int], found: StabilitySet) -> list[dict[str, Any]]:
    """One row of plain types for each input, in order: the document, without starting points of relaxations.

    Args:
        inputs: what was read.
        computed: positions of the inputs that were computed.
        found: their answers.
    """
    rows = input_rows(inputs)
    starts: Any = {"along_mode": True}
    exclude: Any = {"phonons": starts, "followed": {"steps": {"__all__": {"phonons": starts}}}}
    for position, document in zip(computed, found.documents, strict=True):
        rows[position]["error"] = document.error
        if document.error is None:
            rows[position] |= document.model_dump(mode="json", exclude=exclude)
            rows[position]["warnings"] = [*inputs[position].warnings, *document.warnings]
    return rows


def print_answers(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it why."""
    shown = [row for row in rows if row["error"] is None]
    if not shown:
        return
    asked = [part for part in ("hull", "elastic", "phonons") if any(row[part] is not None for row in shown)]
    titles = {"hull": ["above hull, eV/atom"], "elastic": ["K, GPa", "G, GPa"], "phonons": ["f min, THz"]}
    numbers = right(*(title for part in asked for title in titles[part]))
    table = Table("name", "formula", "space group", "verdict", *numbers)
    for row in shown[:MAX_ROWS]:
        cells = [cell for part in asked for cell in _cells(part, row[part])]
        words, style = _verdict(row)
        table.add_row(
            escape(row["name"]),
            row["formula"],
            " → ".join(dict.fromkeys(row["relaxed"][name] for name in _SPACE_GROUPS)),
            f"[{style}]{escape(words)}[/]",
            *cells,
        )
    out.print(table)
    for row in shown[:MAX_ROWS]:
        say(f"{row['name']}: {_verdict(row)[0]}")
        for reason in row["reasons"]:
            say(f"  {reason}")
    say_rest(len(shown))


def _verdict(row: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict in words, and its style: stable names what it is measured against unless that was surveyed."""
    verdict = str(row["verdict"])
    if verdict == "stable":
        of_hull = row["hull"]["document"]["verdict"]
        return (verdict, _STYLES[verdict]) if of_hull["reason"] == "surveyed" else (of_hull["sentence"], "yellow")
    if verdict == "undecided" and (left := [name for name, part in row["verdicts"].items() if part == NOT_ASKED]):
        return f"undecided, {' and '.join(left)} not asked", _STYLES[verdict]
    return verdict, _STYLES[verdict]


def _cells(part: str, document: Mapping[str, Any] | None) -> list[str]:
    if document is None:
        return ["–"] * (2 if part == "elastic" else 1)
    if part == "hull":
        place = document["document"]
        if place is None:
            return ["–"]
        if place["verdict"]["code"] == "unknown":
            return ["unknown"]
        surveyed = place["completeness"]["grade"] == "surveyed"
        distance = number(place["energy_above_hull"], 3, place["energy_above_hull_std"])
        return [f"{distance}{'' if surveyed else ' ?'}"]
    if part == "elastic":
        return [number(document["k_vrh_gpa"], 0), number(document["g_vrh_gpa"], 0)]
    return [number(document["f_min_thz"], 2)]


def structures_to_write(
    inputs: Sequence[Computed], computed: Sequence[int], documents: Sequence[StabilityDocument]
) -> dict[str, list[Computed]]:
    """By name of the file: the relaxed structures, and the lower ones at the end of imaginary modes."""
    relaxed, lower = [], []
    for position, document in zip(computed, documents, strict=True):
        if document.relaxed is None:
            continue
        name = inputs[position].name
        made = document.relaxed.provenance
        origin = {"model": made.model_name, "code_version": made.code_version}
        facts: dict[str, Any] = {"verdict": document.verdict, "converged": document.relaxed.converged, **origin}
        facts |= {name: getattr(document.relaxed, name) for name in (*_SPACE_GROUPS, "minimum")}
        if document.warnings:
            facts["warnings"] = "; ".join(document.warnings)
        if document.hull is not None:
            facts["hull"] = document.hull.reason
        structure = structure_of_fields(document.relaxed.structure)
        energy = document.relaxed.energy_per_atom * len(structure)
        relaxed.append(Computed(name, structure, facts, energy=energy))
        way = document.followed
        if way is not None and way.structure is not None:
            end = structure_of_fields(way.structure)
            facts = {"space_group": way.space_group, "verdict": way.verdict, "converged": way.converged, **origin}
            lower.append(Computed(name, end, facts, energy=way.steps[-1].energy_per_atom * len(end)))
    return {"relaxed.extxyz": relaxed, "lower.extxyz": lower}
