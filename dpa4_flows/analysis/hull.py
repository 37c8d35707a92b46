"""Convex hulls of many chemical systems at once.

For every chemical system the lower hull of the competing phases is built once, by qhull and with the rules of
pymatgen's ``PhaseDiagram``. Each facet of it is a set of chemical potentials, and the hull energy at a composition x is
the largest μ·x over the facets, so that thousands of candidates cost one matrix product; `CompetingPhases` keeps the
hulls for later queries. Where an elemental reference is missing there is no formation energy; the cheapest
decomposition into the phases that are there is then found by linear programming, and the distance to it is a lower
bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.entries.computed_entries import ComputedEntry
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, Survey, Tally, hull_completeness, tally
from dpa4_flows.analysis.corrections import corrections_of
from dpa4_flows.analysis.frames import FrameError, check_same_frame

_FRACTION_TOLERANCE = 1e-6  # phases below this atomic fraction are rounding, not products
_FRACTION_DECIMALS = 9  # compositions that differ by less are one
_FORMATION_TOLERANCE = 1e-11  # eV/atom; what is not below it cannot be on the hull, and is kept from qhull
_FLAT = 1e-14  # determinant of a facet that stands on no area


class PlaceSpread(NamedTuple):
    """Standard deviations of a place between members of a committee, eV/atom; None where a member has no value.

    Attributes:
        energy_above_hull: of the signed distance to the hull of everything else, which is not cut off at zero.
        distance_to_competing: of the distance to the hull of the competing phases alone.
        formation_energy_per_atom: from the elements.
    """

    energy_above_hull: float | None
    distance_to_competing: float | None
    formation_energy_per_atom: float | None


@dataclass(frozen=True)
class HullResult:
    """Where one candidate lies; fields are named as in ``schemas.HullDocument``.

    Attributes:
        entry_id: entry id of the candidate.
        formula: reduced formula.
        chemsys: chemical system, elements in alphabetical order joined by dashes.
        energy_per_atom_corrected: eV/atom.
        correction_per_atom: sum of the corrections, eV/atom.
        corrections: each correction by name, eV per cell.
        formation_energy_per_atom: eV/atom from the lowest elemental references; None if one is missing.
        energy_above_hull: eV/atom, distance to the hull of the competing phases and the candidate itself (and
            rivals, if there are any): 0 when the candidate lies on or below the hull; None if it
            cannot be decomposed.
        distance_to_competing: eV/atom, signed distance to the hull of the competing phases alone: negative
            for a phase that would be new and stable.
        decomposition: competing phases below the candidate and their atomic fractions.
        n_competing: competing phases in its chemical system, elements included.
        competing: these phases by composition and role, see `completeness.hull_completeness`.
        missing_references: elements without a reference; the distance is then a lower bound.
        error: one sentence if there is no distance.
        spread: of the place between members of a committee; None for a single model.
    """

    entry_id: str
    formula: str
    chemsys: str
    energy_per_atom_corrected: float
    correction_per_atom: float
    corrections: dict[str, float] = field(default_factory=dict)
    formation_energy_per_atom: float | None = None
    energy_above_hull: float | None = None
    distance_to_competing: float | None = None
    decomposition: dict[str, float] = field(default_factory=dict)
    n_competing: int = 0
    competing: Tally = field(default_factory=Tally)
    missing_references: list[str] = field(default_factory=list)
    error: str | None = None
    spread: PlaceSpread | None = None

    def deviations(self) -> dict[str, float | None]:
        """Its spread by the names of the values with ``_std`` behind; nothing for a single model."""
        return {} if self.spread is None else {f"{name}_std": std for name, std in self.spread._asdict().items()}

    def completeness(self, missing_phases: Sequence[str] = (), survey: Survey | None = None) -> HullCompleteness:
        """What stood against the candidate.

        Args:
            missing_phases: sentences on known phases of the system that have no energy.
            survey: of the phases of the system.
        """
        return hull_completeness(
            self.chemsys, self.competing, formula=self.formula, without_energy=missing_phases, survey=survey
        )


def phase_positions(
    candidates: Sequence[ComputedEntry],
    competing: Sequence[ComputedEntry] | CompetingPhases,
    *,
    candidates_compete: bool = False,
    rivals: Sequence[ComputedEntry] = (),
) -> list[HullResult]:
    """Position of every candidate with respect to the hull of its own chemical system.

    Args:
        candidates: corrected entries, of any number of chemical systems.
        competing: corrected entries of the competing phases and elements, or `CompetingPhases`, which know their hulls
            from earlier queries. A phase with a candidate's composition is an ordinary competitor; the candidate
            is then above the hull by the difference, or on it.
        candidates_compete: whether candidates also stand against each other; they then count in
            energy_above_hull only.
        rivals: further entries that count in energy_above_hull only, such as those of the candidates that may compete
            when some may not.

    Returns:
        One result per candidate, in order. Entries with ``data["converged"]`` False compete with nothing, and
        such a candidate gets an error instead of a distance.

    Raises:
        FrameError: entries of different energy frames (``data["frame"]``), or some with and some without one.
    """
    phases = competing if isinstance(competing, CompetingPhases) else CompetingPhases(competing)
    check_frames([*candidates, *phases.sample, *rivals])
    others = [*candidates, *rivals] if candidates_compete else rivals
    rival_phases = _by_elements(entry for entry in others if is_converged(entry))
    by_system: dict[frozenset[str], list[int]] = {}
    for index, entry in enumerate(candidates):
        by_system.setdefault(elements_of(entry), []).append(index)

    results: dict[int, HullResult] = {}
    for system, indices in by_system.items():
        hull = phases.hull(system)
        good = [candidates[i] for i in indices if is_converged(candidates[i])]
        energies = hull.energies(good)
        joint, with_rivals = hull, energies
        if beside := _within(system, rival_phases):
            joint = SystemHull(system, [*hull.entries, *beside])
            with_rivals = joint.energies(good)
        positions = iter(zip(good, energies, with_rivals, strict=True))
        for index in indices:
            entry = candidates[index]
            values = next(positions) if is_converged(entry) else (entry, None, None)
            results[index] = _result(hull, joint, *values)
    return [results[index] for index in range(len(candidates))]


def hull_summary(
    chemical_systems: Sequence[str],
    competing: Sequence[ComputedEntry],
    candidates: Sequence[ComputedEntry] = (),
    *,
    completeness: Mapping[str, HullCompleteness] = MappingProxyType({}),
    verdicts: Mapping[str, HullVerdict] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """What lies on and above the hull of each chemical system, in plain JSON types for tables and figures.

    Args:
        chemical_systems: as ``"Co-Li-O"``.
        competing: corrected entries of the competing phases and elements.
        candidates: corrected entries of the candidates.
        completeness: by chemical system, to go with its figures.
        verdicts: by entry id of the candidates.

    Returns:
        {chemsys: {"n_competing": int, "missing": [elements], "completeness": {...} or None, "phases": [...]}} with
        chemsys as given. A phase has entry_id, formula, source, role, candidate (bool), verdict (code, of candidates),
        x (atomic fraction by element), energy_per_atom_corrected, formation_energy_per_atom and energy_above_hull
        (eV/atom; None if an element is missing), sorted by the distance. The hull is that of competing phases and
        candidates together.
    """
    check_frames([*candidates, *competing])
    competitors = _by_elements(entry for entry in competing if is_converged(entry))
    others = _by_elements(entry for entry in candidates if is_converged(entry))
    summary: dict[str, dict[str, Any]] = {}
    for chemsys in chemical_systems:
        system = frozenset(chemsys.split("-"))
        rivals = _within(system, others)
        hull = SystemHull(system, [*_within(system, competitors), *rivals])
        own = {id(entry) for entry in rivals}
        energies = hull.energies(hull.entries)
        phases = [
            _phase(hull, entry, energy, candidate=id(entry) in own)
            for entry, energy in zip(hull.entries, energies, strict=True)
        ]
        for phase in phases:
            verdict = verdicts.get(phase["entry_id"]) if phase["candidate"] else None
            phase["verdict"] = None if verdict is None else verdict.code
        graded = completeness.get(chemsys)
        phases.sort(key=lambda p: (p["energy_above_hull"] is None, p["energy_above_hull"] or 0.0, p["formula"]))
        summary[chemsys] = {
            "n_competing": len(hull.entries) - len(rivals),
            "missing": hull.missing,
            "completeness": None if graded is None else graded.model_dump(),
            "phases": phases,
        }
    return summary


class CompetingPhases:
    """Competing phases in the order of their elements, and the hulls of the systems that were asked for.

    Made once for many queries: sorting a large library takes up to a second, a hull less than a millisecond, a query in
    a known hull a tenth of that.

    Args:
        entries: corrected entries of one energy frame; those that did not converge are left out.

    Raises:
        FrameError: entries of different energy frames.
    """

    def __init__(self, entries: Sequence[ComputedEntry]) -> None:
        check_frames(entries)
        self.sample = list(entries[:1])  # stands for all of them when frames are compared
        self._phases = _by_elements(entry for entry in entries if is_converged(entry))
        self._hulls: dict[frozenset[str], SystemHull] = {}

    def hull(self, system: frozenset[str]) -> SystemHull:
        """Hull of one chemical system, built when it is first asked for."""
        if system not in self._hulls:
            self._hulls[system] = SystemHull(system, _within(system, self._phases))
        return self._hulls[system]


class SystemHull:
    """Lower convex hull of one chemical system, by corrected energy per atom.

    Args:
        system: element symbols.
        entries: entries without other elements.
        energies: eV/atom, in place of their own.

    Attributes:
        symbols: elements in alphabetical order, the columns of every composition array.
        entries: the entries of this system.
        missing: elements without a reference entry; there are no facets then.
        facets: phases in equilibrium with each other, [n_facets][n_elements].
        potentials: their chemical potentials [n_facets, n_elements], eV.
        references: energies of the elements, eV/atom.
    """

    def __init__(
        self, system: frozenset[str], entries: Sequence[ComputedEntry], energies: NDArray[np.float64] | None = None
    ) -> None:
        self.symbols = sorted(system)
        self.entries = list(entries)
        fractions = self.fractions(self.entries)
        own = energies is None
        energies = np.array([e.energy_per_atom for e in self.entries] if own else energies, dtype=np.float64)
        lowest: dict[bytes, int] = {}
        for index, key in enumerate(fractions.round(_FRACTION_DECIMALS)):
            known = lowest.setdefault(key.tobytes(), index)
            if energies[index] < energies[known]:
                lowest[key.tobytes()] = index
        kept = list(lowest.values())
        self._lowest = [self.entries[i] for i in kept]
        self._fractions, self._energies = fractions[kept], energies[kept]
        pure = self._fractions > 1 - 10.0**-_FRACTION_DECIMALS
        self.missing = [symbol for symbol, phases in zip(self.symbols, pure.T, strict=True) if not phases.any()]
        self.facets: list[list[ComputedEntry]] = []
        self.potentials: NDArray[np.float64] = np.zeros((0, len(self.symbols)))
        self.references = np.full(len(self.symbols), np.nan)
        if not self.missing:
            elements = pure.argmax(axis=0)
            self.references = self._energies[elements]
            corners = _facets(self._fractions, self._energies, elements)
            self.facets = [[self._lowest[i] for i in facet] for facet in corners]
            self._corners = self._fractions[corners]
            potentials = np.linalg.solve(self._corners, self._energies[corners][..., None])[..., 0]
            self.potentials = np.asarray(potentials, dtype=np.float64)

    @cached_property
    def tally(self) -> Tally:
        """The entries by composition and role."""
        return tally((entry.composition, entry.data.get("role")) for entry in self.entries)

    def fractions(self, entries: Sequence[ComputedEntry]) -> NDArray[np.float64]:
        """Atomic fractions [n_entries, n_elements]."""
        column = {symbol: i for i, symbol in enumerate(self.symbols)}
        rows = np.zeros((len(entries), len(self.symbols)))
        for row, entry in zip(rows, entries, strict=True):
            for element, amount in entry.composition.items():
                row[column[element.symbol]] += amount
        return np.asarray(rows / rows.sum(axis=-1, keepdims=True)) if len(rows) else rows

    def energies(self, entries: Sequence[ComputedEntry]) -> list[float | None]:
        """Hull energy at the composition of each entry, eV/atom; None where no mixture of phases has it."""
        if not entries:
            return []
        fractions = self.fractions(entries)
        if not self.missing:
            return [float(energy) for energy in (fractions @ self.potentials.T).max(axis=1)]
        known: dict[bytes, float | None] = {}
        keys = [x.tobytes() for x in fractions.round(_FRACTION_DECIMALS)]
        for key, x in zip(keys, fractions, strict=True):
            if key not in known:
                known[key] = self._cheapest(x)[0]
        return [known[key] for key in keys]

    def formation_energy(self, entry: ComputedEntry) -> float | None:
        """Energy from the lowest elemental references, eV/atom; None if one of them is missing."""
        if self.missing:
            return None
        return float(entry.energy_per_atom - self.fractions([entry])[0] @ self.references)

    def decomposition(self, entry: ComputedEntry) -> dict[str, float]:
        """Phases of the hull that make up this composition, {formula: atomic fraction}, largest first."""
        x = self.fractions([entry])[0]
        return self._cheapest(x)[1] if self.missing else _named(*self._corner(x))

    def mixture(self, x: NDArray[np.float64]) -> list[tuple[ComputedEntry, float]]:
        """Phases of the hull that make up atomic fractions, with their own, where no element is missing."""
        return [(phase, float(a)) for phase, a in zip(*self._corner(x), strict=True) if a > _FRACTION_TOLERANCE]

    def _corner(self, x: NDArray[np.float64]) -> tuple[list[ComputedEntry], NDArray[np.float64]]:
        # several facets meet at a composition on an edge; one of them, at the top, contains it
        for index in np.argsort(-(self.potentials @ x)):
            amounts = np.linalg.solve(self._corners[index].T, x)
            if amounts.min() > -_FRACTION_TOLERANCE:
                break
        return self.facets[index], amounts

    def _cheapest(self, x: NDArray[np.float64]) -> tuple[float | None, dict[str, float]]:
        """Lowest energy, eV/atom, of a mixture of phases with composition ``x``, and the mixture."""
        if not self._lowest:
            return None, {}
        solution = linprog(self._energies, A_eq=self._fractions.T, b_eq=x, bounds=(0, None))
        if solution.status != 0:
            return None, {}
        return float(solution.fun), _named(self._lowest, solution.x)


def _facets(
    fractions: NDArray[np.float64], energies: NDArray[np.float64], elements: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Facets of the lower hull as rows of phase indices; as in pymatgen, to the last tolerance."""
    n_elements = len(elements)
    if n_elements == 1:
        return elements[:, None]
    formation = energies - fractions @ energies[elements]
    below = formation < -_FORMATION_TOLERANCE
    below[elements] = False
    phases = np.concatenate([np.flatnonzero(below), elements])
    points = np.column_stack([fractions[phases, 1:], energies[phases]])
    above = np.full(n_elements, 1.0 / n_elements)  # makes the hull full-dimensional; in every upper facet
    above[-1] = points.max() + 1
    facets = ConvexHull(np.vstack([points, above]), qhull_options="Qt i").simplices
    facets = facets[(facets < len(phases)).all(axis=1)]
    base = points[facets]
    base[:, :, -1] = 1
    return np.asarray(phases[facets[np.abs(np.linalg.det(base)) > _FLAT]])


