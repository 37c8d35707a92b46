"""Convex hulls of many chemical systems at once.

For every chemical system the lower hull of the competing phases is built once by pymatgen's ``PhaseDiagram``.
Each facet of it is a set of chemical potentials, and the hull energy at a composition x is the largest μ·x
over the facets, so that thousands of candidates cost one matrix product. Where an elemental reference is
missing there is no formation energy; the cheapest decomposition into the phases that are there is then found
by linear programming, and the distance to it is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry
from scipy.optimize import linprog

from dpa4_flows.analysis.corrections import corrections_of
from dpa4_flows.analysis.frames import FrameError, check_same_frame

_FRACTION_TOLERANCE = 1e-6  # phases below this atomic fraction are rounding, not products


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
        references_complete: False if an element has no reference; the distance is then a lower bound.
        missing_references: those elements.
        error: one sentence if there is no distance.
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
    references_complete: bool = True
    missing_references: list[str] = field(default_factory=list)
    error: str | None = None


def phase_positions(
    candidates: Sequence[ComputedEntry],
    competing: Sequence[ComputedEntry],
    *,
    candidates_compete: bool = False,
    rivals: Sequence[ComputedEntry] = (),
) -> list[HullResult]:
    """Position of every candidate with respect to the hull of its own chemical system.

    Args:
        candidates: corrected entries, of any number of chemical systems.
        competing: corrected entries of the competing phases and elements. A phase with a candidate's
            composition is an ordinary competitor; the candidate is then above the hull by the difference, or
            on it.
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
    _check_frames([*candidates, *competing, *rivals])
    phases = _by_elements(entry for entry in competing if _converged(entry))
    others = [*candidates, *rivals] if candidates_compete else rivals
    rival_phases = _by_elements(entry for entry in others if _converged(entry))
    by_system: dict[frozenset[str], list[int]] = {}
    for index, entry in enumerate(candidates):
        by_system.setdefault(_elements(entry), []).append(index)

    results: dict[int, HullResult] = {}
    for system, indices in by_system.items():
        inside = _within(system, phases)
        hull = SystemHull(system, inside)
        good = [candidates[i] for i in indices if _converged(candidates[i])]
        energies = hull.energies(good)
        joint, with_rivals = hull, energies
        if beside := _within(system, rival_phases):
            joint = SystemHull(system, [*inside, *beside])
            with_rivals = joint.energies(good)
        positions = iter(zip(good, energies, with_rivals, strict=True))
        for index in indices:
            entry = candidates[index]
            values = next(positions) if _converged(entry) else (entry, None, None)
            results[index] = _result(hull, joint, *values)
    return [results[index] for index in range(len(candidates))]


def hull_summary(
    chemical_systems: Sequence[str],
    competing: Sequence[ComputedEntry],
    candidates: Sequence[ComputedEntry] = (),
) -> dict[str, dict[str, Any]]:
    """What lies on and above the hull of each chemical system, in plain JSON types for tables and figures.

    Returns:
        {chemsys: {"n_competing": int, "missing": [elements], "phases": [...]}} with chemsys as given. A phase
        has entry_id, formula, source, candidate (bool), x (atomic fraction by element),
        energy_per_atom_corrected, formation_energy_per_atom and energy_above_hull (eV/atom; None if an
        element is missing), sorted by the distance. The hull is that of competing phases and candidates
        together.
    """
    _check_frames([*candidates, *competing])
    competitors = _by_elements(entry for entry in competing if _converged(entry))
    others = _by_elements(entry for entry in candidates if _converged(entry))
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
        phases.sort(key=lambda p: (p["energy_above_hull"] is None, p["energy_above_hull"] or 0.0, p["formula"]))
        summary[chemsys] = {
            "n_competing": len(hull.entries) - len(rivals),
            "missing": hull.missing,
            "phases": phases,
        }
    return summary


