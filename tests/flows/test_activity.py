"""Activity: limits of hand-made free energies, facets of hand-made sites, the property on the toy potential."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.activity import activity, descriptor, levels, mean_over, steps, volcano
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.gas_references import GAS_MOTION, PBE_ERRORS, PBE_GAS
from dpa4_flows.analysis.reactions import AMMONIA, CARBON_DIOXIDE, METHANE, OXYGEN, REACTIONS, reaction_of
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal, PlanError
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet, AdsorptionSite
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.activity import Activity, Reroute, shares_of
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.settings import plain_settings, with_settings
from dpa4_flows.properties.surface import EquilibriumShape, SurfaceDocument, SurfaceEnergies, Termination
from dpa4_flows.report.figures_activity import activity_figures
from dpa4_flows.store.table import ResultsTable

HER, ORR, OER, CO2RR, CO2RR_CO, NRR = REACTIONS.values()
COPPER = AseAtomsAdaptor.get_structure(bulk("Cu", "fcc", a=3.6))
CUBE = AseAtomsAdaptor.get_structure(bulk("Cu", "fcc", a=3.6, cubic=True))
TOY = ModelRef("dpa4_core.testing.morse:MorsePotential")
THIN = Adsorption((), ("110",), min_length=2.5, min_thickness=5.0, vacuum=9.0, max_steps=100, references={"H": -1.0})
SHAPE = SurfaceEnergies(min_thickness=5.0, vacuum=8.0, max_steps=0)
PT = {"OH": 0.78, "O": 1.60, "OOH": 3.98}
"""OH as in the textbook, where the limiting potential of Pt (111) is 0.78 V and its overpotential 0.45 V (Nørskov et
al. 2004); OOH by scaling, and an O that limits nothing."""


# ---- numbers -------------------------------------------------------------------------------------------------------


def test_the_precision_of_another_model_is_part_of_the_key():
    others = (Reroute(replace(TOY, dtype=dtype)) for dtype in ("float32", "float64"))
    assert len({Activity(reroute=other).key(Crystal(COPPER), TOY) for other in others}) == 2


@pytest.mark.parametrize("reaction", REACTIONS.values(), ids=REACTIONS)
def test_an_ideal_catalyst_is_level_at_the_equilibrium_potential(reaction):
    start, each = reaction.states[0].measured, reaction.equilibrium * (1 if reaction.oxidation else -1)
    pairs = zip(reaction.states, reaction.electrons, strict=True)
    ideal = {state.name: start + n * each - state.beside for state, n in pairs}
    assert activity(reaction, ideal).overpotential == pytest.approx(0)
    assert activity(reaction, ideal).limiting_potential == pytest.approx(reaction.equilibrium)
    assert levels(reaction, ideal, reaction.equilibrium)[:-1] == pytest.approx([start] * (len(reaction.states) - 1))


@pytest.mark.parametrize(
    ("name", "volts"), [("HER", 0), ("ORR", 1.23), ("OER", 1.23), ("CO2RR", 0.17), ("CO2RR_CO", -0.10), ("NRR", 0.06)]
)
def test_equilibrium_potentials_are_those_of_the_textbook(name, volts):
    assert REACTIONS[name].equilibrium == pytest.approx(volts, abs=0.006)


def test_platinum_reduces_oxygen_as_in_the_textbook():
    found = activity(ORR, PT)
    assert (found.limiting_step, found.limiting_potential) == ("OH → H₂O", pytest.approx(0.78))
    assert found.overpotential == pytest.approx(0.45)
    assert [step.free_energy for step in steps(ORR, PT)] == pytest.approx([-0.94, -2.38, -0.82, -0.78])
    assert descriptor(ORR, PT) == 0.78


def test_evolution_goes_the_way_of_reduction_backwards_and_is_limited_elsewhere():
    assert [-s.free_energy for s in steps(ORR, PT)][::-1] == pytest.approx([s.free_energy for s in steps(OER, PT)])
    found = activity(OER, PT)
    assert (found.limiting_step, found.limiting_potential) == ("O → OOH", pytest.approx(2.38))
    assert found.overpotential == pytest.approx(1.15)
    assert descriptor(OER, PT) == pytest.approx(0.82)


@pytest.mark.parametrize(("energy", "step"), [(-0.09, "H → H₂"), (0.45, "H⁺ → H")])  # Pt, Au: Nørskov et al. 2005
def test_hydrogen_that_binds_too_well_does_not_leave_and_that_binds_too_badly_does_not_come(energy, step):
    assert activity(HER, {"H": energy}) == (step, -abs(energy), abs(energy))


@pytest.mark.parametrize("x", [-0.5, 0.5, 0.86, 1.5, 2.0])
def test_surfaces_on_the_common_line_lie_on_the_volcano(x):
    middle = {"OH": x, "O": x + 1.6, "OOH": x + 3.2}
    away = {"OH": 0.86, "O": 0.86 + x, "OOH": 0.86 + 3.2}
    for reaction, energies in ((HER, {"H": x}), (ORR, middle), (OER, away)):
        assert descriptor(reaction, energies) == pytest.approx(x)
        assert activity(reaction, energies).limiting_potential == pytest.approx(volcano(reaction, x))
    assert sum(step.free_energy for step in steps(OER, middle)) == pytest.approx(OXYGEN)


@pytest.mark.parametrize("reaction", REACTIONS.values(), ids=REACTIONS)
def test_the_top_of_a_volcano_is_where_it_is_nearest_to_equilibrium(reaction):
    away = [abs(volcano(reaction, reaction.top + x) - reaction.equilibrium) for x in (0.0, -0.1, 0.1)]
    assert away[0] < min(away[1:])


def test_copper_is_limited_by_its_carbon_monoxide_and_by_several_electrons_at_once_only_as_each_of_them():
    energies = {"COOH": 0.72, "CO": -0.27, "CHO": 0.77}  # Cu (111), DPA4-Neo
    found = steps(CO2RR, energies)
    assert [step.electrons for step in found] == [1, 1, 1, 5]
    assert sum(step.free_energy for step in found) == pytest.approx(METHANE - CARBON_DIOXIDE)
    assert activity(CO2RR, energies)[:2] == ("CO → CHO", pytest.approx(-1.04))
    easy = activity(CO2RR, {"COOH": -1.0, "CO": -2.0, "CHO": -3.0})
    assert easy[:2] == ("CHO → CH₄", pytest.approx((-3.0 - METHANE) / 5))


def test_carbon_monoxide_comes_from_a_surface_that_binds_what_is_before_it_neither_well_nor_badly():
    assert activity(CO2RR_CO, {"COOH": 0.5}) == ("CO₂ → COOH", pytest.approx(-0.708), pytest.approx(0.604))
    assert activity(CO2RR_CO, {"COOH": -0.5}) == ("COOH → CO gas", -0.5, pytest.approx(0.396))
    assert CO2RR_CO.top == pytest.approx(-0.104)


def test_the_first_ammonia_leaves_beside_nitrogen_that_stays():
    found = steps(NRR, {"N2H": 1.0, "N": 0.3, "NH": 0.0, "NH2": -0.4})
    assert [step.free_energy for step in found] == pytest.approx([1.0, -0.87, -0.3, -0.4, 0.4 + AMMONIA])
    assert [step.electrons for step in found] == [1, 2, 1, 1, 1]


@pytest.mark.parametrize("reaction", [CO2RR, NRR], ids=["CO2RR", "NRR"])
def test_metals_lie_on_the_lines_that_a_volcano_is_made_of(reaction):
    (name,) = reaction.weights
    for x in (-1.0, 0.0, 1.0):
        energies = {name: x} | {other: line.at(x) for other, line in reaction.scaling.items()}
        sides = max(side.at(x) for side in reaction.sides)
        assert sides == pytest.approx(-activity(reaction, energies).limiting_potential)


KCAL = 0.0433641


def test_gas_energies_are_those_of_atomization_energies_and_diatomic_molecules():
    """Energies of O₂ and S₂: VASP 6, PBE_64 (Matbench Discovery); atomization: J. Paier et al. (2005), kcal/mol."""
    hydrogen, oxygen, sulfur = ((-6.775, 104.6), (-9.895, 143.3), (-7.164, 115.4))
    h, o, s = ((energy + KCAL * bond) / 2 for energy, bond in (hydrogen, oxygen, sulfur))
    assert PBE_GAS["H2"] == pytest.approx(hydrogen[0], abs=0.02)
    assert PBE_GAS["H2O"] == pytest.approx(2 * h + o - KCAL * 233.7, abs=0.02)
    assert PBE_GAS["H2S"] == pytest.approx(2 * h + s - KCAL * 182.0, abs=0.01)


def test_the_error_of_carbon_monoxide_is_that_beside_graphite_and_measured_free_energies():
    graphite, its_motion = -9.232, 0.159  # MatPES (PBE_64), eV/atom; zero point, heat and entropy of JANAF
    motion = {name: zero_point + heat - ts for name, (zero_point, heat, ts) in GAS_MOTION.items()}
    sides = [PBE_GAS[name] + motion[name] for name in ("CO", "H2", "H2O")]
    computed = sides[0] + sides[1] - sides[2] - graphite - its_motion
    assert computed - (237.14 - 137.17) / 96.485 == pytest.approx(PBE_ERRORS["CO"], abs=0.05)


def test_a_mean_counts_the_area_and_is_none_where_a_facet_that_counts_has_no_value():
    assert mean_over({"111": 1.0, "100": 0.0}, {"111": 0.75, "100": 0.25}) == pytest.approx(0.75)
    assert mean_over({"111": 1.0, "100": None}, {"111": 1.0, "100": 0.0}) == 1.0
    assert mean_over({"111": 1.0, "100": None}) is None
    assert mean_over({"111": 1.0}, {"111": 0.5, "100": 0.5}) is None
    assert mean_over({}) is None


def test_a_reaction_is_one_of_a_list():
    assert reaction_of("orr") is ORR
    with pytest.raises(DPA4Error, match="no reaction 'HERR'; did you mean 'HER'"):
        with_settings(Activity, {"reaction": "herr"})
    with pytest.raises(DPA4Error, match="HER has none"):
        with_settings(Activity, {"scale_ooh": True})
    made = with_settings(Activity, {"reaction": "oer", "adsorption": {"adsorbates": ["CO", "O"], "facets": ["111"]}})
    assert [one.name for one in made.all_sites().adsorbates] == ["O", "OH", "OOH", "CO"]
    assert with_settings(Activity, plain_settings(made)) == made


# ---- facets --------------------------------------------------------------------------------------------------------


def adsorbed(facets: dict[str, dict[str, float]], *lost: str) -> AdsorptionDocument:
    """Sites with these free energies; those of ``lost`` are not intact."""
    fields = {"n_atoms": 4, "n_fixed": 2, "area": 9.0, "coverage": 1.0, "structure": {}}
    start = {"start": "on_top", "start_elements": "Cu", "missing_bonds": 3.0, "angle": 0.0}
    return AdsorptionDocument(
        formula="Cu",
        crystal=CUBE.as_dict(),
        adsorbates={name: Adsorbate.named(name).amounts for energies in facets.values() for name in energies},
        facets=[
            AdsorptionFacet(
                name=name,
                facet=name[:3],
                miller=tuple(map(int, name[:3])),
                **fields,
                sites=[
                    AdsorptionSite(
                        adsorbate=which,
                        **start,
                        end="hollow_fcc",
                        end_elements="Cu3",
                        converged=True,
                        adsorption_energy=energy,
                        free_energy=energy,
                        intact=which not in lost,
                    )
                    for which, energy in energies.items()
                ],
            )
            for name, energies in facets.items()
        ],
        converged=True,
        provenance=PROVENANCE,
    )


def shaped(fractions: dict[str, float], names: tuple[str, ...], lowest: tuple[str, ...]) -> SurfaceDocument:
    return SurfaceDocument(
        formula="Cu",
        terminations=[
            Termination(
                name=name,
                facet=name[:3],
                miller=tuple(map(int, name[:3])),
                lowest=name in lowest,
                n_atoms=4,
                converged=True,
                structure={},
            )
            for name in names
        ],
        shape=EquilibriumShape(vertices=[], faces=[], area_fractions=fractions),
        provenance=PROVENANCE,
    )


PROVENANCE = Activity().origin(Crystal(COPPER))


def judged(wanted: Activity, sites: AdsorptionDocument, shape: SurfaceDocument | None = None) -> ActivityDocument:
    assert not isinstance(wanted.reference, str)
    return wanted._document(Crystal(COPPER), sites, shape, wanted.reference)


def codes(document: ActivityDocument) -> list[str]:
    return [reason.code for reason in document.warnings]


def test_the_most_active_facet_stands_for_a_crystal_and_means_go_by_area():
    sites = adsorbed({"111": {"H": 0.1}, "100": {"H": -0.3}})
    shape = shaped({"111": 0.75, "100": 0.25}, ("111", "100"), ("111", "100"))
    found = judged(Activity(), sites, shape)
    assert (found.best_facet, found.descriptor, found.overpotential, found.from_top) == ("111", 0.1, 0.1, None)
    assert found.mean_overpotential == pytest.approx(0.75 * 0.1 + 0.25 * 0.3)
    assert found.mean_descriptor == pytest.approx(0.75 * 0.1 - 0.25 * 0.3)
    assert found.weighted and codes(found) == []
    beside = judged(Activity(reference=-0.2), sites, shape)  # platinum at -0.2 in place of -0.09, and so the top
    assert (beside.best_facet, beside.descriptor, beside.relative_descriptor) == ("100", -0.3, pytest.approx(-0.1))
    assert [facet.from_top for facet in beside.facets] == pytest.approx([0.21, -0.19])
    assert beside.from_top == pytest.approx(-0.19)
    assert beside.mean_from_top == pytest.approx(0.75 * 0.21 + 0.25 * 0.19)
    plain = judged(Activity(weighted=False), sites)
    assert plain.mean_overpotential == pytest.approx(0.2)
    assert codes(plain) == ["facets_not_weighted"]


def test_a_shape_weighs_the_termination_that_appears_or_nothing():
    sites = adsorbed({"111_1": {"H": 0.1}, "111_2": {"H": 0.2}, "100": {"H": 0.0}})
    names = ("111_1", "111_2", "100")
    fractions = {"111": 0.6, "100": 0.4, "110": 0.0}
    assert shares_of(sites, shaped(fractions, names, ("111_2", "100"))) == ({"111_1": 0, "111_2": 0.6, "100": 0.4}, "")
    assert "which of 111_1, 111_2" in shares_of(sites, shaped(fractions, ("111_1", "100"), ("111_1", "100")))[1]
    alone = adsorbed({"111_2": {"H": 0.2}, "100": {"H": 0.0}})
    assert shares_of(alone, shaped(fractions, names, ("111_2", "100"))) == ({"111_2": 0.6, "100": 0.4}, "")
    assert "(111_1) has 60% of the area" in shares_of(alone, shaped(fractions, names, ("111_1", "100")))[1]
    assert "(110) has 10% of the area" in shares_of(sites, shaped(fractions | {"110": 0.1}, names, names))[1]


def test_a_facet_without_an_adsorbate_has_no_number_and_its_mean_has_none():
    found = judged(Activity("ORR", weighted=False), adsorbed({"111": PT, "100": {"OH": 0.7, "OOH": 3.9}}))
    assert found.facets[1].limiting_potential is None and found.facets[1].steps == []
    assert (found.best_facet, found.mean_overpotential) == ("111", None)
    assert "adsorbate_missing" in codes(found)
    nothing = judged(Activity("ORR", weighted=False), adsorbed({"111": PT}, "OH"))
    assert nothing.overpotential is None and nothing.best_facet is None
    (table,) = activity_figures({"one": nothing})
    assert [row[3] for row in table.rows][1:] == ["no solvent", "facets not weighted"]


@pytest.mark.parametrize("asked", [False, True])
def test_ooh_that_is_not_there_lies_on_the_common_line_and_a_code_says_so(asked):
    sites = adsorbed({"111": {"OH": 0.78, "O": 1.6} if asked else PT}, "OOH")
    found = judged(Activity("ORR", weighted=False, scale_ooh=asked), sites)
    assert found.facets[0].free_energies["OOH"] == pytest.approx(3.98)
    assert found.facets[0].ooh_above_oh is None
    assert "ooh_by_scaling" in codes(found)
    assert found.limiting_potential == pytest.approx(0.78)


def test_water_lowers_free_energies_and_without_it_a_code_says_so():
    dry = adsorbed({"111": {"O": 1.536, "OH": 1.267, "OOH": 4.386}})  # DPA4-Neo
    found = judged(Activity("ORR", weighted=False), dry)
    assert (found.limiting_step, found.limiting_potential) == ("O → OH", pytest.approx(0.269))
    assert "no_solvent" in codes(found)
    wet = judged(Activity("ORR", weighted=False, solvation={"OH": -0.5, "OOH": -0.4}), dry)
    assert (wet.limiting_step, wet.limiting_potential) == ("OH → H₂O", pytest.approx(0.767))
    assert "no_solvent" not in codes(wet)
    assert judged(Activity("ORR", weighted=False, water=True), dry).facets == wet.facets
    own = Activity("ORR", weighted=False, water=True, solvation={"OH": -0.3})
    assert judged(own, dry).facets[0].free_energies["OH"] == pytest.approx(0.967)
    with pytest.raises(DPA4Error, match="solvation is given for OH; the adsorbates are H"):
        with_settings(Activity, {"solvation": {"OH": -0.5}})


NEO = {"H": 0.01, "CO": -0.51, "COOH": 0.48, "CHO": 0.53}
"""Cu (111), DPA4-Neo, carbon from CO of PBE."""


def test_carbon_counts_from_carbon_monoxide_as_measured_unless_its_reference_is_given():
    found = judged(Activity("CO2RR", weighted=False), adsorbed({"111": NEO}))
    assert found.facets[0].free_energies == pytest.approx({n: e + 0.24 * ("C" in n) for n, e in NEO.items()})
    assert (found.limiting_step, found.limiting_potential) == ("CO → CHO", pytest.approx(-1.04))
    own = Activity("CO2RR", replace(THIN, references={"C": -7.3}), weighted=False)
    assert judged(own, adsorbed({"111": NEO})).facets[0].free_energies == pytest.approx(NEO)


@pytest.mark.parametrize(
    ("hydrogen", "ahead", "code"),
    [(0.01, -1.03, "hydrogen_evolves_first"), (-1.3, 0.26, "hydrogen_covers_surface"), (1.2, 0.16, None)],
)
def test_hydrogen_stands_beside_the_limiting_step(hydrogen, ahead, code):
    found = judged(Activity("CO2RR", weighted=False), adsorbed({"111": NEO | {"H": hydrogen}}))
    assert found.selectivity == found.facets[0].selectivity == pytest.approx(ahead)
    assert [c for c in codes(found) if c.startswith("hydrogen")] == ([code] if code else [])


def test_what_covers_the_surface_at_the_limiting_potential_poisons_it():
    def poisons(wanted: Activity, energies: dict[str, float]) -> list[str]:
        return [code for code in codes(judged(wanted, adsorbed({"111": energies}))) if code.startswith("poisoned")]

    hydrogen = Activity(weighted=False)
    platinum, copper = {"H": -0.23, "CO": -1.34, "OH": 1.27}, {"H": 0.01, "CO": -0.51, "OH": 0.5}
    assert poisons(hydrogen, platinum) == ["poisoned_by_co"]
    assert poisons(hydrogen, copper) == []
    assert poisons(replace(hydrogen, poison_limits={"CO": 0.0}), copper) == ["poisoned_by_co"]
    assert poisons(hydrogen, {"H": -0.5, "OH": -0.4}) == []  # −0.5 V, at which OH goes
    assert poisons(hydrogen, {"H": -0.5, "OH": -0.6}) == ["poisoned_by_oh"]
    assert poisons(Activity("CO2RR", weighted=False), NEO | {"CO": -1.5}) == []  # it is what is reduced
    assert poisons(Activity("CO2RR_CO", weighted=False), NEO | {"CO": -1.5}) == ["poisoned_by_co"]
    assert poisons(replace(hydrogen, poison_limits={"O": 2.0}), copper | {"O": 1.0}) == ["poisoned_by_other"]
    assert poisons(Activity("OER", weighted=False), PT | {"CO": -2.0}) == []


def test_ooh_far_from_the_common_line_is_told_and_counts_as_computed():
    found = judged(Activity("ORR", weighted=False), adsorbed({"111": PT | {"OOH": 4.5}}))
    assert "off_scaling" in codes(found)
    assert found.limiting_potential == pytest.approx(0.42)
    assert "off_scaling" not in codes(judged(Activity("ORR", weighted=False), adsorbed({"111": PT})))


def test_every_facet_is_on_the_volcano_and_the_best_in_the_diagram():
    shape = shaped({"111": 0.75, "100": 0.25}, ("111", "100"), ("111", "100"))
    sites = adsorbed({"111": PT, "100": {"OH": 0.5, "O": 1.2, "OOH": 3.7}})
    peak, diagram, each, scaling, doubts = activity_figures({"a": judged(Activity("ORR", reference=0.8), sites, shape)})
    (bars,) = diagram.figure.data
    assert list(bars.y[::2]) == pytest.approx(levels(ORR, PT, 1.23))
    _, facets, mean = peak.figure.data
    assert sorted(facets.x) == [0.5, 0.78]
    assert mean.x[0] == pytest.approx(0.75 * 0.78 + 0.25 * 0.5)
    assert [line.x0 for line in peak.figure.layout.shapes] == pytest.approx([0.8, 0.8 - 0.78 + 0.86])
    assert "calibrated top: the top counted from platinum" in peak.caption and "at +0.88 eV" in peak.caption
    assert {*facets.text, *mean.text} == {"Cu (111)", "Cu (100)", "Cu"}
    assert "ΔG(OH) = +0.86 eV" in peak.caption
    assert [picture.title for picture in each.pictures] == ["Cu, a"]
    assert "OH → H₂O limits at +0.78 V, overpotential 0.45 V" in each.pictures[0].lines[0]
    assert [row[3] for row in doubts.rows] == ["no solvent"]
    line, points = scaling.figure.data
    assert line.y[0] - line.x[0] == pytest.approx(3.2)
    assert sorted(zip(points.x, points.y, strict=True)) == [(0.5, 3.7), (0.78, 3.98)]


def test_other_sites_are_on_the_volcano_and_what_is_far_from_the_top_does_not_stretch_it():
    sites = adsorbed({"111": {"H": 0.1}, "100": {"H": 2.5}})
    (best,) = sites.facets[0].sites
    hcp = best.model_copy(update={"end": "hollow_hcp", "free_energy": 0.3})
    again, lost = hcp.model_copy(update={"free_energy": 0.4}), hcp.model_copy(update={"end": "on_top", "intact": False})
    sites.facets[0].sites += [hcp, again, lost]
    found = judged(Activity(weighted=False), sites)
    assert found.facets[0].other_sites == {"H": {"hollow_hcp Cu3": 0.3}} and found.facets[1].other_sites == {}
    peak, *_ = activity_figures({"Cu": found})
    drawn = {trace.name: (list(trace.x), list(trace.y)) for trace in peak.figure.data[1:]}
    assert drawn == {"other sites": ([0.3], [-0.3]), "facets, best sites": ([0.1, 2.5], [-0.1, -2.5])}
    assert peak.figure.layout.xaxis.range[1] < 0.5 and "(zoom out): Cu (100). " in peak.caption
    assert "no room" not in peak.caption


def test_the_volcano_names_what_has_no_point_and_keeps_levels_of_theory_apart():
    sites = adsorbed({"111": {"H": 0.1}})
    here, there = judged(Activity(weighted=False), sites), judged(Activity(weighted=False), sites)
    there.provenance = PROVENANCE.model_copy(update={"level_of_theory": "r2SCAN"})
    refused = Activity().failed(Crystal(COPPER), PlanError("it cannot be", "plus_u_seam"))
    peak, *_, table = activity_figures({"a": here, "b": there, "c": refused})
    assert [trace.name.split(",")[0] for trace in peak.figure.data] == ["scaling lines", "facets", "facets"]
    assert "Without a point: Cu, c (plus u seam)" in peak.caption and "another level of theory" in peak.caption
    lines = {row[0]: [str(cell) for cell in row[3:]] for row in table.rows}
    assert "badge bad" in lines["Cu, c"][0] and "it cannot be" in lines["Cu, c"][1] and "[reroute]" in lines["Cu, c"][2]
    assert "r2SCAN" in lines["Cu, b"][-1]


# ---- the property --------------------------------------------------------------------------------------------------


def test_activity_is_that_of_the_sites_which_are_computed_once(tmp_path):
    table, counts = ResultsTable(tmp_path / "results.sqlite"), Counts()

    def document(wanted: Activity | Adsorption):
        ((_, found),) = compute([("one", Ask(wanted, Crystal(COPPER)))], TOY, table, counts=counts)
        return found

    found = document(Activity(adsorption=THIN, surface=SHAPE))
    n_requests = counts.n_requests
    sites = document(replace(THIN, adsorbates=(Adsorbate.named("H"),)))
    other = document(Activity(adsorption=THIN, surface=SHAPE, reference=-1.0))
    assert counts.n_requests == n_requests
    assert found.descriptor == sites.free_energy == other.descriptor
    assert found.limiting_potential == -abs(found.descriptor)
    assert other.relative_descriptor == pytest.approx(found.descriptor + 1.0)
    assert codes(found)[-1] == "facets_not_weighted"  # one facet of three


def test_oxygen_across_the_seam_has_no_activity():
    nickel = COPPER.copy()
    nickel.replace_species({"Cu": "Ni"})
    asked = Activity("OER", replace(THIN, references={"H": -1.0, "O": -1.0}))
    ((_, found),) = compute([("one", Ask(asked, Crystal(nickel)))], ModelRef("toy_potentials:OMatMorse"))
    assert (found.error_code, found.formula, found.reaction) == ("plus_u_seam", "Ni", "OER")
