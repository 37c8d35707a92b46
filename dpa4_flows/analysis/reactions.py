"""Reactions of electrodes: a table of their states, and what is known of them on many surfaces.

Steps of a reaction move protons and as many electrons (computational hydrogen electrode, J. K. Nørskov et al., J. Phys.
Chem. B 108, 17886 (2004)). Potentials are against the reversible hydrogen electrode, free energies in eV at 0 V.

What a reaction begins and ends with has its measured free energy, since no functional gives O₂ or CO₂ well: 298.15 K,
gases at 1 bar and water as a liquid, from free energies of formation of J. D. Cox, D. D. Wagman, V. A. Medvedev,
CODATA Key Values for Thermodynamics (1989), and M. W. Chase, NIST-JANAF Thermochemical Tables (1998): H₂O(l) −237.14,
CO −137.17, CO₂ −394.39, CH₄ −50.77, NH₃ −16.37 kJ/mol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, combinations, pairwise
from typing import NamedTuple

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import meant

OXYGEN = 4.92
"""eV, of O₂ + 2 H₂ above 2 H₂O."""
CARBON_DIOXIDE, METHANE, AMMONIA = -0.208, -1.562, -0.170
"""eV, of CO₂ + H₂ above CO + H₂O, of CH₄ + H₂O above CO + 3 H₂, and of NH₃ above ½ N₂ + 1½ H₂."""
OOH_ABOVE_OH, SCALING_SPREAD = 3.2, 0.2
"""eV, by which OOH lies above OH on metals and oxides alike, and how far surfaces lie from this line (I. C. Man et al.,
ChemCatChem 3, 1159 (2011))."""


class Line(NamedTuple):
    """Free energy of an adsorbate against a descriptor, on many surfaces: ``slope`` x + ``height``, eV."""

    slope: float
    height: float

    def at(self, x: float) -> float:
        return self.slope * x + self.height


class State(NamedTuple):
    """One state along a reaction.

    Attributes:
        name: of its adsorbate, or of what is there instead.
        measured: eV, where it has no adsorbate.
        electrons: moved since the state before; several where states between are not computed.
        beside: eV, of molecules that have left the surface.
    """

    name: str
    measured: float | None = None
    electrons: int = 1
    beside: float = 0.0

    def level(self, free_energies: Mapping[str, float]) -> float:
        """Free energy at 0 V, eV."""
        return free_energies[self.name] + self.beside if self.measured is None else self.measured


@dataclass(frozen=True)
class Reaction:
    """One reaction of an electrode.

    Attributes:
        name: short.
        title: in words.
        states: from what is there at the start to what comes out.
        weights: of free energies of adsorbates in the descriptor.
        scaling: free energies of adsorbates against the descriptor, eV; those that limit nothing may be left out.
        beside: adsorbates of what competes with it, and of what may stay on the surface.
        oxidation: whether electrons are given off.
    """

    name: str
    title: str
    states: tuple[State, ...]
    weights: Mapping[str, float]
    scaling: Mapping[str, Line] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    oxidation: bool = False

    @cached_property
    def adsorbates(self) -> tuple[str, ...]:
        """The simplest first."""
        names = {state.name for state in self.states if state.measured is None}
        return tuple(sorted(names, key=lambda name: (len(name), name)))

    @cached_property
    def electrons(self) -> tuple[int, ...]:
        """Moved before each state."""
        return tuple(accumulate((state.electrons for state in self.states[1:]), initial=0))

    @cached_property
    def equilibrium(self) -> float:
        """V."""
        change = self.states[-1].level({}) - self.states[0].level({})
        return (change if self.oxidation else 0.0 - change) / self.electrons[-1]

    @cached_property
    def descriptor(self) -> str:
        """How it is written."""
        first, *others = (f"{'−' if weight < 0 else '+'} ΔG({name})" for name, weight in self.weights.items())
        return " ".join([first.removeprefix("+ "), *others])

    @cached_property
    def sides(self) -> tuple[Line, ...]:
        """Of the volcano: free energy per electron against the descriptor, of steps whose two states lie on lines."""
        found = []
        for one, two in pairwise(self.states):
            low, high, n = self._line(one), self._line(two), two.electrons
            if low is not None and high is not None:
                found.append(Line((high.slope - low.slope) / n, (high.height - low.height) / n))
        return tuple(found)

    def _line(self, state: State) -> Line | None:
        if state.measured is not None:
            return Line(0.0, state.measured)
        known = Line(1.0, 0.0) if [state.name] == [*self.weights] else self.scaling.get(state.name)
        return None if known is None else Line(known.slope, known.height + state.beside)

    @cached_property
    def top(self) -> float:
        """Of the volcano: the descriptor where two of its sides meet and no other is above them, eV."""
        pairs = combinations(self.sides, 2)
        meet = [(b.height - a.height) / (a.slope - b.slope) for a, b in pairs if a.slope != b.slope]
        return min(meet, key=lambda x: max(side.at(x) for side in self.sides))


_LEVEL = Line(0.0, OXYGEN / 2 - OOH_ABOVE_OH / 2)
"""Of OH where neither OH nor OOH limits the evolution of oxygen."""

REACTIONS: Mapping[str, Reaction] = {
    one.name: one
    for one in (
        Reaction("HER", "hydrogen evolution", (State("H⁺", 0.0), State("H"), State("H₂", 0.0)), {"H": 1}),
        Reaction(
            "ORR",
            "oxygen reduction",
            (State("O₂", OXYGEN), State("OOH"), State("O"), State("OH"), State("H₂O", 0.0)),
            {"OH": 1},
            {"OOH": Line(1.0, OOH_ABOVE_OH)},
        ),
        Reaction(
            "OER",
            "oxygen evolution",
            (State("H₂O", 0.0), State("OH"), State("O"), State("OOH"), State("O₂", OXYGEN)),
            {"O": 1, "OH": -1},
            {"OH": _LEVEL, "O": Line(1.0, _LEVEL.height), "OOH": Line(0.0, _LEVEL.height + OOH_ABOVE_OH)},
            oxidation=True,
        ),
        Reaction(
            "CO2RR",
            "reduction of carbon dioxide to methane",
            (State("CO₂", CARBON_DIOXIDE), State("COOH"), State("CO"), State("CHO"), State("CH₄", METHANE, 5)),
            {"CO": 1},
            {"COOH": Line(0.64, 0.82), "CHO": Line(0.85, 0.72)},
            beside=("H",),
        ),
        Reaction(
            "CO2RR_CO",
            "reduction of carbon dioxide to carbon monoxide",
            (State("CO₂", CARBON_DIOXIDE), State("COOH"), State("CO gas", 0.0)),
            {"COOH": 1},
            beside=("H", "CO"),
        ),
        Reaction(
            "NRR",
            "reduction of nitrogen",
            (
                State("N₂", 0.0),
                State("N2H"),
                State("N", electrons=2, beside=AMMONIA),
                State("NH", beside=AMMONIA),
                State("NH2", beside=AMMONIA),
                State("NH₃", 2 * AMMONIA),
            ),
            {"N": 1},
            {"N2H": Line(0.71, 0.96), "NH": Line(0.78, -0.41), "NH2": Line(0.45, -0.33)},
            beside=("H",),
        ),
    )
}
"""Methane by the path on which copper goes (A. A. Peterson et al., Energy Environ. Sci. 3, 1311 (2010)); its steps
after CHO are taken together, so that OH, which limits metals that bind oxygen well, is not seen. Ammonia by the distal
path (E. Skúlason et al., Phys. Chem. Chem. Phys. 14, 1235 (2012)), whose second and third proton go to the nitrogen
that leaves. Lines of both are fits to seven and ten close-packed metals with DPA4-Neo at a quarter of a layer, without
water; a metal lies 0.2 eV from them, and 0.4 at most."""


def reaction_of(name: str) -> Reaction:
    """The reaction of this name.

    Raises:
        DPA4Error: there is none; one sentence with the closest one.
    """
    known = REACTIONS.get(name.upper())
    if known is None:
        raise DPA4Error(f"there is no reaction {name!r}; {meant(name.upper(), REACTIONS)}")
    return known
