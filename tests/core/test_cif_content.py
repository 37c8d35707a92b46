"""What a CIF says of itself against what is read: nothing is dropped or added in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Element, Lattice, Species, Structure
from pymatgen.io.cif import CifWriter
from test_cif_symmetry import CUBIC, HEXAGONAL, ROCKSALT, cif, counts, read

from dpa4_core.data.cif import read_block
from dpa4_core.data.cif_species import element_of_label, element_of_type, parse_formula
from dpa4_core.data.readers import read_structures
from dpa4_core.data.star import number, parse_block, split_blocks
from dpa4_core.data.structures import StructureError, to_system

FCC = "_symmetry_space_group_name_H-M 'F m -3 m'"
P1 = "_symmetry_space_group_name_H-M 'P 1'"
BRUCITE = (3.142, 3.142, 4.766, 90, 90, 120)


def with_column(lines: Sequence[str], name: str, values: Sequence[str]) -> list[str]:
    """The lines of a CIF with one more column of the sites."""
    head, rows = list(lines[: -len(values)]), lines[-len(values) :]
    return [*head, f"{name}\n", *(f"{row.rstrip()} {value}\n" for row, value in zip(rows, values, strict=True))]


def without_types(lines: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The lines of a CIF with these labels and no type symbols."""
    head = [line for line in lines[: -len(labels)] if "type_symbol" not in line]
    rows = [" ".join([label, *row.split()[2:]]) for label, row in zip(labels, lines[-len(labels) :], strict=True)]
    return [*head, *(row + "\n" for row in rows)]


def refusal(lines: Sequence[str]) -> str:
    with pytest.raises(StructureError) as refused:
        read(lines)
    return str(refused.value)


# --- syntax ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_text_fields_quotes_comments_and_save_frames_hold_no_data(tmp_path: Path, ends: str) -> None:
    text = [
        "#\\#CIF_1.1",
        "data_first",
        "_publ_section_comment",
        ";",
        "collected by hand",
        "data_reduction with the usual program",
        "loop_",
        "_cell_length_a 7",
        ";",
        "_publ_author 'M. M\xfcller, Universit\xe9 d'Orsay' # data_none",
        '_title "it\'s"',
        "_remark don't",
        "save_frame",
        "_cell_length_a 9",
        "save_",
        *(line.strip() for line in cif(ROCKSALT, CUBIC, [FCC])[1:]),
        *(line.strip() for line in cif(ROCKSALT, CUBIC, [P1])),
        "data_nothing",
        "_publ_author 'nobody'",
    ]
    path = tmp_path / "a.cif"
    path.write_bytes(b"\xef\xbb\xbf" + ends.join(text).encode("latin-1"))
    entries = read_structures(path)
    assert [(entry.name, len(entry.structure), entry.error) for entry in entries] == [
        ("a:first", 8, None),
        ("a:x", 2, None),
    ]


def test_values_are_those_of_the_grammar() -> None:
    block = parse_block(
        ["data_T\n", "_a.B 'it's'\n", "_C\n", ";one\n", "two\n", ";\n", "loop_ _d _e 1 ? . '.'\n", '_f "?" stop_\n']
    )
    assert block.title == "T"
    assert block.text("_a_b") == "it's" and block.text("_c") == "one\ntwo" and block.text("_f") == "?"
    assert [value.known for value in block.loops[0].values] == [True, False, False, True]
    assert [number(text) for text in ("1.5(3)", "-.5", "1/3", "2.", "1e-3", "x", "1,5", "?", "nan")] == [
        *(1.5, -0.5, 1 / 3, 2.0, 1e-3),
        *(None, None, None, None),
    ]


def test_block_is_not_lost_with_its_neighbour(tmp_path: Path) -> None:
    good = "".join(cif(ROCKSALT, CUBIC, [P1]))
    short = good.replace("data_x", "data_short")[:-5] + "\n"
    path = tmp_path / "a.cif"
    path.write_text(good + short + good.replace("data_x", "data_last"))
    first, broken, last = read_structures(path)
    assert first.error is None and last.error is None
    assert "10 columns" not in str(broken.error) and "5 columns and 9 values" in str(broken.error)


