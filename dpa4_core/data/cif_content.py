"""What a CIF says of its own content, against the atoms that were read from it.

Atoms that the file itself counts and that are not there make another compound, so that the file is refused. What is
merely odd is a warning.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from dpa4_core.data.cif_orbits import Atoms
from dpa4_core.data.cif_sites import Site, listed
from dpa4_core.data.cif_species import parse_formula
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.star import Block, number
from dpa4_core.data.system import StructureError

_VOLUME_TOLERANCE = 0.01
_DENSITY_TOLERANCE = 0.03
_GRAMS_PER_CM3 = 1.66053907  # of one dalton per Å³
_SUM, _Z = "_chemical_formula_sum", "_cell_formula_units_z"


@dataclass
class Verdict:
    """What does not add up, one sentence each.

    Attributes:
        refusals: atoms are missing or too many.
        warnings: numbers that differ while the composition is right.
        odd: how many statements of the file the atoms contradict; decides between settings.
    """

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    odd: int = 0

    @property
    def contradictions(self) -> int:
        """Refusals count more than anything else."""
        return self.odd + 100 * len(self.refusals)


def judge(block: Block, sites: Sequence[Site], atoms: Atoms, cell: NDArray[np.float64]) -> Verdict:
    """The atoms of a cell [3, 3] against formula, hydrogen counts, volume, density and multiplicities of the file."""
    verdict = Verdict()
    counts: dict[str, float] = defaultdict(float)
    for site, size in zip(sites, atoms.sizes, strict=True):
        counts[site.element] += int(size) * site.occupancy
    formula = parse_formula(block.text(_SUM))
    units = number(block.text(_Z) or "")
    if formula is not None:
        _judge_formula(verdict, counts, formula, units)
    _judge_hydrogen(verdict, sites, counts, formula is not None)
    _judge_size(verdict, block, counts, cell)
    given = [(site.multiplicity, size) for site, size in zip(sites, atoms.sizes, strict=True) if site.multiplicity]
    verdict.odd += any(multiplicity != size for multiplicity, size in given)
    if atoms.sharing:  # shares are refined, and formulas of such crystals idealised
        verdict.warnings, verdict.refusals = [*verdict.refusals, *verdict.warnings], []
    return verdict


def has_statements(block: Block, sites: Sequence[Site]) -> bool:
    """Whether the file says anything of its content by which settings could be told apart."""
    density = number(block.text("_exptl_crystal_density_diffrn") or "")
    return bool(parse_formula(block.text(_SUM)) or density or any(site.multiplicity for site in sites))


def _light(counts: Mapping[str, float]) -> dict[str, float]:
    """Isotopes of hydrogen as hydrogen: formulas are written either way."""
    merged: dict[str, float] = {}
    for symbol, count in counts.items():
        symbol = "H" if symbol in ISOTOPE_MASSES else symbol
        merged[symbol] = merged.get(symbol, 0.0) + count
    return merged


def _judge_formula(
    verdict: Verdict, counts: Mapping[str, float], formula: Mapping[str, float], units: float | None
) -> None:
    found, told = _light(counts), _light(formula)
    shown = _formula(formula)
    missing = [symbol for symbol in told if symbol not in found]
    extra = [symbol for symbol in found if symbol not in told]
    if missing:
        verdict.refusals.append(
            f"{_names(missing)} {'is' if len(missing) == 1 else 'are'} in _chemical_formula_sum ({shown}) and missing "
            f"among the atom sites ({_formula(_reduced(found))}); add the missing atoms, or remove the formula to "
            "compute what is listed"
        )
        return
    if extra:
        verdict.refusals.append(
            f"{_names(extra)} {'is' if len(extra) == 1 else 'are'} among the atom sites ({_formula(_reduced(found))}) "
            f"and not in _chemical_formula_sum ({shown}); correct the sites or the formula"
        )
        return
    multiple = sum(found.values()) / sum(told.values())
    whole = all(count.is_integer() for count in told.values())
    if any(abs(found[s] - multiple * told[s]) > (1e-6 if whole else 0.01) * found[s] for s in told):
        verdict.refusals.append(
            f"the atom sites give {_formula(_reduced(found))}, and _chemical_formula_sum says {shown}; correct the "
            "sites, the symmetry or the formula"
        )
        return
    reduced = multiple * sum(told.values()) / sum(_reduced(told).values()) if whole else multiple
    of_cell = multiple == 1 and units and all((count / units).is_integer() for count in told.values())
    if units and not of_cell and not any(math.isclose(units, k, rel_tol=0.01) for k in (multiple, reduced)):
        verdict.odd += 1
        verdict.warnings.append(
            f"the cell holds {multiple:g} formula units of {shown}, and _cell_formula_units_Z says {units:g}; check "
            "symmetry and sites"
        )
    elif whole and abs(multiple - round(multiple)) > 1e-6:
        verdict.odd += 1
        verdict.warnings.append(f"the cell holds {multiple:.3g} formula units of {shown}, not a whole number of them")


def _judge_hydrogen(verdict: Verdict, sites: Sequence[Site], counts: Mapping[str, float], has_formula: bool) -> None:
    if has_formula:  # judged by the formula
        return
    remedy = "add the hydrogen atoms, or remove that statement to compute what is listed"
    if attached := [site.label for site in sites if site.attached > 0]:
        total = sum(site.attached for site in sites)
        verdict.refusals.append(
            f"_atom_site_attached_hydrogens says that {total:g} hydrogen atoms at {listed(attached)} are missing among "
            f"the atom sites; {remedy}"
        )
    has_hydrogen = "H" in _light(counts)
    groups = [site for site in sites if site.reading.group]
    if incomplete := [s for s in groups if not (has_hydrogen and s.element == "O")]:
        names = [s.label if s.reading.group == s.label else f"{s.label} ({s.reading.group})" for s in incomplete]
        verdict.refusals.append(
            f"the site {listed(names)} stands for a group of atoms, such as water, whose other atoms (hydrogen) are "
            "missing among the atom sites; add them, or name the element of the site to compute what is listed"
        )
    if not has_hydrogen and (hydroxide := [site.label for site in sites if site.reading.hydroxide]):
        verdict.warnings.append(
            f"the label {listed(hydroxide)} is read as oxygen and suggests hydrogen, which is missing among the sites"
        )


def _judge_size(verdict: Verdict, block: Block, counts: Mapping[str, float], cell: NDArray[np.float64]) -> None:
    volume = abs(float(np.linalg.det(cell)))
    told = number(block.text("_cell_volume") or "")
    if told and abs(told / volume - 1) > _VOLUME_TOLERANCE:
        verdict.warnings.append(
            f"lengths and angles of the cell give {volume:.5g} Å³, and _cell_volume says {told:.5g}; check the cell"
        )
    density = number(block.text("_exptl_crystal_density_diffrn") or "")
    mass = sum(count * mass_of(symbol) for symbol, count in counts.items())
    if density and abs(mass * _GRAMS_PER_CM3 / volume / density - 1) > _DENSITY_TOLERANCE:
        verdict.odd += 1
        verdict.warnings.append(
            f"the atoms have a density of {mass * _GRAMS_PER_CM3 / volume:.3g} g/cm³, and "
            f"_exptl_crystal_density_diffrn says {density:.3g}; check symmetry and sites"
        )


def mass_of(element: str) -> float:
    """Atomic mass in u, also of D and T."""
    return ISOTOPE_MASSES[element] if element in ISOTOPE_MASSES else float(atomic_masses[atomic_numbers[element]])


def _reduced(counts: Mapping[str, float]) -> dict[str, float]:
    if not all(float(count).is_integer() for count in counts.values()):
        return dict(counts)
    divisor = reduce(math.gcd, (int(count) for count in counts.values()))
    return {symbol: count / divisor for symbol, count in counts.items()}


def _formula(counts: Mapping[str, float]) -> str:
    return " ".join(f"{symbol}{'' if count == 1 else f'{count:g}'}" for symbol, count in sorted(counts.items()))


def _names(symbols: Sequence[str]) -> str:
    """Elements in words; hydrogen, the usual one, by its name."""
    return ", ".join("hydrogen" if symbol == "H" else symbol for symbol in symbols)


def refuse(verdict: Verdict) -> None:
    """Raise what makes the structure another compound.

    Raises:
        StructureError: the first refusal.
    """
    if verdict.refusals:
        raise StructureError(verdict.refusals[0])
