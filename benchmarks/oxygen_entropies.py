"""At which temperature oxides lose oxygen in air, from measured enthalpies, by four entropies of the solids; and what
energies of a model and entropies by volume are off by in these reactions.

    python benchmarks/oxygen_entropies.py
    python benchmarks/oxygen_entropies.py --model dpa4-neo

Prints the tables of docs/stability.md, and the two errors of `dpa4_flows/analysis/oxygen.py`. Enthalpies (kJ/mol), entropies (J/K/mol) and volumes (cm³/mol) at 298 K are
textbook values (NIST-JANAF; CRC Handbook of Chemistry and Physics), as are the temperatures that were measured.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import G_ELEMS, GibbsComputedStructureEntry
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from dpa4_flows.analysis.oxygen import AIR
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.makers.corrections import bundled_compounds
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull import Hull
from dpa4_flows.reference.bundled_phases import compounds
from dpa4_flows.reference.library import load_phases
from dpa4_flows.bundled import bundled_campaigns

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


def structures() -> dict[str, Structure]:
    """Forms of the solids by name, formula first; CrO2 and Mn2O3 as rutile VO2 and bixbyite In2O3."""
    systems = {"-".join(sorted(Composition(formula).get_el_amt_dict())) for formula in (*SOLIDS, "In2O3")}
    competing = load_phases([bundled_campaigns()["battery"] / "structures" / "competing.json"])
    known = [*compounds(systems), *bundled_compounds(), *competing]
    forms = {f"{one.structure.composition.reduced_formula} {i}": one.structure for i, one in enumerate(known)}
    for formula, model in (("CrO2", "VO2"), ("Mn2O3", "In2O3")):
        made = next(one.copy() for name, one in forms.items() if name.split()[0] == model)
        made.replace_species({model[:-2].rstrip("2"): formula[:2]})
        forms[f"{formula} made"] = made
    reduced = {Composition(formula).reduced_formula for formula in SOLIDS}
    return {name: one for name, one in forms.items() if name.split()[0] in reduced}


def enthalpies(model: ModelRef, scheme: str) -> dict[str, float]:
    """kJ/mol of formation of the lowest form of each solid by a model, at 0 K."""
    crystals = tuple(Crystal(one, name) for name, one in structures().items())
    ((_, found),) = compute([("", Ask(Hull(corrections=scheme, prototypes=False), Crystals(crystals)))], model)
    per_atom: dict[str, float] = {}
    for crystal, one in zip(crystals, found.documents, strict=True):
        if one is not None:
            name = crystal.name.split()[0]
            per_atom[name] = min(one.formation_energy_per_atom, per_atom.get(name, math.inf))
    return {f: KJ * Composition(f).num_atoms * per_atom[Composition(f).reduced_formula] for f in SOLIDS}


def errors(model: ModelRef) -> None:
    """Energies of the reactions by a model, and what they and entropies by volume are off by, eV and J/K per O2."""
    schemes = {scheme: enthalpies(model, scheme) for scheme in ("MP2020", "OMat24")}
    print(f"{'':16s}{'atoms':>8s}{'measured':>10s}" + "".join(f"{name:>10s}" for name in schemes) + f"{'entropy off':>14s}")
    off: dict[str, list[float]] = {name: [] for name in (*schemes, "entropy")}
    for oxide, amount, left, left_amount, _ in REACTIONS:

        def change(values: Mapping[str, float]) -> float:
            return (left_amount * values[left] - amount * values[oxide]) / KJ  # noqa: B023 - called at once

        n_atoms = amount * Composition(oxide).num_atoms
        measured_energy = change({name: one.enthalpy for name, one in SOLIDS.items()})
        entropy = 1000 * KJ * change({name: one.entropy / 1000 - by_volume(name, -1.0) for name, one in SOLIDS.items()})
        off["entropy"].append(entropy)
        found = {name: change(values) for name, values in schemes.items()}
        for name, energy in found.items():
            off[name].append((energy - measured_energy) / n_atoms)
        row = f"{n_atoms:8.0f}{measured_energy:10.2f}" + "".join(f"{energy:10.2f}" for energy in found.values())
        print(f"{oxide:6s}→ {left:8s}{row}{entropy:14.0f}")
    for name, values in off.items():
        unit, scale = ("J/K per O2", 1.0) if name == "entropy" else ("meV per atom of the oxide", 1000.0)
        print(f"{name}: root mean square {scale * float(np.sqrt(np.mean(np.square(values)))):.0f} {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="whose energies are compared; without it entropies alone")
    if (model := parser.parse_args().model) is not None:
        errors(ModelRef(model))
        return
    ways = (nothing, by_volume, descriptor, measured)
    print(f"{'':16s}{'measured':>12s}" + "".join(f"{way.__name__:>12s}" for way in ways))
    for *reaction, kelvin in REACTIONS:
        oxide, amount, left, left_amount = reaction
        found = [release(str(oxide), int(amount), str(left), int(left_amount), way) for way in ways]
        print(f"{oxide!s:6s}→ {left!s:8s}{kelvin:12.0f}" + "".join(f"{one:12.0f}" for one in found))


if __name__ == "__main__":
    main()