def test_text_field_without_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.cif"
    path.write_text("".join(cif(ROCKSALT, CUBIC, [P1])) + "_comment\n;\nno end\n")
    (entry,) = read_structures(path)
    assert "text field that begins in line 18 is not closed" in str(entry.error)


# --- elements and occupancies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("Fe3+", "Fe"),
        ("O2-", "O"),
        ("O-2", "O"),
        ("CL", "Cl"),
        ("na+", "Na"),
        ("D", "D"),
        ("T", "T"),
        ("Cval", "C"),
        ("CO", "Co"),
    ],
)
def test_type_symbols_name_elements(text: str, element: str) -> None:
    reading = element_of_type(text, ())
    assert reading is not None and reading.element == element and reading.group is None


@pytest.mark.parametrize("text", ["Wat", "OH", "O-H", "H2O", "NH4", "NO3", "SO4"])
def test_type_that_stands_for_several_atoms_is_refused(text: str) -> None:
    lines = cif(["Ca 0 0 0", "O 0.5 0.5 0.5"], CUBIC, [P1])
    lines[-1] = f"X1 {text} 0.5 0.5 0.5\n"
    said = refusal(lines)
    assert f"X1 ({text}) stands for a group of atoms" in said


@pytest.mark.parametrize("text", ["Nb,Zr", "'0.8Nb + 0.2Zr'", "Fe/Mn"])
def test_type_of_several_elements_is_refused(text: str) -> None:
    lines = cif(["Ca 0 0 0"], CUBIC, [P1])
    lines[-1] = f"X1 {text} 0 0 0\n"
    assert "X1 is partially occupied by several elements" in refusal(lines)


@pytest.mark.parametrize(
    ("label", "allowed", "element"),
    [
        ("OH1", (), "O"),
        ("OW1", (), "O"),
        ("Ow", (), "O"),
        ("Cd1", (), "Cd"),
        ("CA1", (), "Ca"),
        ("CA1", ("C", "H", "O"), "C"),
        ("CD1", ("C", "H"), "C"),
        ("HO1", ("H", "O"), "H"),
        ("Ho1", ("Ho", "O"), "Ho"),
        ("FE2a", (), "Fe"),
        ("Oeq", ("O", "V"), "O"),
        ("T1", (), None),
        ("D1", (), "D"),
        ("M1", (), None),
        ("Cg1", (), None),
        ("Cation1", (), None),
        ("7", (), None),
    ],
)
def test_labels_begin_with_elements_that_make_sense(label: str, allowed: Sequence[str], element: str | None) -> None:
    reading = element_of_label(label, allowed)
    assert (None if reading is None else reading.element) == element


@pytest.mark.parametrize("label", ["Wat", "WAT1", "HOH", "H2O1", "water"])
def test_water_that_is_one_site_is_refused(label: str) -> None:
    said = refusal(without_types(cif(ROCKSALT, CUBIC, [P1]), ["Mg1", label]))
    assert label in said and "water" in said and "hydrogen" in said


def test_hydroxide_oxygen_is_there_and_its_hydrogen_is_asked_for() -> None:
    lines = without_types(cif(["Li 0 0 0", "O 0.5 0 0"], (12, 6, 6, 90, 90, 90), [P1]), ["Li1", "OH1"])
    structure, (warning,) = read(lines)
    assert structure.composition.formula == "Li1 O1"
    assert "OH1" in warning and "hydrogen" in warning


@pytest.mark.parametrize(("label", "symbol"), [("X1", None), ("Mg1", "Xx")])
def test_site_without_element_is_refused_by_name(label: str, symbol: str | None) -> None:
    lines = cif(["Mg 0 0 0"], CUBIC, [P1])
    if symbol is None:
        lines = without_types(lines, [label])
    else:
        lines[-1] = f"{label} {symbol} 0 0 0\n"
    assert repr(label) in refusal(lines)


