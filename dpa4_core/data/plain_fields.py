"""pymatgen structures from the plain fields of JSON: numbers, names of elements, flags.

pymatgen's own ``from_dict`` makes whatever object a file asks for: it imports modules and calls classes by the names in
``@module`` and ``@class``. Nothing here follows such a name; the keys are dropped, and so is what they described.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.bounded import DEEPEST_JSON, LARGEST_ENTRY, storable
from dpa4_core.data.system import StructureError

_SPECIES = re.compile(r"[A-Z][A-Za-z]{0,9}[0-9.+-]{0,12}(,spin=-?[0-9.]{1,8})?")
"""An element or another short name with a charge and a spin, "Fe3+"."""

_LONGEST_TEXT = 10_000


def structure_of_fields(fields: Any) -> Any:
    """A pymatgen ``Structure`` of its dictionary form, or a ``Molecule`` where there is no lattice.

    Kept are lattice, periodic axes, species with occupancies, oxidation states and spins, coordinates, labels, total
    charge, spin multiplicity, and properties that are plain values (`plain_value`).

    Args:
        fields: what ``as_dict()`` of pymatgen gives, or the same read from JSON.

    Raises:
        StructureError: a field is missing or is not what it should be; one sentence.
    """
    core = importlib.import_module("pymatgen.core")
    sites = fields.get("sites") if isinstance(fields, Mapping) else None
    if not isinstance(sites, list):
        raise StructureError("the structure has no list of sites")
    for number, site in enumerate(sites):
        if not isinstance(site, Mapping) or not isinstance(site.get("species"), list):
            raise StructureError(f"site {number} has no list of species")
    species = _species_of_sites(core, sites)
    properties = _site_properties(sites)
    labels = [storable(site["label"]) if isinstance(site.get("label"), str) else None for site in sites]
    whole = fields.get("properties")
    common = {
        "site_properties": properties,
        "labels": labels,
        "properties": plain_value(whole) if isinstance(whole, Mapping) else {},
    }
    if "lattice" in fields:
        lattice = lattice_of_fields(fields["lattice"])
        fractional = all("abc" in site for site in sites)
        key = "abc" if fractional else "xyz"
        return built(
            core.Structure,
            lattice,
            species,
            _coordinates(sites, key),
            coords_are_cartesian=not fractional,
            charge=_number(fields.get("charge"), "the charge"),
            **common,
        )
    charge = _number(fields.get("charge"), "the charge") or 0
    spin = _number(fields.get("spin_multiplicity"), "the spin multiplicity")
    return built(
        core.Molecule,
        species,
        _coordinates(sites, "xyz"),
        charge=charge,
        spin_multiplicity=None if spin is None else int(spin),
        **common,
    )


def structure_of_lists(lattice: Any, species: Any, coordinates: Any, *, cartesian: bool) -> Any:
    """A pymatgen ``Structure`` of a lattice, one species and three coordinates for each site.

    Raises:
        StructureError: a list is not what it should be, or the lists differ in length.
    """
    core = importlib.import_module("pymatgen.core")
    kinds, places = checked_species(species), numbers_of(coordinates, (-1, 3), "the list of coordinates")
    if len(kinds) != len(places):
        raise StructureError(f"there are {len(kinds)} species and {len(places)} coordinates; give one of each per site")
    parsed: dict[Any, Any] = {}
    for number, kind in enumerate(kinds):
        if kind not in parsed:
            parsed[kind] = _attempt(partial(_composition, core, kind))
        if parsed[kind] is None:
            raise StructureError(f"site {number} holds {storable(str(kind), 40)!r}, which is not an element")
    return built(
        core.Structure,
        lattice_of_fields(lattice),
        [parsed[kind] for kind in kinds],
        places,
        coords_are_cartesian=cartesian,
    )


def checked_species(species: Any) -> list[str | int]:
    """A list of names of elements, or of atomic numbers.

    Raises:
        StructureError: it is something else.
    """
    if not isinstance(species, list | tuple):
        raise StructureError("the species are no list")
    for number, kind in enumerate(species):
        is_number = isinstance(kind, int) and not isinstance(kind, bool)
        if not is_number and not (isinstance(kind, str) and _SPECIES.fullmatch(kind)):
            raise StructureError(f"site {number} holds {storable(str(kind), 40)!r}, which is not an element")
    return list(species)


def lattice_of_fields(fields: Any) -> Any:
    """A pymatgen ``Lattice`` of 3×3 numbers, of {"matrix": ...}, or of lengths and angles; periodic axes in ``pbc``."""
    core = importlib.import_module("pymatgen.core")
    if not isinstance(fields, Mapping):
        return core.Lattice(numbers_of(fields, (3, 3), "the lattice"))
    pbc = fields.get("pbc", (True, True, True))
    if not isinstance(pbc, list | tuple) or len(pbc) != 3 or not all(isinstance(axis, bool | int) for axis in pbc):
        raise StructureError("the periodic axes of the lattice (pbc) are not three of true and false")
    axes = tuple(bool(axis) for axis in pbc)
    if "matrix" in fields:
        return core.Lattice(numbers_of(fields["matrix"], (3, 3), "the lattice"), pbc=axes)
    parameters = [fields.get(key) for key in ("a", "b", "c", "alpha", "beta", "gamma")]
    if None in parameters:
        raise StructureError("the lattice has neither a matrix nor a, b, c, alpha, beta and gamma")
    lengths_angles = numbers_of(parameters, (6,), "the lattice")
    if not (lengths_angles[3:] > 0).all() or not (lengths_angles[3:] < 180).all():
        raise StructureError("the angles of the lattice must lie between 0 and 180 degrees")
    lattice = _attempt(lambda: core.Lattice.from_parameters(*lengths_angles, pbc=axes))
    if lattice is None:
        raise StructureError("no lattice has the given lengths and angles")
    return lattice


def numbers_of(value: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    """An array of this shape, -1 for any length.

    Raises:
        StructureError: the value is not made of numbers, or has another shape.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StructureError(f"{what} does not consist of numbers") from error
    if array.size == 0 and -1 in shape:
        array = array.reshape([0 if n == -1 else n for n in shape])
    if array.ndim != len(shape) or any(n not in (-1, found) for n, found in zip(shape, array.shape, strict=True)):
        expected = " × ".join("n" if n == -1 else str(n) for n in shape)
        found = " × ".join(map(str, array.shape)) or "one number"
        raise StructureError(f"{what} must be {expected} numbers and is {found}")
    return array


