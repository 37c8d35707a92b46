"""Chemical potentials, electrochemical windows and temperatures, against pymatgen and measured numbers."""

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.entries.computed_entries import (
    CompositionEnergyAdjustment,
    ComputedEntry,
    ComputedStructureEntry,
    GibbsComputedStructureEntry,
)

from dpa4_flows.analysis.corrections import corrections_by_element
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.hull import phase_positions
from dpa4_flows.analysis.ions import IonError
from dpa4_flows.analysis.thermodynamics import (
    HYDROXIDE,
    ThermodynamicsError,
    chemical_potential_region,
    gibbs_entries,
)
from dpa4_flows.analysis.windows import electrochemical_window
from dpa4_flows.properties.chemical_potentials import RegionDocument

DATA = Path(__file__).parents[1] / "data"
FRAME = {"model_sha256": "a" * 64, "level_of_theory": "PBE / PBE+U", "correction": "OMat24"}
EV = 96.485  # kJ/mol


@pytest.fixture(scope="module")
def entries():
    """Li-Co-Ni-O of the Materials Project, with MP2020 corrections."""
    rows = json.loads(gzip.decompress((DATA / "li_co_ni_o_hull.json.gz").read_bytes()))
    return [ComputedEntry(r["composition"], r["energy"], r["correction"], entry_id=r["entry_id"]) for r in rows]


@pytest.fixture(scope="module")
def compounds():
    rows = {r["id"]: r["structure"] for r in json.loads((DATA / "compounds.json").read_text())}
    return {name: Structure(s["lattice"], s["species"], s["frac_coords"]) for name, s in rows.items()}


def lowest(entries, formula):
    return min((e for e in entries if e.composition.reduced_formula == formula), key=lambda e: e.energy_per_atom)


def within(entries, *symbols):
    return [e for e in entries if {x.symbol for x in e.composition.elements} <= set(symbols)]


def simple(formula, formation_energy, **data):
    composition = Composition(formula)
    return ComputedEntry(composition, formation_energy * composition.num_atoms, data=data)


# ---- chemical potentials


def test_corners_of_a_binary_are_its_ends():
    """Li2O between lithium and oxygen: 2 Δμ(Li) + Δμ(O) = ΔH, one corner at each end."""
    phases = [simple("Li", 0), simple("O2", 0), simple("Li2O", -2.0)]
    region = chemical_potential_region("Li2O", phases)
    assert sorted(corner["Li"] for corner in region.corners) == pytest.approx([-3.0, 0.0])
    assert region.limits == {"Li": pytest.approx((-3.0, 0.0)), "O": pytest.approx((-6.0, 0.0))}
    assert set(region.coexisting) == {("Li",), ("O2",)}


def test_corners_lie_on_the_plane_of_the_phase(entries):
    phase = lowest(entries, "LiCoO2")
    region = chemical_potential_region("LiCoO2", entries)
    elements = {s: lowest(entries, f).energy_per_atom for s, f in (("Li", "Li"), ("Co", "Co"), ("O", "O2"))}
    formation = phase.energy - sum(n * elements[s] for s, n in phase.composition.get_el_amt_dict().items())
    n_formulas = phase.composition.num_atoms / 4
    for corner in region.corners:
        assert corner["Li"] + corner["Co"] + 2 * corner["O"] == pytest.approx(formation / n_formulas, abs=1e-8)
        assert max(corner.values()) < 1e-8
    assert len(region.corners) == len(region.coexisting) == 7


def test_a_correction_goes_with_the_atom_that_it_is_for():
    oxide = CompositionEnergyAdjustment(-0.687, 2, name="MP2020 anion correction (oxide)")
    mixing = CompositionEnergyAdjustment(-1.638, 1, name="MP2020 GGA/GGA+U mixing correction (Co)")
    cobalt_oxide = ComputedEntry("LiCoO2", -20.0, energy_adjustments=[oxide, mixing])
    assert corrections_by_element(cobalt_oxide) == pytest.approx({"Li": 0.0, "Co": -1.638, "O": -0.687})
    metals = [simple("Li", 0.0), simple("Co", 0.0), ComputedEntry("O2", -10.0)]
    region = chemical_potential_region("LiCoO2", [cobalt_oxide, *metals])
    assert region.zeros == pytest.approx({"Li": 0.0, "Co": 1.638, "O": -5.0 + 0.687})