@pytest.mark.parametrize("occupancy", [".", "?", "1", "1.0", "1.000(5)"])
def test_occupancy_is_one_where_nothing_else_is_said(occupancy: str) -> None:
    lines = with_column(cif(ROCKSALT, CUBIC, [FCC]), "_atom_site_occupancy", ["1", occupancy])
    assert counts(lines) == {"Mg": 4, "O": 4} and read(lines)[1] == ()


@pytest.mark.parametrize("occupancy", ["1.0001", "0.9998", "1.004"])
def test_occupancy_of_nearly_one_is_one_with_a_warning(occupancy: str) -> None:
    structure, (warning,) = read(with_column(cif(ROCKSALT, CUBIC, [FCC]), "_atom_site_occupancy", ["1", occupancy]))
    assert structure.is_ordered and len(structure) == 8
    assert f"O2 ({occupancy})" in warning


@pytest.mark.parametrize(
    ("occupancy", "words"),
    [("1.2", "occupancy of site O2 is '1.2'"), ("full", "site O2 is 'full'")],
)
def test_other_occupancies_are_refused(occupancy: str, words: str) -> None:
    assert words in refusal(with_column(cif(ROCKSALT, CUBIC, [FCC]), "_atom_site_occupancy", ["1", occupancy]))


SHARED = ["Li 0 0 0", "Na 0 0 0", "O 0.5 0.5 0.5"]


def test_shared_sites_are_read_and_refused_by_who_computes() -> None:
    for occupancies, expected in (
        (["0.4", "0.6", "1"], {"Li": 1.6, "Na": 2.4, "O": 4}),  # by two elements
        (["0.4", "0.5", "1"], {"Li": 1.6, "Na": 2.0, "O": 4}),  # and by nothing
        (["1", "0", "0.5"], {"Li": 4, "O": 2}),
    ):
        structure, said = read(with_column(cif(SHARED, CUBIC, [FCC]), "_atom_site_occupancy", occupancies))
        assert len(structure) == 8 and structure.composition.as_dict() == pytest.approx(expected)
        assert all("left out" in text for text in said)
        with pytest.raises(StructureError, match=r"partially occupied .*`dpa4 order FILE`"):
            to_system(structure)


@pytest.mark.parametrize(
    ("sites", "occupancies", "words"),
    [
        (SHARED, ["0.7", "0.6", "1"], "occupancies add up to 1.3"),
        (["Li 0 0 0", "Li 0 0.5 0.5", "O 0.5 0.5 0.5"], ["0.5", "0.5", "1"], "the same by symmetry"),
        (["Li 0 0 0", "Na 0.25 0.25 0.262", "Mg 0.25 0.25 0.25"], ["0.5", "0.5", "0.5"], "in some places only"),
    ],
)
def test_shares_that_make_no_sense_are_refused(sites: list[str], occupancies: list[str], words: str) -> None:
    assert words in refusal(with_column(cif(sites, CUBIC, [FCC]), "_atom_site_occupancy", occupancies))


def test_sites_that_coincide_are_refused() -> None:
    assert "Mg1 and O2 coincide" in refusal(cif(["Mg 0 0 0", "O 0 0 0"], CUBIC, [P1]))


def test_dummies_and_absent_sites_are_left_out_with_a_warning() -> None:
    lines = cif([*ROCKSALT, "Mg 0.25 0.25 0.25"], CUBIC, [FCC])
    for column, values in (("calc_flag", ["d", "d", "dum"]), ("occupancy", ["1", "1", "0"])):
        structure, (warning,) = read(with_column(lines, f"_atom_site_{column}", values))
        assert len(structure) == 8 and "Mg3" in warning and "left out" in warning


@pytest.mark.parametrize(("value", "words"), [("?", "site O2 has no coordinates"), ("0,5", "'0,5' of site O2")])
def test_coordinates_that_are_none_are_refused(value: str, words: str) -> None:
    assert words in refusal(cif(["Mg 0 0 0", f"O 0.5 0.5 {value}"], CUBIC, [P1]))


