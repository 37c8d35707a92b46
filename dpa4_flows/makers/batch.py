"""Energies as jobs: many structures in few force calls, never computed twice. `named` has the other properties."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from dpa4_flows.compute.relaxed import Energy, Relaxed
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.makers.property import PropertyMaker


@dataclass
class BatchRelaxMaker(PropertyMaker[RelaxationDocument]):
    """Relax a chunk of structures; the fields are those of `PropertyMaker`, the settings those of `Relaxed`."""

    property: Relaxed = field(default_factory=Relaxed)
    name: str = "DPA4 batch relax"


@dataclass
class BatchStaticMaker(PropertyMaker[RelaxationDocument]):
    """Energy, forces and stress of a chunk of structures as they are; the fields are those of `PropertyMaker`."""

    property: Energy = field(default_factory=Energy)
    name: str = "DPA4 batch static"


def __getattr__(name: str) -> object:
    """Makers that stood here before, as stored jobs name them; what is behind them takes seconds to import."""
    if name.startswith("Batch"):
        return getattr(importlib.import_module("dpa4_flows.makers.named"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
