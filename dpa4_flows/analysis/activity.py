"""Activity of a surface from free energies of adsorbates, by the computational hydrogen electrode.

Each step of a reaction moves one proton and one electron, so that its free energy moves by eU with the potential U. The
limiting potential is where the last step has become downhill: a bound from thermodynamics, without barriers, at zero
current (J. K. Nørskov et al., J. Phys. Chem. B 108, 17886 (2004)). Potentials are against the reversible hydrogen
electrode, free energies in eV at 0 V.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import meant

OXYGEN = 4.92
"""eV, of O₂ + 2 H₂ above 2 H₂O: measured, since no functional gives O₂ well (Nørskov et al. 2004)."""
OOH_ABOVE_OH, SCALING_SPREAD = 3.2, 0.2
"""eV, by which OOH lies above OH on metals and oxides alike, and how far surfaces lie from this line (I. C. Man et al.,
ChemCatChem 3, 1159 (2011))."""


@dataclass(frozen=True)
class Reaction:
    """One reaction of an electrode.

    Attributes:
        name: short.
        title: in words.
        states: from what is there at the start to what comes out; adsorbates by their name.
        ends: eV, free energies of the first and the last of them at 0 V.
        equilibrium: V.
        oxidation: whether electrons are given off.
        descriptor: how it is written.
        top: eV, of the descriptor at the top of the volcano.
    """

    name: str
    title: str
    states: tuple[str, ...]
    ends: tuple[float, float]
    equilibrium: float
    oxidation: bool
    descriptor: str
    top: float

    @property
    def adsorbates(self) -> tuple[str, ...]:
        """The simplest first."""
        return tuple(sorted(self.states[1:-1], key=lambda name: (len(name), name)))


REACTIONS: Mapping[str, Reaction] = {
    one.name: one
    for one in (
        Reaction("HER", "hydrogen evolution", ("H⁺", "H", "H₂"), (0.0, 0.0), 0.0, False, "ΔG(H)", 0.0),
        Reaction(
            "ORR", "oxygen reduction", ("O₂", "OOH", "O", "OH", "H₂O"), (OXYGEN, 0.0), OXYGEN / 4, False, "ΔG(OH)", 0.86
        ),
        Reaction(
            "OER",
            "oxygen evolution",
            ("H₂O", "OH", "O", "OOH", "O₂"),
            (0.0, OXYGEN),
            OXYGEN / 4,
            True,
            "ΔG(O) − ΔG(OH)",
            1.6,
        ),
    )
}


class Step(NamedTuple):
    """One electron; free energy at 0 V, eV."""

    name: str
    free_energy: float


class Activity(NamedTuple):
    """What limits a reaction: the step, the potential at which it is level, and how far from equilibrium this is, V."""

    limiting_step: str
    limiting_potential: float
    overpotential: float


def reaction_of(name: str) -> Reaction:
    """The reaction of this name.

    Raises:
        DPA4Error: there is none; one sentence with the closest one.
    """
    known = REACTIONS.get(name.upper())
    if known is None:
        raise DPA4Error(f"there is no reaction {name!r}; {meant(name.upper(), REACTIONS)}")
    return known


def levels(reaction: Reaction, free_energies: Mapping[str, float], potential: float = 0.0) -> list[float]:
    """Free energy of every state of a reaction, eV, at a potential in V.

    Args:
        reaction: which.
        free_energies: of its adsorbates at 0 V, eV.
        potential: against the reversible hydrogen electrode.
    """
    first, last = reaction.ends
    at_zero = [first, *(free_energies[name] for name in reaction.states[1:-1]), last]
    each = -potential if reaction.oxidation else potential
    return [energy + i * each for i, energy in enumerate(at_zero)]


def steps(reaction: Reaction, free_energies: Mapping[str, float]) -> list[Step]:
    """The steps in order, at 0 V."""
    along = levels(reaction, free_energies)
    moves = zip(pairwise(reaction.states), pairwise(along), strict=True)
    return [Step(f"{before} → {after}", high - low) for (before, after), (low, high) in moves]


def activity(reaction: Reaction, free_energies: Mapping[str, float]) -> Activity:
    """Limiting step and potential; that of hydrogen evolution is −|ΔG(H)|/e."""
    largest = max(steps(reaction, free_energies), key=lambda step: step.free_energy)
    potential = largest.free_energy if reaction.oxidation else 0.0 - largest.free_energy
    away = potential - reaction.equilibrium if reaction.oxidation else reaction.equilibrium - potential
    return Activity(largest.name, potential, away)


def descriptor(reaction: Reaction, free_energies: Mapping[str, float]) -> float:
    """The number that a volcano is drawn against, eV: ΔG(H), ΔG(OH), or ΔG(O) − ΔG(OH)."""
    if reaction.oxidation:
        return free_energies["O"] - free_energies["OH"]
    return free_energies[reaction.states[-2]]


def volcano(reaction: Reaction, value: float) -> float:
    """Limiting potential of a surface with this descriptor on which OOH lies as far above OH as on the common line, V.

    Hydrogen evolution: −|ΔG(H)|. Oxygen reduction: either OH does not leave or O₂ does not come, with the top at 0.86 V
    and ΔG(OH) 0.86 eV. Oxygen evolution: OH or O does not lose its electron, with the lowest potential at 1.6 V.
    """
    if reaction.oxidation:
        return max(value, OOH_ABOVE_OH - value)
    if reaction.adsorbates == ("H",):
        return -abs(value)
    return min(value, OXYGEN - OOH_ABOVE_OH - value)


def mean_over(values: Mapping[str, float | None], weights: Mapping[str, float] | None = None) -> float | None:
    """Mean over facets, weighted by their share of the area; None if one that counts has no value.

    Args:
        values: by facet.
        weights: by facet, 0 where there is none; None for equal ones.
    """
    shares = dict.fromkeys(values, 1.0) if weights is None else weights
    counted = {name: share for name, share in shares.items() if share > 0}
    found = [(share, values.get(name)) for name, share in counted.items()]
    if not found or any(value is None for _, value in found):
        return None
    return sum(share * value for share, value in found if value is not None) / sum(counted.values())