def test_deuterium_and_tritium_are_hydrogen_with_their_own_mass() -> None:
    lines = cif(["Li 0 0 0", "D 0.5 0.5 0.5", "T 0.5 0 0"], CUBIC, [P1, "_chemical_formula_sum 'H2 Li'"])
    structure, warnings = read(lines)
    assert {site.specie.Z for site in structure} == {1, 3} and warnings == ()
    atoms, _ = read_block(lines, pymatgen=False)
    assert isinstance(atoms, Atoms)
    assert atoms.numbers.tolist() == [3, 1, 1]
    assert atoms.get_masses().tolist() == pytest.approx([6.94, 2.0141, 3.0160], abs=1e-3)


def test_oxidation_numbers_are_kept() -> None:
    loop = ["loop_", "_atom_type_symbol", "_atom_type_oxidation_number", "Mg2+ 2", "O2- -2"]
    lines = [line.replace(" Mg ", " Mg2+ ").replace(" O ", " O2- ") for line in cif(ROCKSALT, CUBIC, [FCC, *loop])]
    assert {site.specie for site in read(lines)[0]} == {Species("Mg", 2), Species("O", -2)}


# --- special positions and repetition ----------------------------------------------------------------------------


@pytest.mark.parametrize(("third", "two"), [("0.333", "0.667"), ("0.3333", "0.6667"), ("0.33333", "0.66667")])
def test_rounded_thirds_are_special_positions(third: str, two: str) -> None:
    sites = [f"Zn {third} {two} 0", f"S {third} {two} 0.375"]
    structure, warnings = read(cif(sites, (3.82, 3.82, 6.26, 90, 90, 120), ["_space_group_name_H-M_alt 'P 63 m c'"]))
    assert structure.composition.formula == "Zn2 S2"
    assert np.allclose(np.sort(structure.frac_coords[:, 0]), [1 / 3, 1 / 3, 2 / 3, 2 / 3], atol=1e-9)
    assert [("Zn1, S2 are rounded" in text) for text in warnings] == ([True] if third == "0.333" else [])


def test_sixths_of_three_digits_are_special_positions() -> None:
    lines = cif(["Si 0.167 0.333 0.25"], (8, 8, 9, 90, 90, 120), ["_space_group_name_H-M_alt 'P 6/m m m'"])
    assert counts(lines) == {"Si": 12}  # (x, 2x, z): 12o, not the general 24r


def test_general_positions_stay_where_they_are() -> None:
    place = [0.343, 0.641, 0.123]
    lines = cif([f"O {place[0]} {place[1]} {place[2]}"], (9, 9, 7, 90, 90, 120), ["_space_group_name_H-M_alt 'P -3'"])
    structure, warnings = read(lines)
    assert len(structure) == 6 and warnings == ()
    assert np.abs(structure.frac_coords - place).sum(axis=1).min() < 1e-12


def test_atom_beside_its_own_image_is_refused() -> None:
    assert "from its own image by symmetry" in refusal(cif(["Mg 0.02 0 0"], CUBIC, [FCC]))


def test_full_list_beside_symmetry_is_taken_once() -> None:
    metal = ["0 0 0", "0 0.5 0.5", "0.5 0 0.5", "0.5 0.5 0"]
    oxygen = ["0.5 0.5 0.5", "0.5 0 0", "0 0.5 0", "0 0 0.5"]
    sites = [*(f"Mg {place}" for place in metal), *(f"O {place}" for place in oxygen)]
    structure, (warning,) = read(cif(sites, CUBIC, [FCC]))
    assert structure.composition.formula == "Mg4 O4" and "lists all atoms" in warning
    assert "Mg1, Mg2, Mg3 are the same by symmetry" in refusal(cif([*sites[:3], *sites[4:]], CUBIC, [FCC]))
    assert "Mg1, Mg2 are the same by symmetry" in refusal(cif(["Mg 0 0 0", "Mg 0 0 1"], CUBIC, [P1]))


