"""Electrolytes and coatings: windows with what they cost outside, interfaces, air; against pymatgen and by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymatgen.analysis.interface_reactions import GrandPotentialInterfacialReactivity, InterfacialReactivity
from pymatgen.analysis.phase_diagram import GrandPotentialPhaseDiagram, GrandPotPDEntry, PhaseDiagram
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry
from toy_campaign import NO_BUNDLE, antifluorite, competing, layered, rocksalt, write_phases
from typer.testing import CliRunner

import dpa4_flows as d4
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness
from dpa4_flows.analysis.contacts import conducting, contact
from dpa4_flows.analysis.gases import gas_potential, with_gases
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError
from dpa4_flows.analysis.windows import electrochemical_window
from dpa4_flows.campaigns.run import open_run
from dpa4_flows.cli import app
from dpa4_flows.compute.plan import PlanError
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.quantities import quantities
from dpa4_flows.properties.air import Air
from dpa4_flows.properties.interfaces import Coatings, InterfaceDocument, Interfaces
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.report.figures_electrolytes import air_reactions, contacts
from dpa4_flows.toml_text import toml_text

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026
DATA = Path(__file__).parents[1] / "data"
LOOSE = Relaxed(fmax=0.5, max_steps=100, check_minimum=False)


@pytest.fixture(scope="module")
def entries() -> list[ComputedEntry]:
    """Li-Co-Ni-O of the Materials Project, with MP2020 corrections."""
    rows = json.loads(gzip.decompress((DATA / "li_co_ni_o_hull.json.gz").read_bytes()))
    return [ComputedEntry(r["composition"], r["energy"], r["correction"], entry_id=r["entry_id"]) for r in rows]


def of(entries: Sequence[ComputedEntry], formula: str) -> ComputedEntry:
    alike = [e for e in entries if e.composition.reduced_formula == formula]
    return min(alike, key=lambda e: e.energy_per_atom)


def within(entries: Sequence[ComputedEntry], *formulas: str) -> list[ComputedEntry]:
    symbols = {e.symbol for formula in formulas for e in Composition(formula).elements}
    return [e for e in entries if {x.symbol for x in e.composition.elements} <= symbols]


def simple(formula: str, formation_energy: float, **data: Any) -> ComputedEntry:
    composition = Composition(formula)
    return ComputedEntry(composition, formation_energy * composition.num_atoms, data=data)


# ---- windows


@pytest.mark.parametrize(("formula", "up"), [("LiCoO2", 0.0), ("Li2O2", 0.0), ("NiO", 0.0), ("LiNiO2", 0.05)])
def test_decomposition_energy_is_that_of_the_grand_potential_hull(
    entries: list[ComputedEntry], formula: str, up: float
) -> None:
    lowest = of(entries, formula)
    phase = ComputedEntry(lowest.composition, lowest.energy + up * lowest.composition.num_atoms)
    window, near = electrochemical_window(phase, entries), within(entries, formula, "Li")
    metal = of(entries, "Li").energy_per_atom
    for voltage in (0.0, 1.9, 3.6, 5.5):
        diagram = GrandPotentialPhaseDiagram([*near, phase], {Element("Li"): metal - voltage})
        open_entry = GrandPotPDEntry(phase, {Element("Li"): metal - voltage})
        expected = diagram.get_e_above_hull(open_entry) * open_entry.composition.num_atoms / phase.composition.num_atoms
        assert window.energy_at(voltage) == pytest.approx(expected, abs=1e-6)
    for step, following in zip(window.steps, window.steps[1:], strict=False):
        assert (step.end, step.energy_end) == (following.start, pytest.approx(following.energy_start))
    assert min(step.energy_start for step in window.steps) == pytest.approx(window.energy_above_hull + 0.0, abs=1e-9)


def test_products_and_costs_of_each_voltage_are_those_by_hand() -> None:
    """Li2O2 between 2.6 V, below which it is 2 Li2O, and 3.4 V, above which O2; 4 atoms."""
    phases = [simple("Li", 0), simple("O2", 0), simple("Li2O", -2.0)]
    window = electrochemical_window(simple("Li2O2", -1.7), phases)
    assert [(step.start, step.end) for step in window.steps] == [
        (0.0, pytest.approx(2.6)),
        (pytest.approx(2.6), pytest.approx(3.4)),
        (pytest.approx(3.4), None),
    ]
    assert [step.taken for step in window.steps] == pytest.approx([2.0, 0.0, -2.0])
    assert [step.products for step in window.steps] == [{"Li2O": pytest.approx(2)}, {"Li2O2": 1.0}, {"O2": 1.0}]
    assert window.energy_at(0.0) == pytest.approx(2 * 2.6 / 4)
    assert window.energy_at(3.0) == 0.0
    assert window.energy_at(4.4) == pytest.approx(2 * 1.0 / 4)


# ---- interfaces


@pytest.mark.parametrize(("first", "second"), [("Li2O2", "CoO"), ("LiCoO2", "Li"), ("Li2O", "NiO"), ("LiNiO2", "Co")])
@pytest.mark.parametrize("voltage", [None, 2.0, 4.2])
def test_contacts_are_those_of_pymatgen(
    entries: list[ComputedEntry], first: str, second: str, voltage: float | None
) -> None:
    if voltage is not None and second == "Li":
        with pytest.raises(ThermodynamicsError, match="Li itself has no voltage"):
            contact(of(entries, first), of(entries, second), entries, voltage=voltage)
        return
    found = contact(of(entries, first), of(entries, second), entries, voltage=voltage)
    near, ends = within(entries, first, second, "Li"), (Composition(first), Composition(second))
    diagram = PhaseDiagram(near)
    if voltage is None:
        theirs = InterfacialReactivity(*ends, diagram, norm=True, use_hull_energy=False)
        expected = theirs.minimum[1]
    else:
        potentials = {Element("Li"): of(entries, "Li").energy_per_atom - voltage}
        theirs = GrandPotentialInterfacialReactivity(
            *ends,
            GrandPotentialPhaseDiagram(near, potentials),
            diagram,
            norm=False,
            include_no_mixing_energy=True,
            use_hull_energy=False,
        )
        # per formula units of both in sum; ours per atom of the mixture
        expected = min(
            energy / ((1 - x) * ends[1].num_atoms + x * ends[0].num_atoms) for _, x, energy, _, _ in theirs.get_kinks()
        )
    assert found.energy == pytest.approx(min(expected, 0.0), abs=1e-5)
    assert found.mutual_energy <= 0 and found.kinks[0].fraction == 0 and found.kinks[-1].fraction == 1
    for kink in found.kinks:
        atoms = Composition(first).num_atoms if kink.fraction < 1 else Composition(second).num_atoms
        if voltage is None:
            total = sum(n * Composition(formula).num_atoms for formula, n in kink.products.items())
            assert total == pytest.approx(atoms / (1 - kink.fraction) if kink.fraction < 1 else atoms)


def test_a_reaction_reads_as_one_writes_it_and_a_reservoir_balances_the_ion() -> None:
    phases = [simple(name, 0.0) for name in ("Li", "O2", "Co")]
    phases += [simple("Li2O", -2.0), simple("CoO", -1.2), simple("LiCoO2", -1.7)]
    found = contact(phases[5], phases[0], phases)
    assert found.best.reaction == "LiCoO2 + 3 Li → 2 Li2O + Co"
    assert found.energy == pytest.approx((2 * 3 * -2.0 - 4 * -1.7) / 7)
    at_one = contact(phases[4], phases[2], phases[:5], voltage=1.0)
    assert at_one.best.reaction == "CoO + 2 Li → Li2O + Co" and at_one.best.fraction == 0
    assert at_one.energy == pytest.approx((3 * -2.0 - 2 * -1.2 + 2 * 1.0) / 2)
    assert not at_one.reacts, "it needs no cobalt for that"


def test_a_phase_above_the_hull_brings_its_energy_into_the_reaction_but_not_into_the_mutual_part() -> None:
    phases = [simple(name, 0.0) for name in ("Li", "O2", "Co")] + [simple("Li2O", -2.0)]
    low, high = (contact(simple("CoO", -1.2 + up), phases[0], phases) for up in (0.0, 0.2))
    assert high.energy - low.energy == pytest.approx(-0.2 * 2 / 4)
    quiet = contact(simple("Co3O4", 0.1), phases[2], phases)  # decays by itself, and cobalt has no part in it
    assert quiet.energy == pytest.approx(-0.1) and quiet.mutual_energy == pytest.approx(0.0, abs=1e-9)


def test_metals_and_compounds_with_electrons_to_spare_conduct() -> None:
    assert conducting(["Li2S", "Li3P", "Li15Ge4", "Co", "LiCl", "LiAl", "S"]) == ["Li15Ge4", "Co", "LiAl"]


# ---- air


def test_gases_have_their_measured_energies_and_leave_more_easily_as_traces() -> None:
    """JANAF, 298 K: H2O -228.6, H2S -33.3, NH3 -16.4, CO2 -394.4 kJ/mol."""
    for formula, measured in (("H2O", -228.6), ("H2S", -33.3), ("NH3", -16.4), ("CO2", -394.4)):
        assert gas_potential(formula, 300.0) == pytest.approx(measured / 96.485, abs=0.01)
    assert gas_potential("O2", 300.0, 0.21) == pytest.approx(-0.0403, abs=1e-3)
    assert gas_potential("H2S", 300.0, 1e-6) - gas_potential("H2S", 300.0) == pytest.approx(-0.357, abs=1e-3)
    with pytest.raises(ThermodynamicsError, match="outside 300 to 2000"):
        gas_potential("H2O", 77.0)
    ice = [simple("H2O", -5.0), simple("H2", 0.0), simple("O2", 0.0)]
    kept = with_gases(ice, "HO", 300.0, {"H2O": 0.02}, 1e-6)
    water = [one.energy for one in kept if one.composition.reduced_formula == "H2O"]
    assert water == [pytest.approx(gas_potential("H2O", 300.0, 0.02))], "a crystal of the gas does not compete with it"


# ---- properties


class Standing:
    """What views need of a `competition.Standing`."""

    def __init__(self, phase: ComputedEntry, others: Sequence[ComputedEntry]) -> None:
        self.candidates = {0: phase}
        self.rivals = self
        self._others = list(others)

    def all_but(self, position: int) -> list[ComputedEntry]:
        return self._others

    def completeness(self, system: str, **_: Any) -> Any:
        grade = "no_competitor" if system == "F-Li-Mg" else "unsurveyed"
        return HullCompleteness(chemsys=system, grade=grade, sentence="some compounds")


def read(of: Any, phase: ComputedEntry, others: Sequence[ComputedEntry], *beside: ComputedEntry) -> Any:
    placed: Any = SimpleNamespace(formula=phase.composition.reduced_formula, energy_above_hull=0.0)
    standing: Any = Standing(phase, others)
    return of.document(**of.read(standing, 0, placed, beside))


LITHIUM = [simple(name, 0.0) for name in ("Li", "O2", "Co", "S", "F2", "P")]
LITHIUM += [
    simple("Li2O", -2.0),
    simple("CoO", -1.2),
    simple("LiCoO2", -1.7),
    simple("Li2S", -1.5),
    simple("CoS", -0.4),
]
LITHIUM += [simple("LiF", -3.2), simple("Li3P", -0.8), simple("Li3PO4", -2.7), simple("Li3PS4", -0.9)]


def test_an_electrolyte_is_told_by_its_worst_contact_and_what_is_unknown_does_not_win() -> None:
    sulfide = of(LITHIUM, "Li3PS4")
    found = read(Interfaces(voltage=4.0), sulfide, LITHIUM)
    assert [one.beside for one in found.contacts] == ["Li", "LiCoO2", "LiCoO2"]
    assert [one.voltage for one in found.contacts] == [None, None, 4.0]
    anode, cathode, _ = found.contacts
    assert anode.products == ["Li2S", "Li3P"] and anode.reaction.startswith("Li3PS4 + 8 Li → ")
    assert found.worst_energy == min(one.energy for one in found.contacts)
    assert cathode.energy < -0.05 and set(cathode.conducting) <= {"Co"}
    alone = read(Interfaces(against=("LiCoO2",), voltage=5.0), of(LITHIUM, "Li2S"), LITHIUM)
    assert alone.worst_reaction == "Li2S → S + 2 Li" and "reacts_alone" in {reason.code for reason in alone.doubts}
    assert "reacts_alone" not in {reason.code for reason in found.doubts}
    salt = read(Interfaces(), of(LITHIUM, "LiF"), LITHIUM)
    assert [one.energy for one in salt.contacts] == [0.0, None], "nothing is known of fluorine beside cobalt and oxygen"
    assert [reason.code for reason in salt.doubts] == ["interface_unknown"]
    assert salt.worst_energy is None, "no reaction beside one electrode is not all of them"
    assert "interface_unknown" in quantities(InterfaceDocument)["worst_energy"].voided_by


def test_an_interphase_conducts_by_what_is_left_of_it_beside_more_metal() -> None:
    """LiP becomes Li3P, which insulates; Ge becomes Li15Ge4. Both reactions give off less by atom of the mixture."""
    more = [simple("LiP", -0.9), simple("Ge", 0.0), simple("Li4GeS4", -1.2), simple("Li15Ge4", -0.1)]
    for formula, products, conducts in (
        ("Li3PS4", ["Li2S", "LiP"], []),
        ("Li4GeS4", ["Ge", "Li2S"], ["Li15Ge4"]),
    ):
        phases = [*LITHIUM, *more]
        found = read(Interfaces(against=("Li",)), of(phases, formula), phases)
        assert found.contacts[0].products == products and found.contacts[0].conducting == conducts
        assert ("interphase_conducts" in {reason.code for reason in found.doubts}) == bool(conducts)


def test_electrodes_are_formulas_that_are_known_or_files(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no structure of LiNiO2 is known") as unknown:
        read(Interfaces(against=("LiNiO2",)), LITHIUM[6], LITHIUM)
    assert unknown.value.code == "unknown_electrode"
    for wrong, words in (("nothing.cif", "neither a formula nor a file"), ("LiCo2-x", "neither a formula nor a file")):
        with pytest.raises(DPA4Error, match=words):
            Interfaces(against=(wrong,)).check()
    with pytest.raises(DPA4Error, match="no electrolyte of K are usual: name what is beside"):
        Coatings(working_ion="K").check()
    usual = {ion: Interfaces(working_ion=ion).named for ion in ("Li", "Na", "K")}
    assert usual == {"Li": ("Li", "LiCoO2"), "Na": ("Na", "NaFeO2"), "K": ("K",)}, "electrodes follow the ion"
    assert Coatings(working_ion="Na").named == ("Na3PS4", "NaFeO2")
    both = [layered("Co"), layered("Ni")]
    rows = [{"id": str(i), "structure": one.as_dict()} for i, one in enumerate(both)]
    (tmp_path / "two.json").write_text(json.dumps(rows))
    with pytest.raises(DPA4Error, match="holds 2 structures"):
        Interfaces(against=(str(tmp_path / "two.json"),)).check()
    layered("Co").to(filename=str(tmp_path / "cathode.cif"))
    asked = Interfaces(against=("Li", str(tmp_path / "cathode.cif")))
    assert asked.further() == ["Li", "Li", "Co-Li-O"]
    [beside] = asked.beside()
    assert beside.structure.composition.reduced_formula == "LiCoO2"
    charged = simple("LiCoO2", -1.5)  # with its own energy, above the hull
    own, lowest = (read(asked, LITHIUM[9], LITHIUM, one).contacts[1] for one in (charged, LITHIUM[8]))
    assert own.energy < lowest.energy - 0.05


def test_electrodes_of_files_keep_their_names_and_their_doubts(tmp_path: Path) -> None:
    """Two files of one name are told by their folders."""
    files = [tmp_path / metal / "cathode.cif" for metal in ("Co", "Ni")]
    for file in files:
        file.parent.mkdir()
        layered(file.parent.name).to(filename=str(file))
    asked = Interfaces(
        against=("Li", *map(str, files)), library=str(tmp_path / "phases"), bundled=False, relax=False, relaxation=LOOSE
    )
    [found] = d4.compute(asked, [antifluorite()], model="toy_potentials:OMatMorse")
    assert [one.beside for one in found.contacts] == ["Li", *map(str, files)]
    doubts = [text for text in found.warnings if text.startswith(f"{files[0]}: ")]
    assert any("spin states of Co" in text for text in doubts), "of the electrode, which has no view of its own"
    assert Interfaces(against=("Li", str(files[0]))).others[1].name == "cathode.cif"
    twice = ("Li", *map(str, files), "Li", str(files[0].parent / ".." / "Co" / "cathode.cif"))
    assert Interfaces(against=twice).named == asked.named, "a phase that is named twice is one"


def test_a_coating_is_judged_by_both_sides_its_window_and_what_there_is_without_it() -> None:
    asked = Coatings(electrolyte="Li3PS4", against=("LiCoO2",))
    assert asked.also() == ["Co-Li-O-P-S"]
    phases = [*LITHIUM, simple("Li2SO4", -2.0), simple("Co3(PO4)2", -1.9)]
    found = read(asked, of(LITHIUM, "Li3PO4"), phases)
    assert [one.beside for one in found.contacts] == ["Li3PS4", "LiCoO2"]
    assert [(one.of, one.beside) for one in found.bare] == [("Li3PS4", "LiCoO2")]
    assert found.bare_energy < -0.05 and found.worst_energy == pytest.approx(0.0, abs=1e-6)
    assert found.gain == pytest.approx(-found.bare_energy) and found.lower > 0 and found.upper > found.lower
    unknown = read(asked, of(LITHIUM, "Li2S"), [one for one in LITHIUM if one.composition.reduced_formula != "CoS"])
    assert [one.energy for one in unknown.contacts] == [0.0, None], (
        "nothing is known of sulfur beside cobalt and oxygen"
    )
    assert unknown.worst_energy is None and unknown.gain is None and unknown.bare_energy < -0.05
    blocks = {block.name: block for block in contacts({"Li3PO4": found})}
    assert len(blocks["interface-table"].rows) == 3
    assert {trace.x[0] for trace in blocks["interface-mixtures"].figure.data} == {0.0}


AIR = [simple(name, 0.0) for name in ("Li", "O2", "S", "H2", "C", "Mg", "Cl2")]
AIR += [simple("LiOH", -4.55 / 3), simple("Li2O", -5.82 / 3), simple("Li2S", -4.49 / 3), simple("Li2CO3", -11.73 / 6)]
"""Gibbs energies of formation at 298 K, JANAF, eV."""


def test_a_sulfide_gives_off_hydrogen_sulfide_and_an_oxide_takes_up_carbon_dioxide() -> None:
    """By hand: Li2S + 2 H2O → 2 LiOH + H2S, with water at 0.0177 bar and H2S as a trace."""
    sulfide = read(Air(), of(AIR, "Li2S"), AIR)
    water, trace = gas_potential("H2O", 300.0, 0.0177), gas_potential("H2S", 300.0, 1e-6)
    assert sulfide.reactions[0].products == pytest.approx({"LiHO": 2, "H2S": 1})
    assert sulfide.hydrolysis_energy == pytest.approx(2 * -4.55 + trace - 2 * water + 4.49)
    assert [reason.code for reason in sulfide.doubts] == ["air_uncertain", "gives_off_poison"]
    oxide = read(Air(), of(AIR, "Li2O"), AIR)
    expected = -11.73 + 5.82 - gas_potential("CO2", 300.0, 4.2e-4)
    assert oxide.carbonation_energy == pytest.approx(expected) and oxide.oxidation_energy_o2 == 0.0
    hydroxide = read(Air(), of(AIR, "LiHO"), AIR)
    assert hydroxide.hydrolysis_energy == 0.0 and hydroxide.hydrolysis == ""
    salt = read(Air(), simple("MgCl2", -2.0), AIR)
    assert salt.hydrolysis_energy is None and {one.code for one in salt.doubts} == {"air_unknown"}
    carbide = read(Air(), simple("MgCl2", -2.0), [*AIR, simple("MgC2", 0.1)])
    assert carbide.carbonation_energy is None, "a carbide says nothing of a carbonate"
    reduced = [*AIR, simple("Li2SO4", -13.7 / 7), simple("LiH", -0.36)]
    again = read(Air(), of(AIR, "Li2S"), reduced)
    assert again.hydrolysis_energy == pytest.approx(sulfide.hydrolysis_energy), "no sulfide reduces water"
    metal = read(Air(), of(AIR, "Li"), reduced)
    assert set(metal.reactions[0].products) == {"LiHO", "H2"}
    dry = read(Air(water=1e-12), of(AIR, "Li2S"), AIR)
    assert dry.hydrolysis_energy == 0.0, "in a dry room it lasts"
    assert [block.name for block in air_reactions({"Li2S": sulfide})] == ["air", "air-table"]
    with pytest.raises(DPA4Error, match="outside 1e-30"):
        Air(water=0.0).check()
    with pytest.raises(DPA4Error, match="no energy at 0 K"):
        Air(temperature=None).check()


# ---- the campaign


def test_electrolytes_go_through_their_campaign(tmp_path: Path) -> None:
    """On a toy potential: a metal, a cathode and a salt of another ion leave before anything is computed."""
    metal = Structure(Lattice.cubic(3.2), ["Li", "Al"], [[0, 0, 0], [0.5] * 3])
    layered("Co").to(filename=str(tmp_path / "cathode.cif"))
    crystals = {"Li2O": antifluorite(), "LiAl": metal, "LiCoO2": layered("Co"), "MgO": rocksalt("Mg")}
    rows = [{"id": name, "structure": crystal.as_dict()} for name, crystal in crystals.items()]
    (tmp_path / "crystals.json").write_text(json.dumps(rows))
    write_phases(tmp_path / "phases.json", {**competing(), "LiCoO2": layered("Co")})
    stages = ["sanity", "duplicates", "relax", "hull", "window", "interface", "at_rest", "elastic"]
    content: dict[str, Any] = {
        "campaign": {"name": "toy", "kind": "electrolyte", "candidates": ["crystals.json"], "stages": stages},
        "model": {"name": "toy_potentials:OMatMorse", "dtype": "float64", "threads": 1},
        "relax": {"rattle": 0.0, "check_minimum": False, "fmax": 0.05},
        "hull": NO_BUNDLE | {"library": "none", "competing": ["phases.json"], "energy_above_hull": {"max": 9.0}},
        "interface": {"against": ["Li", "cathode.cif"], "voltage": 3.0},
        "elastic": {"strains": [-0.005, 0.005]},
    }
    file, run = tmp_path / "campaign.toml", tmp_path / "run"
    file.write_text(toml_text(content))
    done = CliRunner().invoke(app, ["screen", str(file), "--out", str(run)], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    table = open_run(run)
    left = {i: found.reasons[0].code for i, found in table.stage("sanity").items() if not found.goes_on}
    assert left == {"LiAl": "charges_unbalanced", "LiCoO2": "redox_metal", "MgO": "not_wanted"}
    window, interface = (table.stage(stage)["Li2O"] for stage in ("window", "interface"))
    assert window.values["width"] > 0 and window.values["lower"] == 0.0
    assert interface.values["worst_contact"].startswith("cathode.cif at 3 V")
    assert [one.code for one in table.stage("elastic")["Li2O"].reasons] == ["born_unstable"], "as pairs have it"
    page = (run / "report.html").read_text()
    assert "Decomposition energy against voltage" in page and "Reactions of interfaces" in page


def test_the_ion_that_moves_has_the_same_name_in_all_properties() -> None:
    settings = {name: {item.name for item in fields(property_class(name))} for name in property_names()}
    assert {name for name, own in settings.items() if "ion" in own} == {"ordering"}  # any element, not one that moves
    assert {"window", "interface", "coating"} <= {name for name, own in settings.items() if "working_ion" in own}
