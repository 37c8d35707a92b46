"""Surface and adsorption energies of well-known metals beside published PBE, and what must be refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.anomalies import LIMITS
from dpa4_flows.analysis.frames import applies_u
from dpa4_flows.analysis.surface import J_M2_PER_EV_A2, Cut, surface_energy
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionSite
from dpa4_flows.makers.validation import (
    Key,
    Tolerance,
    ValidationDocument,
    ValidationRow,
    against_pbe,
    compared,
    errors,
    references,
    source_of,
    validation,
    verdict,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies
from dpa4_flows.store.table import ResultsTable

THICKNESS = 10.0
"""Å, of the slabs of the published surface energies."""
QUARTER = 1.9
"""Distances of neighbours, between an adsorbate and its images in a cell of 2×2."""
ARITHMETIC_MEV = 1.0


def catalyst_document(
    model: ModelRef,
    table: ResultsTable,
    metals: Sequence[str] | None = None,
    *,
    quick: bool = False,
    **how: Any,
) -> ValidationDocument:
    """Compute what the table lacks and compare.

    Args:
        model: the potential.
        table: relaxations and documents are found and kept here.
        metals: symbols; all of the table by default.
        quick: the few quick ones.
        how: further arguments of `validation`.

    Raises:
        DPA4Error: a metal that is not in the table, or a model of another level of theory than the references.
    """
    facts, level = references("catalyst_metals"), against_pbe(model)
    chosen = facts["quick"] if quick else list(metals or facts["metals"])
    if unknown := [metal for metal in chosen if metal not in facts["metals"]]:
        raise DPA4Error(f"{unknown[0]!r} is not in the table; choose from {', '.join(facts['metals'])}")

    def rows(found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
        yield from _surface_rows(facts, found)
        yield from _adsorption_rows(facts, found)
        yield from _order_rows(facts, found)
        yield from _verdict_rows(facts, found, with_u=applies_u(level))
        yield from _published_slabs()

    return validation(dict(_asks(facts, chosen)), rows, model, table, failures=_failures, **how)


def _failures(found: Mapping[Key, Any]) -> dict[str, str]:
    return errors({key: one for key, one in found.items() if key[0] != "refused"})


def _asks(facts: Mapping[str, Any], metals: Sequence[str]) -> Iterator[tuple[Key, Ask[Any]]]:
    for metal in metals:
        lattice, a, *c = facts["metals"][metal]
        atoms = bulk(metal, lattice, a=a, **({"c": c[0]} if c else {}))
        crystal = Crystal(AseAtomsAdaptor.get_structure(atoms), name=metal)
        if metal in facts["surface_energies"]["values"]:
            yield ("surface", metal), Ask(AtRest(SurfaceEnergies(min_thickness=THICKNESS)), crystal)
        images = QUARTER * (a if lattice == "hcp" else a / 2**0.5 if lattice == "fcc" else a * 0.75**0.5)
        where = {"facets": (_closest_packed(lattice),), "min_length": images}
        names = dict.fromkeys(group["adsorbate"] for group in facts["adsorption"] if metal in group["values"])
        if names:
            yield ("sites", metal), Ask(AtRest(Adsorption(tuple(map(Adsorbate.named, names)), **where)), crystal)
        if metal in facts["refused"]["metals"]:
            refused = Adsorbate.named(facts["refused"]["adsorbate"])
            yield ("refused", metal), Ask(AtRest(Adsorption((refused,), **where)), crystal)


def _closest_packed(lattice: str) -> str:
    return {"fcc": "111", "hcp": "0001", "bcc": "110"}[lattice]


def _surface_rows(facts: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    known = facts["surface_energies"]
    tolerance = Tolerance(known["percent"] / 100)
    for metal, reference in known["values"].items():
        if ("surface", metal) in found:
            document: SurfaceDocument = found["surface", metal]
            facets = {one.facet: one.surface_energy for one in document.terminations if one.lowest}
            value, where = facets.get(known["facet"]), f"γ ({known['facet']})"
            yield compared(metal, where, "J/m²", value, reference, source_of(known), tolerance)


def _best(found: Mapping[Key, Any], metal: str, adsorbate: str) -> AdsorptionSite | None:
    document: AdsorptionDocument | None = found.get(("sites", metal))
    best = {} if document is None else document.best(adsorbate)
    return next(iter(best.values()), None)


def _adsorption_rows(facts: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    for group in facts["adsorption"]:
        name, against = group["adsorbate"], group["against"]
        shift = facts["half_o2"] if against == "1/2 O2" else 0.0
        for metal, reference in group["values"].items():
            if ("sites", metal) in found:
                best = _best(found, metal, name)
                energy = None if best is None or best.adsorption_energy is None else best.adsorption_energy - shift
                tolerance = Tolerance(absolute=group["tolerance"])
                yield compared(metal, f"{name} from {against}", "eV", energy, reference, source_of(group), tolerance)


def _order_rows(facts: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    """Metals along the volcano of hydrogen evolution: where published ranges are apart, the order must be theirs."""
    group = next(group for group in facts["adsorption"] if group["adsorbate"] == "H")
    energies = {
        metal: best.adsorption_energy
        for metal in group["values"]
        if (best := _best(found, metal, "H")) is not None and best.adsorption_energy is not None
    }
    if len(energies) < 2:
        return
    kept = all(
        energies[one] < energies[other]
        for one, other in itertools.permutations(energies, 2)
        if group["values"][one][1] < group["values"][other][0]
    )
    ascending = " < ".join(sorted(energies, key=lambda metal: energies[metal]))
    source = f"{source_of(group)}, where its ranges are apart"
    yield verdict(ascending, "order of H", source, "the same order", kept)


def _verdict_rows(facts: Mapping[str, Any], found: Mapping[Key, Any], *, with_u: bool) -> Iterator[ValidationRow]:
    site = facts["site"]
    if (best := _best(found, site["metal"], site["adsorbate"])) is not None:
        where = f"{site['adsorbate']} on {best.end}"
        yield verdict(site["metal"], where, site["source"], f"on {site['is']}", best.end == site["is"])
    refused = facts["refused"]
    for metal in refused["metals"] if with_u else ():
        document: AdsorptionDocument | None = found.get(("refused", metal))
        if document is not None:
            code = document.error_code or "energies are given"
            what = f"{refused['adsorbate']}: {code}"
            yield verdict(metal, what, refused["source"], "refused", code == "plus_u_seam")
    energies = [
        abs(energy)
        for document in found.values()
        if isinstance(document, AdsorptionDocument)
        for facet in document.facets
        for one in facet.sites
        if (energy := one.adsorption_energy) is not None
    ]
    if energies:
        source = "no adsorption energy beyond it is known"
        bound = [0.0, LIMITS.largest]
        yield compared("all", "largest adsorption energy", "eV", max(energies), bound, source, Tolerance())


def _published_slabs() -> Iterator[ValidationRow]:
    """Published energies of slabs and crystals, by our arithmetic: no model takes part."""
    data = references("surface_entries")
    for entry in data["slabs"]:
        if (published := entry["surface_energy_J_m2"]) is None:
            continue
        crystal = data["bulk"][entry["crystal"]]
        unit = Structure(**crystal["structure"])
        cut = Cut("published", "published", (1, 1, 1), Structure(**entry["structure"]), unit)
        apart = surface_energy(cut, entry["energy"], crystal["energy"] / len(unit)) - published
        mev = 1000 * apart * 2 * cut.area / J_M2_PER_EV_A2
        source = "PBE, R. Tran et al., Sci. Data 3, 160080 (2016) [A]"
        name = f"arithmetic ({entry['name'].removesuffix('_shift0').rpartition('_')[2]})"
        yield compared(cut.slab.reduced_formula, name, "meV", mev, 0.0, source, Tolerance(absolute=ARITHMETIC_MEV))
