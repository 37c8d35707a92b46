"""At which temperature oxides lose oxygen in air by three entropies of the solids; and what energies of a model and
entropies by volume are off by in measured reactions.

    python benchmarks/oxygen_entropies.py
    python benchmarks/oxygen_entropies.py --energies MP2020 --energies OMat24

Prints the tables of docs/stability.md from relaxations by DPA4-Neo that come with the program. Measured are

* enthalpies of formation: the table of pymatgen (A. Wang et al., Sci. Rep. 11, 15496 (2021));
* entropies at 298 K, and the temperatures at which free energies of oxide, product and 0.21 bar of O2 are in
  equilibrium: M. W. Chase, NIST-JANAF Thermochemical Tables (1998), of manganese R. A. Robie, B. S. Hemingway, U.S.
  Geological Survey Bulletin 2131 (1995); of BaO2 the equilibrium itself, at 0.2 bar (A. F. Mayorova et al., Thermochim.
  Acta 217, 241 (1993)).

Volumes of manganese and cobalt are measured as well (Robie), of copper and iron, too (H. C. Helgeson et al., Am. J.
Sci. 278-A (1978)); the others are those of the relaxed phases.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from pymatgen.core import Composition, Element
from pymatgen.entries.computed_entries import G_ELEMS, GibbsComputedStructureEntry
from scipy.constants import Avogadro, electron_volt
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from dpa4_flows.analysis.correction_fit import experimental_formation_energies as measurements
from dpa4_flows.analysis.frames import U_VALUES
from dpa4_flows.analysis.oxygen import AIR, BOUND_TOO_STRONGLY
from dpa4_flows.compute.relaxed import PUSHED
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.reference.bundled_phases import BundledPhases, bundled_relaxations
from dpa4_flows.reference.entries import document_entry

KJ = Avogadro * electron_volt / 1000  # eV, kJ/mol
R = 8.314e-3  # kJ/K/mol
HIGHEST = 2000.0  # K
DEAREST = 6.0  # eV per O2; beyond 4.6 nothing leaves at 2000 K in air
MEASURED_VOLUMES = {  # cm³/mol
    "MnO2": 16.61, "Mn2O3": 31.37, "Mn3O4": 46.95, "Co3O4": 39.77, "CoO": 11.64, "CuO": 12.22, "Cu2O": 23.44,
    "Fe2O3": 30.27, "Fe3O4": 44.52,
}  # fmt: skip
ENTROPIES = {  # J/K/mol
    "MnO2": 52.8, "Mn2O3": 113.7, "Mn3O4": 164.1, "Co3O4": 114.29, "CoO": 52.99, "CuO": 42.59, "Cu2O": 92.36,
    "BaO": 72.07, "Na2O2": 94.80, "Na2O": 75.04, "KO2": 122.50, "K2O2": 112.97, "Li2O2": 56.48, "Li2O": 37.89,
    "Fe2O3": 87.40, "Fe3O4": 145.27,
}  # fmt: skip
REACTIONS = {  # what is left, and K by measured free energies
    "MnO2": ("Mn2O3", 694),
    "Mn2O3": ("Mn3O4", 1137),
    "Co3O4": ("CoO", 1171),
    "CuO": ("Cu2O", 1305),
    "BaO2": ("BaO", 990),
    "Na2O2": ("Na2O", 1142),
    "KO2": ("K2O2", 1017),
    "Li2O2": ("Li2O", 375),
    "Fe2O3": ("Fe3O4", 1657),
}


class Solid(NamedTuple):
    """By a model, per formula unit."""

    energy: float
    volume: float


class Reaction(NamedTuple):
    """Per O2: amounts of both solids, and of atoms of the oxide."""

    oxide: str
    left: str
    before: float
    after: float
    n_atoms: float


def reaction(oxide: str, left: str) -> Reaction:
    metal = next(str(one) for one in Composition(oxide).elements if str(one) != "O")
    high, low = Composition(oxide), Composition(left)
    before = 2 / (high["O"] - low["O"] * high[metal] / low[metal])
    return Reaction(oxide, left, before, before * high[metal] / low[metal], before * high.num_atoms)


def enthalpy(formula: str) -> float:
    """Measured, kJ/mol."""
    composition = Composition(formula)
    if composition.is_element:
        return 0.0
    return KJ * composition.num_atoms * measurements()[composition.reduced_formula].formation_energy


@cache
def relaxed(metal: str, scheme: str) -> dict[str, Solid]:
    """The lowest bundled form of each phase of a metal and oxygen by DPA4-Neo, and of O2."""
    maker = BatchRelaxMaker(property=PUSHED, model="dpa4-neo")
    phases = BundledPhases().phases("-".join(sorted((metal, "O"))))
    known = bundled_relaxations(maker.model.resolve().sha256 or "", [maker.key(one.structure) for one in phases])
    found: dict[str, Solid] = {}
    for key, document in known.items():
        if (entry := document_entry(document, scheme, key).entry) is None:
            continue
        name, units = entry.composition.get_reduced_formula_and_factor()
        one = Solid(entry.energy / units, entry.structure.volume / units)
        found[name] = min(one, found.get(name, one))
    return found


def volume(formula: str) -> float:
    """Å³."""
    if formula in MEASURED_VOLUMES:
        return MEASURED_VOLUMES[formula] / 0.60221
    metal = next(str(one) for one in Composition(formula).elements if str(one) != "O")
    return relaxed(metal, "MP2020")[Composition(formula).reduced_formula].volume


def nothing(formula: str, kelvin: float) -> float:
    return 0.0


def by_volume(formula: str, kelvin: float) -> float:
    return -kelvin * (1.360 * volume(formula) + 15.0) / 1000


def descriptor(formula: str, kelvin: float) -> float:
    amounts = Composition(formula)
    (_, first), (_, second) = amounts.get_el_amt_dict().items()
    masses = [float(element.atomic_mass) for element in amounts.elements]
    reduced = masses[0] * masses[1] / sum(masses)
    per_atom = GibbsComputedStructureEntry._g_delta_sisso(volume(formula) / (first + second), reduced, kelvin)
    return KJ * (first + second) * float(per_atom)


def release(one: Reaction, solid: Callable[[str, float], float]) -> float:
    """K, within 300 to 2000; infinite beyond."""
    table = sorted((float(kelvin), float(row["O"])) for kelvin, row in G_ELEMS.items())
    gas = CubicSpline(*zip(*table, strict=True))

    def change(kelvin: float) -> float:
        before, after = (enthalpy(name) + solid(name, kelvin) for name in (one.oxide, one.left))
        oxygen = 2 * KJ * float(gas(kelvin)) + R * kelvin * math.log(AIR)
        return one.after * after - one.before * before + oxygen

    return float(brentq(change, 300, HIGHEST)) if change(HIGHEST) < 0 else math.inf


def temperatures() -> None:
    ways = (nothing, by_volume, descriptor)
    print(f"{'':16s}{'measured':>12s}" + "".join(f"{way.__name__:>12s}" for way in ways) + f"{'S by volume':>14s}")
    missed = []
    for oxide, (left, kelvin) in REACTIONS.items():
        one = reaction(oxide, left)
        row = "".join(f"{release(one, way):12.0f}" for way in ways)
        if oxide in ENTROPIES:
            off = [ENTROPIES[name] + 1000 * by_volume(name, 1.0) for name in (left, oxide)]
            missed.append(one.before * off[1] - one.after * off[0])
            row += f"{missed[-1]:14.0f}"
        print(f"{oxide:6s}→ {left:8s}{kelvin:12.0f}{row}")
    print(f"entropies by volume: {root_mean_square(missed):.0f} J/K per O2")


def energies(schemes: Sequence[str]) -> None:
    """What it costs an oxide to turn into the next lower one, or the metal, measured and by the model."""
    print(f"{'':18s}{'atoms':>7s}{'measured':>10s}" + "".join(f"{one:>10s}{'off':>8s}" for one in schemes))
    off: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for metal in (Element.from_Z(z) for z in range(3, 93)):
        solids = {scheme: relaxed(metal.symbol, scheme) for scheme in schemes}
        for one in steps(metal.symbol, solids[schemes[0]]):
            measured = (one.after * enthalpy(one.left) - one.before * enthalpy(one.oxide)) / KJ
            if not 0 < measured < DEAREST:
                continue
            row = f"{one.oxide:8s}→ {one.left:8s}{one.n_atoms:7.1f}{measured:10.2f}"
            for scheme, found in solids.items():
                after, before = (found[name].energy for name in (one.left, one.oxide))
                error = one.after * after - one.before * before + found["O2"].energy - measured
                row += f"{error + measured:10.2f}{error:+8.2f}"
                off[kind(metal, one.left), scheme].append((error, error / one.n_atoms))
            print(row)
    for (group, scheme), errors in sorted(off.items()):
        by_gas, by_atom = zip(*errors, strict=True)
        print(
            f"{group:34s}{scheme:8s}{len(errors):3d}: mean {sum(by_gas) / len(by_gas):+.2f}, root mean square "
            f"{root_mean_square(by_gas):.2f} eV per O2, {root_mean_square(by_atom):.3f} eV per atom of the oxide"
        )


def kind(metal: Element, left: str) -> str:
    if metal.symbol in BOUND_TOO_STRONGLY:
        return "late metals without +U"
    if metal.is_lanthanoid or metal.is_actinoid:
        return "f electrons"
    group = "metals with +U" if metal.symbol in U_VALUES else "others"
    return f"{group}, to the {'metal' if Composition(left).is_element else 'lower oxide'}"


def steps(metal: str, found: dict[str, Solid]) -> Iterator[Reaction]:
    """From each oxide whose enthalpy is measured to the one below."""
    known = [name for name in found if name != "O2" and (Composition(name).is_element or name in measurements())]
    known.sort(key=lambda name: Composition(name)["O"] / Composition(name)[metal])
    for low, high in pairwise(known):
        yield reaction(high, low)


def root_mean_square(numbers: Sequence[float]) -> float:
    return math.sqrt(sum(one * one for one in numbers) / len(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energies", action="append", help="corrections whose energies are compared with measurement")
    schemes = parser.parse_args().energies
    if schemes:
        energies(schemes)
    else:
        temperatures()


if __name__ == "__main__":
    main()