class SystemHull:
    """Lower convex hull of one chemical system, by corrected energy per atom.

    Args:
        system: element symbols.
        entries: entries without other elements.

    Attributes:
        symbols: elements in alphabetical order, the columns of every composition array.
        entries: the entries of this system.
        missing: elements without a reference entry.
    """

    def __init__(self, system: frozenset[str], entries: Sequence[ComputedEntry]) -> None:
        self.symbols = sorted(system)
        self.entries = list(entries)
        present = {next(iter(_elements(entry))) for entry in self.entries if len(_elements(entry)) == 1}
        self.missing = [symbol for symbol in self.symbols if symbol not in present]
        self._lowest: dict[str, ComputedEntry] = {}
        for entry in self.entries:
            formula = entry.composition.reduced_formula
            if formula not in self._lowest or entry.energy_per_atom < self._lowest[formula].energy_per_atom:
                self._lowest[formula] = entry
        self._facets: list[list[ComputedEntry]] = []
        self._potentials = np.zeros((0, len(self.symbols)))
        if not self.missing:
            diagram = PhaseDiagram(list(self._lowest.values()), [Element(symbol) for symbol in self.symbols])
            self._facets = [[diagram.qhull_entries[i] for i in facet] for facet in diagram.facets]
            corners = np.array([self.fractions(facet) for facet in self._facets])
            corner_energies = np.array([[entry.energy_per_atom for entry in facet] for facet in self._facets])
            self._potentials = np.linalg.solve(corners, corner_energies[..., None])[..., 0]
            self._references = np.array([diagram.el_refs[Element(s)].energy_per_atom for s in self.symbols])

    def fractions(self, entries: Sequence[ComputedEntry]) -> NDArray[np.float64]:
        """Atomic fractions [n_entries, n_elements]."""
        amounts = [entry.composition.get_el_amt_dict() for entry in entries]
        rows = np.array([[amount.get(symbol, 0.0) for symbol in self.symbols] for amount in amounts])
        return np.asarray(rows.reshape(len(entries), -1) / rows.sum(axis=-1, keepdims=True)) if len(rows) else rows

    def energies(self, entries: Sequence[ComputedEntry]) -> list[float | None]:
        """Hull energy at the composition of each entry, eV/atom; None where no mixture of phases has it."""
        if not entries:
            return []
        fractions = self.fractions(entries)
        if not self.missing:
            return [float(energy) for energy in (fractions @ self._potentials.T).max(axis=1)]
        known: dict[str, float | None] = {}
        for entry, x in zip(entries, fractions, strict=True):
            formula = entry.composition.reduced_formula
            if formula not in known:
                known[formula] = self._cheapest(x)[0]
        return [known[entry.composition.reduced_formula] for entry in entries]

    def formation_energy(self, entry: ComputedEntry) -> float | None:
        """Energy from the lowest elemental references, eV/atom; None if one of them is missing."""
        if self.missing:
            return None
        return float(entry.energy_per_atom - self.fractions([entry])[0] @ self._references)

    def decomposition(self, entry: ComputedEntry) -> dict[str, float]:
        """Phases of the hull that make up this composition, {formula: atomic fraction}, largest first."""
        x = self.fractions([entry])[0]
        if self.missing:
            return self._cheapest(x)[1]
        # several facets meet at a composition on an edge; one of them, at the top, contains it
        for index in np.argsort(-(self._potentials @ x)):
            facet = self._facets[index]
            amounts = np.linalg.solve(self.fractions(facet).T, x)
            if amounts.min() > -_FRACTION_TOLERANCE:
                break
        return _named(facet, amounts)

    def _cheapest(self, x: NDArray[np.float64]) -> tuple[float | None, dict[str, float]]:
        """Lowest energy, eV/atom, of a mixture of phases with composition ``x``, and the mixture."""
        phases = list(self._lowest.values())
        if not phases:
            return None, {}
        solution = linprog([p.energy_per_atom for p in phases], A_eq=self.fractions(phases).T, b_eq=x, bounds=(0, None))
        if solution.status != 0:
            return None, {}
        return float(solution.fun), _named(phases, solution.x)


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
    if not _converged(entry):
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
        formation_energy_per_atom=None if not _converged(entry) else hull.formation_energy(entry),
        energy_above_hull=above,
        distance_to_competing=distance,
        # products of the same hull as the distance; an entry on it gets what it competes with
        decomposition={} if error else (joint if above else hull).decomposition(entry),
        n_competing=len(hull.entries),
        references_complete=not hull.missing,
        missing_references=list(hull.missing),
        error=error,
    )


def _phase(hull: SystemHull, entry: ComputedEntry, hull_energy: float | None, *, candidate: bool) -> dict[str, Any]:
    x = hull.fractions([entry])[0]
    return {
        "entry_id": str(entry.entry_id),
        "formula": entry.composition.reduced_formula,
        "source": str(entry.data.get("source", "")),
        "candidate": candidate,
        "x": {symbol: float(value) for symbol, value in zip(hull.symbols, x, strict=True) if value > 0},
        "energy_per_atom_corrected": float(entry.energy_per_atom),
        "formation_energy_per_atom": hull.formation_energy(entry),
        "energy_above_hull": None if hull_energy is None else max(0.0, float(entry.energy_per_atom) - hull_energy),
    }


def _check_frames(entries: Sequence[ComputedEntry]) -> None:
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


def _converged(entry: ComputedEntry) -> bool:
    return bool(entry.data.get("converged", True))


def _elements(entry: ComputedEntry) -> frozenset[str]:
    return frozenset(element.symbol for element in entry.composition.elements)


def _by_elements(entries: Iterable[ComputedEntry]) -> dict[frozenset[str], list[ComputedEntry]]:
    groups: dict[frozenset[str], list[ComputedEntry]] = {}
    for entry in entries:
        groups.setdefault(_elements(entry), []).append(entry)
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
