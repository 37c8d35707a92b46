"""The symmetry that a CIF names, in all 530 settings of International Tables, against spglib."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import spglib
from pymatgen.core import Structure

from dpa4_core.data.cif import read_block
from dpa4_core.data.cif_symmetry import read_symmetry
from dpa4_core.data.operations import UNIT, Operations, hall_operations, parse_operations
from dpa4_core.data.space_groups import metric_misfit, settings, settings_of_symbol
from dpa4_core.data.star import parse_block
from dpa4_core.data.system import StructureError

CUBIC = (4.212, 4.212, 4.212, 90, 90, 90)
HEXAGONAL = (2.816, 2.816, 14.054, 90, 90, 120)
ROCKSALT = ["Mg 0 0 0", "O 0.5 0.5 0.5"]


def cif(sites: Sequence[str], cell: Sequence[float] = CUBIC, lines: Sequence[str] = ()) -> list[str]:
    """Lines of a CIF with these sites, ``"Mg 0 0 0"``, and further lines before them."""
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    text = ["data_x", *lines, *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)), "loop_"]
    columns = [f"_atom_site_{name}" for name in ("label", "type_symbol", "fract_x", "fract_y", "fract_z")]
    rows = [f"{site.split()[0]}{i} {site}" for i, site in enumerate(sites, 1)]
    return [line + "\n" for line in [*text, *columns, *rows]]


def read(lines: Sequence[str]) -> tuple[Structure, tuple[str, ...]]:
    """The structure and the warnings."""
    return read_block(lines, pymatgen=True)


def counts(lines: Sequence[str]) -> dict[str, int]:
    """Atoms by element."""
    return dict(Counter(site.specie.symbol for site in read(lines)[0]))


def symmetry_of(hall: int) -> Operations:
    """Operations of spglib."""
    found = spglib.get_symmetry_from_database(hall)
    rotations = found["rotations"].astype(np.int64)
    translations = np.rint(found["translations"] * UNIT).astype(np.int64) % UNIT
    return Operations(rotations, translations, np.ones(len(rotations), dtype=np.int64))


def cell_of(operations: Operations) -> tuple[np.ndarray, list[float]]:
    """A cell that has the symmetry and, by chance, no more: its matrix and its parameters."""
    root = np.array([[4.1, 0.2, 0.3], [0.1, 5.3, 0.4], [0.3, 0.2, 6.7]])
    rotations = operations.rotations
    metric = np.einsum("mki,kl,mlj->ij", rotations, root @ root.T, rotations) / len(rotations)
    lengths = np.sqrt(np.diag(metric))
    cosines = metric / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    return np.linalg.cholesky(metric), [*lengths.tolist(), *angles.tolist()]


@pytest.mark.parametrize("first", range(1, 531, 53))
def test_every_setting_is_found_by_hall_symbol_and_by_hermann_mauguin_symbol(first: int) -> None:
    for hall in range(first, first + 53):
        kind, expected = spglib.get_spacegroup_type(hall), symmetry_of(hall)
        cell, _ = cell_of(expected)
        quote = '"' if "'" in kind.hall_symbol else "'"
        of_hall = parse_block([f"_space_group_name_Hall {quote}{kind.hall_symbol}{quote}"])
        (found,) = read_symmetry(of_hall, cell).candidates
        assert found[1].keys() == expected.keys(), kind.hall_symbol
        names = [kind.international_full, kind.international_full.replace("_", ""), kind.international.split(" = ")[0]]
        names = [f"{name} :{kind.choice}" if kind.choice else name for name in names[: 2 if kind.number < 16 else 3]]
        for name in [*names, names[0].replace(" ", ""), names[0].upper()]:
            block = parse_block([f'_symmetry_space_group_name_H-M "{name}"'])
            found = read_symmetry(block, cell).candidates
            assert expected.keys() in [group.keys() for _, group in found], name
            numbers = {setting.number for setting in settings_of_symbol(name)}
            assert numbers == {kind.number}, name
            if kind.choice in ("1", "2", "H", "R"):
                assert len(found) == 1, name


def test_every_number_means_the_standard_setting_first() -> None:
    for number in range(1, 231):
        standard = next(setting for setting in settings() if setting.number == number)
        cell, _ = cell_of(symmetry_of(standard.hall))
        block = parse_block([f"_symmetry_Int_Tables_number {number}"])
        assert read_symmetry(block, cell).candidates[0][1].keys() == standard.operations.keys(), number


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("F m 3 m", 225),
        ("FM-3M", 225),
        ("F 4/m -3 2/m", 225),
        ("F 4/m 3 2/m", 225),
        ("F d 3 m S", 227),
        ("Fd-3mZ", 227),
        ("P m 3 n", 223),
        ("R -3 m H", 166),
        ("R-3mH", 166),
        ("R 3 c R", 161),
        ("P2(1)/c", 14),
        ("P 21/c", 14),
        ("P 1 21/c 1", 14),
        ("P_21_21_21", 19),
        ("P2_12_12_1", 19),
        ("P b n m", 62),
        ("A b m 2", 39),
        ("A e m 2", 39),
        ("C m c a", 64),
        ("C m c e", 64),
        ("C c c a :2", 68),
        ("I 41/a m d Z", 141),
        ("P 4/n m m (origin choice 2)", 129),
        ("P 63/m m c", 194),
        ("B 2/b", 15),
        ("225", 225),
    ],
)
def test_symbols_are_understood_as_databases_write_them(name: str, expected: int) -> None:
    assert {setting.number for setting in settings_of_symbol(name)} == {expected}


def test_hall_symbol_with_change_of_basis_is_the_shifted_group() -> None:
    moved = hall_operations("P 4 2 3 -1n (3 3 3)")
    assert moved is not None and moved.keys() == symmetry_of(519).keys()  # P n -3 n, second origin
    assert hall_operations("P 4 2 3 -1n (x+1/4,y+1/4,z+1/4)").keys() == moved.keys()  # type: ignore[union-attr]
    assert hall_operations("-F 4 7 3") is None and hall_operations("unknown") is None


@pytest.mark.parametrize(
    ("line", "sites", "cell", "expected"),
    [
        ("_space_group_name_Hall '-F 4 2 3'", ROCKSALT, CUBIC, {"Mg": 4, "O": 4}),
        (
            "_symmetry_space_group_name_H-M 'F d -3 m :2'",
            ["Mg 0.125 0.125 0.125", "Al 0.5 0.5 0.5", "O 0.2624 0.2624 0.2624"],
            (8.083, 8.083, 8.083, 90, 90, 90),
            {"Mg": 8, "Al": 16, "O": 32},
        ),
        (
            "_symmetry_space_group_name_H-M 'R -3 m H'",
            ["Li 0 0 0", "Co 0 0 0.5", "O 0 0 0.23968"],
            HEXAGONAL,
            {"Li": 3, "Co": 3, "O": 6},
        ),
        (
            "_symmetry_space_group_name_H-M 'R -3 m'",
            ["Li 0 0 0", "Co 0.5 0.5 0.5", "O 0.23968 0.23968 0.23968"],
            (4.958, 4.958, 4.958, 32.99, 32.99, 32.99),
            {"Li": 1, "Co": 1, "O": 2},
        ),
        (
            "_symmetry_space_group_name_H-M 'P b n m'",
            ["Ca -0.00676 0.03602 0.25", "Ti 0 0.5 0", "O 0.0714 0.4838 0.25", "O 0.7108 0.2888 0.0371"],
            (5.38, 5.442, 7.64, 90, 90, 90),
            {"Ca": 4, "Ti": 4, "O": 12},
        ),
        ("_space_group_IT_number 225", ROCKSALT, CUBIC, {"Mg": 4, "O": 4}),
        ("_symmetry_space_group_name_H-M 'P 1'", ROCKSALT, CUBIC, {"Mg": 1, "O": 1}),
    ],
)
def test_group_that_is_named_makes_all_atoms(
    line: str, sites: list[str], cell: tuple[float, ...], expected: dict[str, int]
) -> None:
    structure, warnings = read(cif(sites, cell, [line]))
    assert dict(Counter(site.specie.symbol for site in structure)) == expected
    assert warnings == ()


@pytest.mark.parametrize(
    ("lines", "cell", "words"),
    [
        (["_symmetry_space_group_name_H-M 'F x y z'"], CUBIC, "space group 'F x y z' is not understood"),
        (["_space_group_name_Hall 'F 9'"], CUBIC, "space group 'F 9' is not understood"),
        (["_symmetry_space_group_name_H-M 'F m -3 m'"], HEXAGONAL, "F m -3 m does not fit the cell (a = 2.816"),
        (["_symmetry_space_group_name_H-M 'R -3 m :R'"], HEXAGONAL, "R -3 m :R does not fit the cell"),
        (["_symmetry_equiv_pos_as_xyz 'x,y'"], CUBIC, "'x,y' is not a symmetry operation"),
        (["_symmetry_equiv_pos_as_xyz 'x,x,z'"], CUBIC, "'x,x,z' is not a symmetry operation"),
        (
            ["_space_group_name_Hall '-F 4 2 3'", "_space_group_name_H-M_alt 'P m -3 m'"],
            CUBIC,
            "different space groups",
        ),
        (["_space_group_magn.number_BNS 62.448"], CUBIC, "magnetic group '62.448' comes without operations"),
    ],
)
def test_symmetry_that_is_not_understood_is_refused_by_name(
    lines: list[str], cell: tuple[float, ...], words: str
) -> None:
    with pytest.raises(StructureError) as refused:
        read(cif(ROCKSALT, cell, lines))
    assert words in str(refused.value)


def test_formula_decides_between_origins() -> None:
    sites = ["Mg 0.125 0.125 0.125", "Al 0.5 0.5 0.5", "O 0.2624 0.2624 0.2624"]
    lines = ["_symmetry_space_group_name_H-M 'F d -3 m'", "_chemical_formula_sum 'Al2 Mg O4'"]
    structure, warnings = read(cif(sites, (8.083, 8.083, 8.083, 90, 90, 90), lines))
    assert structure.composition.reduced_formula == "MgAl2O4" and warnings == ()


def test_origin_that_nothing_decides_is_named() -> None:
    lines = ["_symmetry_space_group_name_H-M 'F d -3 m'"]
    structure, (warning,) = read(cif(["Si 0 0 0"], (5.43, 5.43, 5.43, 90, 90, 90), lines))
    assert len(structure) == 8
    assert "no origin choice" in warning and "F d -3 m :1 is taken" in warning


def test_unique_axis_follows_from_the_angles() -> None:
    for angles in ((90, 104, 90), (90, 90, 104), (104, 90, 90)):
        structure, _ = read(cif(["Na 0.1 0.2 0.3"], (5, 6, 7, *angles), ["_symmetry_space_group_name_H-M 'P 2'"]))
        first, second = structure.frac_coords
        (axis,) = np.flatnonzero(np.abs(first - second) < 1e-9)
        assert axis == int(np.flatnonzero(np.array(angles) != 90)[0])


def test_name_that_is_not_understood_gives_way_to_one_that_is() -> None:
    for lines, words in (
        (["_space_group_name_Hall 'bogus'", "_space_group_name_H-M_alt 'F m -3 m'"], "Hall symbol 'bogus'"),
        (["_space_group_name_H-M_alt 'F m x'", "_space_group_IT_number 225"], "'F m x' is not understood"),
    ):
        structure, (warning,) = read(cif(ROCKSALT, CUBIC, lines))
        assert len(structure) == 8 and words in warning and "F m -3 m" in warning


def test_operations_come_before_the_name() -> None:
    lines = ["_symmetry_space_group_name_H-M 'F m -3 m'", "_symmetry_equiv_pos_as_xyz x,y,z"]
    structure, (warning,) = read(cif(ROCKSALT, CUBIC, lines))
    assert len(structure) == 2 and "not those of F m -3 m" in warning


@pytest.mark.parametrize(
    "rows",
    [
        ["x,y,z", "-x,-y,-z"],
        ["'x, y, z'", '"-X, -Y, -Z"'],
        ["x, y, z", "-x, -y, -z"],
        ["+x,+y,+z", "0-x,-y,1-z"],
    ],
)
@pytest.mark.parametrize("key", ["_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz"])
def test_operations_are_read_in_every_spelling(rows: list[str], key: str) -> None:
    assert counts(cif(["Mg 0.1 0.2 0.3"], CUBIC, ["loop_", key, *rows])) == {"Mg": 2}
    numbered = [f"{i} {row}" for i, row in enumerate(rows, 1)]
    ids = key.rsplit("_", 2)[0] + "_id"
    assert counts(cif(["Mg 0.1 0.2 0.3"], CUBIC, ["loop_", ids, key, *numbered])) == {"Mg": 2}


def test_part_of_a_group_is_completed_with_a_warning() -> None:
    lines = ["loop_", "_symmetry_equiv_pos_as_xyz", "x,y,z", "-y,x,z+0.25"]
    structure, (warning,) = read(cif(["Mg 0.1 0.2 0.3"], CUBIC, lines))
    assert len(structure) == 4 and "not the whole of a group" in warning


def test_thirds_in_operations_are_exact() -> None:
    group, whole = parse_operations(("x,y,z", "x+0.333,y+0.667,z+.6667", "2/3+x,1/3+y,1/3+z"))
    assert whole and len(group) == 3


def test_operations_without_end_are_refused() -> None:
    with pytest.raises(StructureError, match=r"generate more than \d+ of them"):
        parse_operations(("x,y,z", "x+y,y,z", "x,y,z+0.12345"))


def test_cell_in_every_setting_fits_its_group_only() -> None:
    cell, _ = cell_of(symmetry_of(1))
    assert metric_misfit(symmetry_of(1), cell) < 1e-9 < 0.02 < metric_misfit(symmetry_of(523), cell)


def test_magnetic_cell_has_the_atoms_and_moments_of_all_operations() -> None:
    # antiferromagnet of type IV: the centring turns the moments round; a glide keeps those along c
    lines = [
        *("loop_", "_space_group_symop_magn_operation.id", "_space_group_symop_magn_operation.xyz"),
        *("1 x,y,z,+1", "2 -x,-y,z,+1"),
        *("loop_", "_space_group_symop_magn_centering.id", "_space_group_symop_magn_centering.xyz"),
        *("1 x,y,z,+1", "2 x+1/2,y+1/2,z+1/2,-1"),
        *("loop_", "_atom_site_moment.label"),
        *(f"_atom_site_moment.crystalaxis_{x}" for x in "xyz"),
        "Mn1 0 0 4.5(1)",
    ]
    structure, warnings = read(cif(["Mn 0 0 0", "F 0.3 0.3 0"], (4.9, 4.9, 3.3, 90, 90, 90), lines))
    assert structure.composition.formula == "Mn2 F4" and warnings == ()
    moments = [site.properties["magmom"] for site in structure if site.specie.symbol == "Mn"]
    assert np.allclose(sorted(moments), [[0, 0, -4.5], [0, 0, 4.5]])
    assert all(site.properties["magmom"] == [0, 0, 0] for site in structure if site.specie.symbol == "F")