def numbers_of_any(value: Any, what: str) -> NDArray[np.float64]:
    """An array of numbers of any shape.

    Raises:
        StructureError: the value is not made of numbers.
    """
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise StructureError(f"{what} does not consist of numbers") from error


def plain_integers(content: Any, what: str) -> NDArray[np.int64]:
    """A list [n] of integers or flags.

    Raises:
        StructureError: it is none.
    """
    numbers = numbers_of(content, (-1,), what)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any() or (abs(numbers) > 2**53).any():
        raise StructureError(f"{what} does not consist of whole numbers")
    return numbers.astype(np.int64)


def plain_value(value: Any, depth: int = 0) -> Any:
    """Numbers, flags, text, lists and mappings of a value; what was the recipe of an object loses its name.

    Arrays and magnetic moments that pymatgen wrote as objects become their numbers. Keys that begin with @ or $, by
    which decoders know recipes, are dropped wherever they are.
    """
    if depth > DEEPEST_JSON:
        raise StructureError("a property consists of lists in lists without end")
    if isinstance(value, str):
        return storable(value, _LONGEST_TEXT)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        kind = np.asarray(value).dtype.kind
        return value if kind in "biuf" else plain_value(value.tolist(), depth + 1) if kind == "U" else None
    if isinstance(value, list | tuple):
        return [plain_value(entry, depth + 1) for entry in value]
    if not isinstance(value, Mapping):
        return None
    if value.get("@class") == "Magmom" and isinstance(value.get("moment"), int | float):
        return value["moment"]
    if value.get("@module") == "numpy" and value.get("dtype") and "data" in value:
        return plain_value(value["data"], depth + 1)
    return {
        storable(str(key)): plain_value(entry, depth + 1)
        for key, entry in value.items()
        if not str(key).startswith(("@", "$"))
    }


