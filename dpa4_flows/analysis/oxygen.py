"""At which temperature an oxide gives off oxygen, and what it turns into.

    ΔG(T, p) = ΔE − T ΔS + n [2 g(T) + kT ln(p / 1 bar)] < 0        n of O2

with the corrected energies E and g the measured free energy of oxygen by atom. Solids have entropies by their volume,
1360 J/K/mol/nm³ V + 15 J/K/mol for each formula unit (H. D. B. Jenkins, L. Glasser, Inorg. Chem. 42, 8702 (2003)),
solid elements the measured one at 300 K. Energies of O2 are those of the corrected hull: schemes are fitted to
measured enthalpies of oxides at 298 K, and no molecule of the model comes in (L. Wang, T. Maxisch, G. Ceder, Chem.
Mater. 19, 543 (2007)). At each temperature the hull of all phases tells what is there at equilibrium; a step is where
that changes and O2 leaves. ΔG is off by `hypot(n ENERGY_ERROR, T ENTROPY_ERROR)` for n atoms of the oxide by O2, and
with a metal of `BOUND_TOO_STRONGLY` it may be lower by `TOO_STRONG` besides: that is what the first temperature is
uncertain by. `docs/stability.md` has where the numbers come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise, takewhile
from typing import NamedTuple

from pymatgen.entries.computed_entries import G_ELEMS, ComputedEntry, ComputedStructureEntry
from scipy.interpolate import CubicSpline

from dpa4_core.units import BOLTZMANN_EV_K, FARADAY
from dpa4_flows.analysis.thermodynamics import T_RANGE, check_corrected, whole_hull
from dpa4_flows.analysis.titration import Titration, pure, titrate

AIR = 0.21
"""bar, of O2."""
ENERGY_ERROR = 0.025
"""eV per atom of the oxide, of the energy of a release: root mean square of measured ones in which an oxide of a metal
with +U turns into a lower one (`benchmarks/oxygen_entropies.py --energies MP2020`)."""
BOUND_TOO_STRONGLY = frozenset(("Cu", "Ru", "Rh", "Pd", "Ag", "Re", "Os", "Ir", "Pt", "Au", "Hg"))
"""Late metals that no +U is for: PBE binds their oxygen about right, and the correction of oxides comes on top."""
TOO_STRONG = 1.2
"""eV per O2, root mean square of their releases there; all of them come too late."""
ENTROPY_ERROR = 55.0 / FARADAY
"""eV/K per O2, of the entropies of solids by volume: root mean square there."""
_PER_VOLUME, _PER_UNIT = (s / FARADAY for s in (1.360, 15.0))  # eV/K by Å³, and by formula unit
_GRID = range(int(T_RANGE[0]), int(T_RANGE[1]) + 1, 100)  # K, between which steps are looked for
_SHARP = 1.0  # K, within which a step is located
_NOTHING = 1e-6  # O2 per formula unit
_GASES = ("H", "N", "O", "F", "Cl")


class Release(NamedTuple):
    """Loss of oxygen at one temperature.

    Attributes:
        temperature: K, from which on it is lost; 300 if it is there; None if not at 2000 K.
        released: O2 per formula unit of the oxide that have left then, all steps before counted.
        products: formula units of what is there then, per formula unit of the oxide, O2 left out.
        low, high: of the first one, where it comes if ΔG is off by one standard error: 300 and None as above.
    """

    temperature: float | None
    released: float
    products: Mapping[str, float]
    low: float | None = None
    high: float | None = None


def oxygen_releases(
    oxide: ComputedStructureEntry, others: Sequence[ComputedStructureEntry], pressure: float = AIR
) -> list[Release]:
    """All steps in which an oxide loses oxygen as it is heated, those that are not reached at 2000 K last.

    Args:
        oxide: corrected entry; above the hull it has its energy to give up at the first step, see `titrate`.
        others: corrected entries of what competes, elements included.
        pressure: of O2, bar.

    Raises:
        ThermodynamicsError: an element has no reference.
        FrameError: entries of different frames, or without the corrections they need.
    """
    check_corrected([oxide, *others])
    whole_hull(oxide.composition, [oxide, *others])  # which looks at the frames

    @cache
    def reactions(temperature: float) -> list[Titration]:
        found = [_at(entry, temperature) for entry in (oxide, *others)]
        return titrate(whole_hull(oxide.composition, found), found[0], "O", out=True)

    too_strong = TOO_STRONG if BOUND_TOO_STRONGLY & oxide.composition.get_el_amt_dict().keys() else 0.0

    def lost(errors: float, temperature: float) -> Release:
        """What has left if ΔG were larger by so many standard errors."""
        one_sided = too_strong if errors < 0 else 0.0
        gas = BOLTZMANN_EV_K * temperature * math.log(pressure) / 2  # eV per atom from the gas at 1 bar

        def leaves(one: Titration) -> bool:
            n_atoms = 2 * oxide.composition.reduced_composition.num_atoms / (one.end - one.start)
            error = math.hypot(n_atoms * ENERGY_ERROR, temperature * ENTROPY_ERROR, one_sided)
            return one.potential - errors * error / 2 >= gas

        run = [*takewhile(leaves, reactions(temperature))]
        return Release(temperature, run[-1].end / 2, run[-1].formulas) if run else Release(temperature, 0.0, {})

    def heated(errors: float) -> Iterator[Release]:
        at = partial(lost, errors)
        start, end = at(float(_GRID[0])), at(float(_GRID[-1]))
        if start.released > _NOTHING:
            yield start
        for low, high in pairwise(_GRID):
            yield from _steps(at, at(float(low)), at(float(high)))
        for one in reactions(float(_GRID[-1])):
            if one.end / 2 > end.released + _NOTHING:
                yield Release(None, one.end / 2, one.formulas)

    first, *later = heated(0.0)
    low, high = (next(heated(errors)).temperature for errors in (-1.0, 1.0))
    return [first._replace(low=low, high=high), *later]


def _at(entry: ComputedStructureEntry, temperature: float) -> ComputedEntry:
    """An entry with its free energy from the enthalpy at 298 K."""
    composition = entry.composition
    if composition.is_element:
        change = composition.num_atoms * _element(composition.elements[0].symbol, temperature)
    else:
        units = composition.get_reduced_composition_and_factor()[1]
        change = -temperature * (_PER_VOLUME * entry.structure.volume + _PER_UNIT * units)
    return ComputedEntry(composition, entry.energy + change, entry_id=entry.entry_id)


@cache
def _element(symbol: str, temperature: float) -> float:
    """Measured free energy of an element at 1 bar from its enthalpy at 298 K, eV per atom, by the table behind
    `gibbs_entries` (C. Bartel et al., Nat. Commun. 9, 4168 (2018)), which pymatgen holds every 100 K; of oxygen it is
    within 1 meV of M. W. Chase, NIST-JANAF Thermochemical Tables (1998). 0 for one that is not in it; of a solid with
    the entropy at 300 K throughout, as compounds have it.
    """
    table = sorted((float(kelvin), float(row[symbol])) for kelvin, row in G_ELEMS.items() if symbol in row)
    if not table:
        return 0.0
    if symbol not in _GASES:
        return table[0][1] * temperature / table[0][0]
    return float(CubicSpline(*zip(*table, strict=True))(temperature))


def _steps(lost: Callable[[float], Release], low: Release, high: Release) -> Iterator[Release]:
    """Where between two temperatures oxygen leaves."""
    if high.released - low.released < _NOTHING:
        return
    assert low.temperature is not None and high.temperature is not None
    if high.temperature - low.temperature < _SHARP:
        yield high
        return
    middle = lost((low.temperature + high.temperature) / 2)
    yield from _steps(lost, low, middle)
    yield from _steps(lost, middle, high)


def release_energy(oxide: ComputedStructureEntry, others: Sequence[ComputedStructureEntry], step: Release) -> float:
    """Energy of a first step at 0 K, eV per O2: negative gives off heat.

    Args:
        oxide, others: as in `oxygen_releases`.
        step: its first.
    """
    lowest: dict[str, float] = {}
    for entry in (oxide, *others):
        name, units = entry.composition.get_reduced_formula_and_factor()
        lowest[name] = min(lowest.get(name, math.inf), entry.energy / units)
    before = oxide.energy / oxide.composition.get_reduced_formula_and_factor()[1]
    after = sum(amount * lowest[name] for name, amount in with_oxygen(step).items())
    return float(after - before) / step.released


def with_oxygen(step: Release) -> dict[str, float]:
    """Products of a step and the gas."""
    return {**step.products, pure("O"): step.released}