# --- formula, volume, density ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("H2 Mg O2", {"H": 2, "Mg": 1, "O": 2}),
        ("Fe2O3", {"Fe": 2, "O": 3}),
        ("FE2 O3", {"Fe": 2, "O": 3}),
        ("CO3 CA", {"Co": 3, "Ca": 1}),
        ("Mg(OH)2", {"Mg": 1, "O": 2, "H": 2}),
        ("Ca5(PO4)3(OH)", {"Ca": 5, "P": 3, "O": 13, "H": 1}),
        ("C12 H8 O0.5", {"C": 12, "H": 8, "O": 0.5}),
        ("?", None),
        ("Mg(", None),
        ("Zz2", None),
    ],
)
def test_formulas_are_counted(text: str, counted: dict[str, float] | None) -> None:
    assert parse_formula(text) == counted


def test_hydrogen_of_the_formula_that_has_no_site_is_refused() -> None:
    lines = ["_chemical_formula_sum 'H2 Mg O2'", "_cell_formula_units_Z 1", "_symmetry_space_group_name_H-M 'P -3 m 1'"]
    said = refusal(cif(["Mg 0 0 0", "O 0.3333 0.6667 0.2203"], BRUCITE, lines))
    assert "hydrogen is in _chemical_formula_sum (H2 Mg O2) and missing" in said
    whole = cif(["Mg 0 0 0", "O 0.3333 0.6667 0.2203", "H 0.3333 0.6667 0.4303"], BRUCITE, lines)
    assert counts(whole) == {"Mg": 1, "O": 2, "H": 2} and read(whole)[1] == ()


@pytest.mark.parametrize(
    ("formula", "words"),
    [("'Mg O Si'", "Si is in _chemical_formula_sum"), ("'Mg'", "O is among"), ("'Mg2 O'", "says Mg2 O")],
)
def test_another_composition_than_that_of_the_file_is_refused(formula: str, words: str) -> None:
    assert words in refusal(cif(ROCKSALT, CUBIC, [FCC, f"_chemical_formula_sum {formula}"]))


@pytest.mark.parametrize(
    ("formula", "units"), [("'Mg O'", "4"), ("'Mg4 O4'", "1"), ("'Mg4 O4'", "4"), ("'O Mg'", "?"), ("'Mg2 O2'", "2")]
)
def test_any_multiple_of_the_formula_adds_up(formula: str, units: str) -> None:
    lines = [FCC, f"_chemical_formula_sum {formula}", f"_cell_formula_units_Z {units}"]
    assert read(cif(ROCKSALT, CUBIC, lines))[1] == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("_cell_volume 80.0", "_cell_volume says 80"),
        ("_exptl_crystal_density_diffrn 3.2", "_exptl_crystal_density_diffrn says 3.2"),
        ("_chemical_formula_sum 'Mg O'\n_cell_formula_units_Z 3", "_cell_formula_units_Z says 3"),
        ("_symmetry_Int_Tables_number 221", "number 221 is not that of 'F m -3 m' (225)"),
    ],
)
def test_what_is_odd_is_a_warning(line: str, words: str) -> None:
    structure, (warning,) = read("".join(cif(ROCKSALT, CUBIC, [FCC, line])).splitlines(keepends=True))
    assert len(structure) == 8 and words in warning


def test_right_statements_make_no_warning() -> None:
    lines = [FCC, "_cell_volume 74.7", "_exptl_crystal_density_diffrn 3.58", "_symmetry_Int_Tables_number 225"]
    assert read(cif(ROCKSALT, CUBIC, lines))[1] == ()


def test_file_without_symmetry_is_doubted_where_it_counts_more_atoms() -> None:
    assert read(cif(ROCKSALT, CUBIC))[1] == ()
    _, warnings = read(cif(ROCKSALT, CUBIC, ["_chemical_formula_sum 'Mg O'", "_cell_formula_units_Z 4"]))
    assert any("says nothing about symmetry" in text for text in warnings)


