"""CIF and POSCAR of a structure: sites in their order, all digits, isotopes by their symbols."""

from __future__ import annotations

import itertools
import re

import numpy as np
from ase import Atoms, units

from dpa4_core.data.site_data import OXIDATION_STATES, fixed_along_lattice, isotope_symbols


def cif_text(atoms: Atoms, name: str) -> str:
    """One block of a CIF in P1; oxidation states are kept, nothing else beside species and coordinates."""
    states = atoms.arrays.get(OXIDATION_STATES, np.full(len(atoms), np.nan))
    symbols = isotope_symbols(atoms)
    types = [_ion(symbol, state) for symbol, state in zip(symbols, states, strict=True)]
    a, b, c, alpha, beta, gamma = (f"{x:.10f}" for x in atoms.cell.cellpar())
    lines = [
        f"data_{re.sub(r'[^!-~]', '_', name)[:70] or 'structure'}",
        f"_chemical_formula_sum '{_formula(symbols)}'",
        *(f"_cell_length_{axis} {x}" for axis, x in zip("abc", (a, b, c), strict=True)),
        *(f"_cell_angle_{axis} {x}" for axis, x in zip(("alpha", "beta", "gamma"), (alpha, beta, gamma), strict=True)),
        f"_cell_volume {atoms.get_volume():.8f}",
        "_space_group_name_H-M_alt 'P 1'",
        "_space_group_IT_number 1",
        "loop_",
        "_space_group_symop_operation_xyz",
        "'x, y, z'",
    ]
    ions = {kind: state for kind, state in zip(types, states, strict=True) if not np.isnan(state)}
    if ions:
        lines += ["loop_", "_atom_type_symbol", "_atom_type_oxidation_number"]
        lines += [f"{kind} {state:g}" for kind, state in ions.items()]
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"] + ["_atom_site_occupancy"]
    numbers = {symbol: itertools.count(1) for symbol in symbols}
    for symbol, kind, place in zip(symbols, types, atoms.get_scaled_positions(wrap=False), strict=True):
        lines.append(f"{symbol}{next(numbers[symbol])} {kind} " + " ".join(f"{x:.12f}" for x in place) + " 1")
    return "\n".join(lines) + "\n"


def poscar_text(atoms: Atoms, name: str) -> str:
    """A POSCAR; constraints along the lattice vectors and velocities are kept, nothing else beside species and
    coordinates."""
    fixed, _ = fixed_along_lattice(atoms)
    runs = [(symbol, len(list(group))) for symbol, group in itertools.groupby(isotope_symbols(atoms))]
    lines = [" ".join(name.split())[:70] or "structure", "1.0"]
    lines += [" ".join(f"{x:21.16f}" for x in vector) for vector in np.array(atoms.cell)]
    lines += [" ".join(symbol for symbol, _ in runs), " ".join(str(n) for _, n in runs)]
    lines += (["Selective dynamics"] if fixed.any() else []) + ["Direct"]
    for place, mask in zip(atoms.get_scaled_positions(wrap=False), fixed, strict=True):
        flags = "".join(" F" if still else " T" for still in mask) if fixed.any() else ""
        lines.append(" ".join(f"{x:19.16f}" for x in place) + flags)
    if atoms.has("momenta"):
        lines += ["Cartesian"]  # velocities in Å/fs
        lines += [" ".join(f"{x:19.16f}" for x in v) for v in atoms.get_velocities() * (units.fs / units.Angstrom)]
    return "\n".join(lines) + "\n"


def _ion(symbol: str, state: float) -> str:
    if np.isnan(state):
        return symbol
    return f"{symbol}{abs(state):g}{'-' if state < 0 else '+'}"


def _formula(symbols: list[str]) -> str:
    return " ".join(f"{symbol}{symbols.count(symbol)}" for symbol in sorted(set(symbols)))
