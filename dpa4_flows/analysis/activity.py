"""Activity of a surface from free energies of adsorbates, by the computational hydrogen electrode.

The free energy of a step moves by eU with the potential U for each of its electrons. The limiting potential is where
the last step has become downhill: a bound from thermodynamics, without barriers, at zero current (J. K. Nørskov et al.,
J. Phys. Chem. B 108, 17886 (2004)).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from dpa4_flows.analysis.reactions import Reaction


class Step(NamedTuple):
    """Free energy at 0 V, eV, and how many electrons move."""

    name: str
    free_energy: float
    electrons: int


class Activity(NamedTuple):
    """What limits a reaction: the step, the potential at which it is level, and how far from equilibrium this is, V."""

    limiting_step: str
    limiting_potential: float
    overpotential: float


def levels(reaction: Reaction, free_energies: Mapping[str, float], potential: float = 0.0) -> list[float]:
    """Free energy of every state of a reaction, eV, at a potential in V.

    Args:
        reaction: which.
        free_energies: of its adsorbates at 0 V, eV.
        potential: against the reversible hydrogen electrode.
    """
    each = -potential if reaction.oxidation else potential
    pairs = zip(reaction.states, reaction.electrons, strict=True)
    return [state.level(free_energies) + n * each for state, n in pairs]


def steps(reaction: Reaction, free_energies: Mapping[str, float]) -> list[Step]:
    """The steps in order, at 0 V."""
    along = pairwise(zip(reaction.states, levels(reaction, free_energies), strict=True))
    return [Step(f"{one.name} → {two.name}", high - low, two.electrons) for (one, low), (two, high) in along]


def activity(reaction: Reaction, free_energies: Mapping[str, float]) -> Activity:
    """Limiting step and potential; that of hydrogen evolution is −|ΔG(H)|/e."""
    largest = max(steps(reaction, free_energies), key=lambda step: step.free_energy / step.electrons)
    each = largest.free_energy / largest.electrons
    potential = each if reaction.oxidation else 0.0 - each
    away = potential - reaction.equilibrium if reaction.oxidation else reaction.equilibrium - potential
    return Activity(largest.name, potential, away)


def descriptor(reaction: Reaction, free_energies: Mapping[str, float]) -> float:
    """The number that a volcano is drawn against, eV."""
    return sum(weight * free_energies[name] for name, weight in reaction.weights.items())


def volcano(reaction: Reaction, value: float) -> float:
    """Limiting potential of a surface with this descriptor on which all adsorbates lie on the common lines, V.

    Hydrogen evolution: −|ΔG(H)|. Oxygen reduction: either OH does not leave or O₂ does not come, with the top at 0.86 V
    and ΔG(OH) 0.86 eV. Oxygen evolution: OH or O does not lose its electron, with the lowest potential at 1.6 V.
    """
    largest = max(side.at(value) for side in reaction.sides)
    return largest if reaction.oxidation else -largest


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