def _named(phases: Sequence[ComputedEntry], amounts: NDArray[np.float64]) -> dict[str, float]:
    pairs = [(p.composition.reduced_formula, float(a)) for p, a in zip(phases, amounts, strict=True)]
    return dict(sorted((pair for pair in pairs if pair[1] > _FRACTION_TOLERANCE), key=lambda pair: (-pair[1], pair[0])))


def _result(
    hull: SystemHull,
    joint: SystemHull,
    entry: ComputedEntry,
    competing_energy: float | None,
    hull_energy: float | None,
) -> HullResult:
    """Result of one entry; ``hull`` is that of the competing phases, ``joint`` the one with rivals."""
    formula = entry.composition.reduced_formula
    error = None
    if not is_converged(entry):
        error = f"the relaxation of {formula} did not converge; unconverged energies do not enter a hull"
    elif competing_energy is None:
        error = f"{formula} cannot be decomposed: no reference for {', '.join(hull.missing)}"
    distance = None if error or competing_energy is None else entry.energy_per_atom - competing_energy
    above = None if error or hull_energy is None else max(0.0, entry.energy_per_atom - hull_energy)
    return HullResult(
        entry_id=str(entry.entry_id),
        formula=formula,
        chemsys="-".join(hull.symbols),
        energy_per_atom_corrected=float(entry.energy_per_atom),
        correction_per_atom=float(entry.correction_per_atom),
        corrections=corrections_of(entry),
        formation_energy_per_atom=None if not is_converged(entry) else hull.formation_energy(entry),
        energy_above_hull=above,
        distance_to_competing=distance,
        # products of the same hull as the distance; an entry on it gets what it competes with
        decomposition={} if error else (joint if above else hull).decomposition(entry),
        n_competing=len(hull.entries),
        competing=hull.tally,
        missing_references=list(hull.missing),
        error=error,
    )


