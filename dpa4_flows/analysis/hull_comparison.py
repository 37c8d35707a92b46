"""Two hulls of the same phases, made of the energies of two methods: do they agree on what is stable?

Each method has its own energy frame, so that no energy of one is ever compared with an energy of the other: both
answer the same question, how far a phase lies above the hull of all of them, and the answers are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry
from scipy.stats import kendalltau, spearmanr

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.duplicates import group_duplicates
from dpa4_flows.analysis.hull import phase_positions

NEAR_HULL = 0.1
"""eV/atom: phases that could be made are within about this distance, and their order is what a screening asks for."""

_FEWEST_RANKED = 3  # two values are always in some order


class ComparisonError(ValueError):
    """Two sets of entries that cannot be compared; one sentence."""


@dataclass(frozen=True)
class ComparedPhase:
    """One phase on both hulls; energies in eV/atom.

    Attributes:
        name: id of the phase.
        formula: reduced formula.
        n_atoms: atoms in its cell.
        formation_expected: formation energy by the reference method.
        formation_found: by the method that is judged.
        above_hull_expected: distance to the hull by the reference method.
        above_hull_found: by the method that is judged.
    """

    name: str
    formula: str
    n_atoms: int
    formation_expected: float
    formation_found: float
    above_hull_expected: float
    above_hull_found: float


@dataclass(frozen=True)
class StabilityCounts:
    """How often the methods agree that a phase lies within ``threshold`` of the hull.

    Attributes:
        threshold: eV/atom; 0 is the hull itself, see `on_hull`.
        both: stable by both.
        false_positives: stable by the judged method only.
        false_negatives: stable by the reference method only.
        neither: unstable by both.
    """

    threshold: float
    both: int
    false_positives: int
    false_negatives: int
    neither: int

    @property
    def precision(self) -> float | None:
        """Share of the phases found stable that are so; None if none was found."""
        found = self.both + self.false_positives
        return self.both / found if found else None

    @property
    def recall(self) -> float | None:
        """Share of the stable phases that were found; None if there are none."""
        stable = self.both + self.false_negatives
        return self.both / stable if stable else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        denominator = 2 * self.both + self.false_positives + self.false_negatives
        return 2 * self.both / denominator if denominator else None


@dataclass(frozen=True)
class RankAgreement:
    """Order and size of the distances to the hull.

    Attributes:
        n_phases: compounds that count.
        spearman: rank correlation, None below three phases.
        kendall: tau-b, None below three phases.
        mae_above_hull: mean absolute difference of the distances, eV/atom.
        mae_formation: mean absolute difference of the formation energies, eV/atom.
        bias_formation: mean difference, found minus expected, eV/atom.
    """

    n_phases: int
    spearman: float | None
    kendall: float | None
    mae_above_hull: float
    mae_formation: float
    bias_formation: float


@dataclass(frozen=True)
class Agreement:
    """How far two hulls agree.

    Attributes:
        counts: on stability at each threshold.
        everything: ranks and errors of all compounds.
        near: of those near the hull of the reference method.
    """

    counts: list[StabilityCounts]
    everything: RankAgreement | None
    near: RankAgreement | None


def agreement(phases: Sequence[ComparedPhase], thresholds: Sequence[float]) -> Agreement:
    """Counts at each threshold (eV/atom), ranks of all compounds and of those within `NEAR_HULL`."""
    counts = [count_stable(phases, threshold) for threshold in thresholds]
    return Agreement(counts, rank_agreement(phases), rank_agreement(phases, within=NEAR_HULL))


def compare_hulls(
    expected: Mapping[str, ComputedEntry], found: Mapping[str, ComputedEntry], *, n_atoms: Mapping[str, int]
) -> list[ComparedPhase]:
    """Phases that both methods know, each above the hull of these phases by both.

    A phase that one method lacks is left out of both hulls: otherwise the other would have a lower hull for that reason
    alone.

    Args:
        expected: corrected entries of the reference method, by id.
        found: corrected entries of the method that is judged, by id.
        n_atoms: atoms in the cell of each phase.

    Raises:
        ComparisonError: no phases in common, or an element without an energy.
        FrameError: one of the two sets mixes frames.
    """
    names = [name for name in expected if name in found]
    if not names:
        raise ComparisonError("the two sets of energies have no phase in common")
    positions = {}
    for kind, entries in (("expected", expected), ("found", found)):
        own = [entries[name] for name in names]
        positions[kind] = phase_positions(own, own)
    compared = []
    for name, before, after in zip(names, positions["expected"], positions["found"], strict=True):
        if before.missing_references:
            raise ComparisonError(
                f"no energy of elemental {', '.join(before.missing_references)}: a hull needs all its elements"
            )
        numbers = (
            *(before.formation_energy_per_atom, after.formation_energy_per_atom),
            *(before.energy_above_hull, after.energy_above_hull),
        )
        complete = [number for number in numbers if number is not None]
        assert len(complete) == len(numbers), name  # converged, and no element is missing
        compared.append(ComparedPhase(name, before.formula, n_atoms[name], *complete))
    return compared


def count_stable(phases: Sequence[ComparedPhase], threshold: float) -> StabilityCounts:
    """Agreement on what lies within ``threshold`` (eV/atom) of the hull; elements count as well."""
    expected = np.array([on_hull(phase.above_hull_expected, threshold) for phase in phases], dtype=bool)
    found = np.array([on_hull(phase.above_hull_found, threshold) for phase in phases], dtype=bool)
    return StabilityCounts(
        threshold=threshold,
        both=int((expected & found).sum()),
        false_positives=int((found & ~expected).sum()),
        false_negatives=int((expected & ~found).sum()),
        neither=int((~found & ~expected).sum()),
    )


def rank_agreement(phases: Sequence[ComparedPhase], *, within: float | None = None) -> RankAgreement | None:
    """Rank correlations and errors over the compounds; None if there is none.

    Elements are left out: a formation energy of an element compares polymorphs only, which a hull of compounds does not
    depend on.

    Args:
        phases: from `compare_hulls`.
        within: eV/atom; only compounds that lie so close to the hull of the reference method, since phases far above it
            are easily told from the others and raise any correlation.
    """
    chosen = [
        phase
        for phase in phases
        if not _is_element(phase) and (within is None or on_hull(phase.above_hull_expected, within))
    ]
    if not chosen:
        return None
    expected = np.array([[p.above_hull_expected, p.formation_expected] for p in chosen])
    found = np.array([[p.above_hull_found, p.formation_found] for p in chosen])
    errors = found - expected
    spearman = kendall = None
    if len(chosen) >= _FEWEST_RANKED and np.ptp(expected[:, 0]) > 0 and np.ptp(found[:, 0]) > 0:
        spearman = float(spearmanr(expected[:, 0], found[:, 0]).statistic)
        kendall = float(kendalltau(expected[:, 0], found[:, 0]).statistic)
    return RankAgreement(
        n_phases=len(chosen),
        spearman=spearman,
        kendall=kendall,
        mae_above_hull=float(np.abs(errors[:, 0]).mean()),
        mae_formation=float(np.abs(errors[:, 1]).mean()),
        bias_formation=float(errors[:, 1].mean()),
    )


def distinct_crystals(phases: Sequence[ComparedPhase], structures: Mapping[str, Structure]) -> list[ComparedPhase]:
    """One phase for each crystal: the lowest by the reference method.

    A database holds many a crystal several times, in other magnetic or electronic states, which a potential of
    positions cannot tell apart: it relaxes all of them to one energy.

    Args:
        phases: from `compare_hulls`.
        structures: of the reference method, by id.
    """
    groups = group_duplicates({phase.name: structures[phase.name] for phase in phases})
    lowest: dict[str, ComparedPhase] = {}
    for phase in phases:
        known = lowest.setdefault(groups[phase.name], phase)
        if phase.above_hull_expected < known.above_hull_expected:
            lowest[groups[phase.name]] = phase
    chosen = {phase.name for phase in lowest.values()}
    return [phase for phase in phases if phase.name in chosen]


def _is_element(phase: ComparedPhase) -> bool:
    return Composition(phase.formula).is_element