def test_chemical_potentials_add_up_to_the_uncorrected_energy_and_are_those_of_the_middle_or_an_end(entries):
    found = chemical_potential_region("LiCoO2", entries)
    phase, region = lowest(entries, "LiCoO2"), RegionDocument(**asdict(found))
    for edge in ({}, {"rich": "O"}, {"poor": "O"}):
        potentials = region.potentials(**edge)
        per_formula = potentials["Li"] + potentials["Co"] + 2 * potentials["O"]
        assert per_formula == pytest.approx(4 * phase.uncorrected_energy_per_atom, abs=1e-5)
    low, high = (region.potentials(**{edge: "O"})["O"] - region.zeros["O"] for edge in ("poor", "rich"))
    assert (low, high) == pytest.approx(found.limits["O"], abs=1e-5)


def test_limits_equal_those_of_pymatgen(entries):
    diagram = PhaseDiagram(within(entries, "Li", "Co", "O"))
    region = chemical_potential_region("LiCoO2", entries)
    for symbol, limits in region.limits.items():
        element = Element(symbol)
        values = diagram.get_chempot_range_stability_phase(Composition("LiCoO2"), element)[element]
        reference = diagram.el_refs[element].energy_per_atom
        assert limits == pytest.approx((min(values) - reference, max(values) - reference), abs=1e-8)


def test_unstable_and_unknown_phases_have_no_region(entries):
    phases = [simple("Li", 0), simple("O2", 0), simple("Li2O", -2.0), simple("LiO2", -0.1)]
    with pytest.raises(ThermodynamicsError, match=r"LiO2 lies 0.9000 eV/atom above the hull.*Li2O, O2"):
        chemical_potential_region("LiO2", phases)
    with pytest.raises(ThermodynamicsError, match="no entry of LiO4"):
        chemical_potential_region("LiO4", phases)
    with pytest.raises(ThermodynamicsError, match="no reference for O"):
        chemical_potential_region("Li2O", [phases[0], phases[2]])


# ---- electrochemical windows


def test_windows_equal_the_published_ones(entries):
    """Zhu, He, Mo 2015 with the same database: Li2O is stable to 2.91 V."""
    lithia = electrochemical_window(lowest(entries, "Li2O"), entries)
    assert lithia.lower == 0.0
    assert lithia.upper == pytest.approx(2.91, abs=0.05)
    assert lithia.reduction_products == ()
    assert lithia.oxidation_products == ("Li2O2",)


@pytest.mark.parametrize("formula", ["LiCoO2", "Li2O2", "NiO", "LiNiO2"])
def test_windows_equal_the_profile_of_pymatgen(entries, formula):
    phase = lowest(entries, formula)
    window = electrochemical_window(phase, entries)
    symbols = {x.symbol for x in phase.composition.elements} | {"Li"}
    diagram = PhaseDiagram(within(entries, *symbols))
    reference = diagram.el_refs[Element("Li")].energy_per_atom
    profile = diagram.get_element_profile(Element("Li"), phase.composition)
    at = [reference - step["chempot"] for step in profile]  # V, rising
    still = next(i for i, step in enumerate(profile) if abs(step["evolution"]) < 1e-8)
    assert window.lower == pytest.approx(at[still], abs=1e-6)
    below = {entry.composition.reduced_formula for entry in profile[still - 1]["entries"]} - {"Li"}
    assert set(window.reduction_products) == below
    if still + 1 < len(at):
        assert window.upper == pytest.approx(at[still + 1], abs=1e-6)
        above = {entry.composition.reduced_formula for entry in profile[still + 1]["entries"]} - {"Li"}
        assert set(window.oxidation_products) == above
    else:
        assert window.upper is None
    assert window.equilibrium == {phase.composition.reduced_formula: pytest.approx(1.0)}


