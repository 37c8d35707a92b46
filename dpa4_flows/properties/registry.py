"""Properties by name: those of this package and, by the entry point ``dpa4_flows.properties``, those of others.

    [project.entry-points."dpa4_flows.properties"]
    toughness = "my_package.toughness:Toughness"

A property is imported when it is asked for: the list of names costs nothing.
"""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import meant

if TYPE_CHECKING:
    from dpa4_flows.compute.plan import Property

GROUP = "dpa4_flows.properties"

_HERE = "dpa4_flows.properties"
OURS = {
    "relax": "dpa4_flows.compute.relaxed:Relaxed",
    "static": "dpa4_flows.compute.relaxed:Energy",
    "elastic": f"{_HERE}.elastic:Elastic",
    "phonons": f"{_HERE}.phonons:Phonons",
    "phonon_bands": f"{_HERE}.phonon_bands:PhononBands",
    "quasi_harmonic": f"{_HERE}.quasi_harmonic:QuasiHarmonic",
    "heat_conductivity": f"{_HERE}.heat_conductivity:HeatConductivity",
    "finite_temperature": f"{_HERE}.finite_temperature:FiniteTemperature",
    "defects": f"{_HERE}.defects:Defects",
    "phonon_scattering": f"{_HERE}.phonon_scattering:PhononScattering",
    "band_gap": f"{_HERE}.band_gap:BandGap",
    "epitaxy": f"{_HERE}.epitaxy:Epitaxy",
    "stability": f"{_HERE}.stability:Stability",
    "surface": f"{_HERE}.surface:SurfaceEnergies",
    "adsorption": f"{_HERE}.adsorption:Adsorption",
    "activity": f"{_HERE}.activity:Activity",
    "ion_insertion": f"{_HERE}.ion_insertion:IonInsertion",
    "electrode": f"{_HERE}.electrode:Electrode",
    "voltage_profile": f"{_HERE}.voltage_profile:VoltageProfile",
    "migration": f"{_HERE}.migration:Migration",
    "diffusivity": f"{_HERE}.diffusivity:Diffusivity",
    "segregation": f"{_HERE}.segregation:Segregation",
    "dissolution": f"{_HERE}.dissolution:Dissolution",
    "service": f"{_HERE}.service:Service",
    "equation_of_state": f"{_HERE}.equation_of_state:EquationOfState",
    "hull": f"{_HERE}.hull:Hull",
    "hull_comparison": f"{_HERE}.hull_comparison:HullComparison",
    "gibbs": f"{_HERE}.gibbs:GibbsEnergies",
    "window": f"{_HERE}.windows:ElectrochemicalWindows",
    "interface": f"{_HERE}.interfaces:Interfaces",
    "coating": f"{_HERE}.interfaces:Coatings",
    "air": f"{_HERE}.air:Air",
    "oxygen_release": f"{_HERE}.oxygen_release:OxygenRelease",
    "conversion": f"{_HERE}.conversion:Conversion",
    "chempots": f"{_HERE}.chemical_potentials:ChemicalPotentials",
    "pourbaix": f"{_HERE}.pourbaix:Pourbaix",
    "follow_modes": f"{_HERE}.modes:FollowedModes",
    "alloy": f"{_HERE}.alloy:Alloy",
    "ordering": f"{_HERE}.ordering:Ordering",
}
_ALSO_CALLED = {"order": "ordering"}


class UnknownPropertyError(DPA4Error):
    """There is no property of this name; one sentence with the closest one."""


def canonical(name: str) -> str:
    """The name in files and Python: ``follow-modes`` is ``follow_modes``, and so is ``follow modes``."""
    written = name.strip().lower().replace("-", "_").replace(" ", "_")
    return _ALSO_CALLED.get(written, written)


def property_names() -> list[str]:
    """All names, ours first."""
    return list(_homes())


def property_class(name: str) -> type[Property[Any]]:
    """The property of this name.

    Raises:
        UnknownPropertyError: there is none.
        DPA4Error: several packages have one, or that of another package cannot be used.
    """
    found = _homes().get(canonical(name), ())
    if not found:
        raise UnknownPropertyError(f"there is no property {name!r}; {meant(canonical(name), _homes())}")
    if len(found) > 1:
        raise DPA4Error(f"several packages have a property {name!r} ({', '.join(found)}): uninstall all but one")
    module, _, attribute = found[0].partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DPA4Error(f"the property {name!r} cannot be imported from {found[0]}: {error}") from error
    if not (isinstance(kind, type) and all(hasattr(kind, what) for what in ("plan", "document", "name"))):
        raise DPA4Error(f"{found[0]}, the entry point of the property {name!r}, is no property")
    return kind


def closest(name: str) -> str | None:
    """The property whose name is nearly ``name``."""
    near = difflib.get_close_matches(canonical(name), _homes(), n=1)
    return near[0] if near else None


@cache
def _homes() -> dict[str, tuple[str, ...]]:
    """Import paths by name; more than one where packages are at odds."""
    homes: dict[str, tuple[str, ...]] = {name: (path,) for name, path in OURS.items()}
    for entry in entry_points(group=GROUP):
        name = canonical(entry.name)
        homes[name] = (*homes.get(name, ()), entry.value)
    return homes
