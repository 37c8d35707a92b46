"""Well-known electrodes beside what is known of them: voltages, plateaus, windows, insertion, conversion, hops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.electrode import MAH_PER_G, remove_ions
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import whole_hull
from dpa4_flows.analysis.titration import titrate
from dpa4_flows.analysis.voltage_profile import Couple, State, mean_voltage, profile
from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.makers.corrections import bundled_compounds
from dpa4_flows.makers.validation import (
    Key,
    Tolerance,
    ValidationDocument,
    ValidationRow,
    against_pbe,
    compared,
    references,
    source_of,
    validation,
    verdict,
)
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.conversion import Conversion, ConversionDocument
from dpa4_flows.properties.electrode import Electrode
from dpa4_flows.properties.ion_insertion import IonInsertion
from dpa4_flows.properties.migration import Migration, MigrationDocument
from dpa4_flows.properties.voltage_profile import VoltageProfile
from dpa4_flows.properties.windows import ElectrochemicalWindows
from dpa4_flows.reference.library import load_phases
from dpa4_flows.store.table import ResultsTable

_EXACT = {"V": 1e-5, "mAh/g": 1e-2}
"""To which published numbers are rounded, or constants of nature were known."""


def battery_document(
    model: ModelRef, table: ResultsTable, *, quick: bool = False, long: bool = False, **how: Any
) -> ValidationDocument:
    """Compute what the table lacks and compare.

    Args:
        model: the potential.
        table: relaxations and documents are found and kept here.
        quick: a few of all.
        long: also what takes as long as all others together: hops in LiFePO4, and Li4Ti5O12.
        how: further arguments of `validation`.

    Raises:
        DPA4Error: a model of another level of theory than the references.
    """
    against_pbe(model)
    facts = references("battery_references")
    asks = {
        key: ask
        for key, ask in _asks(facts, long=long)
        if not quick or (key[1] in facts["quick"] and key[0] not in ("insertion", "plateaus"))
    }

    def rows(found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
        yield from _voltage_rows(facts["voltages"], found)
        yield from _plateau_rows(facts["plateaus"], found)
        yield from _insertion_rows(facts["insertion"], found)
        yield from _window_rows(facts["windows"], found)
        yield from _conversion_rows(facts["conversion"], found)
        yield from _hop_rows(facts["hops"], found)
        yield from _published_entries(references("battery_entries"))

    return validation(asks, rows, model, table, **how)


def _asks(facts: Mapping[str, Any], *, long: bool) -> Iterator[tuple[Key, Ask[Any]]]:
    crystals = _bundled_crystals()
    for formula, one in facts["voltages"]["values"].items():
        yield ("voltage", formula), Ask(Electrode(one["ion"]), _crystal(formula, one, crystals))
    for formula, one in _of_group(facts["plateaus"], long=long).items():
        wanted = VoltageProfile(one["ion"], n_steps=len(one["voltages"]))
        yield ("plateaus", formula), Ask(wanted, _crystal(formula, one, crystals))
    for formula, one in _of_group(facts["insertion"], long=long).items():
        settings = {name: one[name] for name in ("min_voltage", "n_steps") if name in one}
        wanted_in = IonInsertion(one["ion"], **settings)
        yield ("insertion", formula), Ask(wanted_in, _crystal(formula, one, crystals))
    salts = {phase.name: phase.structure for phase in bundled_compounds()}
    for formula in facts["windows"]["values"]:
        yield ("window", formula), Ask(ElectrochemicalWindows(), Crystal(salts[formula], formula))
    for formula, one in facts["conversion"]["values"].items():
        wanted_out = Conversion(min_voltage=one.get("stops", 0.0))
        yield ("conversion", formula), Ask(wanted_out, _crystal(formula, one, crystals))
    if long:
        hops = facts["hops"]
        way = AtRest(Migration(working_ion=hops["ion"]))
        yield ("hops", "LiFePO4"), Ask(way, _crystal("LiFePO4", hops, crystals))


def _bundled_crystals() -> dict[str, Structure]:
    folder = bundled_campaigns()["battery"] / "structures"
    files = [folder / "candidates.json", folder / "anodes.json"]
    return {phase.name: phase.structure for phase in load_phases(files)}


def _crystal(formula: str, facts: Mapping[str, Any], crystals: Mapping[str, Structure]) -> Crystal:
    if "host_of" in facts:
        return Crystal(remove_ions(crystals[facts["host_of"]], facts["ion"]), formula)
    structure = crystals[facts["structure"]].copy()
    structure.replace_species(facts.get("replace", {}))
    return Crystal(structure, formula)


def _of_group(group: Mapping[str, Any], *, long: bool = True) -> dict[str, Any]:
    """What a group compares, with what takes long."""
    return {**group["values"], **(group.get("long", {}) if long else {})}


def _voltage_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    for formula, one in group["values"].items():
        if (document := found.get(("voltage", formula))) is not None:
            what, tolerance = f"voltage against {one['ion']}", Tolerance(absolute=group["tolerance"])
            value = document.average_voltage
            yield compared(formula, what, "V", value, one["neo"], source_of(group), tolerance, one["experiment"])


def _plateau_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    for formula, one in _of_group(group).items():
        if (document := found.get(("plateaus", formula))) is None:
            continue
        tolerance = Tolerance(absolute=one.get("tolerance", group["tolerance"]))
        values = [plateau.voltage for plateau in document.plateaus]
        yield verdict(
            formula,
            "number of plateaus",
            source_of(group),
            str(len(one["voltages"])),
            len(values) == len(one["voltages"]),
        )
        for i, reference in enumerate(one["voltages"]):
            value = min(values, key=lambda voltage: abs(voltage - reference), default=None)
            yield compared(formula, f"plateau {i + 1}", "V", value, reference, source_of(group), tolerance)


def _insertion_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    tolerance = Tolerance(absolute=group["tolerance"])
    for formula, one in _of_group(group).items():
        if (document := found.get(("insertion", formula))) is None:
            continue
        what, value = f"insertion of {one['ion']}, voltage", document.mean_voltage
        yield compared(formula, what, "V", value, one["voltage"], source_of(group), tolerance, one["experiment"])
        if "takes" in one:
            what, source = f"{one['ion']} that goes in", "full places, or its metal reduced by one"
            yield compared(formula, what, "", document.taken, one["takes"], source, Tolerance(absolute=0.01))


def _window_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    tolerance = Tolerance(absolute=group["tolerance"])
    for formula, one in group["values"].items():
        if (document := found.get(("window", formula))) is not None:
            what, value = "window, upper end", document.upper
            yield compared(formula, what, "V", value, one["upper"], source_of(group), tolerance, one["literature"])


def _conversion_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    for formula, one in group["values"].items():
        document: ConversionDocument | None = found.get(("conversion", formula))
        if document is None:
            continue
        if "voltage" in one:
            tolerance = Tolerance(absolute=one["tolerance"])
            value = document.voltage
            yield compared(formula, "conversion, voltage", "V", value, one["voltage"], source_of(group), tolerance)
        if "expansion" in one:
            product = one["product"]
            ends = [step.expansion_percent for step in document.steps if set(step.products) == {product}]
            what, value = f"expansion at {product}", ends[0] if ends else None
            yield compared(
                formula, what, "%", value, one["expansion"], source_of(group), Tolerance(one["percent"] / 100)
            )


def _hop_rows(group: Mapping[str, Any], found: Mapping[Key, Any]) -> Iterator[ValidationRow]:
    document: MigrationDocument | None = found.get(("hops", "LiFePO4"))
    if document is None:
        return
    lowest: dict[str, float] = {}
    for hop in document.hops:
        if hop.barrier is not None:
            lowest[hop.direction] = min(hop.barrier, lowest.get(hop.direction, hop.barrier))
    for direction, reference in group["along"].items():
        value = lowest.get(direction)
        yield compared("LiFePO4", f"hop along {direction}", "eV", value, reference, source_of(group), Tolerance())
    for direction, above in group["far_above"].items():
        value = lowest.get(direction)
        words = f"hop along {direction}: {'none' if value is None else f'{value:.2f} eV'}"
        yield verdict("LiFePO4", words, source_of(group), f"above {above:g} eV", value is not None and value > above)


def _published_entries(data: Mapping[str, Any]) -> Iterator[ValidationRow]:
    """Voltages and capacities of published entries, by our arithmetic: no model takes part."""
    for name, one in data["electrodes"].items():
        ion, charge, entries = one["ion"], ion_charge(one["ion"]), one["entries"]
        units = [min(n for symbol, n in entry["amounts"].items() if symbol != ion) for entry in entries]
        contents = [entry["amounts"].get(ion, 0.0) / n for entry, n in zip(entries, units, strict=True)]
        low, high = min(contents), max(contents)
        full = contents.index(high)
        mass = float(Composition(entries[full]["amounts"]).weight) / units[full]
        capacity = (high - low) * charge * MAH_PER_G / mass
        states = [
            State((content - low) / (high - low), entry["energy"] / n, entry["volume"] / n)
            for content, entry, n in zip(contents, entries, units, strict=True)
        ]
        plateaus = profile(states, Couple(high - low, charge, one["metal"], capacity)).plateaus
        numbers = {
            "mean voltage": (mean_voltage(plateaus), one["average_voltage"]),
            "highest voltage": (plateaus[-1].voltage, one["max_voltage"]),
            "lowest voltage": (plateaus[0].voltage, one["min_voltage"]),
        }
        yield from (_arithmetic(name, what, "V", *both, data["source"]) for what, both in numbers.items())
        yield _arithmetic(name, "capacity", "mAh/g", capacity, one["capacity_grav"], data["source"])
    yield from _published_conversion(data["conversion"], data["source"])


def _published_conversion(data: Mapping[str, Any], source: str) -> Iterator[ValidationRow]:
    """CoO2 + 4 Li, step by step along the hull of published entries."""
    entries = [
        ComputedEntry(row["amounts"], row["energy"], row["correction"], entry_id=str(i))
        for i, row in enumerate(data["entries"])
    ]
    oxides = [entry for entry in entries if entry.composition.reduced_formula == "CoO2"]
    start = min(oxides, key=lambda entry: entry.energy_per_atom)
    steps = titrate(whole_hull(Composition("LiCoO2"), entries), start, "Li")
    for i, (step, voltage) in enumerate(zip(steps, data["voltages"], strict=True), start=1):
        yield _arithmetic("CoO2", f"step {i}", "V", -step.potential, voltage, source)


def _arithmetic(name: str, what: str, unit: str, value: float | None, reference: float, source: str) -> ValidationRow:
    return compared(name, f"arithmetic, {what}", unit, value, reference, source, Tolerance(absolute=_EXACT[unit]))
