"""Makers of the properties, by name: each is a `PropertyMaker` whose property has its default settings.

A class is made when it is first asked for: what is behind a property takes time to import. `named.pyi` says the same to
editors and type checkers; ``scripts/typed_names.py`` writes it.
"""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import Any

from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.makers.together import TogetherMaker
from dpa4_flows.properties.registry import OURS, property_class
from dpa4_flows.properties.settings import summary

TOGETHER = {
    "ConvexHullMaker": ("hull", "convex hull"),
    "ElectrochemicalWindowMaker": ("window", "electrochemical windows"),
    "ChemicalPotentialMaker": ("chempots", "chemical potentials"),
    "GibbsEnergyMaker": ("gibbs", "Gibbs energies"),
    "HullComparisonMaker": ("hull_comparison", "hull comparison"),
    "StabilityMaker": ("stability", "stability"),
}
"""Those that give one document of all their structures."""

_CALLED = {"phonons": "BatchPhononMaker", "pourbaix": "PourbaixMaker"}
_TITLES = {
    "relax": "batch relax",
    "static": "batch static",
    "surface": "surfaces",
    "quasi_harmonic": "thermal expansion",
    "follow_modes": "imaginary modes",
    "ion_insertion": "insertion",
    "pourbaix": "stability in water",
}
_ALONE = {
    _CALLED.get(name) or f"Batch{name.title().replace('_', '')}Maker": (
        name,
        f"DPA4 {_TITLES.get(name) or name.replace('_', ' ')}",
    )
    for name in OURS
    if name not in dict(TOGETHER.values())
}
MAKERS = _ALONE | TOGETHER
"""Names of the property and of the job."""


def __getattr__(name: str) -> Any:
    if name not in MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    property_name, title = MAKERS[name]
    kind, base = property_class(property_name), TogetherMaker if name in TOGETHER else PropertyMaker
    fields = [("property", kind, field(default_factory=kind)), ("name", str, field(default=title))]
    words = f"{summary(kind)} Fields of `{base.__name__}`, settings of `{kind.__name__}`."
    made = make_dataclass(name, fields, bases=(base,), namespace={"__doc__": words, "__module__": __name__})
    return globals().setdefault(name, made)
