"""Whether a crystal stays one when it is warm: short dynamics, whose steps share force calls over all crystals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_core.md.settings import MDSettings
from dpa4_flows.analysis.finite_temperature import MELTS, SETTLED, SHORTEST_PS, STABLE, lindemann
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Plan, Property
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.limits import check_counts, check_positive
from dpa4_flows.properties.motion import moments, n_steps, supercell

_EVERY = 5  # steps between two moments that are kept
_LEFT = 0.5  # of the distance of nearest neighbours, beyond which an atom has left its place


class FiniteTemperatureDocument(AnswerDocument):
    """How far the atoms of one crystal move about their places at one temperature."""

    formula: str = Field(description="Reduced formula")
    temperature_k: float = Field(description="Asked for, K")
    verdict: Literal["stable", "undecided", "unstable"] | None = Field(None, description="At this temperature")
    lindemann: float | None = shown(
        "Lindemann ratio", "", 3, "displacement over neighbour distance, short dynamics", goal="min", scale=(0.0, 0.15)
    )
    by_element: dict[str, float] = Field(default_factory=dict, description="The same of each element")
    mean_temperature_k: float | None = Field(None, description="Of the motion, K")
    farthest: Annotated[float | None, Unit()] = Field(
        None, description="Largest shift of a mean place, of the neighbour distance"
    )
    n_atoms: int = Field(0, description="Of the supercell")
    n_steps: int = Field(0, description="Of the dynamics")
    doubts: list[Reason] = Field(default_factory=list)


@dataclass(frozen=True)
class FiniteTemperature(Property[FiniteTemperatureDocument]):
    """Lindemann ratio of a relaxed crystal at a temperature, by short classical dynamics in its cell at rest.

    Attributes:
        temperature_k: K.
        time_ps: of the run that counts, at least 1 ps.
        equilibration_ps: before it.
        timestep_fs: fs; take 0.5 where there is hydrogen.
        friction_per_ps: of the thermostat, 1/ps.
        min_length: Å, between an atom and its image.
        max_atoms: a crystal that needs a larger supercell has an error instead.
        seed: of the random forces.
    """

    name: ClassVar[str] = "finite_temperature"
    example: ClassVar[str] = "Si.cif --temperature-k 600"
    document: ClassVar[type[Document]] = FiniteTemperatureDocument
    starts_from_rest: ClassVar[bool] = True
    caveats: ClassVar[tuple[str, ...]] = (
        "Lindemann ratios are those of picoseconds of classical motion in a small supercell of fixed shape: what needs "
        "longer, a larger cell or another shape is not seen. Stable says that nothing falls apart at once.",
    )

    temperature_k: float = 300.0
    time_ps: float = 2.0
    equilibration_ps: float = 0.5
    timestep_fs: float = 2.0
    friction_per_ps: float = 5.0
    min_length: float = 8.0
    max_atoms: int = field(default=200, metadata=NO_NUMBER)
    seed: int = 0

    def check(self) -> None:
        check_positive(
            self, "temperature_k", "time_ps", "equilibration_ps", "timestep_fs", "friction_per_ps", "min_length"
        )
        check_counts(self, "max_atoms")
        if self.time_ps < SHORTEST_PS:
            raise DPA4Error(
                f"time_ps is {self.time_ps:g}: a run shorter than {SHORTEST_PS:g} ps says nothing of the slowest waves"
            )

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        n_atoms = len(supercell(crystal, self.min_length, self.max_atoms))
        return sum(self._steps) + 1, (sum(self._steps) + 1) * n_atoms

    @property
    def _steps(self) -> tuple[int, int]:
        return n_steps(self.equilibration_ps, self.timestep_fs), n_steps(self.time_ps, self.timestep_fs)

    def plan(self, crystal: Crystal) -> Plan[FiniteTemperatureDocument]:
        self.check()
        start = supercell(crystal, self.min_length, self.max_atoms)
        before, counted = self._steps
        settings = MDSettings(
            thermostat="langevin",
            temperature=self.temperature_k,
            time_ps=(before + counted) * self.timestep_fs / 1000,
            timestep_fs=self.timestep_fs,
            friction_per_ps=self.friction_per_ps,
            every=_EVERY,
            seed=self.seed,
        )
        motion = yield from moments(start, settings, before)
        moves = lindemann(start, motion.positions)
        doubts = _doubts(moves.growth, moves.farthest)
        verdict: Literal["stable", "undecided", "unstable"]
        verdict = "unstable" if moves.ratio > MELTS else "undecided" if doubts or moves.ratio > STABLE else "stable"
        return FiniteTemperatureDocument(
            formula=start.composition.reduced_formula,
            temperature_k=self.temperature_k,
            verdict=verdict,
            lindemann=moves.ratio,
            by_element=moves.by_element,
            mean_temperature_k=motion.temperature,
            farthest=moves.farthest,
            n_atoms=len(start),
            n_steps=before + counted,
            doubts=doubts,
            provenance=self.origin(crystal),
        )


def _doubts(growth: float, farthest: float) -> list[Reason]:
    doubts = []
    if growth > SETTLED:
        words = f"atoms move {growth:.2f} times as far in the second half of the run as in the first: it is too short"
        doubts.append(Reason(code="too_short", sentence=words))
    if farthest > _LEFT:
        words = f"an atom moved to another place, {farthest:.2f} of the distance of neighbours away"
        doubts.append(Reason(code="left_its_place", sentence=words))
    return doubts
