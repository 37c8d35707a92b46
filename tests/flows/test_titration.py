"""What a crystal turns into as an element goes in or out: conversion electrodes, release of oxygen."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.apps.battery.conversion_battery import ConversionElectrode
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from toy_campaign import MORSE, layered, scene

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.electrode import redox_bound
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.hull import SystemHull
from dpa4_flows.analysis.oxygen import ENERGY_ERROR, ENTROPY_ERROR
from dpa4_flows.analysis.titration import pieces, titrate
from dpa4_flows.campaigns.battery import BATTERY, electrode_finding
from dpa4_flows.campaigns.battery_charged import oxygen_finding
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, PlanError
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.quantities import quantities
from dpa4_flows.documents.schemas import HullDocument
from dpa4_flows.makers.validation import references
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.conversion import Conversion
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.oxygen_release import OxygenRelease, OxygenReleaseDocument, OxygenStep, _too_strong
from dpa4_flows.report.figures_thermodynamics import conversion_profiles, oxygen_losses

DATA = references("battery_entries")["conversion"]
RAW = {"model_sha256": "a" * 64, "level_of_theory": "PBE / PBE+U", "correction": "none"}


def crystal(amounts: dict[str, float], volume: float) -> Structure:
    """Atoms anywhere in a cell of this volume."""
    symbols = [symbol for symbol, n in amounts.items() for _ in range(int(n))]
    return Structure(Lattice.cubic(volume ** (1 / 3)), symbols, [[i / len(symbols)] * 3 for i in range(len(symbols))])


@pytest.fixture(scope="module")
def entries() -> list[ComputedEntry]:
    return [
        ComputedStructureEntry(crystal(row["amounts"], row["volume"]), row["energy"], row["correction"])
        for row in DATA["entries"]
    ]


def lowest(entries: Sequence[ComputedEntry], formula: str) -> ComputedEntry:
    name = Composition(formula).reduced_formula
    return min((e for e in entries if e.composition.reduced_formula == name), key=lambda e: e.energy_per_atom)


def simple(formula: str, formation_energy: float, **data: Any) -> ComputedEntry:
    composition = Composition(formula)
    return ComputedEntry(composition, formation_energy * composition.num_atoms, data=data)


class Placed:
    """What views need of a `HullDocument`."""

    def __init__(self, formula: str, above: float = 0.0, grade: str = "unsurveyed") -> None:
        self.formula, self.energy_above_hull = formula, above
        self.completeness = self
        self.grade, self.sentence = grade, "no compound of another composition is known"


def view(of: Conversion | OxygenRelease, phase: ComputedEntry, others: Sequence[ComputedEntry], **said: Any) -> Any:
    placed: HullDocument | Any = Placed(phase.composition.reduced_formula, **said)
    return of.document(**of.view(phase, others, placed))


def test_conversion_of_cobalt_oxide_is_that_of_the_published_tests_and_of_pymatgen(
    entries: list[ComputedEntry],
) -> None:
    found = view(Conversion(), lowest(entries, "CoO2"), entries)
    assert [step.voltage for step in found.steps] == pytest.approx(DATA["voltages"], abs=1e-5)
    host, full = (float(Composition(formula).weight) for formula in ("CoO2", "Li4CoO2"))
    assert found.capacity * host / full == pytest.approx(DATA["capacity_of_discharged_mass"], rel=1e-6)
    assert found.voltage * found.capacity == pytest.approx(found.specific_energy)
    theirs = ConversionElectrode.from_composition_and_pd(Composition("LiCoO2"), PhaseDiagram(entries))
    assert found.voltage == pytest.approx(theirs.get_average_voltage(), abs=1e-8)
    volumes = [theirs.voltage_pairs[0].vol_charge, *(pair.vol_discharge for pair in theirs.voltage_pairs)]
    expected = [100 * (volume / volumes[0] - 1) for volume in volumes[1:]]
    assert [step.expansion_percent for step in found.steps] == pytest.approx(expected, abs=1e-6)
    assert found.reaction == "CoO2 + 4 Li → 2 Li2O + Co"


def test_an_alloy_grows_as_its_phases_do_and_stops_at_a_voltage() -> None:
    """By hand: Si + 15/4 Li → Li15Si4 at 3.75 · 0.3 eV, 20.4 and 304/4 Å³ per silicon; then to Li22Si5 at 0.05 V."""
    per_ion = {"Li15Si4": -0.3 * 15 / 19, "Li22Si5": -(0.3 * 3.75 + 0.05 * 0.65) * 5 / 27}
    volumes = {"Si": 20.4, "Li": 20.0, "Li15Si4": 304.0, "Li22Si5": 412.0}
    phases = [
        ComputedStructureEntry(crystal(c.get_el_amt_dict(), volume), per_ion.get(name, 0.0) * c.num_atoms)
        for name, volume in volumes.items()
        for c in [Composition(name)]
    ]
    found = view(Conversion(), phases[0], phases)
    assert [step.voltage for step in found.steps] == pytest.approx([0.3, 0.05])
    assert found.capacity == pytest.approx(4.4 * 26801.48 / 28.085, rel=1e-4)
    assert found.voltage == pytest.approx((0.3 * 3.75 + 0.05 * 0.65) / 4.4)
    assert found.expansion_percent == pytest.approx(100 * (412 / 5 / 20.4 - 1))
    kept = view(Conversion(min_voltage=0.1), phases[0], phases)
    assert (kept.capacity, kept.expansion_percent) == pytest.approx((3578.6, 100 * (76 / 20.4 - 1)), rel=1e-4)
    with pytest.raises(PlanError, match="at 0.30 V and less, below 1 V"):
        view(Conversion(min_voltage=1.0), phases[0], phases)
    with pytest.raises(PlanError, match="no compound of it competes") as none:
        view(Conversion(), phases[0], phases[:2])
    assert none.value.code == "takes_up_no_ion"


def test_a_fluoride_gives_the_voltage_of_its_reaction_per_charge_and_needs_corrections() -> None:
    """FeF2 + 2 Li → 2 LiF + Fe: (2 · 6.39 − 7.37) eV for two electrons; with magnesium both go at once."""
    phases = [simple("FeF2", -7.37 / 3), simple("LiF", -6.39 / 2), simple("MgF2", -11.65 / 3)]
    phases += [simple(name, 0.0) for name in ("Li", "Fe", "F2", "Mg")]
    found = view(Conversion(), phases[0], phases)
    assert found.voltage == pytest.approx((2 * 6.39 - 7.37) / 2)
    assert (
        found.capacity == pytest.approx(571.2, abs=0.5) and found.expansion_percent is None
    )  # measured and quoted: 571
    assert view(Conversion(working_ion="Mg"), phases[0], phases).voltage == pytest.approx((11.65 - 7.37) / 2)
    raw = [simple(e.composition.reduced_formula, e.energy_per_atom, frame=RAW) for e in phases]
    with pytest.raises(FrameError, match="need corrections before they mean anything"):
        view(Conversion(), raw[0], raw)


@pytest.mark.parametrize("rounding", [-2e-15, 0.0, 2e-15])
def test_a_facet_that_begins_where_the_line_ends_is_no_piece_of_its_own(rounding: float) -> None:
    found = list(pieces(np.array([0.0, -2.0 + rounding]), np.array([0.0, 1.0]), 2.0))
    assert found == [(2.0, 0.0)]


@pytest.mark.parametrize("formula", ["CoO2", "LiCoO2", "Li(CoO2)2", "Co3O4"])
def test_loss_of_oxygen_goes_along_the_profile_of_pymatgen(entries: list[ComputedEntry], formula: str) -> None:
    hull = SystemHull(frozenset(("Li", "Co", "O")), entries)
    found = titrate(hull, lowest(entries, formula), "O", out=True)
    profile = PhaseDiagram(entries).get_element_profile(Element("O"), Composition(formula).reduced_composition)
    leaving = [step for step in profile if step["evolution"] < -1e-8]
    assert [step.end for step in found] == pytest.approx([-step["evolution"] for step in leaving], abs=1e-6)
    chempots = [step["chempot"] - hull.references[2] for step in leaving]
    assert [step.potential for step in found] == pytest.approx(chempots, abs=1e-6)
    for step, theirs in zip(found, leaving, strict=True):
        products = {c.reduced_formula for c in theirs["reaction"].products} - {"O2"}
        assert set(step.formulas) == products


# enthalpies of formation at 298 K, kJ/mol, and volumes, Å³ per formula unit: `benchmarks/oxygen_entropies.py` has whose
MEASURED = {
    "CoO": (-237.7, 19.3),
    "Co3O4": (-910.0, 66.0),
    "MnO2": (-520.9, 27.6),
    "Mn2O3": (-958.1, 52.1),
    "Mn3O4": (-1387.4, 78.0),
    "BaO2": (-634.3, 52.1),
    "BaO": (-548.1, 44.2),
}


def solid(formula: str, up: float = 0.0, volume: float = 20.0, enthalpy: float = 0.0) -> Any:
    """Entry of a solid; ``up`` in eV/atom above its energy."""
    enthalpy, volume = MEASURED.get(formula, (enthalpy, volume))
    composition = Composition(formula)
    structure = crystal(composition.get_el_amt_dict(), volume)
    return ComputedStructureEntry(structure, enthalpy / 96.485 + up * composition.num_atoms)


@pytest.mark.parametrize(
    ("oxide", "left", "kelvin"),  # in air, by measured free energies: the same place
    [("Co3O4", "CoO", 1171), ("BaO2", "BaO", 990), ("MnO2", "Mn2O3", 694), ("Mn2O3", "Mn3O4", 1137)],
)
def test_oxides_give_off_oxygen_where_it_is_measured(oxide: str, left: str, kelvin: float) -> None:
    """From measured enthalpies, so that the Gibbs energies of solids and gas are what is tested."""
    metal = Composition(oxide).elements[0].symbol
    found = view(OxygenRelease(), solid(oxide), [solid(left), solid(metal), solid("O")])
    assert found.products == [left] and found.temperature == pytest.approx(kelvin, abs=265)
    assert found.steps[-1].temperature is None or found.steps[-1].temperature > found.temperature


def test_what_lies_above_the_hull_gives_off_oxygen_earlier_by_that_energy() -> None:
    """2 MO2 → 2 MO + O2 at 2.0 eV per O2; 0.1 eV/atom above the hull are 0.6 eV per O2."""
    others = [solid("Mg"), solid("O"), solid("MgO", enthalpy=-3.0 * 96.485)]
    stable, high = (
        view(OxygenRelease(), solid("MgO2", up, 27.0, -4.0 * 96.485), others, above=up) for up in (0.0, 0.1)
    )
    assert stable.reaction_energy == pytest.approx(2.0) and high.reaction_energy == pytest.approx(1.4)
    assert stable.reaction == "MgO2 → MgO + 0.5 O2" and stable.products == ["MgO"] and stable.flags == []
    assert stable.released_percent == pytest.approx(100 * 15.999 / 56.303, abs=0.01)
    assert [step.temperature for step in stable.steps][1] is None  # MgO keeps the rest
    assert high.temperature is not None and stable.temperature is not None
    assert stable.temperature - high.temperature == pytest.approx(0.6 / 2.0 * stable.temperature, rel=0.15)
    vacuum = view(OxygenRelease(pressure=1e-6), solid("MgO2", 0.0, 27.0, -4.0 * 96.485), others)
    assert vacuum.temperature < stable.temperature - 100
    now = view(OxygenRelease(), solid("MgO2", 0.4, 27.0, -4.0 * 96.485), others, above=0.4)
    assert now.temperature == 300 and [flag.code for flag in now.flags] == ["releases_oxygen_at_room_temperature"]
    low, high = stable.steps[0].low, stable.steps[0].high
    for bound, side in ((low, 1), (high, -1)):
        error = side * math.hypot(6 * ENERGY_ERROR, bound * ENTROPY_ERROR) / 6  # eV/atom, 6 of them by O2
        off = view(OxygenRelease(), solid("MgO2", error, 27.0, -4.0 * 96.485), others)
        assert off.temperature == pytest.approx(bound, abs=2)
    assert stable.temperature_std == pytest.approx(high - stable.temperature)
    assert now.temperature_std is None, "it is surely below 300 K"
    oxide = view(OxygenRelease(), others[2], others)
    assert oxide.temperature is None and [flag.code for flag in oxide.flags] == ["keeps_oxygen"]
    (figure,) = oxygen_losses({"stable": stable, "oxide": oxide})
    bars, lost, kept = figure.figure.data
    assert max(lost.y) == pytest.approx(0.5) and max(kept.y) == 0
    assert bars.x[0] + bars.error_x.array[0] == pytest.approx(high)


def test_oxygen_beside_late_metals_may_leave_far_earlier_and_not_later() -> None:
    """By 1.2 eV of the 2.0 eV per O2 that it costs, which the correction of oxides has too much for palladium."""
    found = {}
    for metal in ("Mg", "Pd"):
        oxide, left = (solid(f"{metal}{n}", 0.0, 27.0, h * 96.485) for n, h in (("O2", -4.0), ("O", -3.0)))
        found[metal] = view(OxygenRelease(), oxide, [solid(metal), solid("O"), left])
    usual, late = found["Mg"], found["Pd"]
    assert usual.temperature == pytest.approx(late.temperature) and usual.flags == []
    assert late.steps[0].high == usual.steps[0].high and late.steps[0].low < 0.6 * usual.temperature
    assert late.temperature_std == pytest.approx(late.temperature - late.steps[0].low)
    assert [flag.code for flag in late.flags] == ["oxygen_bound_too_strongly"] and " Pd " in late.flags[0].sentence


def test_a_few_atoms_too_many_carry_nothing_of_what_all_are_above_the_hull() -> None:
    others = [simple("Mg", 0.0), simple("O2", 0.0), simple("MgO", -1.5), simple("MgO2", -3.5 / 3)]
    little = simple("Mg50O101", -3.5 / 151 * 50 + 0.01)
    hull = SystemHull(frozenset(("Mg", "O")), [*others, little])
    assert abs(2 * titrate(hull, little, "O", out=True)[0].potential) < 1.0


def test_a_charged_host_leaves_oxygen_as_a_reason_of_its_own_with_the_temperature() -> None:
    host, said = Crystal(layered("Co"), "x"), provenance(ModelRef(MORSE), {})
    at_work = scene("oxygen_release", campaign={"name": "x", "candidates": ["x"], "stages": BATTERY.funnel().names})
    cases: dict[tuple[float | None, float | None], tuple[list[str], str | None]] = {
        (600.0, 150.0): ([], None),
        (350.0, 40.0): (["loses_oxygen"], "CoO2 gives off oxygen at 350 K, below 400 K"),
        (350.0, 60.0): (
            ["oxygen_unsure"],
            "CoO2 gives off oxygen at 350 K, below 400 K, by less than its error of 60 K",
        ),
        (470.0, 75.0): (
            ["oxygen_unsure"],
            "CoO2 gives off oxygen at 470 K, above 400 K, by less than its error of 75 K",
        ),
        (300.0, None): (["loses_oxygen"], "CoO2 gives off oxygen at 300 K or less, below 400 K"),
        (None, None): ([], None),
    }
    for (kelvin, error), (codes, sentence) in cases.items():
        said_of = {"temperature": kelvin, "temperature_std": error, "reaction": "x"}
        found = OxygenReleaseDocument(formula="CoO2", **said_of, provenance=said)
        verdict = at_work.verdict(oxygen_finding(host, found))
        assert [reason.code for reason in verdict.reasons] == codes and verdict.goes_on
        assert sentence is None or verdict.reasons[0].sentence == sentence
        assert at_work.verdict(oxygen_finding(host, found, reliable=False)).reasons == []
    # what may come far earlier, and little later, is below the limit all the same, and says so
    late = {"temperature": 380.0, "temperature_std": 80.0, "reaction": "x", "flags": _too_strong(solid("CuO2", 0.0))}
    for high, code in ((385.0, "loses_oxygen"), (405.0, "oxygen_unsure")):
        step = OxygenStep(temperature=380.0, released=1.0, products={}, low=300.0, high=high)
        found = OxygenReleaseDocument(formula="CuO2", steps=[step], **late, provenance=said)
        reasons = at_work.verdict(oxygen_finding(host, found)).reasons
        assert [reason.code for reason in reasons] == ["oxygen_bound_too_strongly", code]
    for code, codes in (("no_oxide", []), ("no_known_competitor", ["oxygen_unknown"])):
        failed = OxygenReleaseDocument(formula="CoS2", error="because", error_code=code, provenance=said)
        assert [reason.code for reason in at_work.verdict(oxygen_finding(host, failed)).reasons] == codes


def test_what_has_no_answer_says_why() -> None:
    elements = [simple("Mg", 0.0), simple("O2", 0.0), simple("N2", 0.0)]
    cases = {
        "no_oxide": (simple("Mg3N2", -1.0), {}),
        "no_known_competitor": (simple("MgO", -3.0), {"grade": "no_competitor"}),
    }
    for code, (phase, said) in cases.items():
        with pytest.raises(PlanError) as refused:
            view(OxygenRelease(), phase, elements, **said)
        assert refused.value.code == code
    with pytest.raises(FrameError, match="need corrections"):
        raw = [solid("Mg"), solid("O"), solid("MgO", enthalpy=-290.0)]
        for entry in raw:
            entry.data["frame"] = RAW
        view(OxygenRelease(), raw[2], raw[:2])
    for bad in (
        OxygenRelease(pressure=0.0),
        OxygenRelease(temperature=500.0),
        Conversion(working_ion="Fe"),
        Conversion(min_voltage=-1.0),
    ):
        with pytest.raises(DPA4Error):
            bad.check()


def test_iron_beyond_three_and_cobalt_and_nickel_beyond_four_are_told_in_oxides() -> None:
    told = {f: redox_bound(Composition(f), "Li").unusual for f in ("LiFeO2", "Li2FeSiO4", "Li2NiO3", "Li2CoO3")}
    assert all(told.values()) and "Fe to +4" in (told["LiFeO2"] or "") and "Ni to +6" in (told["Li2NiO3"] or "")
    usual = ("LiFePO4", "LiCoO2", "LiNiO2", "LiMn2O4", "LiFeF3", "LiNi2O4", "LiFeMnP2O8")
    assert [redox_bound(Composition(f), "Li").unusual for f in usual] == [None] * len(usual)


def test_an_electrode_tells_of_unusual_states_and_voids_nothing() -> None:
    crystal = Crystal(layered("Fe"))
    wanted = Electrode("Li", Relaxed(fmax=0.5, check_minimum=False))
    ((_, document),) = compute([("", Ask(wanted, crystal))], ModelRef(MORSE))
    assert "unusual_oxidation" in [reason.code for reason in document.warnings]
    finding = electrode_finding("one", document)
    assert "unusual_oxidation" in [reason.code for reason in finding.reasons]
    assert not any("unusual_oxidation" in one.voided_by for one in quantities(ElectrodeDocument).values())


def test_crystals_go_through_one_run_with_structures_of_what_competes(tmp_path: Path) -> None:
    fluorite = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.2), ["Mg", "O"], [[0] * 3, [0.25] * 3])
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    file = tmp_path / "phases.json"
    phase = {"id": "MgO", "source": "test", "structure": rocksalt.get_primitive_structure().as_dict()}
    file.write_text(json.dumps([phase]))
    common: dict[str, Any] = {"relaxation": Relaxed(fmax=0.1, check_minimum=False), "files": (str(file),)}
    common |= {"library": str(tmp_path / "library"), "bundled": False, "prototypes": False}
    subject = Crystal(fluorite.get_primitive_structure(), name="MgO2")
    asks: dict[str, Ask[Any]] = {
        "release": Ask(OxygenRelease(**common), subject),
        "conversion": Ask(Conversion(working_ion="Mg", **common), subject),
    }
    found = dict(compute(asks.items(), ModelRef("toy_potentials:OMatMorse")))
    release, conversion = found["release"], found["conversion"]
    assert isinstance(release, OxygenReleaseDocument) and release.error is None and release.products == ["MgO"]
    assert conversion.error is None and conversion.reaction == "MgO2 + Mg → 2 MgO"
    assert conversion.expansion_percent is not None and conversion.capacity == pytest.approx(952, abs=1)
    assert len(conversion_profiles({"MgO2": conversion})) == 1
