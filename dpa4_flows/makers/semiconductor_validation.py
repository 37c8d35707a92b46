"""Well-known semiconductors beside PBE and experiment: cells, phonons, polymorphs, a film on a wafer, heat, defects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_flows.analysis.lattice_conductivity import ROOM_K
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.defects import DefectRow, DefectsDocument
from dpa4_flows.extras import has_extra
from dpa4_flows.makers.bulk_validation import TEMPERATURE_K, bulk_asks, bulk_failures, bulk_rows, bulk_solids
from dpa4_flows.makers.validation import (
    Key,
    Tolerance,
    ValidationDocument,
    ValidationRow,
    against_pbe,
    compared,
    order,
    references,
    source_of,
    validation,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AT_REST, AtRest
from dpa4_flows.properties.chemical_potentials import Reservoirs
from dpa4_flows.properties.defects import Defects
from dpa4_flows.properties.epitaxy import Epitaxy, EpitaxyDocument
from dpa4_flows.properties.heat_conductivity import HeatConductivity
from dpa4_flows.properties.phonon_scattering import PhononScattering
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.table import ResultsTable

CHEAP = HeatConductivity(quasi_harmonic=QuasiHarmonic(strains=(-0.02, -0.01, 0.0, 0.01, 0.02), min_length=8.0))
"""Two volumes decide the conductivity; more are those of the expansion that comes with it."""
SCATTERS = PhononScattering(scattering_length=7.0, mesh_length=30.0, temperatures_k=(ROOM_K,))
"""Coarse, for the order: diamond's mesh of the default would take longer than everything else together."""


def semiconductor_document(
    model: ModelRef,
    table: ResultsTable,
    *,
    quick: bool = False,
    **how: Any,
) -> ValidationDocument:
    """Compute what the table lacks and compare.

    Args:
        model: the potential.
        table: relaxations and documents are found and kept here.
        quick: silicon, and the polymorphs.
        how: further arguments of `validation`.

    Raises:
        DPA4Error: a model of another level of theory than the references.
    """
    against_pbe(model)
    facts = references("semiconductor_references")
    solids = bulk_solids(facts["solids"]["quick" if quick else "all"])
    asks = bulk_asks(Stability(phonons=Phonons(temperatures_k=(TEMPERATURE_K,))), solids)
    asks.update(_form_asks(facts["polymorphs"]))
    if not quick:
        film = facts["epitaxy"]
        asks["film", film["film"]] = Ask(
            AtRest(Epitaxy(substrates=(film["substrate"],))), asks["wurtzite", film["film"]].crystal
        )
        asks.update(_defect_asks(facts["defects"]))
        for solid in bulk_solids(facts["conductivities"]["order"]):
            asks["heat", solid.formula] = Ask(AtRest(CHEAP), solid.crystal)
            if has_extra("kappa"):
                asks["scattering", solid.formula] = Ask(AtRest(SCATTERS), solid.crystal)

    def rows(found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
        of_solids = bulk_rows(solids, found)
        yield from (row for row in of_solids if row.quantity in facts["solids"]["quantities"])
        yield from _form_rows(facts["polymorphs"], found)
        yield from () if quick else _film_rows(facts["epitaxy"], found)
        yield from _heat_rows(facts["conductivities"], found)
        yield from () if quick else _defect_rows(facts["defects"], found)

    return validation(asks, rows, model, table, failures=bulk_failures, **how)


_FORMS = ("zincblende", "wurtzite")


def _form_asks(group: Mapping[str, Any]) -> Iterator[tuple[Key, Ask[Any]]]:
    for formula, facts in group["values"].items():
        for form in _FORMS:
            crystal = AseAtomsAdaptor.get_structure(bulk(formula, form, **facts[form]))
            yield (form, formula), Ask(AT_REST, Crystal(crystal, name=formula))


def _form_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    for formula, facts in group["values"].items():
        higher, lower = (found[form, formula].energy_per_atom for form in _FORMS)
        above = None if higher is None or lower is None else 1000 * (higher - lower)
        tolerance = Tolerance(absolute=group["tolerance"])
        what = "zincblende above wurtzite"
        yield compared(formula, what, "meV/atom", above, facts["above"], source_of(group), tolerance)


def _film_rows(facts: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    document: EpitaxyDocument = found["film", facts["film"]]
    planes = (facts["plane"], facts["substrate_plane"])
    fits = [one.strain_percent for one in document.matches if (one.film_plane, one.substrate_plane) == planes]
    what = f"({planes[0]}) on {facts['substrate']} ({planes[1]}), strain"
    bound = [0.0, facts["strain_percent"]]
    yield compared(facts["film"], what, "%", min(fits, default=None), bound, source_of(facts), Tolerance())


def _heat_rows(facts: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    """Orders of conductivities, and those whose size is known to come out."""
    for what, value, label in (
        ("heat", "slack_w_mk", "κ of Slack"),
        ("scattering", "conductivity_w_mk", "κ of phonons"),
    ):
        documents = {formula: found.get((what, formula)) for formula in facts["order"]}
        known = {formula: one for formula, document in documents.items() if (one := getattr(document, value, None))}
        if len(known) > 1:
            yield order(known, label, "W/(m K)", source_of(facts))
    for formula, within in facts["within"].items():
        if (document := found.get(("scattering", formula))) is not None:
            value, measured = document.conductivity_w_mk, facts["measured"][formula]
            yield compared(
                formula, "κ of phonons", "W/(m K)", value, within, facts["within_source"], Tolerance(), measured
            )


def _defect_asks(group: Mapping[str, Any]) -> Iterator[tuple[Key, Ask[Any]]]:
    """Vacancies, and dopants from their elements alone."""
    region = Reservoirs(library=None, bundled=False)
    for formula in group["vacancies"]["values"]:
        dopants = tuple(group["substitutions"]["values"]) if formula == group["substitutions"]["host"] else ()
        wanted = Defects(dopants=dopants, kinds=("vacancy", "substitution"), n_starts=2, region=region)
        crystal = AseAtomsAdaptor.get_structure(bulk(formula))
        yield ("defects", formula), Ask(AtRest(wanted), Crystal(crystal, name=formula))


def _defect_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    def rows(formula: str) -> dict[str, DefectRow]:
        document: DefectsDocument = found["defects", formula]
        return {row.name: row for row in document.defects}

    part, source = group["vacancies"], source_of(group)
    for formula, facts in part["values"].items():
        row = rows(formula).get(f"v_{formula}")
        energy = None if row is None else row.lowest
        tolerance = Tolerance(absolute=part["tolerance"])
        yield compared(formula, "vacancy", "eV", energy, facts["energy"], source, tolerance, facts["experiment"])
    part = group["substitutions"]
    for dopant, reference in part["values"].items():
        row = rows(part["host"]).get(f"{dopant}_{part['host']}")
        energy = None if row is None else row.from_elements
        tolerance = Tolerance(absolute=part["tolerance"])
        yield compared(part["host"], f"{dopant} in it", "eV", energy, reference, source, tolerance)
