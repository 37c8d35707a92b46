"""Segregation, dissolution and what is said of both in water: by hand, and on the toy potential."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import dpa4_core as dpa4
from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax
from dpa4_flows.analysis.completeness import Survey, Tally, hull_completeness
from dpa4_flows.analysis.dissolution import dissolved, whole_potential
from dpa4_flows.analysis.segregation import exchanged, exchanges, surface_atoms
from dpa4_flows.analysis.slabs import below_middle, widened
from dpa4_flows.analysis.surface import cuts
from dpa4_flows.campaigns.catalyst_service import SERVICE
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.dissolution import Dissolution
from dpa4_flows.properties.pourbaix import IN_WATER, Pourbaix, PourbaixDocument, _missing
from dpa4_flows.properties.segregation import Segregation
from dpa4_flows.properties.service import Service
from dpa4_flows.reference.ions import BUNDLED, read_ions

TOY = ModelRef("toy_potentials:ShortOMatMorse")
THIN: dict[str, Any] = {"facets": ("111",), "min_length": 2.0, "min_thickness": 8.0, "vacuum": 9.0, "max_steps": 60}
PLATINUM = AseAtomsAdaptor.get_structure(bulk("Pt", a=3.92))
ALLOY = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.84), ["Ni", "Pt"], [[0, 0, 0], [0, 0.5, 0.5]])
OXIDE = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.18), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def documents(wanted: Any, *structures: Structure) -> list[Any]:
    return [found for _, found in compute([(i, Ask(wanted, Crystal(s))) for i, s in enumerate(structures)], TOY)]


def slab_of(structure: Structure, facet: tuple[int, int, int] = (1, 1, 1), min_length: float = 5.0) -> Structure:
    found = cuts(structure, facets=[facet], min_thickness=10.0, nonstoichiometric=True)
    return widened(found.slabs[0].slab, min_length)[0]


# ---- numbers


def test_each_kind_of_surface_atom_is_exchanged_with_the_nearest_and_the_deepest_other_one() -> None:
    slab = slab_of(ALLOY)
    found = exchanges(slab)
    kinds = [(slab[one.surface].specie.symbol, slab[one.inside].specie.symbol, one.level) for one in found]
    assert sorted(kinds) == sorted(
        (*pair, level) for pair in (("Pt", "Ni"), ("Ni", "Pt")) for level in ("next", "deep")
    )
    for one in found:
        assert not below_middle(slab)[one.inside], "fixed atoms cannot make room"
        after = exchanged(slab, one)
        assert after.composition == slab.composition
        changed = [i for i, (a, b) in enumerate(zip(slab, after, strict=True)) if a.specie != b.specie]
        assert sorted(changed) == sorted((one.surface, one.inside))
    spacing = ALLOY.lattice.a / 3**0.5
    assert {round(one.depth / spacing) for one in found} == {1, 2}
    assert exchanges(slab_of(PLATINUM)) == []


def test_atoms_that_symmetry_makes_equal_are_taken_out_once() -> None:
    assert len(surface_atoms(slab_of(PLATINUM))) == 1
    wide = slab_of(ALLOY, min_length=6.0)  # a supercell
    assert sorted(wide[int(i)].specie.symbol for i in surface_atoms(wide)) == ["Ni", "Pt"]
    heights = wide.cart_coords[surface_atoms(wide), 2]
    assert heights == pytest.approx(np.full(2, wide.cart_coords[:, 2].max()))


def test_a_metal_dissolves_at_its_standard_potential_and_what_binds_an_atom_raises_it() -> None:
    ions = read_ions(BUNDLED)
    plain = dissolved("Pt", ions)
    assert plain is not None and (plain.ion, plain.n_electrons) == ("Pt[2+]", 2)
    assert plain.potential == pytest.approx(1.188, abs=1e-3)  # measured
    bound = dissolved("Pt", ions, removal=0.5)
    assert bound is not None and bound.potential == pytest.approx(plain.potential + 0.25)
    order = [dissolved(metal, ions) for metal in ("Pt", "Pd", "Ag", "Cu", "Ni")]
    volts = [one.potential for one in order if one is not None]
    assert volts == sorted(volts, reverse=True) and len(volts) == 5
    assert dissolved("Kr", ions) is None


def test_oxoanions_form_at_lower_potentials_in_bases_and_simple_ions_do_not() -> None:
    """WO4(2-) + 8 H+ + 6 e- = W + 4 H2O: 0.0789 V for each pH; ΔG = -914.2 kJ/mol."""
    ions = [ion for ion in read_ions(BUNDLED) if ion.formula in ("WO4[2-]", "Ni[2+]")]
    acid, base = dissolved("W", ions, ph=0.0), dissolved("W", ions, ph=10.0)
    assert acid is not None and base is not None and acid.n_electrons == 6
    assert acid.potential == pytest.approx((-914.2 + 4 * 237.14) / 96.485 / 6, abs=1e-3)
    assert acid.potential - base.potential == pytest.approx(8 / 6 * 0.05916 * 10)
    assert dissolved("Ni", ions, ph=10.0) == dissolved("Ni", ions, ph=0.0)


def test_an_alloy_dissolves_as_a_whole_at_the_mean_of_its_metals_and_later_if_it_is_bound() -> None:
    ions = read_ions(BUNDLED)
    atoms = {metal: one for metal in ("Pt", "Ni") if (one := dissolved(metal, ions)) is not None}
    assert whole_potential({"Pt": 1.0}, 0.0, atoms) == pytest.approx(atoms["Pt"].standard_potential)
    half = {"Pt": 0.5, "Ni": 0.5}
    mean = (atoms["Pt"].standard_potential + atoms["Ni"].standard_potential) / 2  # both give two electrons
    assert whole_potential(half, 0.0, atoms) == pytest.approx(mean)
    assert whole_potential(half, -0.1, atoms) == pytest.approx(mean + 0.05)


# ---- properties


def test_segregation_is_the_energy_of_the_exchange_and_names_who_comes_up() -> None:
    (found,) = documents(AtRest(Segregation(**THIN)), ALLOY)
    assert found.error is None and found.converged
    energies = {(one.up, one.level): one.energy for one in found.exchanges}
    assert found.segregation_energy == min(energies.values())
    assert (found.segregating, found.segregation_facet) == ("Pt", "111")
    assert all((energy < 0) == (up == "Pt") for (up, _), energy in energies.items()), "the larger atom comes up"


@pytest.mark.parametrize("wanted", [Dissolution(**THIN), Segregation(**THIN)])
def test_a_changed_slab_keeps_the_atoms_fixed_that_the_clean_one_had_fixed(wanted: Any) -> None:
    """One atom makes the top layer of the smallest cell: without it the middle of the slab lies elsewhere."""
    plan = wanted.plan(Crystal(PLATINUM if wanted.name == "dissolution" else ALLOY, info=TOY.info()))
    step, clean = next(plan), None
    while True:
        slabs = {name: one.structure for name, one in step.items() if isinstance(one, Relax)}
        if slabs and clean is not None:
            break
        if slabs:
            ((name, clean),) = slabs.items()
            step = plan.send({name: SimpleNamespace(structure=clean, error=None, error_code=None)})
        else:
            step = plan.send({name: SimpleNamespace(energy_per_atom=-1.0) for name in step})
    assert slabs and still(clean)
    assert all(still(changed) == still(clean) for changed in slabs.values())


def still(slab: Structure) -> list[str]:
    """Atoms that are fixed."""
    free = slab.site_properties["selective_dynamics"]
    return [site.specie.symbol for site, one in zip(slab, free, strict=True) if not any(one)]


def test_what_cannot_segregate_or_dissolve_says_why_with_a_code() -> None:
    pure, oxide = documents(Segregation(**THIN), PLATINUM, OXIDE)
    assert pure.error_code == "one_element" and "nothing to exchange" in pure.error
    assert oxide.error_code == "no_alloy" and "O" in oxide.error
    (oxide,) = documents(Dissolution(**THIN), OXIDE)
    assert oxide.error_code == "no_alloy" and "the metal of NiO leaves together with O" in oxide.error
    with pytest.raises(DPA4Error, match="min_length is -1"):
        Segregation(min_length=-1.0).check()
    with pytest.raises(DPA4Error, match="give the lower end first"):
        Service(potential=(1.0, 0.0)).check()


def test_dissolution_of_a_metal_begins_at_the_measured_potential_plus_the_energy_of_the_vacancy() -> None:
    """In the toy only neighbours bind: nine at (111), of which six are what an atom has in the metal; a whole plane,
    the smallest cell, comes off for nothing."""
    plane, terrace = (documents(AtRest(Dissolution(**THIN | {"min_length": a})), PLATINUM)[0] for a in (2.0, 5.0))
    for found in (plane, terrace):
        (atom,) = found.atoms
        assert found.whole_potential == pytest.approx(1.188, abs=2e-3)  # measured, whatever the model
        assert found.dissolution_potential == pytest.approx(1.188 + atom.removal_energy / 2, abs=1e-3)
        assert (found.dissolving, atom.ion) == ("Pt", "Pt[2+]")
    rest = dpa4.relax([PLATINUM], TOY.load(), fmax=1e-3)[0]
    bond = -(rest.energy + 0.78) / 6
    assert plane.atoms[0].removal_energy == pytest.approx(0, abs=1e-3)
    assert terrace.atoms[0].removal_energy == pytest.approx(3 * bond, rel=0.1)


def test_service_puts_parts_together_and_goes_on_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    water = Pourbaix(library=None, bundled=False, prototypes=False)
    wanted = Service(4.0, (0.0, 1.2), water, Segregation(**THIN), Dissolution(**THIN))
    alloy, pure = documents(AtRest(wanted), ALLOY, PLATINUM)
    for found in (alloy, pure):
        assert found.error is None
        top = 1.2 - 4.0 * 0.05916  # against the standard hydrogen electrode
        assert found.margin == pytest.approx(min(found.dissolution_potential, found.whole_potential) - top, abs=1e-6)
    assert alloy.decomposition_energy is not None and alloy.products
    assert pure.decomposition_energy is None and "no_solid_competes" in {reason.code for reason in pure.warnings}
    assert alloy.segregating in ("Pt", "Ni")
    assert pure.segregation_energy is None and not any("segregation" in reason.code for reason in pure.warnings)
    without = ModelRef("dpa4_core.testing:MorsePotential")  # no corrections of its level of theory are known
    ((_, found),) = compute(
        [(0, Ask(Service(pourbaix=water, segregation=None, dissolution=Dissolution(**THIN)), Crystal(PLATINUM)))],
        without,
    )
    assert found.error is None and found.decomposition_energy is None
    assert [reason.code for reason in found.warnings if reason.code.startswith("no_")] == ["no_pourbaix"]


def test_energies_in_water_say_what_they_rest_on() -> None:
    """A 0 beside no other solid is no stability, a 0 beside unsurveyed ones a lower bound, and no warning is lost."""

    def served(energy: float, tally: Tally, survey: Survey | None = None) -> Any:
        completeness = hull_completeness("H-Ni-O", tally, survey=survey, formula="NiO")
        said = [Reason(code=IN_WATER, sentence=text) for text in ("no spin", "uncorrected")]
        water = PourbaixDocument.model_construct(error_code=None, warnings=[*said, *_missing("NiO", completeness)])
        water.decomposition_energy, water.products = [[0.0], [energy]], [["NiO"], ["Ni[2+]"]]
        plan = Service(segregation=None, dissolution=None).plan(Crystal(OXIDE))
        next(plan)
        with pytest.raises(StopIteration) as finished:
            plan.send({"pourbaix": water})
        found = finished.value.value
        told = {reason.code: reason.sentence for reason in found.warnings}
        assert told.pop(IN_WATER) == "no spin; uncorrected"
        return found.decomposition_energy, [*told]

    elements = {"H": 1, "Ni": 1, "O": 1}
    alone, among = Tally(elements, {"NiO": 1}), Tally(elements, {"NiO": 1, "NiO2": 1})
    survey = Survey(source="Materials Project", version="2026.04.13", date="2026-11-29")
    assert served(0.0, alone) == (None, ["no_solid_competes"])
    assert served(0.7, alone) == (0.7, ["no_solid_competes"])
    assert served(0.0, among) == (0.0, ["incomplete_hull"])
    assert served(0.0, among, survey) == (0.0, [])
    assert {"no_solid_competes", "incomplete_hull", IN_WATER} <= SERVICE.reasons.keys()


@pytest.mark.network
@pytest.mark.slow
def test_neo_brings_platinum_up_on_its_alloy_and_gold_on_its_own(neo_path: Any) -> None:
    """Pt3Ni (111) has a skin of platinum: published PBE values for the exchange lie between -0.3 and -0.6 eV."""
    gold = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.73), ["Au", "Cu"], [[0, 0, 0], [0, 0.5, 0.5]])
    wanted = AtRest(Segregation(facets=("111",)))
    asks = [(name, Ask(wanted, Crystal(one))) for name, one in (("Pt", ALLOY), ("Au", gold))]
    for element, found in compute(asks, ModelRef(str(neo_path))):
        assert found.error is None and found.segregating == element
        energies = {(one.up, one.level): one.energy for one in found.exchanges}
        assert all((energy < 0) == (up == element) for (up, _), energy in energies.items())
        if element == "Pt":
            assert energies["Pt", "next"] == pytest.approx(-0.42, abs=0.05)
            assert energies["Pt", "deep"] == pytest.approx(-0.30, abs=0.05)


@pytest.mark.network
@pytest.mark.slow
def test_neo_keeps_the_order_in_which_metals_dissolve(neo_path: Any) -> None:
    metals = ("Pt", "Pd", "Ag", "Cu", "Ni")
    wanted = AtRest(Dissolution(facets=("111",)))
    asks = [(metal, Ask(wanted, Crystal(AseAtomsAdaptor.get_structure(bulk(metal))))) for metal in metals]
    found = dict(compute(asks, ModelRef(str(neo_path))))
    whole = [found[metal].whole_potential for metal in metals]
    assert whole == sorted(whole, reverse=True)
    terraces = [found[metal].dissolution_potential for metal in ("Pt", "Pd", "Cu", "Ni")]  # of two electrons each
    assert terraces == sorted(terraces, reverse=True)
    assert terraces == pytest.approx([1.72, 1.37, 0.70, 0.33], abs=0.05)
    assert all(0.4 < found[metal].atoms[0].removal_energy < 1.3 for metal in metals)