def built(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What ``make`` gives for checked arguments; what it still refuses is one sentence."""
    try:
        return make(*arguments, **options)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        first = storable(str(error).strip().partition("\n")[0], 160)
        raise StructureError(f"the structure is inconsistent: {first}" if first else "it is inconsistent") from error


def _attempt(make: Callable[[], Any]) -> Any:
    """What pymatgen makes of a value, or None where it refuses."""
    try:
        return make()
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError):
        return None


def _species_of_sites(core: Any, sites: Sequence[Mapping[str, Any]]) -> list[Any]:
    known: dict[Any, Any] = {}
    found = []
    for number, site in enumerate(sites):
        key = tuple(_species_key(kind, number) for kind in site["species"])
        if key not in known:
            known[key] = _attempt(partial(_mixture, core, key))
        if known[key] is None:
            names = ", ".join(name for name, *_ in key)
            raise StructureError(f"site {number} holds {names!r}, which is not an element")
        found.append(known[key])
    return found


def _species_key(kind: Any, number: int) -> tuple[str, float | None, float | None, float, bool]:
    """Name, oxidation state, spin, occupancy, and whether it has an oxidation state at all."""
    name = kind.get("element") if isinstance(kind, Mapping) else None
    if not isinstance(name, str) or not _SPECIES.fullmatch(name):
        raise StructureError(f"site {number} names no element")
    occupancy = _number(kind.get("occu", 1), f"the occupancy of site {number}")
    if occupancy is None or not occupancy >= 0:
        raise StructureError(f"the occupancy of site {number} is {occupancy}; it must be a number from 0 to 1")
    old = kind.get("properties")
    spin = kind.get("spin", old.get("spin") if isinstance(old, Mapping) else None)
    return (
        name,
        _number(kind.get("oxidation_state"), f"the oxidation state of site {number}"),
        _number(spin, f"the spin of site {number}"),
        occupancy,
        "oxidation_state" in kind,
    )


def _species(
    core: Any, name: str, oxidation_state: float | None, spin: float | None, occupancy: float, is_species: bool
) -> tuple[Any, float]:
    if not is_species:
        return core.Element(name), occupancy
    make = core.Species if core.Element.is_valid_symbol(name) else core.DummySpecies
    return make(name, oxidation_state, spin=spin), occupancy


def _composition(core: Any, kind: str | int) -> Any:
    return core.Composition({core.periodic_table.get_el_sp(kind): 1})


def _mixture(core: Any, key: tuple[tuple[str, float | None, float | None, float, bool], ...]) -> Any:
    return core.Composition(dict(_species(core, *kind) for kind in key))


def _coordinates(sites: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    for number, site in enumerate(sites):
        place = site.get(key)
        if not isinstance(place, list | tuple) or len(place) != 3:
            raise StructureError(f"site {number} has no three coordinates under {key!r}")
    return numbers_of([site[key] for site in sites], (-1, 3), "the list of coordinates")


def _site_properties(sites: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Properties by name, None where a site lacks one."""
    found = [site.get("properties") for site in sites]
    plain = [plain_value(each) if isinstance(each, Mapping) else {} for each in found]
    names = dict.fromkeys(name for each in plain for name in each)
    if len(names) * len(sites) > LARGEST_ENTRY // 8:
        raise StructureError("the sites have thousands of different properties, as no structure has")
    return {name: [each.get(name) for each in plain] for name in names}


def _number(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
        raise StructureError(f"{what} is {storable(str(value), 40)!r} and not a number")
    return value
