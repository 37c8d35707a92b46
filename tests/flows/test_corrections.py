"""Corrections against the published numbers and against what the Materials Project stored."""

import gzip
import json
import math
from pathlib import Path

import pytest
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.compatibility import MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_flows.analysis.corrections import corrected_entry
from dpa4_flows.analysis.frames import FrameError, check_same_frame, hubbards, run_type, u_state
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.documents.schemas import EnergyFrame

DATA = Path(__file__).parents[1] / "data"
MODEL = {"model_sha256": "a" * 64, "level_of_theory": "PBE / PBE+U (PBE_54), OMat24"}
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # spglib in pymatgen

# eV/atom of the compound: correction that each scheme adds, OMat24 then MP2020 (differences of formation energies)
PUBLISHED = {
    "Li2O": (-0.657 / 3, -0.687 / 3),
    "Li2O2": (-0.433 / 2, -0.465 / 2),
    "Li2S": (-0.487 / 3, -0.503 / 3),
    "Li3N": (-0.303 / 4, -0.361 / 4),
    "LiF": (-0.436 / 2, -0.462 / 2),
    "LiCl": (-0.600 / 2, -0.614 / 2),
    "LiH": (-0.173 / 2, -0.179 / 2),
    "SiO2": (-0.657 * 2 / 3, -0.687 * 2 / 3),
    "BaTiO3": (-0.657 * 3 / 5, -0.687 * 3 / 5),
    "CdTe": (-0.418 / 2, -0.422 / 2),
    "SiC": (0.0, 0.0),
    "GaAs": (0.0, 0.0),
    "Ni3Al": (0.0, 0.0),
    "FeS2": (-0.487 * 2 / 3, -0.503 * 2 / 3),
    "TiS2": (-0.487 * 2 / 3, -0.503 * 2 / 3),
    "FeO": ((-0.657 - 2.428) / 2, (-0.687 - 2.256) / 2),
    "Fe3O4": ((-0.657 * 4 - 2.428 * 3) / 7, (-0.687 * 4 - 2.256 * 3) / 7),
    "CoO": ((-0.657 - 2.151) / 2, (-0.687 - 1.638) / 2),
    "NiO": ((-0.657 - 2.580) / 2, (-0.687 - 2.541) / 2),
    "Cr2O3": ((-0.657 * 3 - 2.037 * 2) / 5, (-0.687 * 3 - 1.999 * 2) / 5),
    "VO2": ((-0.657 * 2 - 1.813) / 3, (-0.687 * 2 - 1.700) / 3),
    "FeF2": ((-0.436 * 2 - 2.428) / 3, (-0.462 * 2 - 2.256) / 3),
    "LiMn2O4": ((-0.657 * 4 - 1.701 * 2) / 7, (-0.687 * 4 - 1.668 * 2) / 7),
    "LiFePO4": ((-0.657 * 4 - 2.428) / 7, (-0.687 * 4 - 2.256) / 7),
}


def structure_of(row):
    return Structure(row["lattice"], row["species"], row["frac_coords"])


@pytest.fixture(scope="module")
def compounds():
    rows = json.loads((DATA / "compounds.json").read_text())
    return {row["id"]: structure_of(row["structure"]) for row in rows}


def correct(structure, scheme="OMat24", energy=-1.0, **options):
    return corrected_entry(structure, energy, scheme=scheme, entry_id="x", **{**MODEL, **options})


def salt(symbols, spacing=5.0):
    """Some structure of the given composition, atoms far apart."""
    n = len(symbols)
    coordinates = [[0.0, 0.0, i / n] for i in range(n)]
    return Structure(Lattice.orthorhombic(spacing, spacing, 2.6 * n), symbols, coordinates)


@pytest.mark.parametrize(("scheme", "column"), [("OMat24", 0), ("MP2020", 1)])
@pytest.mark.parametrize("formula", PUBLISHED)
def test_compounds_get_the_published_corrections(compounds, formula, scheme, column):
    result = correct(compounds[formula], scheme)
    assert result.reason is None
    assert result.entry.correction_per_atom == pytest.approx(PUBLISHED[formula][column], abs=1e-9)
    assert sum(result.corrections.values()) == pytest.approx(result.entry.correction, abs=1e-9)


