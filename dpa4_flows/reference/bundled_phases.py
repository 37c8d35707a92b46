"""Phases that come with the program, so that a first hull has compounds in it, offline and without a key.

Structures only, each with its source: elements (`library`), compounds of open data sets, and those of the bundled
campaigns. Energies are a model's own. For the default model and the settings of `dpa4 hull` the relaxations come with
the program too, under the keys that the library gives them; ``scripts/competing_phases.py`` makes both files. Any other
model relaxes what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pymatgen.core import Element, Lattice, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.digests import digest
from dpa4_flows.bundled import bundled_compounds
from dpa4_flows.compute.files import content_digest
from dpa4_flows.documents.schemas import Provenance, RelaxationDocument
from dpa4_flows.reference.library import (
    ReferencePhase,
    bundled_elements,
    load_phases,
    select_for_chemsys,
)
from dpa4_flows.reference.table import subsystems

_DATA = Path(__file__).parents[1] / "data"
COMPOUNDS_FILE = _DATA / "compounds.parquet"
_DECIMALS = 6  # Å and fractional; what the sources give


@dataclass(frozen=True)
class BundledPhases:
    """Elements, up to three polymorphs each, compounds of open data sets, and those of the bundled campaigns."""

    elements_only: bool = False
    reach: float = float("inf")

    @property
    def name(self) -> str:
        return "bundled elements" if self.elements_only else "bundled"

    @cached_property
    def version(self) -> str:
        files = [] if self.elements_only else [COMPOUNDS_FILE, *bundled_compounds()]
        return digest(*map(content_digest, files))[:12]

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        elements = bundled_elements(chemical_system.split("-"))
        if self.elements_only:
            return elements
        of_campaigns = select_for_chemsys(_campaign_compounds(), [chemical_system])
        return [*elements, *of_campaigns, *compounds([chemical_system])]

    def surveys(self, chemical_system: str) -> bool:
        return False  # most binaries, few of the rest: a choice, not all that is known

    def answered_by(self) -> str:
        return self.version

    def chemical_systems(self) -> list[str]:
        """Every system that has a phase, elements included."""
        elements = {symbol for phase in bundled_elements() for symbol in phase.elements}
        of_campaigns = {"-".join(sorted(phase.elements)) for phase in _campaign_compounds()}
        return sorted(elements | of_campaigns | set(_table().column("chemsys").to_pylist()))


@cache
def _campaign_compounds() -> tuple[ReferencePhase, ...]:
    return tuple(load_phases(bundled_compounds()))


@cache
def _table() -> pa.Table:
    return pq.read_table(COMPOUNDS_FILE)


def compounds(chemical_systems: Iterable[str]) -> list[ReferencePhase]:
    """The compounds of the systems and their sub-systems.

    Args:
        chemical_systems: as ``"Co-Li-O"``.
    """
    wanted = sorted({part for system in chemical_systems for part in subsystems(system)})
    found = _table().filter(pc.is_in(_table().column("chemsys"), pa.array(wanted, pa.string())))
    return [ReferencePhase(row["name"], structure_of(row), row["source"]) for row in found.to_pylist()]


def write_compounds(phases: Sequence[ReferencePhase], path: Path = COMPOUNDS_FILE) -> None:
    """Write what `compounds` reads, in the order of the chemical systems."""
    ordered = sorted(phases, key=lambda phase: sorted(phase.elements))  # stable: neighbours compress well
    table = pa.table(
        {
            "name": [phase.name for phase in ordered],
            "source": pa.array([phase.source for phase in ordered]).dictionary_encode(),
            "chemsys": ["-".join(sorted(phase.elements)) for phase in ordered],
            **_geometry([phase.structure for phase in ordered]),
        }
    )
    _write(table, path)


# ---- relaxations that come with the program --------------------------------------------------------------------------


def relaxed_file(model: str) -> Path:
    """File of the relaxations that come with the program for a model of the registry."""
    return _DATA / "relaxed" / f"{model}.parquet"


def bundled_relaxations(model_sha256: str, keys: Collection[str]) -> dict[str, RelaxationDocument]:
    """Relaxations that come with the program, by key; a key names structure, model and settings, so that none fits
    wrongly.

    Args:
        model_sha256: of the model, so that files of other models are not read.
        keys: what is wanted.
    """
    found: dict[str, RelaxationDocument] = {}
    for origin, table in (
        _relaxed_of(_DATA / "relaxed", model_sha256) if keys else ()
    ):  # no keys: as in every query of a built system
        for row in _with_keys(table, keys).to_pylist():
            values = json.loads(row["document"])
            structure = structure_of(row).as_dict() if row["numbers"] else None
            found[row["key"]] = RelaxationDocument(key=row["key"], structure=structure, provenance=origin, **values)
    return found


def bundled_keys(model_sha256: str, keys: Collection[str]) -> set[str]:
    """The keys of `bundled_relaxations`, without their documents."""
    tables = [table for _, table in _relaxed_of(_DATA / "relaxed", model_sha256)] if keys else []
    return {key for table in tables for key in _with_keys(table.select(["key"]), keys).column("key").to_pylist()}


def _with_keys(table: pa.Table, keys: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table.column("key"), pa.array(sorted(keys), pa.string())))


@cache
def _relaxed_of(folder: Path, model_sha256: str) -> list[tuple[dict[str, Any], pa.Table]]:
    """Provenance and relaxations of the files of one model, read once in a process."""
    paths = sorted(folder.glob("*.parquet"))
    origins = [(json.loads(pq.read_schema(path).metadata[b"provenance"]), path) for path in paths]
    return [(origin, pq.read_table(path)) for origin, path in origins if origin["model_sha256"] == model_sha256]


def write_relaxed(path: Path, documents: Iterable[RelaxationDocument]) -> int:
    """Write what `bundled_relaxations` reads: all that converged, of one model with one set of settings.

    Returns how many were written.
    """
    kept = sorted((d for d in documents if d.error is None and d.converged), key=lambda d: (d.formula, d.key))
    origins = {d.provenance.model_dump_json(exclude={"created", "wall_time_s"}) for d in kept}
    if len(origins) != 1:
        raise ValueError(f"relaxations of {len(origins)} models, settings or versions do not go into one file")
    latest = max(d.provenance.created for d in kept)
    origin = Provenance.model_validate_json(origins.pop()).model_copy(update={"created": latest})
    table = pa.table(
        {
            "key": [d.key for d in kept],
            "document": [d.model_dump_json(exclude={"key", "structure", "provenance"}) for d in kept],
            **_geometry([structure_of_fields(d.structure or {}) for d in kept]),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(table.replace_schema_metadata({"provenance": origin.model_dump_json()}), path)
    return len(kept)


# ---- structures in columns -------------------------------------------------------------------------------------------


def structure_of(row: Mapping[str, Any]) -> Structure:
    """The structure of a row of `_geometry`."""
    species = [Element.from_Z(number) for number in row["numbers"]]
    coordinates = np.reshape(row["frac_coords"], (-1, 3))
    return Structure(Lattice(np.reshape(row["lattice"], (3, 3))), species, coordinates)


def _geometry(structures: Sequence[Structure]) -> dict[str, pa.Array]:
    """Columns with lattice [9] (Å), atomic numbers [n] and fractional coordinates [3 n] of every structure."""
    return {
        "lattice": pa.array([_rounded(s.lattice.matrix) for s in structures], pa.list_(pa.float64())),
        "numbers": pa.array([[site.specie.Z for site in s] for s in structures], pa.list_(pa.uint8())),
        "frac_coords": pa.array([_rounded(s.frac_coords) for s in structures], pa.list_(pa.float64())),
    }


def _rounded(values: Any) -> list[float]:
    return [float(x) + 0.0 for x in np.round(np.ravel(values), _DECIMALS)]


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=19)
