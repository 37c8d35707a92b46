"""What a crystal turns into as an element goes in or out: conversion electrodes, release of oxygen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.apps.battery.conversion_battery import ConversionElectrode
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from toy_campaign import MORSE, layered

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.electrode import redox_bound
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.hull import SystemHull
from dpa4_flows.analysis.oxygen import oxygen_gas, release_temperature
from dpa4_flows.analysis.titration import titrate
from dpa4_flows.campaigns.battery import electrode_finding
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, PlanError
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.quantities import quantities
from dpa4_flows.documents.schemas import HullDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.conversion import Conversion
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.oxygen_release import OxygenRelease, OxygenReleaseDocument
from dpa4_flows.report.figures_thermodynamics import conversion_profiles, oxygen_losses

DATA = json.loads((Path(__file__).parents[1] / "data" / "battery_entries" / "LiCoO2_conversion.json").read_text())
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


def test_what_lies_above_the_hull_gives_off_oxygen_earlier_by_that_energy() -> None:
    """2 MO2 → 2 MO + O2 at 1.0 eV per O2; 0.1 eV/atom above the hull are 0.6 eV per O2."""
    others = [simple("Mg", 0.0), simple("O2", 0.0), simple("MgO", -1.5), simple("MgO2", -3.5 / 3)]
    stable, high = (view(OxygenRelease(), simple("MgO2", -3.5 / 3 + up), others, above=up) for up in (0.0, 0.1))
    assert stable.reaction_energy == pytest.approx(1.0) and high.reaction_energy == pytest.approx(0.4)
    assert stable.reaction == "MgO2 → MgO + 0.5 O2" and stable.products == ["MgO"]
    assert stable.temperature == pytest.approx(release_temperature(-1.0)) and stable.flags == []
    assert high.temperature == 300 and [flag.code for flag in high.flags] == ["releases_oxygen_at_room_temperature"]
    assert stable.released_percent == pytest.approx(100 * 15.999 / 56.303, abs=0.01)
    assert [step.temperature for step in stable.steps][1] is None  # MgO keeps the rest
    little = simple("Mg50O101", -3.5 / 151 * 50 + 0.01)  # one atom too many must not carry what 151 are above the hull
    near = view(OxygenRelease(), little, others, above=0.01).reaction_energy
    assert near is not None and abs(near) < 1.0
    oxide = view(OxygenRelease(), others[2], others)
    assert oxide.temperature is None and [flag.code for flag in oxide.flags] == ["keeps_oxygen"]
    (figure,) = oxygen_losses({"stable": stable, "oxide": oxide})
    assert max(figure.figure.data[0].y) == pytest.approx(0.5) and max(figure.figure.data[1].y) == 0


def test_the_gas_is_that_of_the_tables_and_less_of_it_lets_oxygen_go_earlier() -> None:
    """Chase 1998: S(298.15 K) = 205.147 J/mol/K; H − H(298) = 22.703 and S = 243.578 at 1000 K."""
    assert oxygen_gas(300) == pytest.approx(-205.147 * 300 / 96485, abs=1e-3)
    assert oxygen_gas(1000) == pytest.approx((22.703 - 243.578) / 96.485, abs=2e-3)
    air, vacuum = release_temperature(-1.5), release_temperature(-1.5, 1e-6)
    assert air is not None and vacuum is not None and oxygen_gas(air, 0.21) == pytest.approx(-1.5)
    assert vacuum < air - 100
    assert release_temperature(-0.2) == 300 and release_temperature(-6.0) is None


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
        raw = [simple(e.composition.formula, 0.0, frame=RAW) for e in elements]
        view(OxygenRelease(), simple("MgO", -3.0, frame=RAW), raw)
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
