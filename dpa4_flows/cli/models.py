"""`dpa4 info`, `fetch`, `convert`: what models there are, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from ase.data import chemical_symbols
from rich.markup import escape
from rich.table import Table

from dpa4_core.model import checkpoint, registry
from dpa4_core.model.info import ModelInfo
from dpa4_flows.cli.console import out, print_json, remark, say
from dpa4_flows.cli.options import AsJson
from dpa4_flows.cli.targets import a_file
from dpa4_flows.model_ref import ModelRef

app = typer.Typer()


@app.command()
def info(
    model: Annotated[
        str | None,
        typer.Argument(help="Registry name, .pt or .dpa4 file, or package.module:callable; all if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the published models, or all that is known about one.

    A model that was never fetched is described from the registry; nothing is downloaded.

    For example:

      dpa4 info

      dpa4 info dpa4-neo

      dpa4 info mine.dpa4 --json
    """
    if model is None:
        rows = [_registry_row(entry) for entry in registry.REGISTRY.values()]
        if as_json:
            print_json(rows)
        else:
            _print_registry(rows)
        return
    known = model in registry.REGISTRY or model.startswith("hub:")
    facts: dict[str, Any]
    if known and not registry.is_cached(model):
        facts = _registry_row(registry.lookup(model))
    else:
        facts = _file_facts(ModelRef(model).info())
        if known:
            facts = _registry_row(registry.lookup(model)) | {k: v for k, v in facts.items() if v not in ("", None)}
    if as_json:
        print_json(facts)
        return
    out.print(_facts_table(model, facts))


@app.command()
def fetch(
    model: Annotated[str, typer.Argument(help="Registry name, for example dpa4-neo, or hub:OWNER/REPOSITORY/FILE.pt.")],
    as_json: AsJson = False,
) -> None:
    """Put a model into the cache and check its checksum; afterwards it works without network.

    For example:

      dpa4 fetch dpa4-neo
    """
    cached = registry.is_cached(model)
    path = registry.fetch(model, report=remark)
    checksum = registry.sha256_of(path)
    if as_json:
        print_json({"name": model, "path": str(path), "sha256": checksum, "fetched": not cached})
        return
    entry = registry.lookup(model)
    say(f"{model} {'was already' if cached else 'is now'} in {path}")
    note = "as published" if entry.sha256 else "recorded at first fetch, verified from then on"
    say(f"sha256 {checksum} ({note})")
    say(f"licence: {entry.licence}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Model file; FILE.pt#BRANCH names one of several tasks.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", callback=a_file, help="File to write; .pt or .dpa4 decides the format.")
    ],
) -> None:
    """Convert between official .pt checkpoints and .dpa4 files.

    For example:

      dpa4 convert DPA4-Neo-OMat24-v20260704.pt neo.dpa4

      dpa4 convert mine.dpa4 mine.pt
    """
    written = checkpoint.convert(source, target)
    say(f"wrote {written}")


def _registry_row(entry: registry.RegistryEntry) -> dict[str, Any]:
    cached = registry.is_cached(entry.name) if entry.name in registry.REGISTRY else False
    checksum = entry.sha256 or registry.known_checksums().get(entry.name, "")
    return {
        "name": entry.name,
        "in_cache": cached,
        "level_of_theory": entry.level_of_theory,
        "corrections": entry.corrections,
        "trained_for": entry.trained_for,
        "licence": entry.licence,
        "sources": [str(source) for source in entry.sources],
        "sha256": checksum,
        "checksum": "published" if entry.sha256 else "recorded at first fetch" if checksum else "unknown until fetched",
    }


def _file_facts(info: ModelInfo) -> dict[str, Any]:
    facts = info.to_dict()
    facts["n_elements"] = len(info.elements)
    facts["elements"] = [chemical_symbols[number] for number in sorted(info.elements)]
    return facts


def _print_registry(rows: list[dict[str, Any]]) -> None:
    """One table per level of theory: energies of different tables do not compare."""
    levels = dict.fromkeys(row["level_of_theory"] for row in rows)
    for level in levels:
        table = Table(title=level, title_justify="left")
        for heading in ("name", "in cache", "corrections", "trained for"):
            table.add_column(heading, no_wrap=heading == "name", overflow="fold")
        for row in rows:
            if row["level_of_theory"] == level:
                table.add_row(row["name"], "yes" if row["in_cache"] else "", row["corrections"], row["trained_for"])
        out.print(table)
    say(f"cache: {registry.cache_dir()}; licences: dpa4 info MODEL")


def _facts_table(model: str, facts: dict[str, Any]) -> Table:
    table = Table(title=model, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if value not in ("", None, [], (), {}):
            told = f"{value:,}" if key == "n_parameters" else _told(value, "\n" if key == "sources" else " ")
            table.add_row(key.replace("_", " "), escape(told))
    return table


def _told(value: Any, between: str = " ") -> str:
    """A fact for people; a table has a line for each of its entries, tables in it are told in a sentence."""
    if isinstance(value, dict):
        return "\n".join(
            f"{name.replace('_', ' ')}: {_errors(item) if name == 'validation' else _in_line(item)}"
            for name, item in value.items()
            if name != "config" and item not in ("", None, [], (), {})  # a whole configuration is for --json
        )
    return between.join(map(_in_line, value)) if isinstance(value, list | tuple) else _in_line(value)


def _in_line(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name} {_in_line(item)}" for name, item in value.items())
    return " ".join(map(_in_line, value)) if isinstance(value, list | tuple) else str(value)


def _errors(record: dict[str, Any]) -> str:
    from dpa4_flows.training import digits, error_row  # the trainer is slow to import

    return ", ".join(f"{word} {digits(value)} {unit}" for word, value, unit in error_row(record) if value is not None)