def test_attached_hydrogen_is_refused() -> None:
    said = refusal(with_column(cif(ROCKSALT, CUBIC, [FCC]), "_atom_site_attached_hydrogens", ["0", "2"]))
    assert "2 hydrogen atoms at O2 are missing" in said


# --- cells -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "words"),
    [("_cell_length_a", "no _cell_length_a"), ("_atom_site_fract_z", "no column _atom_site_fract_z")],
)
def test_missing_items_are_named(drop: str, words: str) -> None:
    lines = [line for line in cif(ROCKSALT, CUBIC, [P1]) if drop not in line]
    if drop.startswith("_atom"):
        lines = [*lines[:-2], "Mg1 Mg 0 0\n", "O1 O 0.5 0.5\n"]
    assert words in refusal(lines)


def test_cell_follows_from_the_crystal_system_where_it_is_left_out() -> None:
    lines = [line for line in cif(ROCKSALT, CUBIC, [FCC]) if "_b" not in line and "_c " not in line]
    lines = [line for line in lines if "_angle" not in line]
    assert read(lines)[0].lattice.abc == pytest.approx((4.212, 4.212, 4.212))


@pytest.mark.parametrize("cell", [(4, 4, 0, 90, 90, 90), (4, 4, 4, 90, 90, 180), (4, 4, 4, 60, 60, 130)])
def test_impossible_cells_are_refused(cell: tuple[float, ...]) -> None:
    assert "correct" in refusal(cif(ROCKSALT, cell, [P1]))


# --- what others write -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symprec", [None, 0.01])
def test_what_pymatgen_writes_is_read_as_it_was(symprec: float | None) -> None:
    layered = Structure.from_spacegroup(
        "R-3m", Lattice.hexagonal(2.816, 14.054), ["Li", "Co", "O"], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.23968]]
    )
    oxygen = Structure(Lattice.cubic(4), ["O", "O"], [[0, 0, 0], [0.3, 0, 0]])
    for crystal in (layered, oxygen):
        text = str(CifWriter(crystal, symprec=symprec))
        structure, warnings = read(text.splitlines(keepends=True))
        assert warnings == ()
        assert structure.composition == crystal.composition
        distances = structure.lattice.get_all_distances(structure.frac_coords, crystal.frac_coords)
        assert distances.min(axis=1).max() < 1e-3 or symprec


def test_what_ase_writes_is_read_as_it_was(tmp_path: Path) -> None:
    atoms = Atoms("LiCoO2", scaled_positions=[[0, 0, 0], [0.5] * 3, [0.26] * 3, [0.74] * 3], cell=[3, 4, 5], pbc=True)
    ase.io.write(tmp_path / "a.cif", [atoms, atoms])
    first, second = read_structures(tmp_path / "a.cif")
    assert first.warnings == second.warnings == ()
    assert np.allclose(to_system(first.structure).cell, atoms.cell, atol=1e-6)
    assert first.structure.composition.reduced_formula == "LiCoO2"


def test_crystal_is_the_same_without_pymatgen() -> None:
    lines = cif(["Li 0 0 0", "Co 0 0 0.5", "O 0 0 0.23968"], HEXAGONAL, ["_symmetry_space_group_name_H-M 'R -3 m'"])
    structure, (atoms, _) = read(lines)[0], read_block(lines, pymatgen=False)
    assert Counter(atoms.symbols) == Counter(site.specie.symbol for site in structure)
    distances = structure.lattice.get_all_distances(structure.frac_coords, atoms.get_scaled_positions())
    assert distances.min(axis=1).max() < 1e-9
    assert structure.labels[0] == "Li1" and structure[0].specie == Element("Li")


def test_blocks_without_sites_are_no_structures() -> None:
    assert list(split_blocks(["data_a\n", "_journal 'none'\n", ";\n", "_atom_site_label\n", ";\n"])) == []