def _phase(hull: SystemHull, entry: ComputedEntry, hull_energy: float | None, *, candidate: bool) -> dict[str, Any]:
    x = hull.fractions([entry])[0]
    return {
        "entry_id": str(entry.entry_id),
        "formula": entry.composition.reduced_formula,
        "source": str(entry.data.get("source", "")),
        "role": str(entry.data.get("role", "")),
        "candidate": candidate,
        "x": {symbol: float(value) for symbol, value in zip(hull.symbols, x, strict=True) if value > 0},
        "energy_per_atom_corrected": float(entry.energy_per_atom),
        "formation_energy_per_atom": hull.formation_energy(entry),
        "energy_above_hull": None if hull_energy is None else max(0.0, float(entry.energy_per_atom) - hull_energy),
    }


def check_frames(entries: Sequence[ComputedEntry]) -> None:
    """Refuse energies of different frames, or some with and some without one.

    Raises:
        FrameError: they do not belong together; one sentence.
    """
    frames = [entry.data.get("frame") for entry in entries]
    given = [frame for frame in frames if frame is not None]
    if not given:
        return
    if len(given) != len(frames):
        raise FrameError(
            f"{len(frames) - len(given)} of {len(frames)} energies have no energy frame and cannot stand "
            "beside those of a model; compute all phases with one model and one correction scheme"
        )
    check_same_frame(given)


def is_converged(entry: ComputedEntry) -> bool:
    return bool(entry.data.get("converged", True))


def elements_of(entry: ComputedEntry) -> frozenset[str]:
    return frozenset(element.symbol for element in entry.composition.elements)


def _by_elements(entries: Iterable[ComputedEntry]) -> dict[frozenset[str], list[ComputedEntry]]:
    groups: dict[frozenset[str], list[ComputedEntry]] = {}
    for entry in entries:
        groups.setdefault(elements_of(entry), []).append(entry)
    return groups


def _within(system: frozenset[str], groups: Mapping[frozenset[str], list[ComputedEntry]]) -> list[ComputedEntry]:
    """Entries of ``system`` and all its sub-systems."""
    if 2 ** len(system) > len(groups):
        keys = [key for key in groups if key <= system]
    else:
        sizes = range(1, len(system) + 1)
        subsets = (frozenset(c) for size in sizes for c in combinations(sorted(system), size))
        keys = [key for key in subsets if key in groups]
    return [entry for key in keys for entry in groups[key]]