def test_metastable_electrolyte_has_the_window_of_its_products():
    phases = [simple("Li", 0), simple("O2", 0), simple("Li2O", -2.0), simple("Li2O2", -1.7)]
    window = electrochemical_window(simple("Li3O2", -1.7), phases)
    assert window.energy_above_hull > 0.1
    assert set(window.equilibrium) == {"Li2O", "Li2O2"}
    assert window.lower == pytest.approx(window.upper)  # both phases meet at one potential


def test_new_phase_is_part_of_its_hull():
    phases = [simple("Li", 0), simple("O2", 0), simple("Li2O", -2.0)]
    window = electrochemical_window(simple("Li2O2", -1.7), phases)
    assert window.energy_above_hull == 0.0
    assert window.lower == pytest.approx(2.6)  # Li2O2 + 2 Li → 2 Li2O: (4 × 1.7 - 6 × 2.0) / -2
    assert window.upper == pytest.approx(3.4)  # Li2O2 → O2 + 2 Li: 4 × 1.7 / 2
    assert window.reduction_products == ("Li2O",)
    assert window.oxidation_products == ("O2",)


def test_voltages_are_per_elementary_charge():
    phases = [simple("Mg", 0), simple("O2", 0)]
    assert electrochemical_window(simple("MgO", -3.0), phases, ion="Mg").upper == pytest.approx(3.0)
    with pytest.raises(IonError, match="not allowed as a working ion"):
        electrochemical_window(simple("FeO", -1.0), phases, ion="Fe")
    with pytest.raises(ThermodynamicsError, match="did not converge"):
        electrochemical_window(simple("MgO", -3.0, converged=False), phases, ion="Mg")
    with pytest.raises(ThermodynamicsError, match="no reference for Li"):
        electrochemical_window(simple("MgO", -3.0), phases)


def test_frames_do_not_meet():
    phases = [simple("Li", 0, frame=FRAME), simple("O2", 0, frame=FRAME)]
    other = simple("Li2O", -2.0, frame={**FRAME, "correction": "MP2020"})
    with pytest.raises(FrameError):
        electrochemical_window(other, phases)
    with pytest.raises(FrameError):
        chemical_potential_region("Li2O", [*phases, other])


# ---- temperature


def solid(structure, formation_energy, frame=FRAME, **data):
    return ComputedStructureEntry(
        structure, formation_energy * len(structure), entry_id=structure.formula, data={"frame": frame, **data}
    )


def element(symbol, frame=FRAME):
    return solid(Structure(Lattice.cubic(3.0), [symbol], [[0, 0, 0]]), 0.0, frame)


@pytest.mark.parametrize(
    ("name", "enthalpy", "gibbs"),  # kJ per mol of formula: 298 K, 1000 K; JANAF
    [("MgO", -601.2, -493.0), ("CaO", -635.1, -531.0), ("Al2O3", -1675.7, -1361.4), ("NaCl", -411.1, -320.3)],
)
def test_gibbs_energies_of_formation_are_near_the_measured_ones(compounds, name, enthalpy, gibbs):
    structure = compounds[name]
    n_atoms = Composition(name).num_atoms
    symbols = [e.symbol for e in structure.composition.elements]
    found = gibbs_entries([solid(structure, enthalpy / EV / n_atoms), *map(element, symbols)], 1000)
    assert found[0].energy_per_atom == pytest.approx(gibbs / EV / n_atoms, abs=0.08)  # its authors: 0.05 on average
    assert [e.energy for e in found[1:]] == [0.0] * len(symbols)