def test_mp2020_equals_what_the_materials_project_stored():
    rows = json.loads(gzip.decompress((DATA / "mp2020_entries.json.gz").read_bytes()))
    for row in rows:
        result = correct(structure_of(row["structure"]), "MP2020", row["energy"])
        stored = sum(row["corrections"].values())
        assert result.entry.correction == pytest.approx(stored, abs=1e-6), row["entry_id"]


def test_mp2020_equals_pymatgen_on_its_own_entry(compounds):
    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    for structure in compounds.values():
        ours = correct(structure, "MP2020", -3.0).entry
        entry = ComputedStructureEntry(
            structure,
            -3.0,
            parameters={"run_type": ours.parameters["run_type"], "hubbards": ours.parameters["hubbards"]},
            data={"oxidation_states": structure.composition.oxi_state_guesses(max_sites=-20)[0]}
            if structure.composition.oxi_state_guesses(max_sites=-20)
            else {"oxidation_states": dict.fromkeys(structure.composition.get_el_amt_dict(), 0)},
        )
        theirs = scheme.process_entry(entry, inplace=False)
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-9)


def test_scheme_none_changes_nothing(compounds):
    result = correct(compounds["LiCoO2"], "none", -12.5)
    assert result.entry.energy == -12.5
    assert result.corrections == {}
    assert result.entry.parameters["hubbards"] == {"Co": 3.32}
    assert result.entry.data["frame"]["correction"] == "none"


def test_elements_get_no_correction():
    oxygen = Structure(Lattice.cubic(8), ["O", "O"], [[0, 0, 0], [0.15, 0, 0]])
    cobalt = Structure(Lattice.hexagonal(2.5, 4.0), ["Co", "Co"], [[0, 0, 0], [1 / 3, 2 / 3, 0.5]])
    for structure in (oxygen, cobalt):
        result = correct(structure)
        assert result.entry.correction == 0.0
        assert result.warnings == ()


def test_every_anion_of_a_salt_is_corrected():
    """Without oxidation states only the most electronegative element would be."""
    for symbols in (["La", "O", "Cl"], ["Bi", "O", "Br"], ["Ta", "O", "N"]):
        corrections = correct(salt(symbols)).corrections
        assert set(corrections) == {"oxide", symbols[2]}


def test_formula_too_long_for_an_enumeration_is_corrected():
    lipon = salt(["Li"] * 15 + ["P"] * 4 + ["O"] * 13 + ["N"] * 3)
    assert set(correct(lipon).corrections) == {"oxide", "N"}


def test_anion_without_correction_is_reported():
    coordinates = [[0, 0, 0], [0.5, 0.5, 0.35], [0.5, 0.5, 0.5], [0.5, 0.5, 0.65]]
    azide = Structure(Lattice.orthorhombic(6, 6, 8), ["Na", "N", "N", "N"], coordinates)
    result = correct(azide)
    assert result.corrections == {}
    assert any("N in NaN3" in warning for warning in result.warnings)


def test_delithiated_oxide_stays_an_oxide(compounds):
    host = compounds["LiCoO2"].copy()
    host.remove_species(["Li"])
    result = correct(host)
    assert set(result.corrections) == {"oxide", "Co +U"}
    assert result.warnings == ()


def test_released_oxygen_is_reported():
    symbols = ["Co", "O", "O"]
    host = Structure(Lattice.orthorhombic(4, 4, 6), symbols, [[0, 0, 0], [0.5, 0.5, 0.4], [0.5, 0.5, 0.61]])
    result = correct(host)
    assert "superoxide" in result.corrections
    assert any("O-O bonds of 1.26 Å" in warning for warning in result.warnings)


def test_boundary_between_pbe_and_pbe_u_is_reported():
    slab = salt(["Ni"] * 16 + ["O"])
    result = correct(slab)
    assert result.entry.data["u_state"] == "boundary"
    assert any("PBE+U" in warning for warning in result.warnings)


