"""Makers of the properties, by name: each is a `PropertyMaker` whose property has its default settings.

A class is made when it is first asked for: what is behind a property takes time to import. `named.pyi` says the same to
editors and type checkers; ``scripts/typed_names.py`` writes it.
"""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import Any

from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.properties.registry import property_class
from dpa4_flows.properties.settings import summary

MAKERS = {
    "BatchRelaxMaker": ("relax", "DPA4 batch relax"),
    "BatchStaticMaker": ("static", "DPA4 batch static"),
    "BatchElasticMaker": ("elastic", "DPA4 elastic"),
    "BatchPhononMaker": ("phonons", "DPA4 phonons"),
    "BatchPhononBandsMaker": ("phonon_bands", "DPA4 phonon bands"),
    "BatchQuasiHarmonicMaker": ("quasi_harmonic", "DPA4 thermal expansion"),
    "BatchHeatConductivityMaker": ("heat_conductivity", "DPA4 heat conductivity"),
    "BatchEpitaxyMaker": ("epitaxy", "DPA4 epitaxy"),
    "BatchBandGapMaker": ("band_gap", "DPA4 band gap"),
    "BatchEquationOfStateMaker": ("equation_of_state", "DPA4 equation of state"),
    "BatchFollowModesMaker": ("follow_modes", "DPA4 imaginary modes"),
    "BatchSurfaceMaker": ("surface", "DPA4 surfaces"),
    "BatchAdsorptionMaker": ("adsorption", "DPA4 adsorption"),
    "BatchActivityMaker": ("activity", "DPA4 activity"),
    "BatchSegregationMaker": ("segregation", "DPA4 segregation"),
    "BatchDissolutionMaker": ("dissolution", "DPA4 dissolution"),
    "BatchServiceMaker": ("service", "DPA4 service"),
    "BatchDefectsMaker": ("defects", "DPA4 defects"),
    "BatchFiniteTemperatureMaker": ("finite_temperature", "DPA4 finite temperature"),
    "BatchOrderingMaker": ("ordering", "DPA4 ordering"),
    "BatchAlloyMaker": ("alloy", "DPA4 alloy"),
    "BatchElectrodeMaker": ("electrode", "DPA4 electrode"),
    "BatchConversionMaker": ("conversion", "DPA4 conversion"),
    "BatchInterfaceMaker": ("interface", "DPA4 interface"),
    "BatchCoatingMaker": ("coating", "DPA4 coating"),
    "BatchAirMaker": ("air", "DPA4 air"),
    "BatchOxygenReleaseMaker": ("oxygen_release", "DPA4 oxygen release"),
    "BatchVoltageProfileMaker": ("voltage_profile", "DPA4 voltage profile"),
    "BatchIonInsertionMaker": ("ion_insertion", "DPA4 insertion"),
    "BatchMigrationMaker": ("migration", "DPA4 migration"),
    "BatchDiffusivityMaker": ("diffusivity", "DPA4 diffusivity"),
}
"""Names of the property and of the job."""


def __getattr__(name: str) -> Any:
    if name not in MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    property_name, title = MAKERS[name]
    kind = property_class(property_name)
    fields = [("property", kind, field(default_factory=kind)), ("name", str, field(default=title))]
    words = f"{summary(kind)} Fields of `PropertyMaker`, settings of `{kind.__name__}`."
    made = make_dataclass(name, fields, bases=(PropertyMaker,), namespace={"__doc__": words, "__module__": __name__})
    return globals().setdefault(name, made)