def test_gibbs_energies_equal_those_of_pymatgen(compounds):
    phases = [solid(compounds["FeO"], -1.4), solid(compounds["Fe2O3"], -1.7), element("Fe"), element("O")]
    ours = {e.composition.reduced_formula: e.energy_per_atom for e in gibbs_entries(phases, 850)}
    theirs = GibbsComputedStructureEntry.from_entries(phases, temp=850)
    assert ours == pytest.approx({e.composition.reduced_formula: e.energy_per_atom for e in theirs})


def test_heat_takes_oxygen_from_oxides(compounds):
    """NiO is stable against the elements at 300 K; its Gibbs energy of formation rises by about 1 meV/K per O2."""
    phases = [element("Ni"), element("O"), solid(compounds["NiO"], -1.24)]
    values = []
    for temperature in (300, 1000, 1700):
        found = gibbs_entries(phases, temperature)
        (position,) = phase_positions([found[2]], found[:2])
        values.append(position.formation_energy_per_atom)
    slope = (values[2] - values[0]) / 1400 * 4  # eV/K per mole of O2, four atoms of NiO pairs
    assert slope == pytest.approx(0.17 / 96.485, rel=0.25)  # Ellingham diagram: 170 J/(mol K)
    assert values[0] < values[1] < values[2] < 0


def test_hydrogen_on_oxygen_has_the_motion_that_energies_lack_and_a_hydride_has_not():
    """Brucite has two O-H of 0.95 Å; LaHO holds both elements and no such bond. What nobody computed is left alone."""
    cell = Lattice.hexagonal(3.14, 4.77)
    brucite = Structure.from_spacegroup(
        "P-3m1", cell, ["Mg", "O", "H"], [[0, 0, 0], [1 / 3, 2 / 3, 0.22], [1 / 3, 2 / 3, 0.43]]
    )
    anions = [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]
    hydride = Structure.from_spacegroup("F-43m", Lattice.cubic(5.7), ["La", "H", "O"], anions)
    elements = [element(symbol) for symbol in ("Mg", "La", "O", "H")]

    def raised(structure):
        found = []
        for frame in (FRAME, None):
            phases = [solid(structure, -1.9, frame), *(solid(e.structure, 0.0, frame) for e in elements)]
            found.append(gibbs_entries(phases, 300)[0].energy_per_atom)
        return found[0] - found[1]

    assert raised(brucite) == pytest.approx(HYDROXIDE * 2 / 5)
    assert raised(hydride) == 0.0


def test_temperatures_do_not_meet(compounds):
    phases = [element("Ni"), element("O"), solid(compounds["NiO"], -1.24)]
    cold, hot = gibbs_entries(phases, 300), gibbs_entries(phases, 1000)
    assert hot[0].data["frame"]["correction"] == "OMat24, Gibbs 1000 K"
    assert phases[0].data["frame"]["correction"] == "OMat24"
    with pytest.raises(FrameError, match="correction"):
        phase_positions([cold[2]], hot)


def test_what_has_no_gibbs_energy_is_left_out_or_refused(compounds):
    raw = {**FRAME, "correction": "none"}
    with pytest.raises(FrameError, match=r"NiO and other compounds of O need\s+corrections"):
        gibbs_entries([element("Ni", raw), element("O", raw), solid(compounds["NiO"], -1.24, raw)], 500)
    alloy = gibbs_entries([element("Ni", raw), element("Al", raw), solid(compounds["NiAl"], -0.65, raw)], 500)
    assert len(alloy) == 3
    with pytest.raises(ThermodynamicsError, match="300 to 2000 K"):
        gibbs_entries([element("Ni")], 77)
    higher = solid(Structure(Lattice.cubic(2.8), ["Ni"], [[0, 0, 0]]), 0.1)
    stopped = solid(compounds["NiO"], -9.0, converged=False)
    orphan = solid(compounds["MgO"], -3.0)
    assert len(gibbs_entries([element("Ni"), element("O"), higher, stopped, orphan], 500)) == 2
