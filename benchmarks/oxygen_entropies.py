"""At which temperature oxides lose oxygen in air, from measured enthalpies, by four entropies of the solids; and what
energies of a model and entropies by volume are off by in these reactions.

    python benchmarks/oxygen_entropies.py
    python benchmarks/oxygen_entropies.py --model dpa4-neo

Prints the tables of docs/stability.md, the second one from relaxations that come with the program. Enthalpies
(kJ/mol), entropies (J/K/mol) and volumes (cm³/mol) at 298 K are
textbook values (NIST-JANAF; CRC Handbook of Chemistry and Physics), as are the temperatures that were measured.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

from pymatgen.core import Composition
from pymatgen.entries.computed_entries import G_ELEMS, GibbsComputedStructureEntry
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from dpa4_flows.analysis.oxygen import AIR
from dpa4_flows.compute.relaxed import PUSHED
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.reference.bundled_phases import BundledPhases, bundled_relaxations
from dpa4_flows.reference.entries import document_entry

KJ = 96.485  # eV, kJ/mol
R = 8.314e-3  # kJ/K/mol
HIGHEST = 2000.0  # K


class Solid(NamedTuple):
    enthalpy: float
    entropy: float
    volume: float


SOLIDS = {
    "MnO2": Solid(-520.0, 53.1, 17.3),
    "Mn2O3": Solid(-959.0, 110.5, 31.4),
    "Mn3O4": Solid(-1387.8, 155.6, 47.2),
    "CoO": Solid(-237.9, 53.0, 11.64),
    "Co3O4": Solid(-910.0, 114.3, 39.8),
    "CuO": Solid(-156.1, 42.6, 12.6),
    "Cu2O": Solid(-170.7, 92.4, 23.4),
    "BaO2": Solid(-634.3, 93.1, 34.0),
    "BaO": Solid(-548.1, 72.1, 25.6),
    "Na2O2": Solid(-513.2, 94.8, 27.8),
    "Na2O": Solid(-418.0, 75.0, 27.3),
    "CrO2": Solid(-598.0, 51.0, 17.2),
    "Cr2O3": Solid(-1139.7, 81.2, 29.1),
    "Li2O2": Solid(-632.6, 56.5, 19.9),
    "Li2O": Solid(-597.9, 37.6, 14.8),
    "Fe2O3": Solid(-824.2, 87.4, 30.3),
    "Fe3O4": Solid(-1118.4, 146.4, 44.5),
}
REACTIONS = (  # oxide and its amount, what is left and its amount, for one O2; K measured in air
    ("MnO2", 4, "Mn2O3", 2, 800),
    ("Mn2O3", 6, "Mn3O4", 4, 1200),
    ("Co3O4", 2, "CoO", 6, 1200),
    ("CuO", 4, "Cu2O", 2, 1300),
    ("BaO2", 2, "BaO", 2, 1000),
    ("Na2O2", 2, "Na2O", 2, 940),
    ("CrO2", 4, "Cr2O3", 2, 670),
    ("Li2O2", 2, "Li2O", 2, 610),
    ("Fe2O3", 6, "Fe3O4", 4, 1660),
)


def nothing(formula: str, kelvin: float) -> float:
    return 0.0


def by_volume(formula: str, kelvin: float) -> float:
    return -kelvin * (1.360 * SOLIDS[formula].volume / 0.60221 + 15.0) / 1000


def descriptor(formula: str, kelvin: float) -> float:
    amounts = Composition(formula)
    (_, first), (_, second) = amounts.get_el_amt_dict().items()
    masses = [float(element.atomic_mass) for element in amounts.elements]
    volume = SOLIDS[formula].volume / 0.60221 / (first + second)
    reduced = masses[0] * masses[1] / sum(masses)
    per_atom = GibbsComputedStructureEntry._g_delta_sisso(volume, reduced, kelvin)
    return KJ * (first + second) * float(per_atom)


def measured(formula: str, kelvin: float) -> float:
    n_atoms = Composition(formula).num_atoms
    capacity = 0.95 * 3 * 8.314 * n_atoms  # J/K/mol, Dulong and Petit
    return (-kelvin * SOLIDS[formula].entropy + capacity * (kelvin - 298 - kelvin * math.log(kelvin / 298))) / 1000


def release(oxide: str, amount: int, left: str, left_amount: int, solid: Callable[[str, float], float]) -> float:
    """K, within 300 to 2000; infinite beyond."""
    table = sorted((float(kelvin), float(row["O"])) for kelvin, row in G_ELEMS.items())
    gas = CubicSpline(*zip(*table, strict=True))

    def change(kelvin: float) -> float:
        free = {name: SOLIDS[name].enthalpy + solid(name, kelvin) for name in (oxide, left)}
        oxygen = 2 * KJ * float(gas(kelvin)) + R * kelvin * math.log(AIR)
        return left_amount * free[left] - amount * free[oxide] + oxygen

    return float(brentq(change, 300, HIGHEST)) if change(HIGHEST) < 0 else math.inf


def lowest(model: str, scheme: str) -> dict[str, float]:
    """Corrected energy of the lowest bundled form of each solid, and of oxygen, by a model, eV per formula unit."""
    maker = BatchRelaxMaker(property=PUSHED, model=model)
    systems = {"-".join(sorted(Composition(formula).get_el_amt_dict())) for formula in SOLIDS}
    phases = [phase for system in systems for phase in BundledPhases().phases(system)]
    known = bundled_relaxations(maker.model.resolve().sha256 or "", [maker.key(one.structure) for one in phases])
    found: dict[str, float] = {}
    for key, document in known.items():
        if (entry := document_entry(document, scheme, key).entry) is None:
            continue
        name, units = entry.composition.get_reduced_formula_and_factor()
        found[name] = min(entry.energy / units, found.get(name, math.inf))
    return found


def errors(model: str) -> None:
    """Energies of the reactions by a model, and what they and entropies by volume are off by, eV and J/K per O2."""
    schemes = {scheme: lowest(model, scheme) for scheme in ("MP2020", "OMat24")}
    print(
        f"{'':16s}{'atoms':>8s}{'measured':>10s}" + "".join(f"{one:>10s}" for one in schemes) + f"{'S by volume':>14s}"
    )
    for oxide, amount, left, left_amount, _ in REACTIONS:
        n_atoms = amount * Composition(oxide).num_atoms
        measured_energy = (left_amount * SOLIDS[left].enthalpy - amount * SOLIDS[oxide].enthalpy) / KJ
        missed = [SOLIDS[name].entropy + 1000 * by_volume(name, 1.0) for name in (left, oxide)]
        row = f"{n_atoms:8.0f}{measured_energy:10.2f}"
        for energies in schemes.values():
            before, after = (energies.get(Composition(name).reduced_formula) for name in (oxide, left))
            known = before is not None and after is not None
            row += f"{left_amount * after - amount * before + energies['O2']:10.2f}" if known else f"{'':>10s}"
        print(f"{oxide:6s}→ {left:8s}{row}{amount * missed[1] - left_amount * missed[0]:14.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="whose energies are compared; without it entropies alone")
    if (model := parser.parse_args().model) is not None:
        errors(model)
        return
    ways = (nothing, by_volume, descriptor, measured)
    print(f"{'':16s}{'measured':>12s}" + "".join(f"{way.__name__:>12s}" for way in ways))
    for *reaction, kelvin in REACTIONS:
        oxide, amount, left, left_amount = reaction
        found = [release(str(oxide), int(amount), str(left), int(left_amount), way) for way in ways]
        print(f"{oxide!s:6s}→ {left!s:8s}{kelvin:12.0f}" + "".join(f"{one:12.0f}" for one in found))


if __name__ == "__main__":
    main()