def test_inputs_stay_as_they_were(compounds):
    structure = compounds["LiFePO4"].copy()
    structure.add_oxidation_state_by_element({"Li": 1, "Fe": 2, "P": 5, "O": -2})
    before = structure.as_dict()
    result = correct(structure)
    assert structure.as_dict() == before
    assert set(result.corrections) == {"oxide", "Fe +U"}
    assert "/" not in json.dumps(result.entry.energy_adjustments[0].as_dict()["cls"])


@pytest.mark.parametrize(
    ("structure", "energy", "options", "part"),
    [
        (salt(["Ar", "Li"]), -1.0, {}, "Ar forms no known compounds"),
        (Structure(Lattice.cubic(4), [{"Li": 0.5}, "O"], [[0, 0, 0], [0.5] * 3]), -1.0, {}, "partial occupancies"),
        (salt(["Li", "O"]), math.nan, {}, "not a finite number"),
        (salt(["Li", "O"]), -1.0, {"level_of_theory": "r2SCAN"}, "scheme none"),
    ],
)
def test_what_cannot_be_corrected_gives_a_reason(structure, energy, options, part):
    result = correct(structure, "OMat24", energy, **options)
    assert result.entry is None
    assert part in result.reason


def test_unknown_scheme_is_refused(compounds):
    with pytest.raises(ValueError, match="choose from none, MP2020, OMat24"):
        correct(compounds["LiF"], "MP2021")


def test_pbe_without_u_gets_anion_corrections_only(compounds):
    result = correct(compounds["NiO"], "MP2020", level_of_theory="PBE (MatPES)")
    assert set(result.corrections) == {"oxide"}
    assert result.entry.parameters["run_type"] == "GGA"


def test_r2scan_entries_have_no_u(compounds):
    result = correct(compounds["NiO"], "none", level_of_theory="r2SCAN")
    assert result.entry.parameters == {"run_type": "r2SCAN", "hubbards": {}, "software": "dpa4"}


def test_u_policy_needs_a_u_metal_and_oxygen_or_fluorine():
    assert u_state(Composition("LiCoO2")) == "full"
    assert u_state(Composition("FeF2")) == "full"
    assert u_state(Composition("TiO2")) == "none"
    assert u_state(Composition("FeS2")) == "none"
    assert u_state(Composition("Ni16O")) == "boundary"
    assert hubbards(Composition("LiNiO2")) == {"Ni": 6.2}
    assert run_type(Composition("LiNiO2"), "PBE/PBE+U") == "GGA+U"
    assert run_type(Composition("NiAl"), "PBE/PBE+U") == "GGA"


def test_energies_of_different_models_never_meet():
    one = EnergyFrame(model_sha256="a" * 64, level_of_theory="PBE", correction="none")
    other = EnergyFrame(model_sha256="b" * 64, level_of_theory="PBE", correction="none")
    assert check_same_frame([one, one.model_dump()]) == one
    with pytest.raises(FrameError, match="model_sha256"):
        check_same_frame([one, other])
    with pytest.raises(FrameError, match="correction"):
        check_same_frame([one, one.model_copy(update={"correction": "OMat24"})])
    with pytest.raises(FrameError, match="no energy frame"):
        check_same_frame([])


def test_oxidation_states_equal_the_enumeration():
    mixed = ["Fe3O4", "Mn3O4", "Co3O4", "LiMn2O4", "FeS2", "NaN3"]
    for formula in [*mixed, "LiCoO2", "LiFePO4", "CsPbBr3", "Li6PS5Cl", "BaTiO3", "CuFeS2", "VOF", "SbSI"]:
        expected = Composition(formula).oxi_state_guesses(max_sites=-20)[0]
        assert guess_oxidation_states(Composition(formula)) == pytest.approx(expected)


def test_oxidation_states_of_large_formulas():
    assert guess_oxidation_states(Composition("Li10GeP2S12")) == {"Li": 1, "Ge": 4, "P": 5, "S": -2}
    assert guess_oxidation_states(Composition("Li7La3Zr2O12")) == {"Li": 1, "La": 3, "Zr": 4, "O": -2}
    assert guess_oxidation_states(Composition("Ar2")) == {}
